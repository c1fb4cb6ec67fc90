//! Directories by descriptor: the few safe moves that unpacking, packing and comparing are made of.
//!
//! A path from outside is first cut into components ([`naru_tar::components`]); from there on the kernel keeps it beneath the
//! root (openat2(2), `RESOLVE_BENEATH`), so no check here can be raced.

use crate::error::{ImageError, Result};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Largest value of one extended attribute, and of the list of names (XATTR_SIZE_MAX, XATTR_LIST_MAX).
const XATTR_BYTES_MAX: usize = 64 * 1024;

/// overlayfs's own attributes, for mounts made with and without `userxattr`
/// (Documentation/filesystems/overlayfs.rst).
const OVERLAY_XATTRS: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];
pub(crate) const OPAQUE_XATTRS: [&str; 2] = ["trusted.overlay.opaque", "user.overlay.opaque"];

/// Name and value of an extended attribute.
pub(crate) type Xattr = (Vec<u8>, Vec<u8>);

pub(crate) fn join(parts: &[&[u8]]) -> PathBuf {
    if parts.is_empty() { PathBuf::from(".") } else { PathBuf::from(OsStr::from_bytes(&parts.join(&b'/'))) }
}

/// Opens a directory that the caller trusts.
pub fn open_root(path: &Path) -> Result<OwnedFd> {
    rustix::fs::openat(CWD, path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| ImageError::io("open directory", path)(errno.into()))
}

/// Opens `path` beneath `root`; no symbolic link is followed anywhere on the way.
pub(crate) fn open_beneath(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    open_resolved(root, path, flags | OFlags::NOFOLLOW, resolve)
}

/// Opens `path` beneath `root` with symbolic links resolved as if `root` were `/`.
pub(crate) fn open_in_root(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    open_resolved(root, path, flags, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
}

fn open_resolved(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    loop {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // openat2(2): EAGAIN when a rename elsewhere made the check uncertain.
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
}

/// The path that names what `fd` is open on, for calls that have no descriptor form.
pub(crate) fn proc_path(fd: impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()))
}

pub(crate) fn stat(parent: BorrowedFd<'_>, name: &[u8]) -> Result<Stat, Errno> {
    rustix::fs::statat(parent, OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW)
}

pub(crate) fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// overlayfs's mark of a removed file: a character device 0/0.
pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    file_type(stat) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// The names in a directory, sorted by bytes.
pub(crate) fn names(dir: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for item in Dir::read_from(dir)? {
        let item = item?;
        let name = item.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    names.sort();
    Ok(names)
}

/// The extended attributes of `name`, sorted; overlayfs's own are left out.
pub(crate) fn xattrs(parent: BorrowedFd<'_>, name: &[u8]) -> Result<Vec<Xattr>, Errno> {
    let path = proc_path(parent).join(OsStr::from_bytes(name));
    let mut found = Vec::new();
    for key in xattr_names(&path)? {
        if is_overlay_xattr(&key) {
            continue;
        }
        if let Some(value) = xattr(&path, OsStr::from_bytes(&key))? {
            found.push((key, value));
        }
    }
    found.sort();
    Ok(found)
}

pub(crate) fn is_overlay_xattr(name: &[u8]) -> bool {
    OVERLAY_XATTRS.iter().any(|prefix| name.starts_with(prefix))
}

pub(crate) fn xattr_names(path: &Path) -> Result<Vec<Vec<u8>>, Errno> {
    // The common answer is "none": asked first without a buffer (an empty one would always be told "none").
    match rustix::fs::llistxattr_query(path) {
        Ok(0) | Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Ok(_) => {}
        Err(errno) => return Err(errno),
    }
    let mut list = vec![0u8; XATTR_BYTES_MAX];
    let len = rustix::fs::llistxattr(path, &mut list[..])?;
    Ok(list[..len].split(|b| *b == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
}

pub(crate) fn xattr(path: &Path, name: &OsStr) -> Result<Option<Vec<u8>>, Errno> {
    let mut value = vec![0u8; XATTR_BYTES_MAX];
    match rustix::fs::lgetxattr(path, name, &mut value[..]) {
        Ok(len) => {
            value.truncate(len);
            Ok(Some(value))
        }
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Whether overlayfs hides what lies below this directory.
pub(crate) fn is_opaque(dir: BorrowedFd<'_>) -> Result<bool, Errno> {
    let path = proc_path(dir).join(".");
    for name in OPAQUE_XATTRS {
        if xattr(&path, OsStr::new(name))?.as_deref() == Some(b"y") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Marks a directory opaque; without the right to set `trusted.*` (a user namespace) in the form that a
/// mount with `userxattr` reads.
pub(crate) fn set_opaque(dir: BorrowedFd<'_>) -> Result<(), Errno> {
    let path = proc_path(dir).join(".");
    let set = |name: &str| rustix::fs::lsetxattr(&path, name, b"y", rustix::fs::XattrFlags::empty());
    match set(OPAQUE_XATTRS[0]) {
        Err(Errno::PERM) => set(OPAQUE_XATTRS[1]),
        result => result,
    }
}

/// Removes `name` and all beneath it, without leaving `parent` and without following links.
pub(crate) fn remove(parent: BorrowedFd<'_>, name: &[u8]) -> std::io::Result<()> {
    let file = OsStr::from_bytes(name);
    match rustix::fs::unlinkat(parent, file, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => std::fs::remove_dir_all(proc_path(parent).join(file)),
        result => Ok(result?),
    }
}
