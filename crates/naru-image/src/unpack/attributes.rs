//! Owner, mode, extended attributes and time of what was just made, in the order that works: chown(2)
//! clears set-id bits and `security.capability`, so it comes first; the time comes last.

use super::{Place, times, unpack_error};
use crate::error::Result;
use crate::tree;
use naru_tar::Entry;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid, XattrFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

type Owner = Option<(u32, u32)>;

fn owner_of(entry: &Entry, owner: Owner) -> (Option<Uid>, Option<Gid>) {
    let (uid, gid) = owner.unwrap_or((entry.uid, entry.gid));
    (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
}

/// All but the time, on an open file or directory.
pub(super) fn set_on_fd(fd: BorrowedFd<'_>, entry: &Entry, owner: Owner) -> Result<()> {
    let (uid, gid) = owner_of(entry, owner);
    rustix::fs::fchown(fd, uid, gid)
        .map_err(|errno| unpack_error("set the owner of", entry)(errno.into()))?;
    rustix::fs::fchmod(fd, Mode::from_raw_mode(entry.mode))
        .map_err(|errno| unpack_error("set the mode of", entry)(errno.into()))?;
    set_xattrs(&tree::proc_path(fd), entry, true)
}

pub(super) fn set_time(fd: BorrowedFd<'_>, entry: &Entry) -> Result<()> {
    rustix::fs::futimens(fd, &times(entry.mtime_secs, entry.mtime_nanos))
        .map_err(|errno| unpack_error("set the time of", entry)(errno.into()))
}

pub(super) fn set_on_symlink(place: &Place<'_>, entry: &Entry, owner: Owner) -> Result<()> {
    chown_at(place, entry, owner)?;
    set_xattrs(&tree::proc_path(place.parent).join(place.name), entry, false)?;
    time_at(place, entry)
}

pub(super) fn set_on_node(place: &Place<'_>, entry: &Entry, owner: Owner) -> Result<()> {
    let failed = |errno: Errno| unpack_error("set the mode of", entry)(errno.into());
    chown_at(place, entry, owner)?;
    let fd = tree::open_beneath(place.parent, place.name.as_ref(), OFlags::PATH).map_err(failed)?;
    // A device must not be opened; its own name in /proc reaches it without (symlink(7), "magic links").
    let path = tree::proc_path(fd.as_fd());
    rustix::fs::chmod(&path, Mode::from_raw_mode(entry.mode)).map_err(failed)?;
    set_xattrs(&path, entry, true)?;
    time_at(place, entry)
}

fn chown_at(place: &Place<'_>, entry: &Entry, owner: Owner) -> Result<()> {
    let (uid, gid) = owner_of(entry, owner);
    rustix::fs::chownat(place.parent, place.name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|errno| unpack_error("set the owner of", entry)(errno.into()))
}

fn time_at(place: &Place<'_>, entry: &Entry) -> Result<()> {
    let times = times(entry.mtime_secs, entry.mtime_nanos);
    rustix::fs::utimensat(place.parent, place.name, &times, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|errno| unpack_error("set the time of", entry)(errno.into()))
}

/// overlayfs's own attributes are never taken from an archive: a redirect would show one file under
/// another's name. What a file system cannot hold is left out, as Docker does.
fn set_xattrs(path: &Path, entry: &Entry, follow: bool) -> Result<()> {
    for (name, value) in &entry.xattrs {
        if tree::is_overlay_xattr(name) {
            continue;
        }
        let name = OsStr::from_bytes(name);
        let result = if follow {
            rustix::fs::setxattr(path, name, value, XattrFlags::empty())
        } else {
            rustix::fs::lsetxattr(path, name, value, XattrFlags::empty())
        };
        match result {
            Ok(()) | Err(Errno::NOTSUP) => {}
            Err(errno) => return Err(unpack_error("set an extended attribute of", entry)(errno.into())),
        }
    }
    Ok(())
}
