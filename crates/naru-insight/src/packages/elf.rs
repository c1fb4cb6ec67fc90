//! Programs that say what they were made of: sections of ELF files (elf(5)), read where they are, not as a whole. Files of both
//! widths and byte orders, as images for other machines have them.

use super::{Finder, Place, cargo, go};
use crate::Result;
use std::fs::File;
use std::os::unix::fs::FileExt;

const IDENT_BYTES: usize = 16;
/// Of the 64-bit format; the 32-bit one is shorter.
const HEADER_BYTES_MAX: usize = 64;
/// Largest section that is read: lists of dependencies, and the names of sections.
const SECTION_DATA_BYTES_MAX: u64 = 8 << 20;
/// Most sections; more needs an extension of the format that no compiler here uses.
const SECTIONS_MAX: usize = 0xff00;

pub fn find(finder: &mut Finder<'_>, place: &Place<'_>) -> Result<()> {
    let file = finder.tree.open(place.raw)?;
    // What is no ELF file, or a damaged one, names no packages.
    let Some(sections) = Sections::read(&file) else { return Ok(()) };
    if let Some(data) = sections.data(".dep-v0") {
        cargo::audited(finder, place, &data);
    }
    if let Some(data) = sections.data(".go.buildinfo") {
        go::find(finder, place, &data);
    }
    Ok(())
}

/// Where the fields are that matter here, by the width of addresses.
struct Format {
    is_wide: bool,
    is_little: bool,
    header_bytes: usize,
    section_bytes: usize,
    /// e_shoff, e_shentsize, e_shnum, e_shstrndx.
    table: [usize; 4],
    /// sh_offset, sh_size.
    content: [usize; 2],
}

impl Format {
    fn of(ident: &[u8]) -> Option<Self> {
        let is_little = match ident.get(5)? {
            1 => true,
            2 => false,
            _ => return None,
        };
        match (ident.starts_with(b"\x7fELF"), ident.get(4)?) {
            (true, 1) => Some(Self {
                is_wide: false,
                is_little,
                header_bytes: 52,
                section_bytes: 40,
                table: [0x20, 0x2e, 0x30, 0x32],
                content: [0x10, 0x14],
            }),
            (true, 2) => Some(Self {
                is_wide: true,
                is_little,
                header_bytes: HEADER_BYTES_MAX,
                section_bytes: 64,
                table: [0x28, 0x3a, 0x3c, 0x3e],
                content: [0x18, 0x20],
            }),
            _ => None,
        }
    }

    /// An address or an offset.
    fn word(&self, bytes: &[u8], at: usize) -> Option<u64> {
        if !self.is_wide {
            return Some(u64::from(self.int(bytes, at)?));
        }
        let eight = bytes.get(at..at + 8)?.try_into().ok()?;
        Some(if self.is_little { u64::from_le_bytes(eight) } else { u64::from_be_bytes(eight) })
    }

    fn int(&self, bytes: &[u8], at: usize) -> Option<u32> {
        let four = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(if self.is_little { u32::from_le_bytes(four) } else { u32::from_be_bytes(four) })
    }

    fn half(&self, bytes: &[u8], at: usize) -> Option<usize> {
        let two = bytes.get(at..at + 2)?.try_into().ok()?;
        Some(usize::from(if self.is_little { u16::from_le_bytes(two) } else { u16::from_be_bytes(two) }))
    }
}

struct Sections<'a> {
    file: &'a File,
    file_bytes: u64,
    format: Format,
    headers: Vec<u8>,
    names: Vec<u8>,
}

