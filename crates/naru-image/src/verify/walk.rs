//! Goes through a layer's tree and tells where it is not what its archive says.

use super::expected::{Expected, Node, Place, child, is_directory};
use super::layer::{Found, is_damage};
use crate::blob::HashingReader;
use crate::error::{ImageError, Result};
use crate::tree;
use naru_tar::EntryKind;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{FileType, OFlags, Stat};
use rustix::io::Errno;
use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;

/// Times that every file system can hold (ext4 with small inodes: 32 bits); others were cut when they were set.
const TIMES_KEPT: std::ops::Range<i64> = 0..(1 << 31);

/// Compares the tree at `root` with what its archive says; sockets and what belongs to overlayfs have no place in one.
pub(super) fn compare(root: BorrowedFd<'_>, expected: &Expected, found: &mut Found) -> Result<()> {
    let mut comparison = Comparison { root, expected, seen: BTreeSet::new(), files: HashMap::new(), found };
    comparison.directory(&[])?;
    for path in expected.places.keys().filter(|path| !path.is_empty() && !comparison.seen.contains(*path)) {
        comparison.found.add(Some(path), "is missing");
    }
    Ok(())
}

struct Comparison<'a> {
    root: BorrowedFd<'a>,
    expected: &'a Expected,
    seen: BTreeSet<Vec<u8>>,
    /// Names that are links of each other should be one file.
    files: HashMap<*const Node, (u64, u64)>,
    found: &'a mut Found,
}

