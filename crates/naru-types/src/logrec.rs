//! One record of a container's log: what the keeper appends and the log reader reads back.
//!
//! A record is a 16-byte header and its payload, little-endian:
//!
//! | bytes | field |
//! |---|---|
//! | 0..4 | payload length |
//! | 4 | stream: 1 stdout, 2 stderr |
//! | 5 | flags: bit 0 = partial (the line goes on in the next record of the stream) |
//! | 6..8 | magic `0x4c4e` ("NL"), so that a torn tail is recognised |
//! | 8..16 | time, nanoseconds since the epoch |
//!
//! The payload keeps its line feed; a line longer than [`PAYLOAD_LEN_MAX`] is several partial records.

use crate::time::Timestamp;

pub const HEADER_LEN: usize = 16;
/// Longest payload in bytes (Docker splits lines at 16 KiB too).
pub const PAYLOAD_LEN_MAX: usize = 16 * 1024;
const MAGIC: u16 = 0x4c4e;
const FLAG_PARTIAL: u8 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Stream {
    Stdout = 1,
    Stderr = 2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub len: u32,
    pub stream: Stream,
    /// The line goes on in the next record of the same stream.
    pub partial: bool,
    pub at: Timestamp,
}

impl Header {
    pub fn encode(self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[0..4].copy_from_slice(&self.len.to_le_bytes());
        bytes[4] = self.stream as u8;
        bytes[5] = if self.partial { FLAG_PARTIAL } else { 0 };
        bytes[6..8].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.at.0.to_le_bytes());
        bytes
    }

    /// `None` where the bytes are no header: a torn tail or a foreign file.
    pub fn decode(bytes: [u8; HEADER_LEN]) -> Option<Self> {
        let [l0, l1, l2, l3, stream, flags, m0, m1, time @ ..] = bytes;
        let len = u32::from_le_bytes([l0, l1, l2, l3]);
        let stream = match stream {
            1 => Stream::Stdout,
            2 => Stream::Stderr,
            _ => return None,
        };
        let sound = u16::from_le_bytes([m0, m1]) == MAGIC
            && len as usize <= PAYLOAD_LEN_MAX
            && flags & !FLAG_PARTIAL == 0;
        sound.then_some(Self {
            len,
            stream,
            partial: flags & FLAG_PARTIAL != 0,
            at: Timestamp(i64::from_le_bytes(time)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_torn_tails() {
        let header = Header {
            len: 7,
            stream: Stream::Stderr,
            partial: true,
            at: Timestamp(1_700_000_000_000_000_001),
        };
        assert_eq!(Header::decode(header.encode()), Some(header));
        assert_eq!(Header::decode([0; HEADER_LEN]), None);
        let mut too_long = header.encode();
        too_long[2] = 0xff;
        assert_eq!(Header::decode(too_long), None);
    }
}
