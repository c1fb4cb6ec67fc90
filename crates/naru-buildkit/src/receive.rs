//! Writing what a transfer brings below one directory, whatever names it uses: each path is opened with openat2(2)'s
//! RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS, so a link that the transfer itself had brought leads nowhere.

use crate::error::{Error, Result};
use crate::wire::{Value, fields};
use naru_types::gomode;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{self, AtFlags, Mode, OFlags, ResolveFlags, Timespec, Timestamps};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// Entries of one transfer.
const ENTRIES_MAX: u64 = 4_000_000;
/// Content of one transfer, in bytes.
const BYTES_MAX: u64 = 32 << 30;
/// Files that are asked for and not yet complete.
pub const OPEN_FILES_MAX: usize = 64;

const SAFE: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// fsutil.types.Stat.
#[derive(Clone, Debug, Default)]
pub struct Stat {
    pub path: String,
    /// Go's.
    pub mode: u32,
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
    entries: u64,
    bytes: u64,
    open: BTreeMap<u64, (OwnedFd, i64)>,
    wanted: BTreeMap<u64, Stat>,
    directories: Vec<Stat>,
}

impl Receiver {
    /// `dir` is the transfer's name for messages.
    pub fn new(dir: &str, root: &Path) -> Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let root =
            fs::open(root, flags, Mode::empty()).map_err(Error::sys("open the transfer's directory"))?;
        Ok(Self {
            dir: dir.to_owned(),
            root,
            entries: 0,
            bytes: 0,
            open: BTreeMap::new(),
            wanted: BTreeMap::new(),
            directories: Vec::new(),
        })
    }

    /// Takes the next entry. A file's content is to be asked for by the numbers that [`Self::ask`] gives.
    pub fn entry(&mut self, stat: Stat) -> Result<()> {
        let number = self.entries;
        self.entries += 1;
        if self.entries > ENTRIES_MAX {
            return Err(self.limit("entries", ENTRIES_MAX));
        }
        self.check(&stat.path)?;
        let step = || format!("make {:?} of the build context", stat.path);
        let (parent, name) = self.parent(&stat.path)?;
        match stat.mode & gomode::TYPE {
            gomode::DIR => {
                let mode = Mode::from_raw_mode(0o700);
                fs::mkdirat(&parent, name, mode).map_err(Error::sys(step()))?;
                self.directories.push(stat);
            }
            gomode::SYMLINK => {
                fs::symlinkat(stat.link.as_str(), &parent, name).map_err(Error::sys(step()))?
            }
            gomode::NAMED_PIPE => {
                let mode = Mode::from_raw_mode(stat.mode & 0o777);
                fs::mknodat(&parent, name, fs::FileType::Fifo, mode, 0).map_err(Error::sys(step()))?;
            }
            0 if !stat.link.is_empty() => {
                self.check(&stat.link)?;
                let (from, target) = self.parent(&stat.link)?;
                fs::linkat(&from, target, &parent, name, AtFlags::empty()).map_err(Error::sys(step()))?;
            }
            0 => drop(self.wanted.insert(number, stat)),
            _ => return Err(self.hostile("a device or socket", &stat.path)),
        }
        Ok(())
    }

    /// Opens the next wanted files, as many as may be under way, and gives their numbers.
    pub fn ask(&mut self) -> Result<Vec<u64>> {
        let mut numbers = Vec::new();
        while self.open.len() < OPEN_FILES_MAX
            && let Some((number, stat)) = self.wanted.pop_first()
        {
            let (parent, name) = self.parent(&stat.path)?;
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let step = || format!("write {:?} of the build context", stat.path);
            let file =
                fs::openat(&parent, name, flags, Mode::from_raw_mode(0o600)).map_err(Error::sys(step()))?;
            fs::fchmod(&file, permissions(stat.mode)).map_err(Error::sys(step()))?;
            self.open.insert(number, (file, stat.mtime_ns));
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
            let (file, mtime) = self.open.remove(&number).ok_or_else(|| self.unasked(number))?;
            return fs::futimens(&file, &times(mtime)).map_err(Error::sys("set a file's time"));
        }
        let Some((file, _)) = self.open.get(&number) else { return Err(self.unasked(number)) };
        let copy = file.as_fd().try_clone_to_owned().map_err(Error::io("write the build context"))?;
        File::from(copy).write_all(bytes).map_err(Error::io("write the build context"))
    }

    pub fn is_settled(&self) -> bool {
        self.open.is_empty() && self.wanted.is_empty()
    }

    /// The bytes that came. Directories get their modes and times last: a read-only one could not have been filled.
    pub fn finish(mut self) -> Result<u64> {
        while let Some(stat) = self.directories.pop() {
            let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
            let dir = fs::openat2(&self.root, stat.path.as_str(), flags, Mode::empty(), SAFE)
                .map_err(Error::sys("open a directory of the build context"))?;
            fs::fchmod(&dir, permissions(stat.mode)).map_err(Error::sys("set a directory's mode"))?;
            fs::futimens(&dir, &times(stat.mtime_ns)).map_err(Error::sys("set a directory's time"))?;
        }
        Ok(self.bytes)
    }

    fn check(&self, path: &str) -> Result<()> {
        let plain = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains('\0');
        if path.split('/').all(plain) { Ok(()) } else { Err(self.hostile("it names", path)) }
    }

    fn parent<'a>(&self, path: &'a str) -> Result<(OwnedFd, &'a str)> {
        let (parent, name) = path.rsplit_once('/').unwrap_or((".", path));
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = fs::openat2(&self.root, parent, flags, Mode::empty(), SAFE);
        Ok((opened.map_err(|_| self.hostile("no directory holds", path))?, name))
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
        Stat { path: path.into(), mode, mtime_ns: 1, link: link.into() }
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
