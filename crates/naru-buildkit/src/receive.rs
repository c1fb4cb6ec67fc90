//! Writing what a transfer brings below one directory, whatever names it uses: each path is opened with openat2(2)'s
//! RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS, so a link that the transfer itself had brought leads nowhere.

use crate::error::{Error, Result};
use crate::wire::{Value, fields};
use naru_build::KeptContext;
use naru_types::gomode;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps};
use rustix::io::Errno;
use rustix::path::Arg;
use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

/// Entries of one transfer.
const ENTRIES_MAX: u64 = 4_000_000;
/// Content of one transfer, in bytes.
const BYTES_MAX: u64 = 32 << 30;
/// Files that are asked for and not yet complete.
pub const OPEN_FILES_MAX: usize = 64;

/// Of a context's directories.
const DEPTH_MAX: usize = 512;

const SAFE: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// fsutil.types.Stat.
#[derive(Clone, Debug, Default)]
pub struct Stat {
    pub path: String,
    /// Go's.
    pub mode: u32,
    pub size: u64,
    pub mtime_ns: i64,
    pub link: String,
}

impl Stat {
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut stat = Self::default();
        fields(bytes, |field, value: Value<'_>| {
            match field {
                1 => stat.path = value.text()?,
                2 => stat.mode = value.number()? as u32,
                5 => stat.size = value.number()?,
                6 => stat.mtime_ns = value.number()? as i64,
                7 => stat.link = value.text()?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(stat)
    }
}

/// One transfer's directory being filled.
pub struct Receiver {
    dir: String,
    root: OwnedFd,
    /// What was there is compared with what comes, as BuildKit does it: a file of the same size, time and mode is the same.
    kept: Option<Kept>,
    entries: u64,
    bytes: u64,
    open: BTreeMap<u64, Arriving>,
    wanted: BTreeMap<u64, Stat>,
    directories: Vec<Stat>,
    /// Further names of files: made when all content is there.
    links: Vec<Stat>,
    /// The directory that the last entry was in.
    last_parent: Option<(String, OwnedFd)>,
}

struct Kept {
    context: Arc<KeptContext>,
    arrivals: OwnedFd,
    named: HashSet<String>,
}

/// A file whose content is coming: in its place, or among the arrivals under its number.
struct Arriving {
    file: OwnedFd,
    stat: Stat,
}

impl Receiver {
    /// Into an empty directory. `dir` is the transfer's name for messages.
    pub fn new(dir: &str, root: &Path) -> Result<Self> {
        Ok(Self {
            dir: dir.to_owned(),
            root: open_dir(root)?,
            kept: None,
            entries: 0,
            bytes: 0,
            open: BTreeMap::new(),
            wanted: BTreeMap::new(),
            directories: Vec::new(),
            links: Vec::new(),
            last_parent: None,
        })
    }

    /// Into a context that may have most of it from an earlier build.
    pub fn into_kept(dir: &str, context: Arc<KeptContext>) -> Result<Self> {
        let mut receiver = Self::new(dir, &context.tree())?;
        let arrivals = open_dir(&context.arrivals()?)?;
        receiver.kept = Some(Kept { context, arrivals, named: HashSet::new() });
        Ok(receiver)
    }

