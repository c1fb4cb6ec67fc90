//! The keeper's own log, `<run>/keeper.log`: one line per event worth reading after something went wrong.
//!
//! Bounded: past [`FILE_BYTES_MAX`] it becomes `keeper.log.1`. A line that cannot be written is lost; the keeper goes on.

use naru_kernel::clock;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

const FILE_BYTES_MAX: u64 = 1 << 20;

#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: Option<File>,
    len: u64,
}

impl Journal {
    pub fn open(path: PathBuf) -> Self {
        let mut journal = Self { path, file: None, len: 0 };
        journal.reopen();
        journal
    }

    pub fn write(&mut self, line: fmt::Arguments<'_>) {
        if self.len > FILE_BYTES_MAX {
            let _ = std::fs::rename(&self.path, self.path.with_extension("log.1"));
            self.reopen();
        }
        let text = format!("{} {line}\n", clock::now());
        if let Some(file) = &mut self.file
            && file.write_all(text.as_bytes()).is_ok()
        {
            self.len += text.len() as u64;
        }
    }

    fn reopen(&mut self) {
        self.file = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path).ok();
        self.len = self.file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |meta| meta.len());
    }
}
