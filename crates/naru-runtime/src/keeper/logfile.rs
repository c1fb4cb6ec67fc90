//! Appends records to a container's log, rotates it by size, repairs a torn tail.
//!
//! Each batch is one write, so a reader sees whole records but for the moment of the write. A disk that is full costs
//! records, never the container: what cannot be written is cut off again and counted.
//! A write to a disk that hangs does block the keeper: regular files know no other way short of a thread per log.

use super::process::BATCH_BYTES;
use super::protocol::LogFile;
use super::state::{Kept, LogState};
use naru_types::Timestamp;
use naru_types::logrec::{HEADER_LEN, Header, PAYLOAD_LEN_MAX, Stream};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Fewer bytes at once are not worth their system calls (and are one page of a pipe).
const BATCH_BYTES_MIN: usize = 4096;
/// Bytes read at once when looking for a torn tail.
const SCAN_BYTES: usize = 256 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("cannot open the log {}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("cannot repair the log {}", path.display())]
    Repair { path: PathBuf, source: io::Error },
}

#[derive(Debug)]
pub(super) struct LogWriter {
    limits: LogFile,
    file: File,
    len: u64,
    inode: u64,
    /// Records lost because they could not be written.
    pub dropped: u64,
}

impl LogWriter {
    pub fn open(limits: LogFile) -> Result<Self, LogError> {
        let failed = |source| LogError::Open { path: limits.path.clone(), source };
        let file = open_append(&limits.path).map_err(failed)?;
        let meta = file.metadata().map_err(failed)?;
        let repaired =
            repair(&file).map_err(|source| LogError::Repair { path: limits.path.clone(), source })?;
        Ok(Self { limits, file, len: repaired, inode: meta.ino(), dropped: 0 })
    }

    pub fn save<'a>(&'a self, kept: &mut Kept<'a>) -> LogState {
        LogState {
            limits: self.limits.clone(),
            file: kept.fd(self.file.as_fd()),
            len: self.len,
            inode: self.inode,
            dropped: self.dropped,
        }
    }

    pub fn restore(state: &LogState, file: OwnedFd) -> Self {
        let LogState { limits, len, inode, dropped, .. } = state;
        Self { limits: limits.clone(), file: File::from(file), len: *len, inode: *inode, dropped: *dropped }
    }

    pub fn path(&self) -> &Path {
        &self.limits.path
    }

    /// Bytes of output to take at once: a small log is rotated at its size, not at a multiple of it.
    pub fn batch_bytes_max(&self) -> usize {
        match self.limits.file_bytes_max {
            0 => BATCH_BYTES,
            max => (max / 4).clamp(BATCH_BYTES_MIN as u64, BATCH_BYTES as u64) as usize,
        }
    }

    pub fn limits(&self) -> &LogFile {
        &self.limits
    }

    /// Inode and length of the active file.
    pub fn position(&self) -> (u64, u64) {
        (self.inode, self.len)
    }

    /// Cuts the active file back to `len` if it is still the one with `inode`: what follows is written again.
    pub fn rewind(&mut self, inode: u64, len: u64) -> io::Result<()> {
        if inode == self.inode && len < self.len {
            self.file.set_len(len)?;
            self.len = len;
        }
        Ok(())
    }

    /// Rotates if `more` bytes would pass the limit. Says whether it did.
    pub fn make_room(&mut self, more: usize) -> bool {
        let max = self.limits.file_bytes_max;
        if max == 0 || self.len == 0 || self.len.saturating_add(more as u64) <= max {
            return false;
        }
        // A failed rotation (read-only directory) goes on with the old file: late is better than lost.
        self.rotate().is_ok()
    }

    /// Appends encoded records.
    pub fn append(&mut self, records: &[u8]) {
        if let Err(_error) = self.file.write_all(records) {
            // Part of it may be there; a torn record must not stay.
            let _ = self.file.set_len(self.len);
            self.dropped += count(records);
            return;
        }
        self.len += records.len() as u64;
    }

    fn rotate(&mut self) -> io::Result<()> {
        let path = &self.limits.path;
        let older = |n: u32| numbered(path, n);
        let last = self.limits.files_max.max(1) - 1;
        if last == 0 {
            std::fs::remove_file(path)?;
        } else {
            for n in (1..last).rev() {
                match std::fs::rename(older(n), older(n + 1)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            std::fs::rename(path, older(1))?;
        }
        self.file = open_append(path)?;
        self.inode = self.file.metadata()?.ino();
        self.len = 0;
        Ok(())
    }
}

/// `log` → `log.3`.
fn numbered(path: &Path, n: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{n}"));
    PathBuf::from(name)
}

/// Encodes `bytes` as records: one per line, longer lines in pieces. The last piece without line feed is a partial
/// record, so nothing waits in memory for the rest of its line.
pub(super) fn encode(stream: Stream, at: Timestamp, bytes: &[u8], into: &mut Vec<u8>) {
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let mut pieces = line.chunks(PAYLOAD_LEN_MAX).peekable();
        while let Some(piece) = pieces.next() {
            let partial = pieces.peek().is_some() || piece.last() != Some(&b'\n');
            into.extend_from_slice(&Header { len: piece.len() as u32, stream, partial, at }.encode());
            into.extend_from_slice(piece);
        }
    }
}