    /// Takes the next entry. A file's content is to be asked for by the numbers that [`Self::ask`] gives.
    pub fn entry(&mut self, stat: Stat) -> Result<()> {
        let number = self.entries;
        self.entries += 1;
        if self.entries > ENTRIES_MAX {
            return Err(self.limit("entries", ENTRIES_MAX));
        }
        self.check(&stat.path)?;
        let is_there = self.keep(&stat)?;
        let step = || format!("make {:?} of the build context", stat.path);
        match stat.mode & gomode::TYPE {
            gomode::DIR => {
                if !is_there {
                    let (parent, name) = self.parent(&stat.path)?;
                    let mode = Mode::from_raw_mode(0o700);
                    fs::mkdirat(parent, name, mode).map_err(Error::sys(step()))?;
                }
                self.directories.push(stat);
            }
            gomode::SYMLINK if !is_there => {
                let (parent, name) = self.parent(&stat.path)?;
                fs::symlinkat(stat.link.as_str(), parent, name).map_err(Error::sys(step()))?;
            }
            gomode::NAMED_PIPE if !is_there => {
                let (parent, name) = self.parent(&stat.path)?;
                let mode = Mode::from_raw_mode(stat.mode & 0o777);
                fs::mknodat(parent, name, fs::FileType::Fifo, mode, 0).map_err(Error::sys(step()))?;
            }
            gomode::SYMLINK | gomode::NAMED_PIPE => {}
            0 if !stat.link.is_empty() => {
                self.check(&stat.link)?;
                self.parent(&stat.link)?;
                self.parent(&stat.path)?;
                self.links.push(stat);
            }
            0 if is_there => {}
            0 => drop(self.wanted.insert(number, stat)),
            _ => return Err(self.hostile("a device or socket", &stat.path)),
        }
        Ok(())
    }

    /// Whether a kept context has this entry already. What it has instead is removed, but for a file that another version
    /// of it will replace.
    fn keep(&mut self, stat: &Stat) -> Result<bool> {
        let Some(kept) = &mut self.kept else { return Ok(false) };
        let context = Arc::clone(&kept.context);
        kept.named.insert(stat.path.clone());
        let step = || format!("look at {:?} of the build context", stat.path);
        let (parent, name) = self.parent(&stat.path)?;
        let there = match fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(there) => there,
            Err(Errno::NOENT) => {
                context.changes(None)?;
                return Ok(false);
            }
            Err(errno) => return Err(Error::sys(step())(errno)),
        };
        let kind = FileType::from_raw_mode(there.st_mode);
        let is_same = match stat.mode & gomode::TYPE {
            gomode::DIR => kind == FileType::Directory,
            gomode::SYMLINK if kind == FileType::Symlink => {
                let target = fs::readlinkat(parent, name, Vec::new()).map_err(Error::sys(step()))?;
                target.as_bytes() == stat.link.as_bytes()
            }
            0 if kind == FileType::RegularFile => {
                is_unchanged(stat, &there) || {
                    context.changes(Some(&there))?;
                    return Ok(false);
                }
            }
            _ => false,
        };
        if !is_same {
            context.remove(parent, OsStr::new(name)).map_err(Error::sys(step()))?;
        }
        Ok(is_same)
    }

    /// Opens the next wanted files, as many as may be under way, and gives their numbers.
    pub fn ask(&mut self) -> Result<Vec<u64>> {
        let mut numbers = Vec::new();
        while self.open.len() < OPEN_FILES_MAX
            && let Some((number, stat)) = self.wanted.pop_first()
        {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mode = Mode::from_raw_mode(0o600);
            let opened = if let Some(kept) = &self.kept {
                fs::openat(&kept.arrivals, number.to_string(), flags, mode)
            } else {
                let (parent, name) = self.parent(&stat.path)?;
                fs::openat(parent, name, flags, mode)
            };
            let step = || format!("write {:?} of the build context", stat.path);
            let file = opened.map_err(Error::sys(step()))?;
            fs::fchmod(&file, permissions(stat.mode)).map_err(Error::sys(step()))?;
            self.open.insert(number, Arriving { file, stat });
            numbers.push(number);
        }
        Ok(numbers)
    }

    /// Content of a file; none is its end.
    pub fn data(&mut self, number: u64, bytes: &[u8]) -> Result<()> {
        self.bytes += bytes.len() as u64;
        if self.bytes > BYTES_MAX {
            return Err(self.limit("bytes", BYTES_MAX));
        }
        if bytes.is_empty() {
            let Arriving { file, stat } = self.open.remove(&number).ok_or_else(|| self.unasked(number))?;
            fs::futimens(&file, &times(stat.mtime_ns)).map_err(Error::sys("set a file's time"))?;
            return self.arrived(number, &stat);
        }
        let Some(arriving) = self.open.get(&number) else { return Err(self.unasked(number)) };
        let copy =
            arriving.file.as_fd().try_clone_to_owned().map_err(Error::io("write the build context"))?;
        File::from(copy).write_all(bytes).map_err(Error::io("write the build context"))
    }

