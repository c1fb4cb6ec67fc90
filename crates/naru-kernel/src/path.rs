//! Paths inside an untrusted root: resolved by the kernel beneath a descriptor (openat2(2)), never as host strings.

use crate::sys::check;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Symlinks are followed as if `root` were `/`; links of procfs that lead elsewhere are refused.
pub const IN_ROOT: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

/// Attempts when the kernel asks to retry because of a concurrent rename (EAGAIN of openat2).
const RETRIES_MAX: u32 = 128;

/// Opens `path` beneath `root` as O_PATH (plus `flags`), close-on-exec. Child-safe.
pub fn open_in_root(root: impl AsFd, path: &CStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    open_resolved(root, path, flags | OFlags::PATH, IN_ROOT)
}

/// Opens `path` beneath `root` for reading.
pub fn open_file_in_root(root: impl AsFd, path: &CStr) -> Result<OwnedFd, Errno> {
    open_resolved(root, path, OFlags::RDONLY | OFlags::NOCTTY | OFlags::NONBLOCK, IN_ROOT)
}

/// Opens the regular file `path` beneath `root` for reading. Its kind is known before it is opened: opening a device
/// node or a pipe of an image has effects of its own. Anything but a file is `EINVAL`.
pub fn open_regular_in_root(root: impl AsFd, path: &CStr) -> Result<OwnedFd, Errno> {
    let found = open_in_root(root, path, OFlags::empty())?;
    let stat = rustix::fs::fstat(&found)?;
    if !FileType::from_raw_mode(stat.st_mode).is_file() {
        return Err(Errno::INVAL);
    }
    // Our own descriptor's link leads to the very inode that was looked at.
    let link = format!("/proc/thread-self/fd/{}", found.as_raw_fd());
    rustix::fs::open(link, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

/// openat2 with retries. Child-safe.
pub fn open_resolved(
    root: impl AsFd,
    path: &CStr,
    flags: OFlags,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    for _ in 0..RETRIES_MAX {
        match rustix::fs::openat2(root.as_fd(), path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// What [`make_in_root`] creates when the last component is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Missing {
    #[default]
    Directory,
    File,
}

/// Opens the path made of `components` beneath `root`, making what is missing: directories (0755) on the way and
/// `last` at the end. `prefixes[i]` is the path of the first i+1 components, `components[i]` the name alone. A
/// component that is a dangling symlink is an error (`ELOOP`), not followed to create its target. Child-safe.
pub fn make_in_root(
    root: impl AsFd,
    prefixes: &[impl AsRef<CStr>],
    components: &[impl AsRef<CStr>],
    last: Missing,
) -> Result<OwnedFd, Errno> {
    let root = root.as_fd();
    let Some(full) = prefixes.last() else {
        return open_in_root(root, c".", OFlags::empty());
    };
    match open_in_root(root, full.as_ref(), OFlags::empty()) {
        Err(Errno::NOENT) => {}
        other => return other,
    }
    let mut parent: Option<OwnedFd> = None;
    for (index, (prefix, name)) in prefixes.iter().zip(components).enumerate() {
        let is_last = index + 1 == prefixes.len();
        let opened = match open_in_root(root, prefix.as_ref(), OFlags::empty()) {
            Err(Errno::NOENT) => {
                let at = parent.as_ref().map_or(root, |fd| fd.as_fd());
                create(at, name.as_ref(), is_last && last == Missing::File)?;
                // Without O_NOFOLLOW a symlink is an error here; with it, openat2 would hand out the link itself.
                let flags = OFlags::PATH;
                open_resolved(at, name.as_ref(), flags, ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)?
            }
            other => other?,
        };
        parent = Some(opened);
    }
    parent.ok_or(Errno::NOENT)
}

/// As [`make_in_root`] for a place that must not be behind a symlink: one anywhere in the path is `ELOOP`. Child-safe.
pub fn make_plain_in_root(
    root: impl AsFd,
    prefixes: &[impl AsRef<CStr>],
    components: &[impl AsRef<CStr>],
    last: Missing,
) -> Result<OwnedFd, Errno> {
    let root = root.as_fd();
    let Some(full) = prefixes.last() else {
        return open_in_root(root, c".", OFlags::empty());
    };
    let plain = IN_ROOT.union(ResolveFlags::NO_SYMLINKS);
    match open_resolved(root, full.as_ref(), OFlags::PATH, plain) {
        Err(Errno::NOENT) => {
            make_in_root(root, prefixes, components, last)?;
            // Looked up again, so that what was swapped in between is found out.
            open_resolved(root, full.as_ref(), OFlags::PATH, plain)
        }
        other => other,
    }
}

/// Whether the descriptor is a directory. Child-safe.
pub fn is_dir(fd: impl AsFd) -> Result<bool, Errno> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode) == FileType::Directory)
}

/// Whether the descriptor is the character device `major:minor`. Child-safe.
pub fn is_char_device(fd: impl AsFd, major: u32, minor: u32) -> Result<bool, Errno> {
    const CHARACTER: u32 = 0o020_000;
    is_device(fd, CHARACTER, major, minor)
}

/// Whether the descriptor is a device node of this kind (the type bits of `mode`) and number. Child-safe.
pub fn is_device(fd: impl AsFd, mode: u32, major: u32, minor: u32) -> Result<bool, Errno> {
    let stat = rustix::fs::statat(fd, c"", AtFlags::EMPTY_PATH)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::from_raw_mode(mode)
        && rustix::fs::major(stat.st_rdev) == major
        && rustix::fs::minor(stat.st_rdev) == minor)
}