/// How many records are in `records`.
fn count(records: &[u8]) -> u64 {
    let (mut at, mut count) = (0, 0);
    while let Some(len) = record_len(&records[at..]) {
        at += len;
        count += 1;
    }
    count
}

/// Length of the record at the start of `bytes`, if it is there as a whole.
fn record_len(bytes: &[u8]) -> Option<usize> {
    let header = Header::decode(*bytes.first_chunk::<HEADER_LEN>()?)?;
    let len = HEADER_LEN + header.len as usize;
    (len <= bytes.len()).then_some(len)
}

/// Cuts the file after its last whole record; its length then. A crash in the middle of a write leaves such a tail.
fn repair(mut file: &File) -> io::Result<u64> {
    let total = file.metadata()?.len();
    let mut whole = 0u64;
    let mut held: Vec<u8> = Vec::new();
    loop {
        let before = held.len();
        held.resize(before + SCAN_BYTES, 0);
        let read = file.read(&mut held[before..])?;
        held.truncate(before + read);
        let mut at = 0;
        while let Some(len) = record_len(&held[at..]) {
            at += len;
        }
        whole += at as u64;
        held.drain(..at);
        if read == 0 || held.len() > HEADER_LEN + PAYLOAD_LEN_MAX {
            break;
        }
    }
    if whole < total {
        file.set_len(whole)?;
    }
    Ok(whole)
}

fn open_append(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("naru-logfile-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    fn line(text: &str) -> Vec<u8> {
        let mut records = Vec::new();
        encode(Stream::Stdout, Timestamp(1), text.as_bytes(), &mut records);
        records
    }

    #[test]
    fn lines_become_records() {
        let mut records = Vec::new();
        let long = "x".repeat(PAYLOAD_LEN_MAX + 3) + "\n";
        encode(Stream::Stderr, Timestamp(5), format!("a\n\n{long}tail").as_bytes(), &mut records);
        let mut seen = Vec::new();
        let mut rest = &records[..];
        while let Some(len) = record_len(rest) {
            let header = Header::decode(*rest.first_chunk().unwrap()).unwrap();
            seen.push((header.len, header.partial));
            rest = &rest[len..];
        }
        assert_eq!(seen, [(2, false), (1, false), (PAYLOAD_LEN_MAX as u32, true), (4, false), (4, true)]);
        assert!(rest.is_empty());
        assert_eq!(count(&records), 5);
    }

    #[test]
    fn rotation_keeps_the_newest_files() {
        let dir = scratch("rotation");
        let one = line("0123456789\n");
        let limits = LogFile { path: dir.join("log"), file_bytes_max: one.len() as u64 * 2, files_max: 3 };
        let mut writer = LogWriter::open(limits).unwrap();
        for _ in 0..9 {
            writer.make_room(one.len());
            writer.append(&one);
        }
        let mut sizes: Vec<_> = std::fs::read_dir(&dir)
            .unwrap()
            .map(|e| {
                let e = e.unwrap();
                (e.file_name(), e.metadata().unwrap().len() / one.len() as u64)
            })
            .collect();
        sizes.sort();
        assert_eq!(sizes, [("log".into(), 1), ("log.1".into(), 2), ("log.2".into(), 2)]);
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_torn_tail_is_cut() {
        let dir = scratch("torn");
        let limits = LogFile { path: dir.join("log"), file_bytes_max: 0, files_max: 1 };
        let mut content = line("first\n");
        let whole = content.len() as u64;
        content.extend_from_slice(&line("second\n")[..HEADER_LEN + 2]);
        std::fs::write(&limits.path, &content).unwrap();
        let mut writer = LogWriter::open(limits.clone()).unwrap();
        assert_eq!(writer.position().1, whole);
        writer.append(&line("third\n"));
        assert_eq!(count(&std::fs::read(&limits.path).unwrap()), 2);
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_full_disk_costs_records_and_no_more() {
        let limits = LogFile { path: "/dev/full".into(), file_bytes_max: 0, files_max: 1 };
        let file = OpenOptions::new().append(true).open("/dev/full").unwrap();
        let mut writer = LogWriter { limits, file, len: 0, inode: 0, dropped: 0 };
        writer.append(&line("a\nb\n"));
        assert_eq!((writer.dropped, writer.len), (2, 0));
    }
}
