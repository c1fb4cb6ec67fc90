//! What COPY and ADD copy from: the context (less what `.dockerignore` leaves out) or a view of an image.

use crate::error::{BuildError, Position, Result};
use crate::files::{at, resolve::resolve};
use crate::kept::KeptContext;
use naru_types::dockerignore::Ignore;
use naru_types::pattern::{Pattern, is_glob};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, OFlags, Stat};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// How deep a copied tree may be.
pub(crate) const DEPTH_MAX: usize = 512;

pub(crate) struct SourceTree {
    pub(crate) root: OwnedFd,
    pub(crate) ignore: Ignore,
    /// Files of the context belong to root, whoever has them on the host; those of an image keep their
    /// owners.
    pub(crate) owned_by_root: bool,
    /// The paths that are taken, directories on the way to them included; `None`: all.
    pub(crate) only: Option<BTreeSet<PathBuf>>,
    /// The context that this is the tree of, if it is kept.
    pub(crate) kept: Option<Arc<KeptContext>>,
}

/// One file or directory to copy.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// Relative to the tree's root, without links; empty for the root itself.
    pub(crate) path: PathBuf,
    /// The name that it was asked for by.
    pub(crate) name: OsString,
    pub(crate) stat: Stat,
}

impl SourceTree {
    /// All of `root`, owners as they are.
    pub(crate) fn whole(root: OwnedFd) -> Self {
        Self { root, ignore: Ignore::default(), owned_by_root: false, only: None, kept: None }
    }

    /// The same tree, of which only these paths are taken.
    pub(crate) fn narrowed(&self, only: BTreeSet<PathBuf>) -> Result<Self> {
        let root = self.root.try_clone().map_err(BuildError::io("open", "the copied tree"))?;
        Ok(Self {
            root,
            ignore: self.ignore.clone(),
            owned_by_root: self.owned_by_root,
            only: Some(only),
            kept: self.kept.clone(),
        })
    }

    /// What `pattern` names, sorted. Links are followed, within the tree. That a pattern with wildcards
    /// finds nothing is no error, as in BuildKit.
    pub(crate) fn select(&self, at: &Position, keyword: &str, pattern: &str) -> Result<Vec<Source>> {
        let mut found: Vec<PathBuf> = vec![PathBuf::new()];
        for part in pattern_parts(pattern) {
            let mut next = Vec::new();
            for base in found {
                if is_glob(&part) {
                    next.extend(self.matches(at, &base, &part)?);
                } else {
                    next.push(base.join(&part));
                }
            }
            found = next;
        }
        let mut sources = Vec::new();
        for path in found {
            if let Some(source) = self.look(at, &path)? {
                sources.push(source);
            } else if !is_glob(pattern) {
                return Err(self.not_found(at, keyword, pattern));
            }
        }
        Ok(sources)
    }

    fn not_found(&self, at: &Position, keyword: &str, pattern: &str) -> BuildError {
        let (message, hint) = if self.owned_by_root {
            let why = "file not found in build context or excluded by .dockerignore";
            (
                format!("{keyword} failed: {why}: stat {pattern}: file does not exist"),
                Some("paths are relative to the context directory, not to the Dockerfile".to_owned()),
            )
        } else {
            (format!("{keyword} failed: lstat {pattern}: no such file or directory"), None)
        };
        BuildError::NoSource { at: Box::new(at.clone()), message, pattern: pattern.to_owned(), hint }
    }

    /// The entries of `base` that match one component of a pattern.
    fn matches(&self, at: &Position, base: &Path, part: &str) -> Result<Vec<PathBuf>> {
        let pattern = Pattern::go(part).map_err(|_| at.error(format!("syntax error in pattern {part:?}")))?;
        let found = match resolve(self.root.as_fd(), base, true) {
            Ok(found) => found,
            Err(Errno::NOTDIR | Errno::NOENT) => return Ok(Vec::new()),
            Err(errno) => return Err(BuildError::sys("read", base)(errno)),
        };
        if !found.stat.as_ref().is_some_and(at::is_dir) {
            return Ok(Vec::new());
        }
        let mut names = Vec::new();
        let dir = at::open_dir_beneath(&self.root, &found.path).map_err(BuildError::sys("open", base))?;
        for name in at::names(&dir).map_err(BuildError::sys("read", base))? {
            if pattern.matches(&name.to_string_lossy())
                && !self.leaves_out(&found.path.join(&name), &dir, &name)?
            {
                names.push(base.join(name));
            }
        }
        Ok(names)
    }

    fn look(&self, at: &Position, path: &Path) -> Result<Option<Source>> {
        let found = match resolve(self.root.as_fd(), path, true) {
            Ok(found) => found,
            Err(Errno::NOTDIR) => return Ok(None),
            Err(errno) => return Err(at.error(format!("cannot read {}: {errno}", path.display()))),
        };
        let Some(stat) = found.stat else { return Ok(None) };
        if let (Some(parent), Some(name)) = (found.path.parent(), found.path.file_name()) {
            let dir = at::open_dir_beneath(&self.root, parent).map_err(BuildError::sys("open", parent))?;
            if self.leaves_out(&found.path, &dir, name)? {
                return Ok(None);
            }
        }
        let name = path.file_name().unwrap_or_default().to_owned();
        Ok(Some(Source { path: found.path, name, stat }))
    }