impl<'a> Sections<'a> {
    fn read(file: &'a File) -> Option<Self> {
        let mut header = [0; HEADER_BYTES_MAX];
        file.read_exact_at(&mut header[..IDENT_BYTES], 0).ok()?;
        let format = Format::of(&header)?;
        file.read_exact_at(&mut header[..format.header_bytes], 0).ok()?;
        let offset = format.word(&header, format.table[0])?;
        let count = format.half(&header, format.table[2])?;
        if format.half(&header, format.table[1])? != format.section_bytes || count > SECTIONS_MAX {
            return None;
        }
        let mut headers = vec![0; count * format.section_bytes];
        file.read_exact_at(&mut headers, offset).ok()?;
        let names = format.half(&header, format.table[3])?;
        let file_bytes = file.metadata().ok()?.len();
        let mut sections = Self { file, file_bytes, format, headers, names: Vec::new() };
        let names = sections.content(sections.all().nth(names)?)?;
        sections.names = names;
        Some(sections)
    }

    fn all(&self) -> impl Iterator<Item = &[u8]> {
        self.headers.chunks_exact(self.format.section_bytes)
    }

    fn data(&self, name: &str) -> Option<Vec<u8>> {
        let is_named = |section: &&[u8]| {
            let start = self.format.int(section, 0);
            let text = start.and_then(|start| self.names.get(start as usize..)).unwrap_or_default();
            text.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&0))
        };
        self.content(self.all().find(is_named)?)
    }

    fn content(&self, section: &[u8]) -> Option<Vec<u8>> {
        let [offset, size] = self.format.content.map(|at| self.format.word(section, at));
        let (offset, size) = (offset?, size?);
        if size > SECTION_DATA_BYTES_MAX || offset.checked_add(size)? > self.file_bytes {
            return None;
        }
        let mut data = vec![0; size as usize];
        self.file.read_exact_at(&mut data, offset).ok()?;
        Some(data)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use std::io::Write;

    /// A file with one section of this name beside the one with the names, in either width and byte order.
    pub fn program(is_wide: bool, is_little: bool, name: &str, data: &[u8]) -> Vec<u8> {
        let number = |value: u64, bytes: usize| {
            let all = value.to_be_bytes();
            let mut part = all[8 - bytes..].to_vec();
            if is_little {
                part.reverse();
            }
            part
        };
        let word = if is_wide { 8 } else { 4 };
        let names = [b"\0", name.as_bytes(), b"\0"].concat();
        let header_bytes = if is_wide { 64 } else { 52 };
        let names_at = header_bytes + data.len();
        let table_at = names_at + names.len();
        let mut file = vec![0x7f, b'E', b'L', b'F', 1 + u8::from(is_wide), 2 - u8::from(is_little), 1];
        file.resize(24, 0);
        for value in [0, 0, table_at as u64] {
            file.extend(number(value, word));
        }
        file.extend([0; 4]);
        for value in [header_bytes as u64, 0, 0, if is_wide { 64 } else { 40 }, 3, 2] {
            file.extend(number(value, 2));
        }
        assert_eq!(file.len(), header_bytes);
        file.extend(data);
        file.extend(&names);
        let sections = [(0, 0, 0), (1, header_bytes, data.len()), (0, names_at, names.len())];
        for (name, at, len) in sections {
            let start = file.len();
            file.extend(number(name, 4));
            file.extend(number(1, 4));
            for value in [0, 0, at as u64, len as u64] {
                file.extend(number(value, word));
            }
            file.resize(start + if is_wide { 64 } else { 40 }, 0);
        }
        file
    }

    fn section(file: &[u8]) -> Option<Vec<u8>> {
        let mut temporary = tempfile::tempfile().unwrap();
        temporary.write_all(file).unwrap();
        Sections::read(&temporary)?.data(".go.buildinfo")
    }

    #[test]
    fn sections_of_every_kind_of_file() {
        for (is_wide, is_little) in [(true, true), (true, false), (false, true), (false, false)] {
            let whole = program(is_wide, is_little, ".go.buildinfo", b"content");
            assert_eq!(section(&whole).as_deref(), Some(&b"content"[..]), "{is_wide} {is_little}");
            // A file that ends anywhere, and one with any byte changed, is read or refused.
            for end in 0..whole.len() {
                assert_eq!(section(&whole[..end]), None, "{end}");
                let mut changed = whole.clone();
                changed[end] = 0xff;
                section(&changed);
            }
        }
        assert_eq!(section(&program(true, true, ".other", b"")), None);
    }
}