/// The magic number of the file system behind `fd` (statfs(2)). Child-safe.
pub fn fs_magic(fd: impl AsFd) -> Result<u64, Errno> {
    Ok(rustix::fs::fstatfs(fd)?.f_type as u64)
}

/// The raw getcwd(2): a directory outside the root shows as `(unreachable)/…`, which libcs hide. Child-safe.
pub fn current_dir(buffer: &mut [u8]) -> Result<&[u8], Errno> {
    // SAFETY: the pointer and length describe `buffer`, which the kernel writes.
    let len = check(unsafe { libc::syscall(libc::SYS_getcwd, buffer.as_mut_ptr(), buffer.len()) })?;
    Ok(&buffer[..(len as usize).min(buffer.len())])
}

pub const PROC_MAGIC: u64 = 0x9fa0;
pub const TMPFS_MAGIC: u64 = 0x0102_1994;
pub const CGROUP2_MAGIC: u64 = 0x6367_7270;

fn create(parent: std::os::fd::BorrowedFd<'_>, name: &CStr, file: bool) -> Result<(), Errno> {
    let made = if file {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o644)).map(drop)
    } else {
        rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755))
    };
    match made {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;

    fn scratch(name: &str) -> (std::path::PathBuf, OwnedFd) {
        let dir = std::env::temp_dir().join(format!("naru-path-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let fd = rustix::fs::open(&dir, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        (dir, fd)
    }

    fn make(root: &OwnedFd, names: &[&str], last: Missing) -> Result<OwnedFd, Errno> {
        let components: Vec<CString> = names.iter().map(|name| CString::new(*name).unwrap()).collect();
        let prefixes: Vec<CString> =
            (1..=names.len()).map(|len| CString::new(names[..len].join("/")).unwrap()).collect();
        make_in_root(root, &prefixes, &components, last)
    }

    #[test]
    fn missing_parts_are_made_inside_the_root() {
        let (dir, root) = scratch("make");
        make(&root, &["a", "b", "file"], Missing::File).unwrap();
        assert!(dir.join("a/b/file").is_file());
        std::os::unix::fs::symlink("/a", dir.join("link")).unwrap();
        make(&root, &["link", "c"], Missing::Directory).unwrap();
        assert!(dir.join("a/c").is_dir());
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn links_cannot_leave_the_root() {
        let (dir, root) = scratch("leave");
        std::os::unix::fs::symlink("../../../../../../etc", dir.join("up")).unwrap();
        assert_eq!(open_in_root(&root, c"up/passwd", OFlags::empty()).unwrap_err(), Errno::NOENT);
        std::os::unix::fs::symlink("/nowhere", dir.join("dangling")).unwrap();
        assert_eq!(make(&root, &["dangling", "x"], Missing::Directory).unwrap_err(), Errno::LOOP);
        assert_eq!(make(&root, &["dangling"], Missing::File).unwrap_err(), Errno::LOOP);
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_plain_place_has_no_link_in_its_path() {
        let (dir, root) = scratch("plain");
        let plain = |name: &CStr| make_plain_in_root(&root, &[name], &[name], Missing::Directory).map(drop);
        plain(c"made").unwrap();
        assert!(dir.join("made").is_dir());
        std::os::unix::fs::symlink("made", dir.join("link")).unwrap();
        assert_eq!(plain(c"link").unwrap_err(), Errno::LOOP);
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn only_regular_files_are_opened() {
        let (dir, root) = scratch("regular");
        std::fs::write(dir.join("file"), "x").unwrap();
        assert!(open_regular_in_root(&root, c"file").is_ok());
        rustix::fs::mknodat(rustix::fs::CWD, dir.join("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        // Opened first and asked later, this would wait for a writer for ever.
        assert_eq!(open_regular_in_root(&root, c"pipe").unwrap_err(), Errno::INVAL);
        assert_eq!(open_regular_in_root(&root, c".").unwrap_err(), Errno::INVAL);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
