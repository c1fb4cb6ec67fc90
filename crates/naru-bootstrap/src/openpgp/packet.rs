//! Packets (RFC 9580, section 4) and the numbers in them.

use super::{PgpError, Result};

pub const TAG_SIGNATURE: u8 = 2;
pub const TAG_PUBLIC_KEY: u8 = 6;
pub const TAG_USER_ID: u8 = 13;
pub const TAG_PUBLIC_SUBKEY: u8 = 14;

/// Most packets of one file; distributions' keyrings have a few hundred.
const PACKETS_MAX: usize = 100_000;

/// Tag and body.
pub type Packet<'a> = (u8, &'a [u8]);

/// Takes a byte string apart from its front.
pub struct Cursor<'a>(pub &'a [u8]);

impl<'a> Cursor<'a> {
    pub fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count).ok_or(PgpError::Packet("it ends too early"))?;
        self.0 = rest;
        Ok(head)
    }

    pub fn u8(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    pub fn u16(&mut self) -> Result<u16> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    pub fn u32(&mut self) -> Result<u32> {
        let bytes = self.take(4)?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// A multiprecision integer (section 3.2), without leading zero bytes.
    pub fn mpi(&mut self) -> Result<&'a [u8]> {
        let bits = usize::from(self.u16()?);
        let bytes = self.take(bits.div_ceil(8))?;
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        Ok(&bytes[zeros..])
    }

    /// A length as new packets and subpackets write it (sections 4.2.1 and 5.2.3.7). Partial lengths belong to data that signatures
    /// and keys are not made of.
    pub fn length(&mut self, partial: bool) -> Result<usize> {
        let first = self.u8()?;
        match first {
            0..192 => Ok(usize::from(first)),
            255 => Ok(self.u32()? as usize),
            224..255 if partial => Err(PgpError::Packet("a partial length")),
            _ => Ok(((usize::from(first) - 192) << 8) + usize::from(self.u8()?) + 192),
        }
    }
}

/// All packets of `bytes`.
pub fn packets(bytes: &[u8]) -> Result<Vec<Packet<'_>>> {
    let mut cursor = Cursor(bytes);
    let mut found = Vec::new();
    while !cursor.0.is_empty() {
        if found.len() == PACKETS_MAX {
            return Err(PgpError::Packet("too many of them"));
        }
        let head = cursor.u8()?;
        if head & 0x80 == 0 {
            return Err(PgpError::Packet("it does not begin with a packet"));
        }
        let (tag, length) = if head & 0x40 == 0 {
            // Legacy format, section 4.2.2.
            let length = match head & 3 {
                0 => usize::from(cursor.u8()?),
                1 => usize::from(cursor.u16()?),
                2 => cursor.u32()? as usize,
                _ => return Err(PgpError::Packet("an indeterminate length")),
            };
            ((head >> 2) & 0x0f, length)
        } else {
            (head & 0x3f, cursor.length(true)?)
        };
        found.push((tag, cursor.take(length)?));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_of_both_formats() {
        let bytes = [0x88, 2, 1, 2, 0xc2, 1, 9, 0xb4, 0];
        assert_eq!(packets(&bytes).unwrap(), [(2u8, &[1u8, 2][..]), (2, &[9]), (13, &[])]);
        assert!(packets(&[0x88, 9, 1]).is_err());
        assert!(packets(&[0x8b, 0]).is_err());
        assert!(packets(&[0x08, 0]).is_err());
        assert!(packets(&[0xc2, 0xe1, 0]).is_err());
        assert!(packets(&[0xc2, 0xff, 0xff, 0xff, 0xff, 0xff]).is_err());
    }

    #[test]
    fn numbers() {
        assert_eq!(Cursor(&[0, 9, 1, 0xff]).mpi().unwrap(), [1, 0xff]);
        assert_eq!(Cursor(&[0, 16, 0, 5]).mpi().unwrap(), [5]);
        assert!(Cursor(&[1, 0, 5]).mpi().is_err());
        assert_eq!(Cursor(&[0xc5, 0xfb]).length(true).unwrap(), 1723);
    }
}
