//! A directory tree as fsutil's stats, parents first and names in order, and its files by their numbers.

use crate::error::{Error, Result};
use crate::wire::Out;
use naru_types::gomode;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use std::collections::{BTreeMap, HashMap};
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Deepest directory, because each level holds one descriptor open.
const DEPTH_MAX: usize = 512;
/// Largest list of a file's extended attributes, in bytes (`XATTR_LIST_MAX`), and the largest value (`XATTR_SIZE_MAX`).
const XATTR_BYTES_MAX: usize = 64 << 10;

const SAFE: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// Owns the root; what it was mounted from lives as long as it does.
pub struct Tree {
    root: OwnedFd,
    /// Regular files that may be asked for, each once.
    files: Mutex<BTreeMap<u64, PathBuf>>,
}

/// One entry.
pub struct Walked {
    path: PathBuf,
    stat: Stat,
    /// A symlink's target, or the first path of a file that was there already.
    link: Vec<u8>,
    xattrs: Vec<(String, Vec<u8>)>,
}

impl Tree {
    pub fn new(root: OwnedFd) -> Self {
        Self { root, files: Mutex::default() }
    }

    /// Calls `each` for every entry but the root.
    pub fn walk(&self, each: &mut dyn FnMut(&Walked) -> Result<()>) -> Result<()> {
        let mut walk = Walk { tree: self, number: 0, links: HashMap::new(), each };
        let root = open_dir(self.root.as_fd(), c".".into())?;
        walk.directory(root, Path::new(""), 0)
    }

    /// The content of a file that was walked over. A client that asks for anything else is refused.
    pub fn open(&self, number: u64) -> Result<File> {
        let path = self.files.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
        let path = path.ok_or(Error::Malformed { what: "a request for a file that was not offered" })?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = fs::openat2(&self.root, &path, flags, Mode::empty(), SAFE);
        Ok(file.map_err(Error::sys(format!("open {} of the result", path.display())))?.into())
    }
}

struct Walk<'a> {
    tree: &'a Tree,
    number: u64,
    /// Files with several names, by device and inode.
    links: HashMap<(u64, u64), PathBuf>,
    each: &'a mut dyn FnMut(&Walked) -> Result<()>,
}

impl Walk<'_> {
    fn directory(&mut self, dir: OwnedFd, path: &Path, depth: usize) -> Result<()> {
        if depth > DEPTH_MAX {
            return Err(Error::Malformed { what: "a directory that is too deep" });
        }
        for name in names(&dir, path)? {
            let path = path.join(OsStr::from_bytes(name.to_bytes()));
            let failed = |what: &str| Error::sys(format!("{what} {} of the result", path.display()));
            let stat = fs::statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed("look at"))?;
            let kind = FileType::from_raw_mode(stat.st_mode);
            let mut link = Vec::new();
            if kind == FileType::Symlink {
                link = fs::readlinkat(&dir, &name, Vec::new()).map_err(failed("read the link"))?.into_bytes();
            } else if kind != FileType::Directory && stat.st_nlink > 1 {
                let first = self.links.entry((stat.st_dev, stat.st_ino)).or_insert_with(|| path.clone());
                if *first != path {
                    link = first.as_os_str().as_bytes().to_vec();
                }
            }
            let xattrs = match kind {
                FileType::RegularFile | FileType::Directory => xattrs(dir.as_fd(), &name, &path)?,
                _ => Vec::new(),
            };
            if kind == FileType::RegularFile && link.is_empty() {
                let mut files = self.tree.files.lock().unwrap_or_else(PoisonError::into_inner);
                files.insert(self.number, path.clone());
            }
            self.number += 1;
            (self.each)(&Walked { path: path.clone(), stat, link, xattrs })?;
            if kind == FileType::Directory {
                self.directory(open_dir(dir.as_fd(), name)?, &path, depth + 1)?;
            }
        }
        Ok(())
    }
}

fn open_dir(at: BorrowedFd<'_>, name: CString) -> Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fs::openat(at, &name, flags, Mode::empty()).map_err(Error::sys("open a directory of the result"))
}

