//! The child's steps that build the mount tree: targets beneath the root, descriptor to descriptor. Child-safe.

use super::Slots;
use crate::plan::{DeviceNode, Keep, NewFs, Target};
use naru_kernel::Errno;
use naru_kernel::mount::{self, Change, RDONLY};
use naru_kernel::path::{self, Missing};
use rustix::fs::{Gid, Mode, OFlags, ResolveFlags, Uid};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

pub(super) fn open_target(root: BorrowedFd<'_>, target: &Target) -> Result<OwnedFd, Errno> {
    path::make_in_root(root, &target.prefixes, &target.components, target.missing)
}

/// The mask source: the container's own node, made by this very plan, verified by number to be the null device
/// (CVE-2025-31133). Never the host's node: a chmod through the mask would reach it.
pub(super) fn open_null(root: BorrowedFd<'_>, slots: &mut Slots) -> Result<(), Errno> {
    let fd = path::open_in_root(root, c"dev/null", OFlags::NOFOLLOW)?;
    if !path::is_char_device(&fd, 1, 3)? {
        return Err(Errno::NODEV);
    }
    slots.null = Some(fd);
    Ok(())
}

pub(super) fn attach_root(root: BorrowedFd<'_>, at: &CStr) -> Result<(), Errno> {
    // A directory of the host may be a shared mount: pivot_root(2) refuses one, and nothing may travel back to it.
    let private = Some(mount::Propagation::Private);
    mount::set_attributes(root, c"", Change { propagation: private, recursive: true, ..Change::default() })?;
    mount::attach_host(root, at)
}

/// The root lies over the old one, which chroot(2) cannot leave by itself: procfs and sysfs of the host, where a
/// program could still reach through the old tree, are taken off it first.
pub(super) fn move_root(root: BorrowedFd<'_>, hide: &[CString]) -> Result<(), Errno> {
    for path in hide {
        // Gone already with one above it, or locked in a user namespace, where it shows nothing new.
        let _ = rustix::mount::unmount(path.as_c_str(), rustix::mount::UnmountFlags::DETACH);
    }
    rustix::process::fchdir(root)?;
    rustix::process::chroot(c".")?;
    rustix::process::chdir(c"/")
}

pub(super) fn new_fs(fs: &NewFs, root: BorrowedFd<'_>, slots: &mut Slots) -> Result<(), Errno> {
    // The target first: a symlinked /proc or /sys is refused before anything is mounted (CVE-2019-19921).
    let target = if fs.plain_target {
        let target = &fs.target;
        path::make_plain_in_root(root, &target.prefixes, &target.components, target.missing)?
    } else {
        open_target(root, &fs.target)?
    };
    let options = fs.options.iter().map(|(key, value)| (key.as_c_str(), value.as_deref()));
    let made = mount::new_fs(&fs.kind, Some(&fs.source), options, fs.attrs)?;
    mount::attach(&made, target)?;
    match fs.keep {
        Keep::Nothing => {}
        Keep::Proc => slots.proc = Some(made),
        Keep::Devpts => slots.devpts = Some(made),
    }
    Ok(())
}

pub(super) fn make_device(root: BorrowedFd<'_>, node: &DeviceNode) -> Result<(), Errno> {
    let parent = open_parent(root, &node.target)?;
    let Some(name) = node.target.components.last() else { return Err(Errno::INVAL) };
    let kind = rustix::fs::FileType::from_raw_mode(node.mode);
    let mode = Mode::from_raw_mode(node.mode & 0o7777);
    let number = rustix::fs::makedev(node.major, node.minor);
    match rustix::fs::mknodat(&parent, name, kind, mode, number) {
        Ok(()) => {
            let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
            let (uid, gid) = (Uid::from_raw(node.uid), Gid::from_raw(node.gid));
            // The umask is zero here, so the mode needs no chmod, which would follow a link swapped in.
            rustix::fs::chownat(&parent, name, Some(uid), Some(gid), flags)
        }
        Err(Errno::PERM) => {
            let target = open_target(root, &node.target)?;
            let copy = mount::clone_host_tree(&node.host, false)?;
            // The container's name for it may be another device's name on the host.
            if !path::is_device(&copy, node.mode, node.major, node.minor)? {
                return Err(Errno::PERM);
            }
            mount::attach(copy, target)
        }
        // Somebody mounted their own directory there, with the node in it.
        Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno),
    }
}