    /// Into its place: over the version before, so that the layers that have that one keep it.
    fn arrived(&mut self, number: u64, stat: &Stat) -> Result<()> {
        let Some(kept) = &self.kept else { return Ok(()) };
        let arrivals = kept.arrivals.try_clone().map_err(Error::io("write the build context"))?;
        let (parent, name) = self.parent(&stat.path)?;
        let step = || format!("write {:?} of the build context", stat.path);
        fs::renameat(&arrivals, number.to_string(), parent, name).map_err(Error::sys(step()))
    }

    pub fn is_settled(&self) -> bool {
        self.open.is_empty() && self.wanted.is_empty()
    }

    /// The bytes that came. Directories get their modes and times last: a read-only one could not have been filled.
    pub fn finish(mut self) -> Result<u64> {
        if let Some(kept) = &self.kept {
            let root = self.root.try_clone().map_err(Error::io("open the transfer's directory"))?;
            remove_unnamed(&root, "", kept, 0).map_err(Error::sys("tidy the build context"))?;
        }
        for stat in std::mem::take(&mut self.links) {
            self.link(&stat)?;
        }
        while let Some(stat) = self.directories.pop() {
            let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
            let dir = fs::openat2(&self.root, stat.path.as_str(), flags, Mode::empty(), SAFE)
                .map_err(Error::sys("open a directory of the build context"))?;
            fs::fchmod(&dir, permissions(stat.mode)).map_err(Error::sys("set a directory's mode"))?;
            fs::futimens(&dir, &times(stat.mtime_ns)).map_err(Error::sys("set a directory's time"))?;
        }
        Ok(self.bytes)
    }

    /// Another name of a file that is there.
    fn link(&mut self, stat: &Stat) -> Result<()> {
        let step = || format!("link {:?} of the build context", stat.path);
        let context = self.kept.as_ref().map(|kept| Arc::clone(&kept.context));
        let (from, target) = self.parent(&stat.link)?;
        let from = from.try_clone_to_owned().map_err(Error::io(step()))?;
        let first = fs::statat(&from, target, AtFlags::SYMLINK_NOFOLLOW).map_err(Error::sys(step()))?;
        let (parent, name) = self.parent(&stat.path)?;
        if let Some(context) = context {
            context.shares(&first);
            match fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(there) if there.st_ino == first.st_ino => return Ok(()),
                Ok(_) => context.remove(parent, OsStr::new(name)).map_err(Error::sys(step()))?,
                Err(Errno::NOENT) => context.changes(None)?,
                Err(errno) => return Err(Error::sys(step())(errno)),
            }
        }
        fs::linkat(&from, target, parent, name, AtFlags::empty()).map_err(Error::sys(step()))
    }

    fn check(&self, path: &str) -> Result<()> {
        let plain = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains('\0');
        if path.split('/').all(plain) { Ok(()) } else { Err(self.hostile("it names", path)) }
    }

    /// The directory that holds `path`, and the name in it. Entries come directory by directory.
    fn parent<'a>(&mut self, path: &'a str) -> Result<(BorrowedFd<'_>, &'a str)> {
        let (parent, name) = path.rsplit_once('/').unwrap_or((".", path));
        if self.last_parent.as_ref().is_none_or(|(last, _)| last != parent) {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let opened = fs::openat2(&self.root, parent, flags, Mode::empty(), SAFE);
            let opened = opened.map_err(|_| self.hostile("no directory holds", path))?;
            self.last_parent = Some((parent.to_owned(), opened));
        }
        match &self.last_parent {
            Some((_, opened)) => Ok((opened.as_fd(), name)),
            None => Err(self.hostile("no directory holds", path)),
        }
    }

    fn hostile(&self, what: &'static str, path: &str) -> Error {
        Error::Hostile { dir: self.dir.clone(), what, path: path.to_owned() }
    }

    fn unasked(&self, number: u64) -> Error {
        self.hostile("nobody asked for file", &number.to_string())
    }

    fn limit(&self, what: &'static str, max: u64) -> Error {
        Error::TransferLimit { dir: self.dir.clone(), what, max }
    }
}

