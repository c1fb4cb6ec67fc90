//! The directories of all containers, one per id, and their locks.
//!
//! A lock is a POSIX record lock: unlike flock(2) it belongs to this process alone, so the container's first process,
//! which inherits every descriptor until it executes its program, cannot hold it after we are gone.

use crate::destroy;
use crate::error::OciError;
use crate::log::Log;
use crate::state::{LOCK, State};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Longest id; a directory name's limit (NAME_MAX).
const ID_BYTES_MAX: usize = 255;

/// A container's directory under lock; nobody else changes it, and it is not removed.
#[derive(Debug)]
pub(crate) struct Locked {
    pub directory: PathBuf,
    /// Released when it is closed, or any other descriptor of the same file.
    lock: OwnedFd,
}

impl Locked {
    pub fn state(&self) -> Result<State, OciError> {
        State::read_locked(&self.directory, &self.lock)
    }

    /// Writes what is known before there is a first process.
    pub fn begin(&self, state: &State) -> Result<(), OciError> {
        state.begin(&self.directory, &self.lock)
    }
}

/// runc's rule: `^[\w+-\.]+$` and neither `.` nor `..`.
pub(crate) fn check_id(id: &str) -> Result<(), OciError> {
    if id.is_empty() {
        return Err(OciError::EmptyId);
    }
    // In a Go character class `+-\.` is the range from `+` to `.`, which holds the comma.
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'+'..=b'.');
    let named = id.len() <= ID_BYTES_MAX && id != "." && id != "..";
    if named && id.bytes().all(good) { Ok(()) } else { Err(OciError::InvalidId) }
}

/// Where a container's state is.
pub(crate) fn directory(root: &Path, id: &str) -> Result<PathBuf, OciError> {
    check_id(id)?;
    Ok(root.join(id))
}

/// Makes the directory of a new container. What an interrupted create has left under this id is removed first.
pub(crate) fn reserve(root: &Path, id: &str, log: &mut Log) -> Result<Locked, OciError> {
    let directory = directory(root, id)?;
    match make(root, &directory)? {
        Some(locked) => return Ok(locked),
        None => remove_leftover(&directory, log)?,
    }
    make(root, &directory)?.ok_or(OciError::Exists)
}

/// Waits for the lock of an existing container.
pub(crate) fn lock(directory: &Path) -> Result<Locked, OciError> {
    try_lock(directory, FlockOperation::LockExclusive)?.ok_or(OciError::NotExist)
}

/// `None`: there is something already.
fn make(root: &Path, directory: &Path) -> Result<Option<Locked>, OciError> {
    match rustix::fs::mkdir(directory, Mode::RWXU) {
        Ok(()) => {}
        Err(Errno::EXIST) => return Ok(None),
        Err(Errno::NOENT) => {
            std::fs::create_dir_all(root).map_err(|cause| OciError::file("mkdir", root, cause))?;
            // Who may enter is root alone; a user's own directory lies in one that is private already.
            rustix::fs::chmod(root, Mode::RWXU).map_err(|cause| OciError::file("chmod", root, cause))?;
            match rustix::fs::mkdir(directory, Mode::RWXU) {
                Err(Errno::EXIST) => return Ok(None),
                other => other.map_err(|cause| OciError::file("mkdir", directory, cause))?,
            }
        }
        Err(errno) => return Err(OciError::file("mkdir", directory, errno)),
    }
    // Somebody may take the empty directory for an interrupted create's before our lock: then it is theirs.
    try_lock(directory, FlockOperation::NonBlockingLockExclusive)?
        .map_or(Err(OciError::Exists), |lock| Ok(Some(lock)))
}

/// An unlocked directory without a first process is nobody's any more.
fn remove_leftover(directory: &Path, log: &mut Log) -> Result<(), OciError> {
    let Some(locked) = try_lock(directory, FlockOperation::NonBlockingLockExclusive)? else {
        return Err(OciError::Exists);
    };
    match locked.state() {
        Ok(State { init: Some(_), .. }) | Err(OciError::Damaged { .. }) => Err(OciError::Exists),
        Ok(state) => destroy::leftover(&locked, Some(&state), log),
        Err(OciError::NotExist) => destroy::leftover(&locked, None, log),
        Err(other) => Err(other),
    }
}

/// `None`: somebody else has it, or the directory is gone or another one by now.
fn try_lock(directory: &Path, operation: FlockOperation) -> Result<Option<Locked>, OciError> {
    let path = directory.join(LOCK);
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let lock = match rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        other => other.map_err(|cause| OciError::file("open", &path, cause))?,
    };
    loop {
        match rustix::fs::fcntl_lock(&lock, operation) {
            Ok(()) => break,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN | Errno::ACCESS) => return Ok(None),
            Err(errno) => return Err(OciError::file("lock", &path, errno)),
        }
    }
    let ours = rustix::fs::fstat(&lock).map_err(|cause| OciError::file("stat", &path, cause))?;
    let same =
        rustix::fs::stat(&path).is_ok_and(|found| (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino));
    Ok(same.then(|| Locked { directory: directory.to_owned(), lock }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_as_runc_takes_them() {
        for good in ["a", "A_1", "a+b-c.d,e", "..."] {
            assert!(check_id(good).is_ok(), "{good}");
        }
        for bad in [".", "..", "a/b", "a b", "ä", "a\n", "../x", "a:b"] {
            assert!(matches!(check_id(bad), Err(OciError::InvalidId)), "{bad}");
        }
        assert!(matches!(check_id(""), Err(OciError::EmptyId)));
    }
}