pub(super) fn make_symlink(root: BorrowedFd<'_>, to: &CStr, at: &Target) -> Result<(), Errno> {
    let parent = open_parent(root, at)?;
    let Some(name) = at.components.last() else { return Err(Errno::INVAL) };
    match rustix::fs::symlinkat(to, &parent, name) {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}

/// The directory that holds the target, made when missing.
pub(super) fn open_parent(root: BorrowedFd<'_>, target: &Target) -> Result<OwnedFd, Errno> {
    let depth = target.prefixes.len().saturating_sub(1);
    let prefixes = target.prefixes.get(..depth).unwrap_or_default();
    let components = target.components.get(..depth).unwrap_or_default();
    path::make_in_root(root, prefixes, components, Missing::Directory)
}

pub(super) fn mount_console(root: BorrowedFd<'_>, slots: &Slots, target: &Target) -> Result<(), Errno> {
    let Some(terminal) = &slots.terminal else { return Ok(()) };
    mount::attach(mount::clone_tree(terminal, c"", false)?, open_target(root, target)?)
}

/// Through the procfs that this plan mounted, without crossing into anything mounted on it (CVE-2025-52881).
pub(super) fn write_sysctl(slots: &mut Slots, name: &CStr, value: &CStr) -> Result<(), Errno> {
    let proc = match slots.proc.take() {
        Some(proc) => proc,
        None => mount::new_fs(c"proc", Some(c"proc"), std::iter::empty(), 0)?,
    };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    let written = path::open_resolved(&proc, name, OFlags::WRONLY, resolve)
        .and_then(|fd| rustix::io::write(&fd, value.to_bytes()).map(drop));
    slots.proc = Some(proc);
    written
}

/// Hides a path: files behind the null device, directories behind an empty one. A missing path needs no hiding.
pub(super) fn mask(root: BorrowedFd<'_>, slots: &mut Slots, target: &CStr) -> Result<(), Errno> {
    let target = match path::open_in_root(root, target, OFlags::empty()) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        other => other?,
    };
    if !path::is_dir(&target)? {
        let Some(null) = &slots.null else { return Err(Errno::NODEV) };
        let copy = mount::clone_tree(null, c"", false)?;
        let set = RDONLY | mount::NOSUID | mount::NOEXEC;
        mount::set_attributes(copy.as_fd(), c"", Change { set, ..Change::default() })?;
        return mount::attach(copy, target);
    }
    if let Some(empty) = &slots.empty_dir {
        return mount::attach(mount::clone_tree(empty, c"", false)?, target);
    }
    let options = [(c"size", Some(c"0")), (c"nr_inodes", Some(c"2"))];
    let attrs = RDONLY | mount::NOSUID | mount::NODEV | mount::NOEXEC;
    let empty = mount::new_fs(c"tmpfs", Some(c"tmpfs"), options.into_iter(), attrs)?;
    mount::attach(&empty, target)?;
    slots.empty_dir = Some(empty);
    Ok(())
}

pub(super) fn make_readonly(root: BorrowedFd<'_>, target: &CStr) -> Result<(), Errno> {
    let target = match path::open_in_root(root, target, OFlags::empty()) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        other => other?,
    };
    let copy = mount::clone_tree(&target, c"", true)?;
    let change = Change { set: RDONLY, recursive: true, ..Change::default() };
    mount::set_attributes(copy.as_fd(), c"", change)?;
    mount::attach(copy, target)
}
