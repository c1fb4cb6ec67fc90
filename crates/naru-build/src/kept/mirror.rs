//! Bringing a kept context up to date from a directory of this machine.
//!
//! The build never reads the directory itself, which may change meanwhile: what it sees and hashes is the copy. A file is
//! copied again unless everything about it is as it was when it was copied: device, inode, size, and the times of its last
//! change of content and of anything at all (which no program can set back). A file that changed shortly before it was copied
//! could change once more with the same times, as git's index knows ("racy git"), and is copied the next time as well.

use super::KeptContext;
use super::known::{Record, Source};
use crate::error::{BuildError, Result};
use crate::files::at;
use crate::files::source::{SourceTree, check_depth, hash_xattrs};
use crate::files::write::copy_xattrs;
use naru_types::Error;
use naru_types::dockerignore::Ignore;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, Timespec, Timestamps};
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// How old a file's times must be to be believed, in seconds: file systems round them, FAT to two seconds.
const SETTLED_S: i64 = 2;
const COPY_BYTES: usize = 256 << 10;

impl KeptContext {
    /// Makes the tree what `source` is, without what `ignore` leaves out.
    pub fn mirror(&self, source: OwnedFd, ignore: Ignore, cancel: &AtomicBool) -> Result<(), Error> {
        let tree = SourceTree { root: source, ignore, owned_by_root: true, only: None, kept: None };
        let root = self.tree();
        let arrivals = self.arrivals()?;
        let mut mirror = Mirror {
            kept: self,
            tree: &tree,
            arrivals: at::open_root(&arrivals).map_err(BuildError::sys("open", &arrivals))?,
            root: at::open_root(&root).map_err(BuildError::sys("open", &root))?,
            settled_before: naru_kernel::clock::now().0 / NANOS_PER_S - SETTLED_S,
            cancel,
            names: HashMap::new(),
            buffer: vec![0; COPY_BYTES],
        };
        let root = mirror.root.try_clone().map_err(BuildError::io("open", &root))?;
        Ok(mirror.directory(tree.root.as_fd(), &root, Path::new(""), 0)?)
    }
}

const NANOS_PER_S: i64 = 1_000_000_000;

struct Mirror<'a> {
    kept: &'a KeptContext,
    tree: &'a SourceTree,
    arrivals: OwnedFd,
    root: OwnedFd,
    /// Times from here on are not believed, in seconds since 1970.
    settled_before: i64,
    cancel: &'a AtomicBool,
    /// Where the first name of a file with several names is, by device and inode.
    names: HashMap<(u64, u64), PathBuf>,
    buffer: Vec<u8>,
}

/// One entry of the source: the open directory that it is in, its name there, and its whole path.
struct Found<'a> {
    dir: BorrowedFd<'a>,
    name: &'a OsStr,
    path: &'a Path,
    stat: &'a Stat,
}

