//! The files of a log, oldest first, even while the keeper rotates them.

use super::LogReadError;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// How often the directory is read again because a rotation came between. Each takes a whole file of output.
const TRIES_MAX: u32 = 16;

#[derive(Debug)]
pub(super) struct LogFile {
    pub file: File,
    pub inode: u64,
    pub path: PathBuf,
}

/// Opens every file there is, oldest first; none when nothing was written yet.
pub(super) fn open_all(path: &Path) -> Result<Vec<LogFile>, LogReadError> {
    let mut files = Vec::new();
    for _ in 0..TRIES_MAX {
        files.clear();
        let before = inode(path)?;
        files.extend(open(path)?);
        for n in 1u32.. {
            let Some(older) = open(&numbered(path, n))? else { break };
            files.push(older);
        }
        if inode(path)? == before {
            break;
        }
    }
    files.reverse();
    files.dedup_by_key(|file| file.inode);
    Ok(files)
}

/// Inode of the file at `path` now.
pub(super) fn inode(path: &Path) -> Result<Option<u64>, LogReadError> {
    match std::fs::metadata(path) {
        Ok(meta) => Ok(Some(meta.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(LogReadError { step: "look at", path: path.to_owned(), source }),
    }
}

fn open(path: &Path) -> Result<Option<LogFile>, LogReadError> {
    let failed = |source| LogReadError { step: "open", path: path.to_owned(), source };
    match File::open(path) {
        Ok(file) => {
            let inode = file.metadata().map_err(failed)?.ino();
            Ok(Some(LogFile { file, inode, path: path.to_owned() }))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

fn numbered(path: &Path, n: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{n}"));
    PathBuf::from(name)
}