fn open_dir(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    fs::open(path, flags, Mode::empty()).map_err(Error::sys("open the transfer's directory"))
}

fn is_unchanged(stat: &Stat, there: &fs::Stat) -> bool {
    let mtime = times(stat.mtime_ns).last_modification;
    there.st_size as u64 == stat.size
        && (there.st_mtime, there.st_mtime_nsec as i64) == (mtime.tv_sec, mtime.tv_nsec)
        && Mode::from_raw_mode(there.st_mode) == permissions(stat.mode)
}

/// Removes what a directory of a kept context has and the client no longer names.
fn remove_unnamed(dir: &OwnedFd, path: &str, kept: &Kept, depth: usize) -> std::result::Result<(), Errno> {
    if depth > DEPTH_MAX {
        return Err(Errno::LOOP);
    }
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let text = name.to_str().ok();
        let child = text.map(|name| if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") });
        match child.filter(|child| kept.named.contains(child)) {
            Some(child) if entry.file_type() == FileType::Directory => {
                remove_unnamed(&open_beneath(dir, name)?, &child, kept, depth + 1)?;
            }
            Some(_) => {}
            None => kept.context.remove(dir.as_fd(), OsStr::from_bytes(name.to_bytes()))?,
        }
    }
    Ok(())
}

fn open_beneath(dir: impl AsFd, name: impl Arg) -> std::result::Result<OwnedFd, Errno> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    fs::openat2(dir, name, flags, Mode::empty(), SAFE)
}

fn permissions(mode: u32) -> Mode {
    Mode::from_raw_mode(gomode::permissions(mode))
}

fn times(mtime_ns: i64) -> Timestamps {
    let time =
        Timespec { tv_sec: mtime_ns.div_euclid(1_000_000_000), tv_nsec: mtime_ns.rem_euclid(1_000_000_000) };
    Timestamps { last_access: time, last_modification: time }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(path: &str, mode: u32, link: &str) -> Stat {
        Stat { path: path.into(), mode, size: 4, mtime_ns: 1, link: link.into() }
    }

    #[test]
    fn files_directories_and_links() {
        let dir = tempfile::tempdir().unwrap();
        let mut receiver = Receiver::new("context", dir.path()).unwrap();
        receiver.entry(stat("d", gomode::DIR | 0o555, "")).unwrap();
        receiver.entry(stat("d/f", 0o640, "")).unwrap();
        receiver.entry(stat("l", gomode::SYMLINK | 0o777, "/etc")).unwrap();
        assert_eq!(receiver.ask().unwrap(), [1]);
        receiver.data(1, b"text").unwrap();
        assert!(!receiver.is_settled());
        receiver.data(1, b"").unwrap();
        receiver.finish().unwrap();
        assert_eq!(std::fs::read(dir.path().join("d/f")).unwrap(), b"text");
    }

    #[test]
    fn nothing_leads_out() {
        for path in ["../x", "/etc/x", "a/../x", "", ".", "l/x", "missing/x", "d//x", "d/"] {
            let dir = tempfile::tempdir().unwrap();
            let mut receiver = Receiver::new("context", dir.path()).unwrap();
            receiver.entry(stat("d", gomode::DIR | 0o755, "")).unwrap();
            receiver.entry(stat("l", gomode::SYMLINK | 0o777, "/tmp")).unwrap();
            let taken = receiver.entry(stat(path, 0o644, "")).and_then(|()| receiver.ask());
            assert!(taken.is_err(), "{path:?}");
            assert!(receiver.entry(stat("hard", 0o644, "l/../../etc/passwd")).is_err());
            assert!(receiver.entry(stat("dev", 1 << 26 | 0o666, "")).is_err());
            assert!(receiver.data(7, b"unasked").is_err());
        }
    }
}
