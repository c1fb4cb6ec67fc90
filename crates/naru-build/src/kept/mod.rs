//! Contexts that are kept from one build to the next: what didn't change is neither sent, nor read, nor copied again.
//!
//! Beneath `<root>/build-cache/contexts/<key>` lie `tree`, the context as it was last, `new`, where files that arrive are
//! written first, and `known`, what is known of the tree's files. A file of the tree is never written in place: another
//! version is renamed over it. So a layer may have a file by a hard link, which costs neither room nor reading. (All that a
//! container sees of it is a link count above one.)
//!
//! Whoever fills the tree decides by size and time whether a file is another one. The digests are known by the inodes of the
//! tree's own files, which nobody else reaches; before anything of the tree changes, `known` is removed, and it is written
//! anew at the end. So what a crash leaves is at most a tree of which nothing is known, and that is begun anew.
//!
//! One build at a time has a kept context, by a lock on its directory. Keys come from clients that may use the whole API: they
//! keep contexts apart, and are no secret.

mod known;
mod mirror;

use crate::error::{BuildError, Result};
use crate::files::at;
use crate::steps::cache_mounts::try_lock;
use known::{Known, Record, Source};
use naru_types::Error;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, Stat};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// Kept at once, and bytes of all of them; the ones longest unused go first.
const CONTEXTS_MAX: usize = 16;
const BYTES_MAX: u64 = 16 << 30;
const DIR_MODE: u32 = 0o700;
const KNOWN_FILE: &str = "known";

/// All kept contexts.
#[derive(Clone, Debug)]
pub struct Contexts {
    dir: PathBuf,
}

impl Contexts {
    pub(crate) fn open(cache: &Path) -> Result<Self> {
        let dir = cache.join("contexts");
        make_dir(&dir)?;
        Ok(Self { dir })
    }

    /// The context that was kept under `key`, or an empty one. `None`: another build has it.
    pub fn take(&self, key: &str) -> Result<Option<KeptContext>, Error> {
        let name = blake3::hash(key.as_bytes()).to_hex();
        self.trim(&name, CONTEXTS_MAX - 1, BYTES_MAX)?;
        let dir = self.dir.join(name.as_str());
        make_dir(&dir)?;
        let Some(lock) = try_lock(&dir)? else { return Ok(None) };
        // Another may have removed it between the two.
        let inode = |found: fs::Metadata| (found.dev(), found.ino());
        let locked = lock.metadata().map(inode).map_err(BuildError::io("look at", &dir))?;
        if fs::metadata(&dir).map(inode).ok() != Some(locked) {
            return Ok(None);
        }
        let known = Known::read(&dir.join(KNOWN_FILE));
        let kept = KeptContext { dir, _lock: lock, state: Mutex::default() };
        match known {
            Some(known) => kept.state().known = known,
            // It may have files that layers have by links, nobody knows where.
            None => make_empty(&kept.tree())?,
        }
        Ok(Some(kept))
    }

    /// Bytes of what is kept.
    pub(crate) fn bytes(&self) -> u64 {
        self.list().iter().map(|(path, _)| Known::bytes_of(&path.join(KNOWN_FILE))).sum()
    }

    /// Forgets all but what builds are using.
    pub(crate) fn clear(&self) -> Result<()> {
        self.trim("", 0, 0)
    }

