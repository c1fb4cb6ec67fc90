//! Reads one file's records forward.

use super::files::LogFile;
use super::scan::{Step, step};
use super::{LogReadError, LogRecord};
use naru_types::Timestamp;
use naru_types::logrec::{HEADER_LEN, Header, PAYLOAD_LEN_MAX};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

/// Bytes read at once; holds at least three of the longest records.
const BLOCK_BYTES: usize = 64 * 1024;
const _: () = assert!(BLOCK_BYTES > 3 * (HEADER_LEN + PAYLOAD_LEN_MAX));

#[derive(Debug)]
pub(super) struct Cursor {
    file: LogFile,
    /// Where the next record starts.
    at: u64,
    block: Vec<u8>,
    /// Where in the file `block` starts.
    block_at: u64,
}

impl Cursor {
    pub fn new(file: LogFile, at: u64) -> Self {
        Self { file, at, block: Vec::new(), block_at: at }
    }

    pub fn inode(&self) -> u64 {
        self.file.inode
    }

    /// When the file was last written to.
    pub fn last_written(&self) -> Timestamp {
        self.file
            .file
            .metadata()
            .map_or(Timestamp(i64::MAX), |meta| Timestamp::from_parts(meta.mtime(), meta.mtime_nsec() as u32))
    }

    /// Whether a whole record is there.
    pub fn has_more(&mut self) -> Result<bool, LogReadError> {
        self.fill()?;
        Ok(matches!(step(self.rest()), Step::Record(_)))
    }

    /// The next record; `None` when no whole one is there (yet).
    pub fn next(&mut self) -> Result<Option<LogRecord>, LogReadError> {
        if !matches!(step(self.rest()), Step::Record(_)) {
            self.fill()?;
        }
        match step(self.rest()) {
            Step::Record(len) => Ok(self.take(len)),
            Step::Torn => Ok(None),
            Step::Foreign => {
                self.resync()?;
                match step(self.rest()) {
                    Step::Record(len) => Ok(self.take(len)),
                    Step::Torn | Step::Foreign => Ok(None),
                }
            }
        }
    }

    fn take(&mut self, len: usize) -> Option<LogRecord> {
        let record = &self.rest()[..len];
        let header = Header::decode(*record.first_chunk()?)?;
        let payload = record[HEADER_LEN..].to_vec();
        self.at += len as u64;
        Some(LogRecord { stream: header.stream, partial: header.partial, at: header.at, payload })
    }

    fn rest(&self) -> &[u8] {
        let from = self.at.saturating_sub(self.block_at) as usize;
        self.block.get(from..).unwrap_or_default()
    }

    /// Reads the block at the present position anew.
    fn fill(&mut self) -> Result<(), LogReadError> {
        self.block.resize(BLOCK_BYTES, 0);
        let mut filled = 0;
        while filled < BLOCK_BYTES {
            match self.file.file.read_at(&mut self.block[filled..], self.at + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(LogReadError { step: "read", path: self.file.path.clone(), source });
                }
            }
        }
        self.block.truncate(filled);
        self.block_at = self.at;
        Ok(())
    }

    /// The writer cut off what it could not write whole (a full disk) after we had read some of it, and went on: the
    /// position is inside a record now. Counts from the start to the first record at or after it.
    fn resync(&mut self) -> Result<(), LogReadError> {
        let target = self.at;
        (self.at, self.block_at) = (0, 0);
        self.block.clear();
        while self.at < target {
            let mut found = step(self.rest());
            if !matches!(found, Step::Record(_)) {
                self.fill()?;
                found = step(self.rest());
            }
            match found {
                Step::Record(len) => self.at += len as u64,
                Step::Torn => break,
                // Damaged before the position: nothing after it can be trusted; what comes next is appended at the end.
                Step::Foreign => {
                    self.at = self.file.file.metadata().map_or(target, |meta| meta.len());
                    break;
                }
            }
        }
        self.fill()
    }
}