impl Comparison<'_> {
    /// Directories wait on a list of paths: a tree may be deeper than descriptors can be held open.
    fn directory(&mut self, top: &[u8]) -> Result<()> {
        let mut waiting = vec![top.to_vec()];
        while let Some(path) = waiting.pop() {
            let opened = tree::open_beneath(self.root, shown(&path), OFlags::DIRECTORY | OFlags::RDONLY);
            let Some(dir) = self.told(&path, "cannot be opened", opened)? else { continue };
            let is_opaque = self.expected.opaque.contains(&path);
            if is_opaque && !tree::is_opaque(dir.as_fd()).map_err(look(&path))? {
                self.found.add(Some(&path), "has lost the mark that it hides the layers below");
            }
            if let Some(Place::Node(node)) = self.expected.places.get(&path).filter(|_| path.is_empty()) {
                let stat = rustix::fs::fstat(&dir).map_err(look(&path))?;
                self.attributes(dir.as_fd(), b".", &path, node, &stat)?;
            }
            let Some(names) = self.told(&path, "cannot be listed", tree::names(dir.as_fd()))? else {
                continue;
            };
            for name in names {
                let below = child(&path, &name);
                if self.entry(dir.as_fd(), &name, &below)? {
                    waiting.push(below);
                }
            }
        }
        Ok(())
    }

    /// Says whether it is a directory to go into.
    fn entry(&mut self, dir: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<bool> {
        let Some(stat) = self.told(path, "cannot be looked at", tree::stat(dir, name))? else {
            self.seen.insert(path.to_vec());
            return Ok(false);
        };
        let is_there = tree::file_type(&stat);
        let Some(place) = self.expected.places.get(path) else {
            if is_there != FileType::Socket {
                self.found.add(Some(path), "does not belong to the layer");
            }
            return Ok(false);
        };
        self.seen.insert(path.to_vec());
        match place {
            Place::Whiteout if !tree::is_whiteout(&stat) => {
                self.found.add(Some(path), "is not the mark of a removed file")
            }
            Place::Whiteout => {}
            Place::Implied if is_there != FileType::Directory => {
                self.found.add(Some(path), "is not a directory")
            }
            Place::Implied => {}
            Place::Node(node) if Some(is_there) != kind_of(node.entry.kind) => {
                self.found.add(Some(path), format!("is {is_there:?}, not {:?}", node.entry.kind));
            }
            Place::Node(node) => self.node(dir, name, path, node, &stat)?,
        }
        Ok(is_there == FileType::Directory && is_directory(place))
    }

    fn node(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        node: &Rc<Node>,
        stat: &Stat,
    ) -> Result<()> {
        if node.entry.kind != EntryKind::Directory {
            let file = (stat.st_dev, stat.st_ino);
            if *self.files.entry(Rc::as_ptr(node)).or_insert(file) != file {
                self.found.add(Some(path), "is no longer a link to the same file");
            }
        }
        match node.entry.kind {
            EntryKind::File if stat.st_size as u64 != node.entry.size => {
                let what = format!("has {} bytes instead of {}", stat.st_size, node.entry.size);
                self.found.add(Some(path), what);
            }
            EntryKind::File => self.sparse(dir, name, path, node)?,
            EntryKind::Symlink => {
                let read = rustix::fs::readlinkat(dir, OsStr::from_bytes(name), Vec::new());
                let target = self.told(path, "cannot be read", read)?;
                if target.is_some_and(|target| target.to_bytes() != node.entry.link) {
                    self.found.add(Some(path), "leads elsewhere");
                }
            }
            EntryKind::CharDevice | EntryKind::BlockDevice => {
                if (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)) != node.entry.device {
                    self.found.add(Some(path), "is another device");
                }
            }
            EntryKind::Directory | EntryKind::Fifo | EntryKind::HardLink => {}
        }
        self.attributes(dir, name, path, node, stat)
    }

    fn sparse(&mut self, dir: BorrowedFd<'_>, name: &[u8], path: &[u8], node: &Node) -> Result<()> {
        let Some(content) = node.content else { return Ok(()) };
        let opened = tree::open_beneath(dir, OsStr::from_bytes(name).as_ref(), OFlags::RDONLY);
        let Some(file) = self.told(path, "cannot be opened", opened)? else { return Ok(()) };
        let mut hashing = HashingReader::new(File::from(file));
        match io::copy(&mut hashing, &mut io::sink()) {
            Ok(_) if hashing.digest() == content => {}
            Ok(_) => self.found.add(Some(path), "has other content"),
            Err(error) if is_damage(&error) => self.found.add(Some(path), format!("cannot be read: {error}")),
            Err(error) => return Err(ImageError::io("read", shown(path))(error)),
        }
        Ok(())
    }

    fn attributes(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        node: &Node,
        stat: &Stat,
    ) -> Result<()> {
        let entry = &node.entry;
        if entry.kind != EntryKind::Symlink && stat.st_mode & 0o7777 != entry.mode & 0o7777 {
            let what =
                format!("has the mode {:o} instead of {:o}", stat.st_mode & 0o7777, entry.mode & 0o7777);
            self.found.add(Some(path), what);
        }
        if (stat.st_uid, stat.st_gid) != (entry.uid, entry.gid) {
            let (is, was) = ((stat.st_uid, stat.st_gid), (entry.uid, entry.gid));
            self.found
                .add(Some(path), format!("belongs to {}:{} instead of {}:{}", is.0, is.1, was.0, was.1));
        }
        // A directory's time may be that of any of the entries which named it.
        let has_own_time = entry.kind != EntryKind::Directory && TIMES_KEPT.contains(&entry.mtime_secs);
        if has_own_time && stat.st_mtime != entry.mtime_secs {
            self.found.add(Some(path), "has another time of modification");
        }
        let file = tree::proc_path(dir).join(OsStr::from_bytes(name));
        for (key, value) in entry.xattrs.iter().filter(|(key, _)| !tree::is_overlay_xattr(key)) {
            let mut buffer = vec![0; value.len() + 1];
            let is_kept = match rustix::fs::lgetxattr(&file, OsStr::from_bytes(key), &mut buffer[..]) {
                Ok(len) => buffer[..len] == value[..],
                Err(Errno::NODATA | Errno::RANGE) => false,
                // Left out when the layer was unpacked, too.
                Err(Errno::NOTSUP) => true,
                Err(errno) => return Err(look(path)(errno)),
            };
            if !is_kept {
                self.found
                    .add(Some(path), format!("has lost its attribute {}", String::from_utf8_lossy(key)));
            }
        }
        Ok(())
    }

    /// Notes an error that tells of damage; gives back any other.
    fn told<T>(&mut self, path: &[u8], what: &str, result: Result<T, Errno>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(errno) if is_damage(&errno.into()) => {
                self.found.add(Some(path), format!("{what}: {errno}"));
                Ok(None)
            }
            Err(errno) => Err(look(path)(errno)),
        }
    }
}

fn kind_of(kind: EntryKind) -> Option<FileType> {
    match kind {
        EntryKind::File => Some(FileType::RegularFile),
        EntryKind::Directory => Some(FileType::Directory),
        EntryKind::Symlink => Some(FileType::Symlink),
        EntryKind::CharDevice => Some(FileType::CharacterDevice),
        EntryKind::BlockDevice => Some(FileType::BlockDevice),
        EntryKind::Fifo => Some(FileType::Fifo),
        // Resolved to what it links to.
        EntryKind::HardLink => None,
    }
}

fn shown(path: &[u8]) -> &std::path::Path {
    if path.is_empty() { ".".as_ref() } else { OsStr::from_bytes(path).as_ref() }
}

fn look(path: &[u8]) -> impl Fn(Errno) -> ImageError {
    let entry = String::from_utf8_lossy(path).into_owned();
    move |errno| ImageError::Pack { step: "look at", entry: entry.clone(), source: errno.into() }
}
