//! The [`super::spool`] of terminals, whose masters cannot be spliced: the batch is read straight into a shared mapping of a
//! file, so its bytes outlive a keeper that is killed inside or after the read.
//!
//! How many bytes the killed keeper had read nobody can tell; but the memory was all zero before. So a replay takes
//! everything up to the last byte that is not zero. Zeros at the very end of a batch are lost with that, which a
//! terminal ignores anyway (ECMA-48, NUL).

use super::journal::Journal;
use super::logfile::{LogError, LogWriter, encode};
use super::process::BATCH_BYTES;
use super::spool::{NOTE_BYTES, Note};
use naru_kernel::scratch::Scratch;
use naru_kernel::{Errno, clock};
use naru_types::logrec::Stream;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

#[derive(Debug)]
pub(super) struct TtySpool {
    file: File,
    batch: Scratch,
    note: Vec<u8>,
}

#[derive(Debug, thiserror::Error)]
enum ReplayError {
    #[error("cannot read the terminals' spool")]
    Read(#[from] io::Error),
    #[error("cannot finish the batch of a killed keeper")]
    Log(#[from] LogError),
}

impl TtySpool {
    /// Opens it empty, after what a killed keeper left in it was written. `None`: the run directory is full or read-only;
    /// then terminals are read plainly.
    pub fn open(path: &Path, journal: &mut Journal) -> Option<Self> {
        let opened =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        let file = opened.ok()?;
        match replay(&file) {
            Ok(0) => {}
            Ok(bytes) => {
                journal
                    .write(format_args!("wrote {bytes} bytes of a terminal that a killed keeper had taken"));
            }
            Err(error) => {
                journal.write(format_args!("lost a terminal's batch: {}", super::start::chain(&error)));
            }
        }
        file.set_len(0).ok()?;
        let batch = Scratch::map(&file, NOTE_BYTES as u64, BATCH_BYTES).ok()?;
        Some(Self { file, batch, note: Vec::with_capacity(NOTE_BYTES) })
    }

    /// Notes where the next batch belongs. `false`: it cannot be noted, read plainly.
    pub fn note(&mut self, log: &LogWriter) -> bool {
        Note::of(log, Stream::Stdout).write(&mut self.note, &self.file)
    }

    /// Reads a batch and copies it to `buffer`.
    pub fn take(&mut self, pty: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
        let taken = self.batch.read(pty, buffer.len())?;
        buffer[..taken].copy_from_slice(&self.batch.bytes()[..taken]);
        Ok(taken)
    }

    /// The batch is in the log: the note goes first, so that zeroes are never taken for a shorter batch.
    pub fn clear(&mut self, taken: usize) {
        // Overwriting a byte that exists needs no space.
        let _ = self.file.write_all_at(b"\n", 0);
        self.batch.clear(taken);
    }
}

fn replay(file: &File) -> Result<usize, ReplayError> {
    let total = file.metadata()?.len() as usize;
    if total <= NOTE_BYTES {
        return Ok(0);
    }
    let mut bytes = vec![0; total.min(NOTE_BYTES + BATCH_BYTES)];
    file.read_exact_at(&mut bytes, 0)?;
    let (note, batch) = bytes.split_at(NOTE_BYTES);
    let Some(note) = Note::read(note) else { return Ok(0) };
    let len = batch.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    if len > 0 {
        let mut log = LogWriter::open(note.log)?;
        log.rewind(note.inode, note.len)?;
        let mut records = Vec::new();
        encode(Stream::Stdout, clock::now(), &batch[..len], &mut records);
        log.append(&records);
    }
    Ok(len)
}

#[cfg(test)]
mod tests {
    use super::super::protocol::LogFile;
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;

    #[test]
    fn a_terminals_batch_is_written_once_wherever_the_keeper_died() {
        let dir = std::env::temp_dir().join(format!("naru-ttyspool-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        let limits = LogFile { path: dir.join("log"), file_bytes_max: 0, files_max: 2 };
        let mut journal = Journal::open(dir.join("journal"));
        let mut expected = 0;
        // Killed before reading; after it; after writing half; after writing all; after clearing.
        for died in 0..5 {
            let (reader, mut writer) = std::io::pipe().unwrap();
            writer.write_all(b"prompt$ \x1b[0m").unwrap();
            let mut log = LogWriter::open(limits.clone()).unwrap();
            let mut spool = TtySpool::open(&dir.join("spool"), &mut journal).unwrap();
            assert!(spool.note(&log));
            let mut buffer = [0; 100];
            let mut records = Vec::new();
            if died > 0 {
                let taken = spool.take(reader.as_fd(), &mut buffer).unwrap();
                encode(Stream::Stdout, clock::now(), &buffer[..taken], &mut records);
                match died {
                    1 => {}
                    2 => log.append(&records[..20]),
                    _ => log.append(&records),
                }
                if died == 4 {
                    spool.clear(taken);
                }
            }
            drop((spool, log));
            drop(TtySpool::open(&dir.join("spool"), &mut journal).unwrap());
            expected += records.len();
            let len = std::fs::metadata(&limits.path).unwrap().len();
            assert_eq!(len, expected as u64, "died at {died}");
        }
        std::fs::remove_dir_all(dir).unwrap();
    }
}
