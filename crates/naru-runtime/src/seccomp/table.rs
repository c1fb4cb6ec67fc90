//! System call names and their numbers on every architecture that a profile can name.
//!
//! `syscalls.csv` is the source, made by `syscalls.awk`; the compiler turns it into one block of names and one array of
//! numbers, so nothing is parsed at run time and the program carries no text but the names. Not here: what an
//! architecture adds to its numbers ([`super::arch`]).

const TEXT: &[u8] = include_bytes!("syscalls.csv");
const ROWS: usize = count(b'\n') - 1;
/// Columns after the name: the multiplexed operation, then the architectures.
pub(super) const COLUMNS: usize = 19;
const NAMES_BYTES: usize = names_bytes();
/// No such call on this architecture.
const ABSENT: u16 = u16::MAX;
/// Arm's private calls are at 0xf0000 (asm/unistd.h, __ARM_NR_BASE); they are kept at 0xf000, above all other numbers.
const ARM_PRIVATE: u32 = 0xf_0000;
const ARM_PRIVATE_KEPT: u16 = 0xf000;

struct Table {
    names: [u8; NAMES_BYTES],
    /// Where each name begins in `names`, and where the last one ends.
    starts: [u16; ROWS + 1],
    cells: [[u16; COLUMNS]; ROWS],
}

static TABLE: Table = parse();

/// A name's row, sorted by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Row(u16);

impl Row {
    pub fn find(name: &str) -> Option<Self> {
        let (mut low, mut high) = (0, ROWS);
        while low < high {
            let middle = usize::midpoint(low, high);
            match name_at(middle).cmp(name.as_bytes()) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Some(Self(middle as u16)),
            }
        }
        None
    }

    /// The number in an architecture's column (without what the architecture adds).
    pub fn number(self, column: usize) -> Option<u32> {
        match TABLE.cells[usize::from(self.0)][column] {
            ABSENT => None,
            private if private >= ARM_PRIVATE_KEPT => {
                Some(ARM_PRIVATE + u32::from(private - ARM_PRIVATE_KEPT))
            }
            number => Some(u32::from(number)),
        }
    }

    /// The operation of socketcall(2) (100 and more) or ipc(2) (200 and more) that does the same.
    pub fn operation(self) -> Option<u32> {
        self.number(0)
    }

    #[cfg(test)]
    pub fn all() -> impl Iterator<Item = (Self, &'static str)> {
        (0..ROWS).map(|row| (Self(row as u16), std::str::from_utf8(name_at(row)).expect("names are ASCII")))
    }
}

fn name_at(row: usize) -> &'static [u8] {
    &TABLE.names[usize::from(TABLE.starts[row])..usize::from(TABLE.starts[row + 1])]
}

const fn count(byte: u8) -> usize {
    let (mut at, mut found) = (0, 0);
    while at < TEXT.len() {
        found += (TEXT[at] == byte) as usize;
        at += 1;
    }
    found
}

/// Where the first row begins, behind the heading.
const fn first_row() -> usize {
    let mut at = 0;
    while TEXT[at] != b'\n' {
        at += 1;
    }
    at + 1
}

const fn names_bytes() -> usize {
    let (mut at, mut bytes, mut in_name) = (first_row(), 0, true);
    while at < TEXT.len() {
        match TEXT[at] {
            b'\n' => in_name = true,
            b',' => in_name = false,
            _ => bytes += in_name as usize,
        }
        at += 1;
    }
    bytes
}

const fn parse() -> Table {
    let mut table =
        Table { names: [0; NAMES_BYTES], starts: [0; ROWS + 1], cells: [[ABSENT; COLUMNS]; ROWS] };
    let (mut at, mut row, mut filled) = (first_row(), 0, 0);
    while row < ROWS {
        table.starts[row] = filled as u16;
        while TEXT[at] != b',' {
            table.names[filled] = TEXT[at];
            filled += 1;
            at += 1;
        }
        let mut column = 0;
        while TEXT[at] == b',' {
            at += 1;
            let (mut number, begin) = (0, at);
            while TEXT[at].is_ascii_digit() {
                number = number * 10 + (TEXT[at] - b'0') as u32;
                at += 1;
            }
            if at > begin {
                table.cells[row][column] = keep(number);
            }
            column += 1;
        }
        assert!(column == COLUMNS && TEXT[at] == b'\n', "each row has all columns");
        at += 1;
        row += 1;
    }
    table.starts[ROWS] = filled as u16;
    table
}

const fn keep(number: u32) -> u16 {
    if number >= ARM_PRIVATE {
        return ARM_PRIVATE_KEPT + (number - ARM_PRIVATE) as u16;
    }
    assert!(number < ARM_PRIVATE_KEPT as u32, "ordinary numbers are below the private ones");
    number as u16
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn every_name_is_found_at_its_place() {
        let names: Vec<_> = Row::all().collect();
        assert!(names.windows(2).all(|pair| pair[0].1 < pair[1].1), "sorted");
        for (row, name) in names {
            assert_eq!(Row::find(name), Some(row), "{name}");
        }
        for name in ["", "a", "zzz", "rea", "readx", "Read"] {
            assert_eq!(Row::find(name), None, "{name}");
        }
    }

    #[test]
    fn the_heading_names_the_columns() {
        let heading = std::str::from_utf8(&TEXT[..first_row() - 1]).unwrap();
        assert_eq!(
            heading,
            "name,operation,x86,x86_64,x32,arm,aarch64,loongarch64,m68k,mips,mips64,mips64n32,parisc,parisc64,ppc,\
             ppc64,riscv64,s390,s390x,sh"
        );
    }
}
