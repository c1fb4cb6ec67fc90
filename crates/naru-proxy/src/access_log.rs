//! The access log: one JSON object a line in `<root>/proxy/access.log`, rotated by size.
//!
//! Requests never wait for the disk: lines go through a bounded queue to one thread, and lines that find it
//! full are counted and lost. The query string is not logged, since people put secrets there.

use crate::error::ProxyError;
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Size at which the file is rotated, in bytes.
const FILE_LEN_MAX: u64 = 16 * 1024 * 1024;
/// Files in all: `access.log`, `access.log.1`, `access.log.2`.
const FILES_MAX: u32 = 3;
/// Lines that wait for the disk.
const QUEUE_LINES_MAX: usize = 4096;
/// Longest path in a line, in bytes.
pub(crate) const PATH_LEN_MAX: usize = 512;

/// One line. Times in microseconds, sizes in bytes.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Line {
    pub at: String,
    pub client: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub protocol: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub method: String,
    pub host: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// Zero: no HTTP was spoken (see `note`).
    pub status: u16,
    pub bytes: u64,
    pub micros: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub service: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<std::net::SocketAddr>,
    /// Why the proxy itself answered, or why a handshake failed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// Cloneable handle. The thread ends when the last handle is dropped.
#[derive(Clone)]
pub(crate) struct AccessLog {
    queue: SyncSender<Line>,
    dropped: Arc<AtomicU64>,
}

impl AccessLog {
    pub fn open(path: &Path) -> Result<Self, ProxyError> {
        let (queue, lines) = sync_channel(QUEUE_LINES_MAX);
        let mut writer = Writer::open(path)?;
        let thread = std::thread::Builder::new().name("access-log".into());
        thread.spawn(move || writer.drain(&lines)).map_err(|source| ProxyError::Runtime { source })?;
        Ok(Self { queue, dropped: Arc::default() })
    }

    pub fn write(&self, line: Line) {
        if self.queue.try_send(line).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

struct Writer {
    path: PathBuf,
    file: File,
    len: u64,
}

impl Writer {
    fn open(path: &Path) -> Result<Self, ProxyError> {
        let file = append_to(path).map_err(ProxyError::disk("open", path))?;
        let len = file.metadata().map_err(ProxyError::disk("examine", path))?.len();
        Ok(Self { path: path.into(), file, len })
    }

    fn drain(&mut self, lines: &Receiver<Line>) {
        let mut batch = Vec::new();
        while let Ok(line) = lines.recv() {
            push(&mut batch, &line);
            while let Ok(line) = lines.try_recv() {
                push(&mut batch, &line);
                if batch.len() >= 256 * 1024 {
                    break;
                }
            }
            // A full disk must not stop the proxy: the batch is lost, the next one is tried again.
            let _ = self.append(&batch);
            batch.clear();
        }
    }

    fn append(&mut self, batch: &[u8]) -> std::io::Result<()> {
        if self.len + batch.len() as u64 > FILE_LEN_MAX && self.len > 0 {
            self.rotate()?;
        }
        self.file.write_all(batch)?;
        self.len += batch.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> std::io::Result<()> {
        let numbered = |number: u32| PathBuf::from(format!("{}.{number}", self.path.display()));
        for number in (1..FILES_MAX - 1).rev() {
            let _ = std::fs::rename(numbered(number), numbered(number + 1));
        }
        std::fs::rename(&self.path, numbered(1))?;
        self.file = append_to(&self.path)?;
        self.len = 0;
        Ok(())
    }
}

fn push(batch: &mut Vec<u8>, line: &Line) {
    // A struct of strings and numbers always encodes; a failure would cost one log line.
    if serde_json::to_writer(&mut *batch, line).is_ok() {
        batch.push(b'\n');
    }
}

fn append_to(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotation_keeps_a_bounded_number_of_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        let mut writer = Writer::open(&path).unwrap();
        let chunk = vec![b'x'; (FILE_LEN_MAX / 2 + 1) as usize];
        for _ in 0..6 {
            writer.append(&chunk).unwrap();
        }
        let mut names: Vec<_> =
            std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["access.log", "access.log.1", "access.log.2"]);
    }
}
