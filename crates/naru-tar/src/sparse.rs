//! GNU sparse files: where the stored bytes belong (GNU tar manual, "Storing Sparse Files").
//!
//! Read are the old GNU form (the map in the header and its continuation blocks) and pax 1.0 (the map
//! at the head of the content, what `tar --sparse --format=posix` writes). The forms 0.0 and 0.1, which
//! no current tool writes, are refused by name.

use crate::error::{Result, TarError};
use crate::{BLOCK_BYTES, SPARSE_PIECES_MAX, header};

/// Pairs in a continuation block of an old GNU map.
pub const PAIRS_PER_BLOCK: usize = 21;
/// Most digits of a number in a pax map (u64).
const DIGITS_MAX: usize = 20;

/// Stored pieces of a file, ascending, not overlapping, within `real_size`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SparseMap {
    pub pieces: Vec<(u64, u64)>,
    pub real_size: u64,
}

impl SparseMap {
    pub fn push(&mut self, offset: u64, len: u64) -> Result<()> {
        let previous_end = self.pieces.last().map_or(0, |(at, len)| at + len);
        let end = offset.checked_add(len);
        if offset < previous_end || end.is_none_or(|end| end > self.real_size) {
            return Err(TarError::format("sparse map out of order", None));
        }
        if self.pieces.len() >= SPARSE_PIECES_MAX {
            return Err(TarError::format(
                format!("sparse file of more than {SPARSE_PIECES_MAX} pieces"),
                None,
            ));
        }
        if len > 0 {
            self.pieces.push((offset, len));
        }
        Ok(())
    }

    pub fn stored_bytes(&self) -> u64 {
        self.pieces.iter().map(|(_, len)| len).sum()
    }

    /// At `position`: how many bytes the present hole or piece still has, and whether they are stored.
    pub fn run_at(&self, position: u64) -> (u64, bool) {
        let next = self.pieces.partition_point(|(at, len)| at + len <= position);
        match self.pieces.get(next) {
            Some((at, len)) if *at <= position => (at + len - position, true),
            Some((at, _)) => (at - position, false),
            None => (self.real_size.saturating_sub(position), false),
        }
    }
}

/// Adds the entries of an old GNU map: `count` pairs of 12-byte numbers at `at`.
pub fn read_old_pairs(block: &header::Block, at: usize, count: usize, map: &mut SparseMap) -> Result<()> {
    for index in 0..count {
        let pair = &block[at + index * 24..at + index * 24 + 24];
        if pair[0] == 0 {
            break;
        }
        let number = |bytes| {
            header::parse_number(bytes)
                .and_then(|n| u64::try_from(n).ok())
                .ok_or_else(|| TarError::format("bad number in sparse map", None))
        };
        map.push(number(&pair[..12])?, number(&pair[12..])?)?;
    }
    Ok(())
}

/// Reads the map of pax 1.0: decimal lines at the head of the content (the count, then offset and length
/// of each piece), padded to a block border.
pub fn read_pax_map(
    real_size: u64,
    mut next_block: impl FnMut(&mut header::Block) -> Result<()>,
) -> Result<SparseMap> {
    let mut block: header::Block = [0; BLOCK_BYTES];
    let mut at = BLOCK_BYTES;
    let mut number = || -> Result<u64> {
        let mut line = Vec::new();
        loop {
            if at == BLOCK_BYTES {
                next_block(&mut block)?;
                at = 0;
            }
            at += 1;
            match block[at - 1] {
                b'\n' => break,
                digit if line.len() < DIGITS_MAX => line.push(digit),
                _ => return Err(TarError::format("bad sparse map", None)),
            }
        }
        crate::pax::decimal(&line).ok_or_else(|| TarError::format("bad sparse map", None))
    };
    let mut map = SparseMap { pieces: Vec::new(), real_size };
    let count = number()?;
    if count > SPARSE_PIECES_MAX as u64 {
        return Err(TarError::format(format!("sparse file of more than {SPARSE_PIECES_MAX} pieces"), None));
    }
    for _ in 0..count {
        let offset = number()?;
        map.push(offset, number()?)?;
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs() {
        let mut map = SparseMap { pieces: Vec::new(), real_size: 100 };
        map.push(10, 5).unwrap();
        map.push(50, 10).unwrap();
        assert!(map.clone().push(55, 1).is_err());
        assert!(map.clone().push(90, 11).is_err());
        for (at, expect) in [
            (0, (10, false)),
            (10, (5, true)),
            (14, (1, true)),
            (15, (35, false)),
            (60, (40, false)),
            (100, (0, false)),
        ] {
            assert_eq!(map.run_at(at), expect);
        }
    }
}
