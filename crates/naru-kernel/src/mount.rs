//! The descriptor-based mount interface (fsopen(2) and its family). All functions are child-safe.
//!
//! A mount is made detached, gets its attributes while nobody can see it, and is attached to an O_PATH descriptor.

use crate::sys::check;
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// MOUNT_ATTR_* bits of linux/mount.h.
pub type Attrs = u64;

pub const RDONLY: Attrs = 0x1;
pub const NOSUID: Attrs = 0x2;
pub const NODEV: Attrs = 0x4;
pub const NOEXEC: Attrs = 0x8;
pub const ATIME_MASK: Attrs = 0x70;
pub const RELATIME: Attrs = 0x00;
pub const NOATIME: Attrs = 0x10;
pub const STRICTATIME: Attrs = 0x20;
pub const NODIRATIME: Attrs = 0x80;
pub const NOSYMFOLLOW: Attrs = 0x20_0000;

/// How mount events travel, for [`set_attributes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Private,
    Shared,
    Slave,
    Unbindable,
}

/// One option of [`new_fs`]: `key` alone or `key=value`.
pub type FsOption<'a> = (&'a CStr, Option<&'a CStr>);

/// Makes a detached mount of a new file system instance.
pub fn new_fs<'a>(
    kind: &CStr,
    source: Option<&CStr>,
    options: impl Iterator<Item = FsOption<'a>>,
    attrs: Attrs,
) -> Result<OwnedFd, Errno> {
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    if let Some(source) = source {
        rustix::mount::fsconfig_set_string(&context, c"source", source)?;
    }
    for (key, value) in options {
        match value {
            Some(value) => rustix::mount::fsconfig_set_string(&context, key, value)?,
            None => rustix::mount::fsconfig_set_flag(&context, key)?,
        }
    }
    rustix::mount::fsconfig_create(&context)?;
    rustix::mount::fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::from_bits_retain(attrs as u32),
    )
}

/// Makes a detached copy (a bind mount) of the mount at `path` beneath `dir`; `path` may be empty for `dir` itself.
pub fn clone_tree(dir: impl AsFd, path: &CStr, recursive: bool) -> Result<OwnedFd, Errno> {
    let mut flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    rustix::mount::open_tree(dir, path, flags)
}

/// As [`clone_tree`] for an absolute host path.
pub fn clone_host_tree(path: &CStr, recursive: bool) -> Result<OwnedFd, Errno> {
    clone_tree(CWD, path, recursive)
}

/// Attaches a detached mount onto what `target` refers to.
pub fn attach(mount: impl AsFd, target: impl AsFd) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, c"", target, c"", flags)
}

/// As [`attach`] for an absolute host path as target.
pub fn attach_host(mount: impl AsFd, target: &CStr) -> Result<(), Errno> {
    rustix::mount::move_mount(mount, c"", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

/// A change of mount attributes (mount_setattr(2)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    pub set: Attrs,
    pub clear: Attrs,
    pub propagation: Option<Propagation>,
    pub recursive: bool,
}

/// Applies `change` to the mount whose root is `path` beneath `dir` (empty: `dir` itself).
pub fn set_attributes(dir: BorrowedFd<'_>, path: &CStr, change: Change) -> Result<(), Errno> {
    let attr = MountAttr {
        set: change.set,
        clear: change.clear,
        propagation: match change.propagation {
            None => 0,
            Some(Propagation::Private) => libc::MS_PRIVATE,
            Some(Propagation::Shared) => libc::MS_SHARED,
            Some(Propagation::Slave) => libc::MS_SLAVE,
            Some(Propagation::Unbindable) => libc::MS_UNBINDABLE,
        },
        userns_fd: 0,
    };
    set_attr(dir, path, change.recursive, &attr)
}

/// Shows the owners of files through `userns`: an id on the disk is the id that it stands for outside of that namespace
/// (MOUNT_ATTR_IDMAP of mount_setattr(2)). The mount must be detached and not idmapped yet; `EINVAL` is a file system that
/// cannot do it, `EPERM` one that belongs to another user namespace than the caller is root of.
pub fn set_idmap(mount: BorrowedFd<'_>, userns: BorrowedFd<'_>, recursive: bool) -> Result<(), Errno> {
    const IDMAP: u64 = 0x10_0000;
    let attr = MountAttr { set: IDMAP, clear: 0, propagation: 0, userns_fd: userns.as_raw_fd() as u64 };
    set_attr(mount, c"", recursive, &attr)
}

/// struct mount_attr of linux/mount.h.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

fn set_attr(dir: BorrowedFd<'_>, path: &CStr, recursive: bool, attr: &MountAttr) -> Result<(), Errno> {
    const AT_RECURSIVE: libc::c_int = 0x8000;
    let flags = libc::AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: `path` is NUL-terminated, and `attr` is a struct mount_attr whose size is passed.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            dir.as_raw_fd(),
            path.as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    })
    .map(|_| ())
}

/// As [`set_attributes`] on the calling process's whole mount tree.
pub fn set_root_propagation(propagation: Propagation) -> Result<(), Errno> {
    set_attributes(CWD, c"/", Change { propagation: Some(propagation), recursive: true, ..Change::default() })
}

/// Makes `new_root` (a mount point inside the calling mount namespace) the root, and detaches the old one.
pub fn pivot(new_root: impl AsFd) -> Result<(), Errno> {
    let old_root = rustix::fs::open(
        c"/",
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )?;
    rustix::process::fchdir(new_root)?;
    // pivot_root(2), "pivot_root(".", ".")": the old root ends up stacked under the new one at the same place.
    rustix::process::pivot_root(c".", c".")?;
    rustix::process::fchdir(&old_root)?;
    // The detach must not travel back to the host's mounts.
    let slave = Change { propagation: Some(Propagation::Slave), recursive: true, ..Change::default() };
    set_attributes(CWD, c".", slave)?;
    rustix::mount::unmount(c".", UnmountFlags::DETACH)?;
    rustix::process::chdir(c"/")
}
