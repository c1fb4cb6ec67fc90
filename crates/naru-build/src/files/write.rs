//! Writing a layer directly: files go beneath an upper directory, at the places where the image below
//! would have led them. No mount is needed, and the layer is whole when the last file is.
//!
//! What is already in the image decides as it does for Docker: a directory is merged into a directory; a
//! file takes a file's or a link's place; a directory never takes a non-directory's, nor the other way
//! round. Directories of the image on the way down are made again with their attributes, since an upper
//! directory's attributes are what a container would see.

use crate::dockerfile::chmod::Chmod;
use crate::error::{BuildError, Position, Result};
use crate::files::at;
use crate::files::source::{Source, SourceTree, check_depth};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes copied between two looks at the cancel flag.
const CHUNK_BYTES: u64 = 64 << 20;

/// What is changed on the way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    pub(crate) owner: Option<(u32, u32)>,
    /// Permissions of files and directories.
    pub(crate) mode: Option<Chmod>,
}

impl Changes {
    /// The mode of a directory that no source has.
    fn made_mode(&self) -> u32 {
        match &self.mode {
            Some(Chmod::Set(mode)) => *mode,
            Some(Chmod::Change(_)) | None => 0o755,
        }
    }
}

pub(crate) struct LayerWriter<'a> {
    pub(crate) at: &'a Position,
    pub(crate) upper: OwnedFd,
    /// The image below.
    pub(crate) view: BorrowedFd<'a>,
    pub(crate) changes: Changes,
    /// `--link`: what the image has on the way and is no directory gives way.
    pub(crate) replace: bool,
    pub(crate) cancel: &'a AtomicBool,
    /// Where the first name of a file with several names has gone, by device and inode.
    pub(crate) links: HashMap<(u64, u64), PathBuf>,
    /// What is written becomes a layer, which nobody writes to any more: it may have files of a kept context by links.
    pub(crate) into_layer: bool,
}

/// A directory being written, with its counterpart in the image.
struct Place {
    upper: OwnedFd,
    view: Option<OwnedFd>,
    path: PathBuf,
}