impl Mirror<'_> {
    fn directory(&mut self, from: BorrowedFd<'_>, to: &OwnedFd, path: &Path, depth: usize) -> Result<()> {
        check_depth(path, depth)?;
        let entries = self.tree.entries(from, path)?;
        self.remove_others(to, path, &entries)?;
        for (name, stat) in &entries {
            if self.cancel.load(Ordering::Relaxed) {
                return Err(BuildError::Cancelled);
            }
            let path = path.join(name);
            let entry = Found { dir: from, name, path: &path, stat };
            match at::kind(stat) {
                FileType::Directory => self.subdirectory(&entry, to, depth + 1)?,
                FileType::RegularFile => self.file(&entry, to)?,
                FileType::Symlink => self.symlink(&entry, to)?,
                FileType::Fifo => self.fifo(&entry, to)?,
                // A socket is of use only to the process that made it, and no context that is sent has devices.
                _ => {}
            }
        }
        Ok(())
    }

    fn remove_others(&self, to: &OwnedFd, path: &Path, entries: &[(OsString, Stat)]) -> Result<()> {
        for name in at::names(to).map_err(BuildError::sys("read", path))? {
            // Both lists are sorted.
            if entries.binary_search_by(|(entry, _)| entry.cmp(&name)).is_err() {
                self.kept.remove(to.as_fd(), &name).map_err(BuildError::sys("remove", path.join(&name)))?;
            }
        }
        Ok(())
    }

    fn subdirectory(&mut self, from: &Found<'_>, to: &OwnedFd, depth: usize) -> Result<()> {
        let wrap = |step| BuildError::sys(step, from.path);
        if self.there(from, to, FileType::Directory)?.is_none() {
            rustix::fs::mkdirat(to, from.name, Mode::RWXU).map_err(wrap("make the directory"))?;
        }
        let source = at::open_dir_beneath(from.dir, Path::new(from.name)).map_err(wrap("open"))?;
        let made = at::open_dir_beneath(to, Path::new(from.name)).map_err(wrap("open"))?;
        self.directory(source.as_fd(), &made, from.path, depth)?;
        for (name, _) in at::xattrs(&made).map_err(wrap("read the attributes of"))? {
            rustix::fs::fremovexattr(&made, &name).map_err(wrap("set the attributes of"))?;
        }
        copy_xattrs(&source, &made).map_err(wrap("set the attributes of"))?;
        let mode = Mode::from_raw_mode(at::permissions(from.stat));
        rustix::fs::fchmod(&made, mode).map_err(wrap("chmod"))?;
        rustix::fs::futimens(&made, &times(from.stat)).map_err(wrap("set the times of"))
    }

    fn symlink(&self, from: &Found<'_>, to: &OwnedFd) -> Result<()> {
        let wrap = |step| BuildError::sys(step, from.path);
        let read = |dir: BorrowedFd<'_>| rustix::fs::readlinkat(dir, from.name, Vec::new());
        let target = read(from.dir).map_err(wrap("read"))?;
        if self.there(from, to, FileType::Symlink)?.is_some() {
            if read(to.as_fd()).map_err(wrap("read"))? == target {
                return Ok(());
            }
            self.kept.remove(to.as_fd(), from.name).map_err(wrap("replace"))?;
        }
        self.kept.changes(None)?;
        rustix::fs::symlinkat(&target, to, from.name).map_err(wrap("link"))?;
        rustix::fs::utimensat(to, from.name, &times(from.stat), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(wrap("set the times of"))
    }

    fn fifo(&self, from: &Found<'_>, to: &OwnedFd) -> Result<()> {
        let wrap = |step| BuildError::sys(step, from.path);
        if self.there(from, to, FileType::Fifo)?.is_none() {
            rustix::fs::mknodat(to, from.name, FileType::Fifo, Mode::RUSR, 0).map_err(wrap("make"))?;
        }
        let mode = Mode::from_raw_mode(at::permissions(from.stat));
        rustix::fs::chmodat(to, from.name, mode, AtFlags::empty()).map_err(wrap("chmod"))?;
        rustix::fs::utimensat(to, from.name, &times(from.stat), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(wrap("set the times of"))
    }

    fn file(&mut self, from: &Found<'_>, to: &OwnedFd) -> Result<()> {
        let several = from.stat.st_nlink > 1;
        let identity = (from.stat.st_dev, from.stat.st_ino);
        if several && let Some(first) = self.names.get(&identity) {
            return self.second_name(from, to, first);
        }
        let there = self.there(from, to, FileType::RegularFile)?;
        let unchanged = there.as_ref().is_some_and(|there| self.kept.is_copy(there, &Source::of(from.stat)));
        if !unchanged {
            self.kept.changes(there.as_ref())?;
            self.copy(from, to)?;
        }
        if several {
            self.names.insert(identity, from.path.to_owned());
        }
        Ok(())
    }

    fn second_name(&self, from: &Found<'_>, to: &OwnedFd, first: &Path) -> Result<()> {
        let wrap = |step| BuildError::sys(step, from.path);
        let original = at::stat(&self.root, first.as_os_str()).map_err(wrap("link"))?;
        self.kept.shares(&original);
        match self.there(from, to, FileType::RegularFile)? {
            Some(there) if there.st_ino == original.st_ino => return Ok(()),
            Some(_) => self.kept.remove(to.as_fd(), from.name).map_err(wrap("replace"))?,
            None => {}
        }
        rustix::fs::linkat(&self.root, first, to, from.name, AtFlags::empty()).map_err(wrap("link"))
    }

    /// Another version, renamed over the one before.
    fn copy(&mut self, from: &Found<'_>, to: &OwnedFd) -> Result<()> {
        let wrap = |step| BuildError::sys(step, from.path);
        let source =
            at::open_beneath(from.dir, Path::new(from.name), OFlags::RDONLY).map_err(wrap("open"))?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(&self.arrivals, "file", flags, Mode::RUSR | Mode::WUSR)
            .map_err(wrap("create"))?;
        let mut hasher = blake3::Hasher::new();
        copy_xattrs(&source, &made).map_err(wrap("set the attributes of"))?;
        hash_xattrs(&made, from.path, &mut hasher)?;
        let (mut input, mut output) = (File::from(source), File::from(made));
        loop {
            let count = input.read(&mut self.buffer).map_err(BuildError::io("read", from.path))?;
            if count == 0 {
                break;
            }
            hasher.update(&self.buffer[..count]);
            output.write_all(&self.buffer[..count]).map_err(BuildError::io("copy", from.path))?;
            if self.cancel.load(Ordering::Relaxed) {
                return Err(BuildError::Cancelled);
            }
        }
        rustix::fs::fchmod(&output, Mode::from_raw_mode(at::permissions(from.stat)))
            .map_err(wrap("chmod"))?;
        rustix::fs::futimens(&output, &times(from.stat)).map_err(wrap("set the times of"))?;
        let after = rustix::fs::fstat(&input).map_err(wrap("read"))?;
        let made = rustix::fs::fstat(&output).map_err(wrap("read"))?;
        rustix::fs::renameat(&self.arrivals, "file", to, from.name).map_err(wrap("replace"))?;
        let source = Source::of(&after);
        let believed = source == Source::of(from.stat) && source.is_settled(self.settled_before);
        let source = if believed { source } else { Source::default() };
        self.kept.learn_record(&made, Record::new(&made, *hasher.finalize().as_bytes()).with(source));
        Ok(())
    }

    /// What the tree has at the entry's place; of another kind, it is removed.
    fn there(&self, from: &Found<'_>, to: &OwnedFd, kind: FileType) -> Result<Option<Stat>> {
        let there = at::stat_if_any(to, from.name).map_err(BuildError::sys("read", from.path))?;
        match there {
            Some(stat) if at::kind(&stat) == kind => Ok(Some(stat)),
            Some(_) => {
                self.kept.remove(to.as_fd(), from.name).map_err(BuildError::sys("replace", from.path))?;
                Ok(None)
            }
            None => {
                self.kept.changes(None)?;
                Ok(None)
            }
        }
    }
}

fn times(stat: &Stat) -> Timestamps {
    let time = Timespec { tv_sec: stat.st_mtime as _, tv_nsec: stat.st_mtime_nsec as _ };
    Timestamps { last_access: time, last_modification: time }
}

#[cfg(test)]
mod tests {
    use super::super::Contexts;
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::time::{Duration, SystemTime};

    fn mirrored(contexts: &Contexts, source: &Path, rules: &str) -> KeptContext {
        let kept = contexts.take("key").unwrap().unwrap();
        let root = at::open_root(source).unwrap();
        kept.mirror(root, Ignore::parse(rules).unwrap(), &AtomicBool::new(false)).unwrap();
        kept
    }

    fn inode(path: PathBuf) -> u64 {
        fs::symlink_metadata(path).unwrap().ino()
    }

    #[test]
    fn the_copy_follows_and_settled_files_stay() {
        let dir = tempfile::tempdir().unwrap();
        let (source, cache) = (dir.path().join("source"), dir.path().join("cache"));
        let contexts = Contexts::open(&cache).unwrap();
        fs::create_dir_all(source.join("d/e")).unwrap();
        let put = |path: &str, text: &str| fs::write(source.join(path), text).unwrap();
        put("d/e/f", "f");
        put("g", "g");
        put("left.log", "log");
        put("one", "one");
        fs::hard_link(source.join("one"), source.join("two")).unwrap();
        symlink("g", source.join("l")).unwrap();
        fs::set_permissions(source.join("d"), fs::Permissions::from_mode(0o511)).unwrap();
        let kept = mirrored(&contexts, &source, "*.log");
        let tree = kept.tree();
        assert_eq!(fs::read_to_string(tree.join("l")).unwrap(), "g");
        assert_eq!(tree.join("d").metadata().unwrap().mode() & 0o7777, 0o511);
        assert!(!tree.join("left.log").exists() && inode(tree.join("one")) == inode(tree.join("two")));
        assert!(kept.is_shared(&at::stat(at::open_root(&tree).unwrap(), OsStr::new("one")).unwrap()));
        drop(kept);

        // All was written just now: nothing is believed, and a change that leaves size and time alone is seen.
        let before = inode(tree.join("g"));
        let time = fs::metadata(source.join("g")).unwrap().modified().unwrap();
        put("g", "h");
        File::options().write(true).open(source.join("g")).unwrap().set_modified(time).unwrap();
        drop(mirrored(&contexts, &source, "*.log"));
        assert_eq!(fs::read_to_string(tree.join("g")).unwrap(), "h");
        assert_ne!(inode(tree.join("g")), before);

        fs::remove_dir_all(source.join("d")).unwrap();
        put("d", "a file now");
        fs::remove_file(source.join("l")).unwrap();
        fs::create_dir(source.join("l")).unwrap();
        drop(mirrored(&contexts, &source, ""));
        assert_eq!(fs::read_to_string(tree.join("d")).unwrap(), "a file now");
        assert!(tree.join("l").is_dir() && tree.join("left.log").exists());
    }

    #[test]
    fn what_has_settled_is_not_copied_again() {
        let dir = tempfile::tempdir().unwrap();
        let (source, cache) = (dir.path().join("source"), dir.path().join("cache"));
        let contexts = Contexts::open(&cache).unwrap();
        fs::create_dir(&source).unwrap();
        fs::write(source.join("f"), "f").unwrap();
        // Change times can't be set back, so the test waits until they are old enough.
        let stat = || fs::metadata(source.join("f")).unwrap();
        let settled = || {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
            stat().ctime() < now.as_secs() as i64 - SETTLED_S
        };
        while !settled() {
            std::thread::sleep(Duration::from_millis(50));
        }
        let first = mirrored(&contexts, &source, "");
        let copy = first.tree().join("f");
        drop(first);
        let before = inode(copy.clone());
        drop(mirrored(&contexts, &source, ""));
        assert_eq!(inode(copy.clone()), before);
        // Mode and owner move the change time.
        fs::set_permissions(source.join("f"), fs::Permissions::from_mode(0o600)).unwrap();
        drop(mirrored(&contexts, &source, ""));
        assert_ne!(inode(copy.clone()), before);
        assert_eq!(fs::metadata(copy).unwrap().mode() & 0o7777, 0o600);
    }
}
