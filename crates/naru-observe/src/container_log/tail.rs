//! Finds where the last N lines begin, reading backwards in blocks.

use super::cursor::Cursor;
use super::files::LogFile;
use super::scan::{Step, boundary_in, step};
use super::{LogQuery, LogReadError};
use naru_types::logrec::{HEADER_LEN, Header, Stream};
use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes of one step backwards.
const BLOCK_BYTES: u64 = 256 * 1024;

/// Most bytes held at once while a block stays undecided: a container can forge headers all through its log.
const UNDECIDED_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Cursors over the end of `files` that holds the last `lines` lines which match.
pub(super) fn last_lines(
    files: Vec<LogFile>,
    lines: u64,
    query: &LogQuery,
) -> Result<VecDeque<Cursor>, LogReadError> {
    let mut count = Count { left: lines, within: Vec::new() };
    let mut cursors = VecDeque::new();
    for file in files.into_iter().rev() {
        match start_in(&file, &mut count, query)? {
            Some(start) => {
                cursors.push_front(Cursor::new(file, start));
                break;
            }
            None => cursors.push_front(Cursor::new(file, 0)),
        }
    }
    Ok(cursors)
}

/// Counts lines from the end.
struct Count {
    left: u64,
    /// Streams of which the line counted last may go on further up.
    within: Vec<Stream>,
}

impl Count {
    /// Takes the next record upwards. `false`: it belongs to a line too many.
    fn take(&mut self, header: &Header) -> bool {
        let goes_on = header.partial && self.within.contains(&header.stream);
        if !goes_on {
            if self.left == 0 {
                return false;
            }
            self.left -= 1;
            if !self.within.contains(&header.stream) {
                self.within.push(header.stream);
            }
        }
        true
    }
}

/// Where in the file the wanted lines start; `None`: all of it is wanted, and perhaps more.
fn start_in(file: &LogFile, count: &mut Count, query: &LogQuery) -> Result<Option<u64>, LogReadError> {
    let failed = |source| LogReadError { step: "read", path: file.path.clone(), source };
    let mut end = file.file.metadata().map_err(failed)?.len();
    let mut size = BLOCK_BYTES;
    while end > 0 {
        let start = end.saturating_sub(size);
        let mut block = vec![0; (end - start) as usize];
        let read = read_up_to(&file.file, &mut block, start).map_err(failed)?;
        block.truncate(read);
        let first = match if start == 0 { Some(0) } else { boundary_in(&block) } {
            Some(first) => first,
            // Undecided: somebody plays with forged headers, or the tail is torn. Look at more.
            None if size < UNDECIDED_BYTES_MAX => {
                size = size.saturating_mul(2);
                continue;
            }
            None => (walk_to(&file.file, start).map_err(failed)? - start) as usize,
        };
        let records = records_from(&block, first);
        for (at, header) in records.iter().rev() {
            if query.matches(header.stream, header.at) && !count.take(header) {
                let len = HEADER_LEN as u64 + u64::from(header.len);
                return Ok(Some(start + *at as u64 + len));
            }
        }
        end = start + first as u64;
        size = BLOCK_BYTES;
    }
    Ok(None)
}

/// The first record at or after `target`, counted from the file's start, where one begins for certain: slow, but in
/// little memory.
fn walk_to(file: &std::fs::File, target: u64) -> io::Result<u64> {
    let mut block = vec![0; BLOCK_BYTES as usize];
    let (mut at, mut block_at, mut filled) = (0, 0, 0);
    while at < target {
        let mut header = block[..filled].get((at - block_at) as usize..).and_then(<[u8]>::first_chunk);
        if header.is_none() {
            block_at = at;
            filled = read_up_to(file, &mut block, at)?;
            header = block[..filled].first_chunk();
        }
        match header.and_then(|bytes| Header::decode(*bytes)) {
            Some(header) => at += HEADER_LEN as u64 + u64::from(header.len),
            // Cut or damaged before the target: the block has nothing that can be trusted.
            None => return Ok(target),
        }
    }
    Ok(at)
}

fn records_from(block: &[u8], first: usize) -> Vec<(usize, Header)> {
    let mut records = Vec::new();
    let mut at = first;
    while let Step::Record(len) = step(block.get(at..).unwrap_or_default()) {
        if let Some(header) = block[at..].first_chunk().and_then(|bytes| Header::decode(*bytes)) {
            records.push((at, header));
        }
        at += len;
    }
    records
}

/// As much as there is: the file may be cut meanwhile.
fn read_up_to(file: &std::fs::File, buffer: &mut [u8], from: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], from + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
