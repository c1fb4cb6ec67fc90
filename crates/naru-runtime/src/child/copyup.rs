//! `tmpcopyup`: a new tmpfs begins with what the directory below it holds. Child-safe: buffers are on the stack or in the
//! caller's hands, and every name is looked up in a descriptor, so that no link of the image leads elsewhere.
//!
//! Owners, modes, times, links, nodes and extended attributes are kept; hard links become files of their own. In the
//! child and not before: its memory is charged to the container, and it sees the mounts of earlier entries.

use naru_kernel::Errno;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, RawDir, Stat, Timespec, Timestamps, Uid, XattrFlags};
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Directories within directories; deeper is `ENAMETOOLONG`. Each takes [`ENTRIES_BYTES`] of the child's stack.
const DEPTH_MAX: u32 = 128;
/// Bytes of directory entries that are read at once; one entry has up to 280.
const ENTRIES_BYTES: usize = 2 << 10;
/// PATH_MAX of linux/limits.h: also the longest target of a link.
const LINK_BYTES_MAX: usize = 4096;
/// Bytes of a list of names of extended attributes, and of a value. The kernel's limit is 64 KiB; tools that set
/// attributes in images stay far below, and a longer one is `ERANGE`.
const XATTR_BYTES_MAX: usize = 8 << 10;
/// Bytes that one sendfile(2) moves at most.
const CHUNK_BYTES: usize = 1 << 30;

struct Buffers {
    names: [u8; XATTR_BYTES_MAX],
    value: [u8; XATTR_BYTES_MAX],
    link: [u8; LINK_BYTES_MAX],
}

/// Copies what is in `from` into `to`, both O_PATH directories; not their own owner and mode.
pub(super) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut buffers =
        Buffers { names: [0; XATTR_BYTES_MAX], value: [0; XATTR_BYTES_MAX], link: [0; LINK_BYTES_MAX] };
    let (from, to) = (directory(from, c".")?, directory(to, c".")?);
    attributes(from.as_fd(), to.as_fd(), &mut buffers)?;
    entries(from.as_fd(), to.as_fd(), DEPTH_MAX, &mut buffers)
}

fn directory(at: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty())
}

fn entries(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: u32, buffers: &mut Buffers) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); ENTRIES_BYTES];
    let mut list = RawDir::new(from, &mut space);
    while let Some(entry) = list.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            one(from, to, name, depth, buffers)?;
        }
    }
    Ok(())
}

fn one(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    name: &CStr,
    depth: u32,
    buffers: &mut Buffers,
) -> Result<(), Errno> {
    let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    match kind {
        FileType::Directory => {
            let depth = depth.checked_sub(1).ok_or(Errno::NAMETOOLONG)?;
            rustix::fs::mkdirat(to, name, Mode::RWXU)?;
            let (source, made) = (directory(from, name)?, directory(to, name)?);
            entries(source.as_fd(), made.as_fd(), depth, buffers)?;
            finish(source.as_fd(), made.as_fd(), &stat, mode, buffers)
        }
        FileType::RegularFile => {
            // What was a file a moment ago may be a pipe now: no wait for its writer.
            let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let source = rustix::fs::openat(from, name, read, Mode::empty())?;
            let write = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let made = rustix::fs::openat(to, name, write, Mode::RUSR)?;
            while rustix::fs::sendfile(&made, &source, None, CHUNK_BYTES)? > 0 {}
            finish(source.as_fd(), made.as_fd(), &stat, mode, buffers)
        }
        FileType::Symlink => {
            symlink(from, to, name, buffers)?;
            own(to, name, &stat)
        }
        // The umask is zero here.
        _ => {
            rustix::fs::mknodat(to, name, kind, mode, stat.st_rdev)?;
            own(to, name, &stat)
        }
    }
}

fn symlink(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    name: &CStr,
    buffers: &mut Buffers,
) -> Result<(), Errno> {
    let len = rustix::fs::readlinkat_raw(from, name, &mut buffers.link[..])?;
    // A full buffer is a target that was cut; the kernel has none so long.
    *buffers.link.get_mut(len).ok_or(Errno::NAMETOOLONG)? = 0;
    let target = CStr::from_bytes_until_nul(&buffers.link).map_err(|_| Errno::INVAL)?;
    rustix::fs::symlinkat(target, to, name)
}

/// Of what cannot be opened without an effect: owner and times by name, and a mode that a change of owner took away.
fn own(to: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> Result<(), Errno> {
    rustix::fs::chownat(to, name, Some(uid(stat)), Some(gid(stat)), AtFlags::SYMLINK_NOFOLLOW)?;
    rustix::fs::utimensat(to, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)
}

/// Owner before mode, since a change of owner takes the set-user-id bit and capabilities away.
fn finish(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    stat: &Stat,
    mode: Mode,
    buffers: &mut Buffers,
) -> Result<(), Errno> {
    rustix::fs::fchown(to, Some(uid(stat)), Some(gid(stat)))?;
    rustix::fs::fchmod(to, mode)?;
    attributes(from, to, buffers)?;
    rustix::fs::futimens(to, &times(stat))
}

/// What the tmpfs has no place for (`user.` before Linux 6.6), or the child no right to (`trusted.` in a user
/// namespace), is left out: the program could not have used it there either.
fn attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>, buffers: &mut Buffers) -> Result<(), Errno> {
    let len = match rustix::fs::flistxattr(from, &mut buffers.names[..]) {
        Err(Errno::OPNOTSUPP) => 0,
        other => other?,
    };
    let mut names = buffers.names.get(..len).unwrap_or_default();
    while let Ok(name) = CStr::from_bytes_until_nul(names) {
        let size = rustix::fs::fgetxattr(from, name, &mut buffers.value[..])?;
        let value = buffers.value.get(..size).unwrap_or_default();
        match rustix::fs::fsetxattr(to, name, value, XattrFlags::empty()) {
            Err(Errno::OPNOTSUPP | Errno::PERM) => {}
            other => other?,
        }
        names = names.get(name.count_bytes() + 1..).unwrap_or_default();
    }
    Ok(())
}

fn uid(stat: &Stat) -> Uid {
    Uid::from_raw(stat.st_uid)
}

fn gid(stat: &Stat) -> Gid {
    Gid::from_raw(stat.st_gid)
}

fn times(stat: &Stat) -> Timestamps {
    let time = |seconds, nanoseconds| Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    Timestamps {
        last_access: time(stat.st_atime as _, stat.st_atime_nsec as _),
        last_modification: time(stat.st_mtime as _, stat.st_mtime_nsec as _),
    }
}
