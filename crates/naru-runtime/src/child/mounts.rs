//! The child's steps that build the mount tree: targets beneath the root, descriptor to descriptor. Child-safe.

use super::{Slots, copyup};
use crate::plan::{DeviceNode, Inherit, Keep, NewFs, Target};
use naru_kernel::Errno;
use naru_kernel::fscontext;
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

pub(super) fn attach_root(
    root: BorrowedFd<'_>,
    at: &CStr,
    propagation: mount::Propagation,
) -> Result<(), Errno> {
    // A directory of the host may be a shared mount: pivot_root(2) refuses one, and nothing may travel back to it.
    let propagation = Some(propagation);
    mount::set_attributes(root, c"", Change { propagation, recursive: true, ..Change::default() })?;
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

/// As [`open_target`], for something to be mounted on. Inside a procfs a mount can take away what keeps the program in;
/// the few files where one may lie are reached without a link, or not at all (CVE-2019-19921).
fn open_mount_point(root: BorrowedFd<'_>, target: &Target) -> Result<OwnedFd, Errno> {
    let opened = open_target(root, target)?;
    if path::fs_magic(&opened)? == path::PROC_MAGIC { open_plain(root, target) } else { Ok(opened) }
}

fn open_plain(root: BorrowedFd<'_>, target: &Target) -> Result<OwnedFd, Errno> {
    path::make_plain_in_root(root, &target.prefixes, &target.components, target.missing)
}

pub(super) fn bind(
    mount: &OwnedFd,
    root: BorrowedFd<'_>,
    slots: &mut Slots,
    target: &Target,
) -> Result<(), Errno> {
    mount::attach(mount, open_mount_point(root, target)?)?;
    if target.components.first().is_some_and(|name| name.as_c_str() == c"proc")
        && target.components.len() == 1
    {
        // Another procfs lies over the one that was mounted before.
        slots.proc = None;
    }
    Ok(())
}

pub(super) fn new_fs(fs: &NewFs, root: BorrowedFd<'_>, slots: &mut Slots) -> Result<(), Errno> {
    let was_there = fs.inherit.mode && is_there(root, &fs.target);
    // The target first: a symlinked /proc or /sys is refused before anything is mounted (CVE-2019-19921).
    let target =
        if fs.plain_target { open_plain(root, &fs.target)? } else { open_mount_point(root, &fs.target)? };
    let options = fs.options.iter().map(|(key, value)| (key.as_c_str(), value.as_deref()));
    let made = fscontext::make(&fs.kind, Some(&fs.source), options, fs.attrs, &mut slots.message)?;
    inherit(&made, &target, fs.inherit, was_there)?;
    if let Some(label) = &fs.label {
        set_label(&made, label)?;
    }
    for change in &fs.changes {
        mount::set_attributes(made.as_fd(), c"", *change)?;
    }
    mount::attach(&made, target)?;
    match fs.keep {
        Keep::Nothing => {}
        Keep::Proc => slots.proc = Some(made),
        Keep::Devpts => slots.devpts = Some(made),
    }
    Ok(())
}

fn is_there(root: BorrowedFd<'_>, target: &Target) -> bool {
    target.prefixes.last().is_some_and(|path| path::open_in_root(root, path, OFlags::empty()).is_ok())
}

/// Before the mount is attached, while its root can be changed even if it will be read-only.
fn inherit(made: &OwnedFd, target: &OwnedFd, what: Inherit, was_there: bool) -> Result<(), Errno> {
    if !what.mode && !what.owner && !what.files {
        return Ok(());
    }
    let stat = rustix::fs::fstat(target)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(made, c".", flags, Mode::empty())?;
    if what.owner {
        rustix::fs::fchown(&root, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    }
    if what.mode && was_there {
        rustix::fs::fchmod(&root, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    }
    if what.files { copyup::copy(target.as_fd(), root.as_fd()) } else { Ok(()) }
}

/// By way of the working directory, as an O_PATH descriptor takes no attributes; a later step sets it anew.
fn set_label(made: &OwnedFd, label: &CStr) -> Result<(), Errno> {
    rustix::process::fchdir(made)?;
    let set = rustix::fs::setxattr(
        c".",
        c"security.selinux",
        label.to_bytes_with_nul(),
        rustix::fs::XattrFlags::empty(),
    );
    rustix::process::chdir(c"/")?;
    set
}

pub(super) fn reconfigure(
    root: BorrowedFd<'_>,
    slots: &mut Slots,
    target: &Target,
    options: &[(CString, Option<CString>)],
) -> Result<(), Errno> {
    let options = options.iter().map(|(key, value)| (key.as_c_str(), value.as_deref()));
    fscontext::reconfigure(open_target(root, target)?, options, &mut slots.message)
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
        // An image may have it, or a mount: it must be that device, and not a file or a link that is called so.
        Err(Errno::EXIST) => {
            let found = path::open_in_root(&parent, name, OFlags::NOFOLLOW)?;
            if path::is_device(&found, node.mode, node.major, node.minor)? {
                Ok(())
            } else {
                Err(Errno::EXIST)
            }
        }
        Err(errno) => Err(errno),
    }
}

pub(super) fn make_symlink(root: BorrowedFd<'_>, to: &CStr, at: &Target, replace: bool) -> Result<(), Errno> {
    let parent = open_parent(root, at)?;
    let Some(name) = at.components.last() else { return Err(Errno::INVAL) };
    if replace {
        match rustix::fs::unlinkat(&parent, name, rustix::fs::AtFlags::empty()) {
            Err(Errno::NOENT) => {}
            other => other?,
        }
    }
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
    mount::attach(mount::clone_tree(terminal, c"", false)?, open_mount_point(root, target)?)
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

/// What is to be hidden or kept from being written. What is below /proc is looked up in the procfs that was mounted there:
/// whoever shares the root may have put something else in its place by now (CVE-2023-27561).
fn open_protected(root: BorrowedFd<'_>, slots: &Slots, target: &CStr) -> Result<OwnedFd, Errno> {
    const BELOW_PROC: &[u8] = b"proc/";
    let bytes = target.to_bytes_with_nul();
    let below = bytes.strip_prefix(BELOW_PROC).and_then(|rest| CStr::from_bytes_with_nul(rest).ok());
    match (&slots.proc, below) {
        (Some(proc), Some(rest)) => path::open_in_root(proc, rest, OFlags::empty()),
        _ => path::open_in_root(root, target, OFlags::empty()),
    }
}

/// Hides a path: files behind the null device, directories behind an empty one. A missing path needs no hiding.
pub(super) fn mask(root: BorrowedFd<'_>, slots: &mut Slots, target: &CStr) -> Result<(), Errno> {
    let target = match open_protected(root, slots, target) {
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

pub(super) fn make_readonly(root: BorrowedFd<'_>, slots: &Slots, target: &CStr) -> Result<(), Errno> {
    let target = match open_protected(root, slots, target) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        other => other?,
    };
    let copy = mount::clone_tree(&target, c"", true)?;
    let change = Change { set: RDONLY, recursive: true, ..Change::default() };
    mount::set_attributes(copy.as_fd(), c"", change)?;
    mount::attach(copy, target)
}