    /// The entries of an open directory that are in the tree, sorted, with their stats.
    pub(crate) fn entries(&self, dir: BorrowedFd<'_>, path: &Path) -> Result<Vec<(OsString, Stat)>> {
        let mut entries = Vec::new();
        for name in at::names(dir).map_err(BuildError::sys("read", path))? {
            let here = path.join(&name);
            let wanted = self.only.as_ref().is_none_or(|only| only.contains(&here));
            if !wanted || self.leaves_out(&here, dir, &name)? {
                continue;
            }
            let stat = at::stat(dir, &name).map_err(BuildError::sys("read", here))?;
            entries.push((name, stat));
        }
        Ok(entries)
    }

    /// Whether the ignore rules leave `path` out. A directory that they name stays in when an exception
    /// keeps something beneath it.
    fn leaves_out(&self, path: &Path, dir: impl AsFd, name: &OsStr) -> Result<bool> {
        if !self.ignore.excludes(path) {
            return Ok(false);
        }
        let stat = at::stat(&dir, name).map_err(BuildError::sys("read", path))?;
        if !self.ignore.has_exceptions() || !at::is_dir(&stat) {
            return Ok(true);
        }
        let inner = at::open_dir_beneath(&dir, Path::new(name)).map_err(BuildError::sys("open", path))?;
        for child in at::names(&inner).map_err(BuildError::sys("read", path))? {
            if !self.leaves_out(&path.join(&child), &inner, &child)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Feeds all that a copy of `source` would take into `hasher`; times are left out on purpose.
    pub(crate) fn hash(&self, source: &Source, hasher: &mut blake3::Hasher) -> Result<()> {
        field(hasher, source.name.as_bytes());
        let parent = source.path.parent().unwrap_or(Path::new(""));
        let dir = at::open_dir_beneath(&self.root, parent).map_err(BuildError::sys("open", parent))?;
        let name = source.path.file_name().unwrap_or(OsStr::new("."));
        self.hash_entry(dir.as_fd(), name, &source.path, &source.stat, hasher, 0)
    }

    fn hash_entry(
        &self,
        dir: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
        stat: &Stat,
        hasher: &mut blake3::Hasher,
        depth: usize,
    ) -> Result<()> {
        check_depth(path, depth)?;
        let (uid, gid) = if self.owned_by_root { (0, 0) } else { (stat.st_uid, stat.st_gid) };
        for number in [u64::from(stat.st_mode), u64::from(uid), u64::from(gid)] {
            hasher.update(&number.to_le_bytes());
        }
        match at::kind(stat) {
            FileType::RegularFile => {
                hasher.update(&self.file_digest(dir, name, path, stat)?);
            }
            FileType::Symlink => {
                let target =
                    rustix::fs::readlinkat(dir, name, Vec::new()).map_err(BuildError::sys("read", path))?;
                field(hasher, target.as_bytes());
            }
            FileType::Directory => {
                let inner =
                    at::open_dir_beneath(dir, Path::new(name)).map_err(BuildError::sys("open", path))?;
                hash_xattrs(&inner, path, hasher)?;
                let entries = self.entries(inner.as_fd(), path)?;
                hasher.update(&(entries.len() as u64).to_le_bytes());
                for (child, stat) in entries {
                    field(hasher, child.as_bytes());
                    self.hash_entry(inner.as_fd(), &child, &path.join(&child), &stat, hasher, depth + 1)?;
                }
            }
            _ => {
                hasher.update(&stat.st_rdev.to_le_bytes());
            }
        }
        Ok(())
    }

    /// Of attributes and content, as it is known or else by reading.
    fn file_digest(&self, dir: BorrowedFd<'_>, name: &OsStr, path: &Path, stat: &Stat) -> Result<[u8; 32]> {
        if let Some(digest) = self.kept.as_ref().and_then(|kept| kept.digest(stat)) {
            return Ok(digest);
        }
        let fd =
            at::open_beneath(dir, Path::new(name), OFlags::RDONLY).map_err(BuildError::sys("open", path))?;
        let mut hasher = blake3::Hasher::new();
        hash_xattrs(&fd, path, &mut hasher)?;
        hasher.update_reader(File::from(fd)).map_err(BuildError::io("read", path))?;
        let digest = *hasher.finalize().as_bytes();
        if let Some(kept) = &self.kept {
            kept.learn(stat, digest);
        }
        Ok(digest)
    }
}

pub(crate) fn check_depth(path: &Path, depth: usize) -> Result<()> {
    if depth <= DEPTH_MAX {
        return Ok(());
    }
    let source = std::io::Error::other(format!("directories nest deeper than {DEPTH_MAX}"));
    Err(BuildError::Io { step: "read", path: path.to_owned(), source })
}

/// A length and the bytes, so that two fields can't run into one another.
pub(crate) fn field(hasher: &mut blake3::Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

pub(crate) fn hash_xattrs(fd: impl AsFd, path: &Path, hasher: &mut blake3::Hasher) -> Result<()> {
    let xattrs = at::xattrs(fd).map_err(BuildError::sys("read the attributes of", path))?;
    hasher.update(&(xattrs.len() as u64).to_le_bytes());
    for (name, value) in xattrs {
        field(hasher, name.as_bytes());
        field(hasher, &value);
    }
    Ok(())
}

/// The components of a source path, `..` never leading above the root.
fn pattern_parts(pattern: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    for component in Path::new(pattern).components() {
        match component {
            Component::Normal(part) => parts.push(part.to_string_lossy().into_owned()),
            Component::ParentDir => {
                parts.pop();
            }
            _ => {}
        }
    }
    parts
}
