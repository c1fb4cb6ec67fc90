//! Makes "take from the pipe, append to the log" happen exactly once, even when the keeper is killed in between.
//!
//! Between a read(2) and the write to the log the bytes would be in the keeper's memory only. So a batch is moved with
//! splice(2) from the pipe into a file in the run directory (the kernel moves and counts in one step), then written to the
//! log, then the file is emptied. Its first page says where the batch belongs: which log, which inode, how long it was.
//! A keeper that finds a batch at start cuts that log back to the noted length and writes the batch again.
//! One file serves all containers, since the keeper handles one batch at a time. It is never synced: it guards against a
//! killed process, not against a power cut. Ptys cannot be spliced; [`super::ttyspool`] is theirs.

use super::logfile::{LogError, LogWriter, encode};
use super::protocol::LogFile;
use naru_kernel::{Errno, clock};
use naru_types::logrec::Stream;
use rustix::pipe::{SpliceFlags, splice};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The note's page; the batch follows it.
pub(super) const NOTE_BYTES: usize = 4096;

#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    #[error("cannot use {}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("cannot finish the batch of a killed keeper")]
    Log(#[from] LogError),
    #[error("cannot cut {} back", path.display())]
    Rewind { path: PathBuf, source: io::Error },
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Note {
    pub log: LogFile,
    pub inode: u64,
    pub len: u64,
    stderr: bool,
}

impl Note {
    pub fn of(log: &LogWriter, stream: Stream) -> Self {
        let (inode, len) = log.position();
        Self { log: log.limits().clone(), inode, len, stderr: stream == Stream::Stderr }
    }

    /// Writes it to the first page of `file`. `false`: it is too long, or cannot be written.
    pub fn write(&self, buffer: &mut Vec<u8>, file: &File) -> bool {
        buffer.clear();
        if serde_json::to_writer(&mut *buffer, self).is_err() || buffer.len() >= NOTE_BYTES {
            return false;
        }
        // The line feed ends the note: what an older, longer one left behind it is ignored.
        buffer.push(b'\n');
        file.write_all_at(buffer, 0).is_ok()
    }

    /// From the first page; `None` when there is none.
    pub fn read(page: &[u8]) -> Option<Self> {
        serde_json::from_slice(page.split(|byte| *byte == b'\n').next()?).ok()
    }
}

#[derive(Debug)]
pub(super) struct Spool {
    path: PathBuf,
    file: File,
    note: Vec<u8>,
}

impl Spool {
    pub fn open(path: &Path) -> Result<Self, SpoolError> {
        let opened =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        let file = opened.map_err(|source| SpoolError::File { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), file, note: Vec::with_capacity(NOTE_BYTES) })
    }

    /// Writes what a killed keeper had taken and perhaps not written. Says how many bytes that were. Whatever happens the
    /// spool is empty afterwards.
    pub fn replay(&mut self) -> Result<u64, SpoolError> {
        let result = self.redo();
        self.clear();
        result
    }

    /// Notes where the next batch belongs. `false`: it cannot be noted, read plainly.
    pub fn note(&mut self, log: &LogWriter, stream: Stream) -> bool {
        Note::of(log, stream).write(&mut self.note, &self.file)
    }

    /// Moves up to `buffer.len()` bytes out of the pipe and reads them into `buffer`. Zero: end of file.
    pub fn take(&self, pipe: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
        let mut offset = NOTE_BYTES as u64;
        let taken = splice(pipe, None, &self.file, Some(&mut offset), buffer.len(), SpliceFlags::NONBLOCK)?;
        match self.file.read_exact_at(&mut buffer[..taken], NOTE_BYTES as u64) {
            Ok(()) => Ok(taken),
            Err(_) => Err(Errno::IO),
        }
    }

    /// The batch is in the log.
    pub fn clear(&self) {
        // Cutting a file short needs no space; should it fail, the next note names the next batch's place anyway.
        let _ = self.file.set_len(NOTE_BYTES as u64);
    }

    fn redo(&mut self) -> Result<u64, SpoolError> {
        let failed = |source| SpoolError::File { path: self.path.clone(), source };
        let total = self.file.metadata().map_err(failed)?.len();
        let len = total.saturating_sub(NOTE_BYTES as u64);
        if len == 0 {
            return Ok(0);
        }
        let mut page = vec![0; NOTE_BYTES];
        self.file.read_exact_at(&mut page, 0).map_err(failed)?;
        let text = page.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let note: Note = serde_json::from_slice(text).map_err(|error| failed(error.into()))?;
        let mut batch = vec![0; len as usize];
        self.file.read_exact_at(&mut batch, NOTE_BYTES as u64).map_err(failed)?;

        let mut log = LogWriter::open(note.log)?;
        log.rewind(note.inode, note.len)
            .map_err(|source| SpoolError::Rewind { path: log.path().to_owned(), source })?;
        let mut records = Vec::new();
        encode(if note.stderr { Stream::Stderr } else { Stream::Stdout }, clock::now(), &batch, &mut records);
        log.append(&records);
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;

    #[test]
    fn a_batch_is_written_once_wherever_the_keeper_died() {
        let dir = std::env::temp_dir().join(format!("naru-spool-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        let limits = LogFile { path: dir.join("log"), file_bytes_max: 0, files_max: 2 };
        let mut expected = Vec::new();
        // Killed after taking; after writing half; after writing all; after clearing.
        for died in 0..4 {
            let (reader, mut writer) = std::io::pipe().unwrap();
            writer.write_all(b"line one\nline two\n").unwrap();
            let mut log = LogWriter::open(limits.clone()).unwrap();
            let mut spool = Spool::open(&dir.join("spool")).unwrap();
            assert!(spool.note(&log, Stream::Stdout));
            let mut buffer = [0; 100];
            assert_eq!(spool.take(reader.as_fd(), &mut buffer), Ok(18));
            let mut records = Vec::new();
            encode(Stream::Stdout, clock::now(), &buffer[..18], &mut records);
            match died {
                0 => {}
                1 => log.append(&records[..20]),
                _ => log.append(&records),
            }
            if died == 3 {
                spool.clear();
            }
            drop((spool, log));
            let replayed = Spool::open(&dir.join("spool")).unwrap().replay().unwrap();
            assert_eq!(replayed, if died == 3 { 0 } else { 18 });
            expected.push(records.len());
            assert_eq!(
                std::fs::metadata(&limits.path).unwrap().len(),
                expected.iter().sum::<usize>() as u64,
                "died at {died}"
            );
        }
        std::fs::remove_dir_all(dir).unwrap();
    }
}
