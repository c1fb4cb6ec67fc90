//! One 512-byte header block: the fields, their numbers, the checksum (POSIX.1-1988 ustar, and GNU's
//! base-256 numbers: tar(5), "Numeric Extensions").

use crate::BLOCK_BYTES;

pub const TYPE_FILE_V7: u8 = 0;
pub const TYPE_FILE: u8 = b'0';
pub const TYPE_HARD_LINK: u8 = b'1';
pub const TYPE_SYMLINK: u8 = b'2';
pub const TYPE_CHAR: u8 = b'3';
pub const TYPE_BLOCK: u8 = b'4';
pub const TYPE_DIRECTORY: u8 = b'5';
pub const TYPE_FIFO: u8 = b'6';
pub const TYPE_CONTIGUOUS: u8 = b'7';
pub const TYPE_PAX: u8 = b'x';
pub const TYPE_PAX_GLOBAL: u8 = b'g';
pub const TYPE_GNU_LONG_NAME: u8 = b'L';
pub const TYPE_GNU_LONG_LINK: u8 = b'K';
pub const TYPE_GNU_SPARSE: u8 = b'S';

pub type Block = [u8; BLOCK_BYTES];

/// Offset and length of each field.
pub mod field {
    pub type Field = (usize, usize);
    pub const NAME: Field = (0, 100);
    pub const MODE: Field = (100, 8);
    pub const UID: Field = (108, 8);
    pub const GID: Field = (116, 8);
    pub const SIZE: Field = (124, 12);
    pub const MTIME: Field = (136, 12);
    pub const CHECKSUM: Field = (148, 8);
    pub const TYPE: usize = 156;
    pub const LINK: Field = (157, 100);
    pub const MAGIC: Field = (257, 8);
    pub const MAJOR: Field = (329, 8);
    pub const MINOR: Field = (337, 8);
    pub const PREFIX: Field = (345, 155);
}
use field::Field;

pub fn slice(block: &Block, (at, len): Field) -> &[u8] {
    &block[at..at + len]
}

/// A text field up to its NUL.
pub fn text(block: &Block, which: Field) -> &[u8] {
    let bytes = slice(block, which);
    &bytes[..bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len())]
}

pub fn is_ustar(block: &Block) -> bool {
    slice(block, field::MAGIC) == b"ustar\x0000"
}

pub fn is_gnu(block: &Block) -> bool {
    slice(block, field::MAGIC) == b"ustar  \0"
}

/// A number field: octal with leading blanks and a trailing blank or NUL, or GNU's base-256.
/// `None` when it is neither or does not fit.
pub fn number(block: &Block, which: Field) -> Option<i64> {
    parse_number(slice(block, which))
}

pub fn parse_number(bytes: &[u8]) -> Option<i64> {
    let first = *bytes.first()?;
    if first & 0x80 != 0 {
        return base256(bytes);
    }
    let text = bytes.trim_ascii_start();
    let end = text.iter().position(|b| matches!(b, 0 | b' ')).unwrap_or(text.len());
    let rest_is_blank = text[end..].iter().all(|b| matches!(b, 0 | b' '));
    if !rest_is_blank {
        return None;
    }
    text[..end].iter().try_fold(0i64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

/// Two's complement, big-endian; the top bit only marks the form, the next one is the sign.
fn base256(bytes: &[u8]) -> Option<i64> {
    let negative = bytes[0] & 0x40 != 0;
    let fill = if negative { 0xff } else { 0 };
    let mut value = if negative { -1i64 } else { 0 };
    for (index, byte) in bytes.iter().enumerate() {
        let byte = match index {
            0 if negative => byte | 0x80,
            0 => byte & 0x7f,
            _ => *byte,
        };
        let is_kept = bytes.len() - index <= 8;
        if !is_kept && byte != fill {
            return None;
        }
        value = (value << 8) | i64::from(byte);
    }
    ((value < 0) == negative).then_some(value)
}

/// Whether the stored checksum is right, summed unsigned or (old writers) signed.
pub fn checksum_fits(block: &Block) -> bool {
    let Some(stored) = number(block, field::CHECKSUM) else { return false };
    let (at, len) = field::CHECKSUM;
    let counted = |index: usize, byte: u8| if (at..at + len).contains(&index) { b' ' } else { byte };
    let unsigned: i64 = block.iter().enumerate().map(|(i, b)| i64::from(counted(i, *b))).sum();
    let signed: i64 = block.iter().enumerate().map(|(i, b)| i64::from(counted(i, *b).cast_signed())).sum();
    stored == unsigned || stored == signed
}

pub fn put(block: &mut Block, (at, len): Field, bytes: &[u8]) {
    let len = len.min(bytes.len());
    block[at..at + len].copy_from_slice(&bytes[..len]);
}

/// Octal with a NUL behind; `false` when the number is too big for the field, which is then zero.
pub fn put_octal(block: &mut Block, which: Field, value: u64) -> bool {
    let digits = which.1 - 1;
    let fits = digits >= 22 || value < 1 << (3 * digits);
    let value = if fits { value } else { 0 };
    put(block, which, format!("{value:0digits$o}").as_bytes());
    fits
}

/// Writes the checksum over the finished block: six octal digits, NUL, blank.
pub fn seal(block: &mut Block) {
    put(block, field::CHECKSUM, b"        ");
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    put(block, field::CHECKSUM, format!("{sum:06o}\0 ").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_each_form() {
        for (bytes, expect) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"00006x4\0", None),
            (b"-000644\0", None),
            (b"64 4000\0", None),
            (b"\x80\0\0\0\0\0\0\x05", Some(5)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (b"\x80\0\0\0\x80\0\0\0\0\0\0\x01", None),
            (b"\x80\0\0\x01\0\0\0\0\0\0\0\0", None),
            (b"\x80\0\0\0\0\0\0\x02\0\0\0\0", Some(0x2_0000_0000)),
        ] {
            assert_eq!(parse_number(bytes), expect, "{bytes:?}");
        }
    }
}
