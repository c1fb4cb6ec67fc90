//! `docker diff`: what an overlay's upper directory changes relative to its lower ones.

use crate::error::ImageError;
use crate::tree;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Deepest directory, because each level holds a descriptor per layer open.
const DEPTH_MAX: usize = 512;

/// In Docker's numbers (`Kind` of the API's `FilesystemChange`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    Modified = 0,
    Added = 1,
    Deleted = 2,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Absolute within the container, such as `/etc/passwd`.
    pub path: PathBuf,
    pub kind: ChangeKind,
}

/// What `upper` changes relative to `lowers` (topmost first), sorted by path. A directory counts as
/// modified when something in it changed.
pub fn changes(upper: &Path, lowers: &[PathBuf]) -> naru_types::Result<Vec<Change>> {
    let upper = tree::open_root(upper)?;
    let lowers = lowers.iter().map(|lower| tree::open_root(lower)).collect::<Result<Vec<_>, _>>()?;
    let mut found = Vec::new();
    walk(upper.as_fd(), &lowers, Path::new("/"), 0, &mut found)?;
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn walk(
    upper: BorrowedFd<'_>,
    lowers: &[OwnedFd],
    path: &Path,
    depth: usize,
    found: &mut Vec<Change>,
) -> Result<(), ImageError> {
    let failed =
        |errno: Errno| ImageError::Io { step: "compare", path: path.to_owned(), source: errno.into() };
    if depth > DEPTH_MAX {
        return Err(failed(Errno::LOOP));
    }
    for name in tree::names(upper).map_err(failed)? {
        let child = path.join(OsStr::from_bytes(&name));
        let stat = tree::stat(upper, &name).map_err(failed)?;
        let below = lookup(lowers, &name).map_err(failed)?;
        if tree::is_whiteout(&stat) {
            if below.is_there {
                found.push(Change { path: child, kind: ChangeKind::Deleted });
            }
            continue;
        }
        let kind = if below.is_there { ChangeKind::Modified } else { ChangeKind::Added };
        found.push(Change { path: child.clone(), kind });
        if tree::file_type(&stat) == FileType::Directory {
            let dir = tree::open_beneath(upper, OsStr::from_bytes(&name).as_ref(), OFlags::DIRECTORY)
                .map_err(failed)?;
            if tree::is_opaque(dir.as_fd()).map_err(failed)? {
                hidden(dir.as_fd(), &below.directories, &child, found)?;
                walk(dir.as_fd(), &[], &child, depth + 1, found)?;
            } else {
                walk(dir.as_fd(), &below.directories, &child, depth + 1, found)?;
            }
        }
    }
    Ok(())
}

/// What the merged lower layers have under a name.
struct Below {
    is_there: bool,
    /// The directories that make it up, topmost first; empty for anything else.
    directories: Vec<OwnedFd>,
}

fn lookup(lowers: &[OwnedFd], name: &[u8]) -> Result<Below, Errno> {
    let mut below = Below { is_there: false, directories: Vec::new() };
    for lower in lowers {
        let stat = match tree::stat(lower.as_fd(), name) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(errno),
        };
        if tree::is_whiteout(&stat) {
            break;
        }
        if tree::file_type(&stat) != FileType::Directory {
            below.is_there = true;
            break;
        }
        below.is_there = true;
        let dir = tree::open_beneath(lower.as_fd(), OsStr::from_bytes(name).as_ref(), OFlags::DIRECTORY)?;
        let is_opaque = tree::is_opaque(dir.as_fd())?;
        below.directories.push(dir);
        if is_opaque {
            break;
        }
    }
    Ok(below)
}

/// Names of the lower directories that an opaque directory took away.
fn hidden(
    upper: BorrowedFd<'_>,
    lowers: &[OwnedFd],
    path: &Path,
    found: &mut Vec<Change>,
) -> Result<(), ImageError> {
    let failed =
        |errno: Errno| ImageError::Io { step: "compare", path: path.to_owned(), source: errno.into() };
    let mut names = Vec::new();
    for lower in lowers {
        names.extend(tree::names(lower.as_fd()).map_err(failed)?);
    }
    names.sort();
    names.dedup();
    for name in names {
        let is_kept = tree::stat(upper, &name).is_ok();
        if !is_kept && lookup(lowers, &name).map_err(failed)?.is_there {
            found.push(Change { path: path.join(OsStr::from_bytes(&name)), kind: ChangeKind::Deleted });
        }
    }
    Ok(())
}
