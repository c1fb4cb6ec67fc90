//! The head of an HTTP/1.1 response (RFC 9112, sections 4 and 5).

use std::io::{self, BufRead, Read};

/// Longest head that is read, in bytes.
const HEAD_BYTES_MAX: u64 = 64 * 1024;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    pub status: u16,
    headers: Vec<(String, String)>,
}

impl Head {
    /// The first header of that name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

pub enum HeadError {
    Io(io::Error),
    Malformed(&'static str),
}

impl From<io::Error> for HeadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Reads one head; interim answers (1xx but 101) are skipped.
pub fn read(reader: &mut impl BufRead) -> Result<Head, HeadError> {
    loop {
        let head = read_one(reader)?;
        if !(100..200).contains(&head.status) || head.status == 101 {
            return Ok(head);
        }
    }
}

fn read_one(reader: &mut impl BufRead) -> Result<Head, HeadError> {
    let mut limited = reader.take(HEAD_BYTES_MAX);
    let status_line = line(&mut limited)?;
    let mut words = status_line.split(' ');
    if !words.next().is_some_and(|version| version.starts_with("HTTP/1.")) {
        return Err(HeadError::Malformed("no HTTP/1 status line"));
    }
    let status = words.next().and_then(|word| word.parse().ok()).ok_or(HeadError::Malformed("no status"))?;
    let mut head = Head { status, headers: Vec::new() };
    loop {
        let line = line(&mut limited)?;
        if line.is_empty() {
            return Ok(head);
        }
        let (name, value) = line.split_once(':').ok_or(HeadError::Malformed("a header without a colon"))?;
        head.headers.push((name.to_owned(), value.trim().to_owned()));
    }
}

/// One line without its end.
fn line(reader: &mut impl BufRead) -> Result<String, HeadError> {
    let mut bytes = Vec::new();
    reader.read_until(b'\n', &mut bytes)?;
    if bytes.pop() != Some(b'\n') {
        return Err(HeadError::Io(io::ErrorKind::UnexpectedEof.into()));
    }
    if bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
    String::from_utf8(bytes).map_err(|_| HeadError::Malformed("a line that is not UTF-8"))
}