fn names(dir: &OwnedFd, path: &Path) -> Result<Vec<CString>> {
    let step = || Error::sys(format!("list {} of the result", path.display()));
    let mut names = Vec::new();
    for entry in Dir::read_from(dir).map_err(step())? {
        let entry = entry.map_err(step())?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Those of users and the file capabilities, as containers see them. A file system without any has none.
fn xattrs(dir: BorrowedFd<'_>, name: &CString, path: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let failed = || Error::sys(format!("read the attributes of {} of the result", path.display()));
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = fs::openat(dir, name, flags, Mode::empty()).map_err(failed())?;
    let mut list = vec![0; XATTR_BYTES_MAX];
    let len = match fs::flistxattr(&file, &mut list) {
        Err(Errno::OPNOTSUPP) => 0,
        other => other.map_err(failed())?,
    };
    let all = list.get(..len).unwrap_or_default().split(|byte| *byte == 0);
    let kept = all
        .filter_map(|key| std::str::from_utf8(key).ok())
        .filter(|key| key.starts_with("user.") || *key == "security.capability");
    let value = |key: &str| {
        let mut value = vec![0; XATTR_BYTES_MAX];
        let len = fs::fgetxattr(&file, key, &mut value).map_err(failed())?;
        value.truncate(len);
        Ok((key.to_owned(), value))
    };
    kept.map(value).collect()
}

impl Walked {
    /// fsutil.types.Stat.
    pub fn stat(&self) -> Out {
        let path = self.path.as_os_str().as_bytes();
        let out = Out::default().bytes(1, path).number(2, gomode::of(self.stat.st_mode).into());
        let out = out.number(3, self.stat.st_uid.into()).number(4, self.stat.st_gid.into());
        let mtime = self.stat.st_mtime as i64 * 1_000_000_000 + self.stat.st_mtime_nsec as i64;
        let size = if self.is_file() { self.stat.st_size as u64 } else { 0 };
        let out = out.number(5, size).number(6, mtime as u64).bytes(7, &self.link);
        let device = self.stat.st_rdev;
        let out = if self.is_device() {
            out.number(8, fs::major(device).into()).number(9, fs::minor(device).into())
        } else {
            out
        };
        let entry = |(key, value): &(String, Vec<u8>)| Out::default().text(1, key).bytes(2, value);
        self.xattrs.iter().map(entry).fold(out, |out, entry| out.message(10, &entry))
    }

    fn is_file(&self) -> bool {
        FileType::from_raw_mode(self.stat.st_mode) == FileType::RegularFile
    }

    fn is_device(&self) -> bool {
        matches!(
            FileType::from_raw_mode(self.stat.st_mode),
            FileType::CharacterDevice | FileType::BlockDevice
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_tree_is_walked_in_order_and_read_by_number() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir(at("a")).unwrap();
        std::fs::write(at("a/file"), "content").unwrap();
        std::fs::hard_link(at("a/file"), at("z")).unwrap();
        std::fs::write(at("a-b"), "").unwrap();
        std::fs::set_permissions(at("a-b"), std::fs::Permissions::from_mode(0o4750)).unwrap();
        symlink("/etc/passwd", at("link")).unwrap();
        let tree = Tree::new(fs::open(dir.path(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap());
        let mut seen = Vec::new();
        let mut see = |walked: &Walked| {
            let link = String::from_utf8(walked.link.clone()).unwrap();
            seen.push((walked.path.display().to_string(), gomode::of(walked.stat.st_mode) & !0o777, link));
            Ok(())
        };
        tree.walk(&mut see).unwrap();
        let expect = [
            ("a", gomode::DIR, ""),
            ("a/file", 0, ""),
            ("a-b", gomode::SETUID, ""),
            ("link", gomode::SYMLINK, "/etc/passwd"),
            ("z", 0, "a/file"),
        ];
        let seen: Vec<_> = seen.iter().map(|(path, mode, link)| (&**path, *mode, &**link)).collect();
        assert_eq!(seen, expect);
        let mut text = String::new();
        tree.open(1).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "content");
        for never in [1, 0, 3, 4, 9] {
            assert!(tree.open(never).is_err(), "{never}");
        }
    }
}