    fn trim(&self, spared: &str, keep: usize, bytes_max: u64) -> Result<()> {
        let mut bytes = 0;
        let mut count = 0;
        for (path, _) in self.list() {
            if path.ends_with(spared) && !spared.is_empty() {
                continue;
            }
            count += 1;
            bytes += Known::bytes_of(&path.join(KNOWN_FILE));
            if count <= keep && bytes <= bytes_max {
                continue;
            }
            let Ok(Some(_lock)) = try_lock(&path) else { continue };
            match fs::remove_dir_all(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(BuildError::io("remove", path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The last used first.
    fn list(&self) -> Vec<(PathBuf, SystemTime)> {
        let used = |path: &Path| fs::metadata(path.join(KNOWN_FILE)).and_then(|found| found.modified());
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut list: Vec<_> =
            entries.map(|path| (path.clone(), used(&path).unwrap_or(SystemTime::UNIX_EPOCH))).collect();
        list.sort_by_key(|(_, used)| std::cmp::Reverse(*used));
        list
    }
}

/// A context that one build has; what was learnt of it is written when it is dropped.
pub struct KeptContext {
    dir: PathBuf,
    _lock: File,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    known: Known,
    /// `known` on the disk is gone, since the tree changes.
    is_changing: bool,
    /// It says less than is known.
    is_news: bool,
    /// Files that have several names in the context itself.
    shared: BTreeSet<u64>,
}

impl KeptContext {
    /// Where the context is. Who changes it says so before.
    pub fn tree(&self) -> PathBuf {
        self.dir.join("tree")
    }

    /// An empty directory on the tree's file system, for files that are being written.
    pub fn arrivals(&self) -> Result<PathBuf, Error> {
        let path = self.dir.join("new");
        make_empty(&path)?;
        Ok(path)
    }

    /// To be called before the tree changes; `stat` is of the file that goes or is replaced, if there is one.
    pub fn changes(&self, stat: Option<&Stat>) -> Result<(), Error> {
        let mut state = self.state();
        if !state.is_changing {
            let path = self.dir.join(KNOWN_FILE);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(BuildError::io("remove", path)(error).into());
                }
                _ => state.is_changing = true,
            }
        }
        if let Some(stat) = stat {
            state.known.records.remove(&stat.st_ino);
        }
        Ok(())
    }

    /// Removes an entry of the tree, with all that is in it.
    pub fn remove(&self, dir: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
        let stat = at::stat(dir, name)?;
        self.changes(Some(&stat)).map_err(|_| Errno::IO)?;
        if !at::is_dir(&stat) {
            return rustix::fs::unlinkat(dir, name, AtFlags::empty());
        }
        let inner = at::open_dir_beneath(dir, Path::new(name))?;
        for child in at::names(&inner)? {
            self.remove(inner.as_fd(), &child)?;
        }
        rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)
    }

    /// That the context itself has several names for this file.
    pub fn shares(&self, stat: &Stat) {
        self.state().shared.insert(stat.st_ino);
    }

    pub(crate) fn is_shared(&self, stat: &Stat) -> bool {
        self.state().shared.contains(&stat.st_ino)
    }

    /// Whether a layer may have this file of the tree by a link, as `target`. All layers have it at the same place: with two
    /// places in one image, programs would take two files of one inode number for the same.
    pub(crate) fn may_link(&self, stat: &Stat, target: &Path) -> bool {
        let hash = blake3::hash(target.as_os_str().as_bytes());
        let home = hash.as_bytes().first_chunk().map_or(1, |bytes| u64::from_le_bytes(*bytes).max(1));
        let mut state = self.state();
        let is_shared = state.shared.contains(&stat.st_ino);
        let Some(record) = state.known.records.get_mut(&stat.st_ino).filter(|record| record.is_of(stat))
        else {
            return false;
        };
        let is_new = record.home == 0 && stat.st_nlink == 1;
        if is_new {
            record.home = home;
        }
        let may = record.home == home && !is_shared;
        state.is_news |= is_new;
        may
    }

    pub(crate) fn digest(&self, stat: &Stat) -> Option<[u8; 32]> {
        self.state()
            .known
            .records
            .get(&stat.st_ino)
            .filter(|record| record.is_of(stat))
            .map(|record| record.digest)
    }

    pub(crate) fn learn(&self, stat: &Stat, digest: [u8; 32]) {
        self.learn_record(stat, Record::new(stat, digest));
    }

    fn learn_record(&self, stat: &Stat, record: Record) {
        let mut state = self.state();
        state.is_news |= state.known.learn(stat.st_ino, record);
    }

    /// Whether this file of the tree is a copy of `source` as that still is.
    fn is_copy(&self, there: &Stat, source: &Source) -> bool {
        let state = self.state();
        state
            .known
            .records
            .get(&there.st_ino)
            .is_some_and(|record| record.is_of(there) && record.is_copy_of(source))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for KeptContext {
    fn drop(&mut self) {
        let path = self.dir.join(KNOWN_FILE);
        let state = self.state();
        // What can't be written is learnt again.
        if state.is_changing || state.is_news {
            let _ = state.known.write(&path);
        } else if let Ok(file) = File::options().append(true).open(&path) {
            let _ = file.set_modified(SystemTime::now());
        }
    }
}

fn make_empty(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(BuildError::io("remove", path)(error)),
        _ => make_dir(path),
    }
}

fn make_dir(path: &Path) -> Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(DIR_MODE).create(path);
    made.map_err(BuildError::io("make the directory", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(path: &Path) -> Stat {
        rustix::fs::lstat(path).unwrap()
    }

    #[test]
    fn what_is_known_lasts_until_something_changes() {
        let dir = tempfile::tempdir().unwrap();
        let contexts = Contexts::open(dir.path()).unwrap();
        let kept = contexts.take("a").unwrap().unwrap();
        assert!(contexts.take("a").unwrap().is_none());
        let (one, two) = (kept.tree().join("one"), kept.tree().join("two"));
        fs::write(&one, "1").unwrap();
        fs::write(&two, "2").unwrap();
        kept.learn(&stat(&one), [1; 32]);
        kept.learn(&stat(&two), [2; 32]);
        drop(kept);
        let kept = contexts.take("a").unwrap().unwrap();
        assert_eq!((kept.digest(&stat(&one)), kept.digest(&stat(&two))), (Some([1; 32]), Some([2; 32])));
        assert_eq!(contexts.bytes(), 2);
        let place = Path::new("app/one");
        assert!(kept.may_link(&stat(&one), place) && kept.may_link(&stat(&one), place));
        assert!(!kept.may_link(&stat(&one), Path::new("app/two")));
        fs::hard_link(&two, dir.path().join("in-a-layer")).unwrap();
        assert!(!kept.may_link(&stat(&two), place));
        kept.changes(Some(&stat(&one))).unwrap();
        assert!(!kept.dir.join(KNOWN_FILE).exists());
        assert_eq!((kept.digest(&stat(&one)), kept.digest(&stat(&two))), (None, Some([2; 32])));
        contexts.clear().unwrap();
        assert!(one.exists());
        drop(kept);
        contexts.clear().unwrap();
        assert!(!one.exists());
    }

    #[test]
    fn the_longest_unused_go_first() {
        let dir = tempfile::tempdir().unwrap();
        let contexts = Contexts::open(dir.path()).unwrap();
        for number in 0..CONTEXTS_MAX + 2 {
            let kept = contexts.take(&number.to_string()).unwrap().unwrap();
            let file = kept.tree().join("file");
            fs::write(&file, "x").unwrap();
            kept.learn(&stat(&file), [0; 32]);
        }
        assert_eq!(contexts.list().len(), CONTEXTS_MAX);
        assert!(contexts.take("0").unwrap().unwrap().tree().read_dir().unwrap().next().is_none());
        let last = (CONTEXTS_MAX + 1).to_string();
        assert!(contexts.take(&last).unwrap().unwrap().tree().join("file").exists());
    }
}
