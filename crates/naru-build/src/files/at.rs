//! The few moves beneath a directory descriptor that the rest is made of.

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Largest list of names, and value, of extended attributes (XATTR_LIST_MAX, XATTR_SIZE_MAX).
const XATTR_BYTES_MAX: usize = 64 << 10;

/// Opens a directory whose path the caller trusts.
pub(crate) fn open_root(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Opens `path` beneath `root`; a symbolic link anywhere on it is an error.
pub(crate) fn open_beneath(root: impl AsFd, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    loop {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match rustix::fs::openat2(root.as_fd(), path, flags, Mode::empty(), resolve) {
            // openat2(2): EAGAIN when a rename elsewhere made the check uncertain.
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
}

pub(crate) fn open_dir_beneath(root: impl AsFd, path: &Path) -> Result<OwnedFd, Errno> {
    open_beneath(root, path, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// Of `name` itself, not of what it may link to.
pub(crate) fn stat(dir: impl AsFd, name: &OsStr) -> Result<Stat, Errno> {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
}

/// As [`stat`], `None` where nothing is.
pub(crate) fn stat_if_any(dir: impl AsFd, name: &OsStr) -> Result<Option<Stat>, Errno> {
    match stat(dir, name) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

pub(crate) fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

pub(crate) fn is_dir(stat: &Stat) -> bool {
    kind(stat) == FileType::Directory
}

/// Permission bits, with setuid, setgid and sticky.
pub(crate) fn permissions(stat: &Stat) -> u32 {
    stat.st_mode & 0o7777
}

/// The names in a directory, sorted by bytes.
pub(crate) fn names(dir: impl AsFd) -> Result<Vec<OsString>, Errno> {
    let mut names = Vec::new();
    for item in Dir::read_from(dir)? {
        let item = item?;
        let name = item.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// The extended attributes that a copy takes along, sorted: not overlayfs's marks nor SELinux's labels.
pub(crate) fn xattrs(fd: impl AsFd) -> Result<Vec<(CString, Vec<u8>)>, Errno> {
    // Nearly every file has none.
    if let Ok(0) | Err(Errno::OPNOTSUPP) = rustix::fs::flistxattr_query(fd.as_fd()) {
        return Ok(Vec::new());
    }
    let mut list = vec![0u8; XATTR_BYTES_MAX];
    let length = match rustix::fs::flistxattr(fd.as_fd(), &mut list[..]) {
        Err(Errno::OPNOTSUPP) => 0,
        other => other?,
    };
    let mut found = Vec::new();
    for name in list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let foreign = [&b"trusted.overlay."[..], b"user.overlay.", b"security.selinux"];
        if foreign.iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        let name = CString::new(name).map_err(|_| Errno::INVAL)?;
        let mut value = vec![0u8; XATTR_BYTES_MAX];
        match rustix::fs::fgetxattr(fd.as_fd(), &name, &mut value[..]) {
            Ok(size) => {
                value.truncate(size);
                found.push((name, value));
            }
            Err(Errno::NODATA) => {}
            Err(errno) => return Err(errno),
        }
    }
    found.sort();
    Ok(found)
}
