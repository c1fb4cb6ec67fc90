//! The framing of multiplexed streams: `[stream, 0, 0, 0, length as big-endian u32]`, then the payload
//! (Docker Engine API, "Stream format" of `POST /containers/{id}/attach`).

use std::io::{self, Read};

pub const HEADER_LEN: usize = 8;
/// Longest payload that a reader accepts, in bytes; real frames are 16 or 32 KiB.
pub const PAYLOAD_LEN_MAX: usize = 16 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum StreamKind {
    Stdin = 0,
    Stdout = 1,
    Stderr = 2,
    /// An error of the daemon in the middle of a stream.
    SystemError = 3,
}

impl StreamKind {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::Stdin,
            1 => Self::Stdout,
            2 => Self::Stderr,
            3 => Self::SystemError,
            _ => return None,
        })
    }
}

/// The header of a payload of `len` bytes.
pub fn header(stream: StreamKind, len: usize) -> [u8; HEADER_LEN] {
    let [a, b, c, d] = (len as u32).to_be_bytes();
    [stream as u8, 0, 0, 0, a, b, c, d]
}

/// Header and payload in one buffer.
pub fn encode(stream: StreamKind, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_LEN + payload.len());
    bytes.extend_from_slice(&header(stream, payload.len()));
    bytes.extend_from_slice(payload);
    bytes
}

/// `None` where the bytes are no header.
pub fn decode_header(bytes: [u8; HEADER_LEN]) -> Option<(StreamKind, usize)> {
    let [stream, 0, 0, 0, a, b, c, d] = bytes else { return None };
    Some((StreamKind::from_byte(stream)?, u32::from_be_bytes([a, b, c, d]) as usize))
}

/// Reads frame after frame.
pub struct FrameReader<R> {
    inner: R,
    payload: Vec<u8>,
}

impl<R: Read> FrameReader<R> {
    pub fn new(inner: R) -> Self {
        Self { inner, payload: Vec::new() }
    }

    /// The next frame; `None` at a clean end. The payload lives until the next call.
    pub fn next_frame(&mut self) -> io::Result<Option<(StreamKind, &[u8])>> {
        let mut head = [0; HEADER_LEN];
        if !read_full_or_end(&mut self.inner, &mut head)? {
            return Ok(None);
        }
        let (stream, len) = decode_header(head).ok_or_else(|| invalid("the stream is not framed"))?;
        if len > PAYLOAD_LEN_MAX {
            return Err(invalid("a frame is too long"));
        }
        self.payload.resize(len, 0);
        self.inner.read_exact(&mut self.payload)?;
        Ok(Some((stream, &self.payload)))
    }
}

/// Takes a stream apart whose pieces come in any size, for readers that cannot block.
#[derive(Debug, Default)]
pub struct Demux {
    head: Vec<u8>,
    stream: Option<StreamKind>,
    left: usize,
}

impl Demux {
    /// Hands the payload in `bytes` on, piece by piece.
    pub fn feed(&mut self, mut bytes: &[u8], mut payload: impl FnMut(StreamKind, &[u8])) -> io::Result<()> {
        while !bytes.is_empty() {
            if let Some(stream) = self.stream {
                let (piece, rest) = bytes.split_at(self.left.min(bytes.len()));
                payload(stream, piece);
                self.left -= piece.len();
                self.stream = (self.left > 0).then_some(stream);
                bytes = rest;
                continue;
            }
            let (piece, rest) = bytes.split_at((HEADER_LEN - self.head.len()).min(bytes.len()));
            self.head.extend_from_slice(piece);
            bytes = rest;
            if let Ok(head) = <[u8; HEADER_LEN]>::try_from(self.head.as_slice()) {
                let (stream, len) = decode_header(head).ok_or_else(|| invalid("the stream is not framed"))?;
                self.head.clear();
                (self.stream, self.left) = ((len > 0).then_some(stream), len);
            }
        }
        Ok(())
    }
}

/// Fills `buffer`; false when there was nothing at all.
fn read_full_or_end(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) if filled == 0 => return Ok(false),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_as_dockerd_writes() {
        let mut bytes = encode(StreamKind::Stdout, b"out\n");
        assert_eq!(&bytes[..8], [1, 0, 0, 0, 0, 0, 0, 4]);
        bytes.extend(encode(StreamKind::Stderr, b""));
        let mut reader = FrameReader::new(&bytes[..]);
        assert_eq!(reader.next_frame().unwrap(), Some((StreamKind::Stdout, &b"out\n"[..])));
        assert_eq!(reader.next_frame().unwrap(), Some((StreamKind::Stderr, &b""[..])));
        assert_eq!(reader.next_frame().unwrap(), None);
    }

    #[test]
    fn pieces_come_apart_wherever_they_are_cut() {
        let mut bytes = encode(StreamKind::Stdout, b"ab");
        bytes.extend(encode(StreamKind::Stderr, b""));
        bytes.extend(encode(StreamKind::Stderr, b"c"));
        for cut in 0..bytes.len() {
            let (mut demux, mut out) = (Demux::default(), Vec::new());
            for half in [&bytes[..cut], &bytes[cut..]] {
                demux.feed(half, |stream, part| out.extend(part.iter().map(|byte| (stream, *byte)))).unwrap();
            }
            let (one, two) = (StreamKind::Stdout, StreamKind::Stderr);
            assert_eq!(out, [(one, b'a'), (one, b'b'), (two, b'c')], "{cut}");
        }
        assert!(Demux::default().feed(b"HTTP/1.1", |_, _| ()).is_err());
    }

    #[test]
    fn refuses_what_is_no_frame() {
        for bad in
            [&b"hello wor"[..], &[1, 0, 0], &[9, 0, 0, 0, 0, 0, 0, 0], &[1, 0, 0, 0, 255, 255, 255, 255]]
        {
            assert!(FrameReader::new(bad).next_frame().is_err(), "{bad:?}");
        }
    }
}