impl LayerWriter<'_> {
    /// Makes `path` (without links) and what is missing above it, and opens it.
    pub(crate) fn make_dirs(&self, path: &Path) -> Result<OwnedFd> {
        Ok(self.place(path)?.upper)
    }

    /// Copies one source to `target`, a path without links. A directory's content goes into `target`.
    pub(crate) fn copy(&mut self, tree: &SourceTree, source: &Source, target: &Path) -> Result<()> {
        let parent = source.path.parent().unwrap_or(Path::new(""));
        let dir = at::open_dir_beneath(&tree.root, parent).map_err(BuildError::sys("open", parent))?;
        let name = source.path.file_name().unwrap_or(OsStr::new("."));
        if at::is_dir(&source.stat) {
            let place = self.place(target)?;
            let inner =
                at::open_dir_beneath(&dir, Path::new(name)).map_err(BuildError::sys("open", &source.path))?;
            return self.copy_children(tree, inner.as_fd(), &source.path, &place, 0);
        }
        let (parent, leaf) = split(target);
        let place = self.place(parent)?;
        self.copy_entry(tree, (dir.as_fd(), name, &source.path), &source.stat, &place, leaf, 0)
    }

    /// Writes a file with this content, mode 0644 unless changed.
    pub(crate) fn write_file(&self, target: &Path, content: &[u8]) -> Result<()> {
        let (parent, leaf) = split(target);
        let place = self.place(parent)?;
        self.make_room(&place, leaf)?;
        let file = create(&place.upper, leaf).map_err(BuildError::sys("create", target))?;
        (&file).write_all(content).map_err(BuildError::io("write", target))?;
        let (uid, gid) = self.changes.owner.unwrap_or((0, 0));
        set_owner(&place.upper, leaf, uid, gid).map_err(BuildError::sys("chown", target))?;
        set_mode(&file, self.changes.mode.as_ref().map_or(0o644, |mode| mode.apply(0o644, false)))
            .map_err(BuildError::sys("chmod", target))
    }

    fn place(&self, path: &Path) -> Result<Place> {
        let upper = self.upper.try_clone().map_err(BuildError::io("open", path))?;
        let view = Some(self.view.try_clone_to_owned().map_err(BuildError::io("open", path))?);
        let mut place = Place { upper, view, path: PathBuf::new() };
        for name in path {
            place = self.enter(&place, name, None)?;
        }
        Ok(place)
    }

    /// Opens, or makes, the directory `name`. One that exists nowhere gets `like`'s attributes (0755 and the
    /// new owner without), one of the image keeps its own.
    fn enter(&self, place: &Place, name: &OsStr, like: Option<&Stat>) -> Result<Place> {
        let path = place.path.join(name);
        let wrap = |step| BuildError::sys(step, &path);
        let below = match &place.view {
            Some(view) => at::stat_if_any(view, name).map_err(wrap("read"))?,
            None => None,
        };
        let below = match below {
            Some(stat) if !at::is_dir(&stat) && self.replace => None,
            Some(stat) if !at::is_dir(&stat) => return Err(self.not_a_directory(&path, &stat)),
            below => below,
        };
        match rustix::fs::mkdirat(&place.upper, name, Mode::from_raw_mode(0o700)) {
            Ok(()) => self
                .dress(&place.upper, name, below.as_ref(), like, place.view.as_ref())
                .map_err(wrap("set up"))?,
            Err(Errno::EXIST) => {
                let there = at::stat(&place.upper, name).map_err(wrap("read"))?;
                if !at::is_dir(&there) {
                    return Err(self.not_a_directory(&path, &there));
                }
            }
            Err(errno) => return Err(wrap("make the directory")(errno)),
        }
        let upper = at::open_dir_beneath(&place.upper, Path::new(name)).map_err(wrap("open"))?;
        let view = match (&place.view, below) {
            (Some(view), Some(_)) => Some(at::open_dir_beneath(view, Path::new(name)).map_err(wrap("open"))?),
            _ => None,
        };
        Ok(Place { upper, view, path })
    }

    /// Gives a directory that was just made its attributes.
    fn dress(
        &self,
        upper: &OwnedFd,
        name: &OsStr,
        below: Option<&Stat>,
        like: Option<&Stat>,
        view: Option<&OwnedFd>,
    ) -> Result<(), Errno> {
        let made = at::open_dir_beneath(upper, Path::new(name))?;
        let ((uid, gid), mode) = match (below, like) {
            (Some(stat), _) => ((stat.st_uid, stat.st_gid), at::permissions(stat)),
            (None, Some(stat)) => (self.owner_of(stat), self.mode_of(stat)),
            // As BuildKit does, an octal --chmod is for the directories on the way as well.
            (None, None) => (self.changes.owner.unwrap_or((0, 0)), self.changes.made_mode()),
        };
        set_owner(upper, name, uid, gid)?;
        set_mode(&made, mode)?;
        if let (Some(_), Some(view)) = (below, view) {
            let original = at::open_dir_beneath(view, Path::new(name))?;
            copy_xattrs(&original, &made)?;
        }
        below.map_or(Ok(()), |stat| set_times(upper, name, stat))
    }

    fn copy_children(
        &mut self,
        tree: &SourceTree,
        dir: BorrowedFd<'_>,
        path: &Path,
        place: &Place,
        depth: usize,
    ) -> Result<()> {
        check_depth(path, depth)?;
        for (name, stat) in tree.entries(dir, path)? {
            self.copy_entry(tree, (dir, &name, &path.join(&name)), &stat, place, &name, depth + 1)?;
        }
        Ok(())
    }

    /// `from` is the open source directory, the name in it, and the whole path for messages.
    fn copy_entry(
        &mut self,
        tree: &SourceTree,
        from: (BorrowedFd<'_>, &OsStr, &Path),
        stat: &Stat,
        place: &Place,
        name: &OsStr,
        depth: usize,
    ) -> Result<()> {
        if self.cancel.load(Ordering::Relaxed) {
            return Err(BuildError::Cancelled);
        }
        let original = stat;
        let stat = &as_owned(tree, stat);
        let (dir, source, path) = from;
        if at::is_dir(stat) {
            let inner =
                at::open_dir_beneath(dir, Path::new(source)).map_err(BuildError::sys("open", path))?;
            let next = self.enter(place, name, Some(stat))?;
            self.copy_children(tree, inner.as_fd(), path, &next, depth)?;
            let (uid, gid) = self.owner_of(stat);
            set_owner(&place.upper, name, uid, gid).map_err(BuildError::sys("chown", path))?;
            set_mode(&next.upper, self.mode_of(stat)).map_err(BuildError::sys("chmod", path))?;
            copy_xattrs(&inner, &next.upper).map_err(BuildError::sys("set the attributes of", path))?;
            return set_times(&place.upper, name, stat).map_err(BuildError::sys("set the times of", path));
        }
        self.make_room(place, name)?;
        if self.link_kept(tree, from, original, place, name)? {
            return Ok(());
        }
        let several = at::kind(stat) != FileType::Symlink
            && tree.kept.as_ref().map_or(stat.st_nlink > 1, |kept| kept.is_shared(stat));
        let identity = (stat.st_dev, stat.st_ino);
        if several && let Some(first) = self.links.get(&identity) {
            let linked = rustix::fs::linkat(&self.upper, first, &place.upper, name, AtFlags::empty());
            return linked.map_err(BuildError::sys("link", path));
        }
        self.copy_leaf(from, stat, place, name)?;
        if several {
            self.links.insert(identity, place.path.join(name));
        }
        Ok(())
    }

    /// Takes a file of a kept context as it is, if it may have the same owner and mode.
    fn link_kept(
        &self,
        tree: &SourceTree,
        (dir, source, path): (BorrowedFd<'_>, &OsStr, &Path),
        stat: &Stat,
        place: &Place,
        name: &OsStr,
    ) -> Result<bool> {
        let Some(kept) = tree.kept.as_ref().filter(|_| self.into_layer) else { return Ok(false) };
        let is_same = self.owner_of(&as_owned(tree, stat)) == (stat.st_uid, stat.st_gid)
            && self.mode_of(stat) == at::permissions(stat);
        let is_file = at::kind(stat) == FileType::RegularFile;
        if !is_same || !is_file || !kept.may_link(stat, &place.path.join(name)) {
            return Ok(false);
        }
        match rustix::fs::linkat(dir, source, &place.upper, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            // Layers are elsewhere, or the file has as many names as it may have: it is copied.
            Err(Errno::XDEV | Errno::MLINK | Errno::PERM) => Ok(false),
            Err(errno) => Err(BuildError::sys("link", path)(errno)),
        }
    }

    fn copy_leaf(
        &self,
        (dir, source, path): (BorrowedFd<'_>, &OsStr, &Path),
        stat: &Stat,
        place: &Place,
        name: &OsStr,
    ) -> Result<()> {
        let wrap = |step| BuildError::sys(step, path);
        let (uid, gid) = self.owner_of(stat);
        let mode = self.mode_of(stat);
        match at::kind(stat) {
            FileType::RegularFile => {
                let from = at::open_beneath(dir, Path::new(source), OFlags::RDONLY).map_err(wrap("open"))?;
                let to = create(&place.upper, name).map_err(wrap("create"))?;
                self.copy_content(
                    &File::from(from.try_clone().map_err(BuildError::io("open", path))?),
                    &to,
                    path,
                )?;
                set_owner(&place.upper, name, uid, gid).map_err(wrap("chown"))?;
                // After chown, which drops setuid bits and capabilities.
                set_mode(&to, mode).map_err(wrap("chmod"))?;
                copy_xattrs(&from, &to).map_err(wrap("set the attributes of"))?;
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(dir, source, Vec::new()).map_err(wrap("read"))?;
                rustix::fs::symlinkat(&target, &place.upper, name).map_err(wrap("link"))?;
                set_owner(&place.upper, name, uid, gid).map_err(wrap("chown"))?;
            }
            // A socket is of use only to the process that made it.
            FileType::Socket => return Ok(()),
            kind => {
                rustix::fs::mknodat(&place.upper, name, kind, Mode::from_raw_mode(mode), stat.st_rdev)
                    .map_err(wrap("make"))?;
                set_owner(&place.upper, name, uid, gid).map_err(wrap("chown"))?;
                rustix::fs::chmodat(&place.upper, name, Mode::from_raw_mode(mode), AtFlags::empty())
                    .map_err(wrap("chmod"))?;
            }
        }
        set_times(&place.upper, name, stat).map_err(wrap("set the times of"))
    }

    /// In pieces, so that a cancelled build doesn't wait for a huge file. `io::copy` uses copy_file_range.
    fn copy_content(&self, from: &File, mut to: &File, path: &Path) -> Result<()> {
        loop {
            if self.cancel.load(Ordering::Relaxed) {
                return Err(BuildError::Cancelled);
            }
            let copied =
                std::io::copy(&mut from.take(CHUNK_BYTES), &mut to).map_err(BuildError::io("copy", path))?;
            if copied < CHUNK_BYTES {
                return Ok(());
            }
        }
    }

    /// Removes what this layer already has at `name`; a directory there or in the image is an error.
    fn make_room(&self, place: &Place, name: &OsStr) -> Result<()> {
        let path = place.path.join(name);
        let there = at::stat_if_any(&place.upper, name).map_err(BuildError::sys("read", &path))?;
        let below = match &place.view {
            Some(view) => at::stat_if_any(view, name).map_err(BuildError::sys("read", &path))?,
            None => None,
        };
        if [&there, &below].into_iter().flatten().any(at::is_dir) {
            let message = format!("cannot replace to directory /{} with file", path.display());
            return Err(self.at.hinted(message, "remove the directory first, or choose another destination"));
        }
        if there.is_some() {
            rustix::fs::unlinkat(&place.upper, name, AtFlags::empty())
                .map_err(BuildError::sys("replace", &path))?;
        }
        Ok(())
    }

    fn not_a_directory(&self, path: &Path, stat: &Stat) -> BuildError {
        let message = format!("cannot copy to non-directory: /{}", path.display());
        if at::kind(stat) == FileType::Symlink {
            return self.at.hinted(message, "the image has a symbolic link there; copy to where it leads");
        }
        self.at.hinted(message, "the image has a file there; remove it first, or choose another destination")
    }

    fn owner_of(&self, stat: &Stat) -> (u32, u32) {
        self.changes.owner.unwrap_or((stat.st_uid, stat.st_gid))
    }

    fn mode_of(&self, stat: &Stat) -> u32 {
        let mode = at::permissions(stat);
        self.changes.mode.as_ref().map_or(mode, |change| change.apply(mode, at::is_dir(stat)))
    }
}

/// The source's stat as it counts: what comes from the context belongs to root.
fn as_owned(tree: &SourceTree, stat: &Stat) -> Stat {
    let mut stat = *stat;
    if tree.owned_by_root {
        (stat.st_uid, stat.st_gid) = (0, 0);
    }
    stat
}

fn split(target: &Path) -> (&Path, &OsStr) {
    (target.parent().unwrap_or(Path::new("")), target.file_name().unwrap_or_default())
}

fn create(dir: &OwnedFd, name: &OsStr) -> Result<File, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o600)).map(File::from)
}

fn set_owner(dir: &OwnedFd, name: &OsStr, uid: u32, gid: u32) -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
}

fn set_mode(file: impl AsFd, mode: u32) -> Result<(), Errno> {
    rustix::fs::fchmod(file, Mode::from_raw_mode(mode))
}

fn set_times(dir: &OwnedFd, name: &OsStr, stat: &Stat) -> Result<(), Errno> {
    let time = Timespec { tv_sec: stat.st_mtime as _, tv_nsec: stat.st_mtime_nsec as _ };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW)
}

pub(crate) fn copy_xattrs(from: impl AsFd, to: impl AsFd) -> Result<(), Errno> {
    for (name, value) in at::xattrs(from)? {
        match rustix::fs::fsetxattr(&to, &name, &value, rustix::fs::XattrFlags::empty()) {
            // A filesystem without such attributes can't have them restored either.
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
