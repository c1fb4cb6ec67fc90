//! The body of a response, in its three framings (RFC 9112, section 6.3).

use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::net::UnixStream;

/// Longest line with a chunk's size, in bytes.
const CHUNK_LINE_BYTES_MAX: u64 = 4096;

#[derive(Debug)]
enum Framing {
    /// So many bytes are left.
    Length(u64),
    /// So many bytes of the present chunk are left; `is_first` before the first one.
    Chunked {
        left: u64,
        is_first: bool,
    },
    /// Until the connection ends.
    Close,
    Ended,
}

/// Reads the body; ends where the body ends.
#[derive(Debug)]
pub struct BodyReader {
    stream: BufReader<UnixStream>,
    framing: Framing,
}

impl BodyReader {
    pub(super) fn with_length(stream: BufReader<UnixStream>, length: u64) -> Self {
        Self { stream, framing: Framing::Length(length) }
    }

    pub(super) fn chunked(stream: BufReader<UnixStream>) -> Self {
        Self { stream, framing: Framing::Chunked { left: 0, is_first: true } }
    }

    pub(super) fn until_close(stream: BufReader<UnixStream>) -> Self {
        Self { stream, framing: Framing::Close }
    }

    /// The connection below, so that another thread can shut it down and so end a read.
    pub fn connection(&self) -> &UnixStream {
        self.stream.get_ref()
    }

    fn read_length(&mut self, buffer: &mut [u8], left: u64) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let count = self.stream.read(&mut buffer[..wanted])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(count)
    }

    /// The size of the next chunk; zero after the last one, whose trailer is read too.
    fn next_chunk(&mut self, is_first: bool) -> io::Result<u64> {
        if !is_first {
            self.line()?;
        }
        let line = self.line()?;
        let digits = line.split(';').next().unwrap_or("").trim();
        let size = u64::from_str_radix(digits, 16)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a chunk without a size"))?;
        if size == 0 {
            while !self.line()?.is_empty() {}
        }
        Ok(size)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        (&mut self.stream).take(CHUNK_LINE_BYTES_MAX).read_line(&mut line)?;
        if !line.ends_with('\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        match self.framing {
            Framing::Ended => Ok(0),
            Framing::Close => self.stream.read(buffer),
            Framing::Length(0) => {
                self.framing = Framing::Ended;
                Ok(0)
            }
            Framing::Length(left) => {
                let count = self.read_length(buffer, left)?;
                self.framing = Framing::Length(left - count as u64);
                Ok(count)
            }
            Framing::Chunked { left: 0, is_first } => {
                self.framing = match self.next_chunk(is_first)? {
                    0 => Framing::Ended,
                    left => Framing::Chunked { left, is_first: false },
                };
                self.read(buffer)
            }
            Framing::Chunked { left, .. } => {
                let count = self.read_length(buffer, left)?;
                self.framing = Framing::Chunked { left: left - count as u64, is_first: false };
                Ok(count)
            }
        }
    }
}
