//! The child's steps that change the process itself: limits, terminal, working directory, standard descriptors.
//! Child-safe.

use super::{ReportKind, Slots, encode};
use crate::plan::Plan;
use naru_kernel::{Errno, exec, path, rlimit, tty, unix};
use rustix::fs::{Mode, OFlags, ResolveFlags, Uid};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// PROC_ROOT_INO of linux/proc_fs.h.
const PROC_ROOT_INODE: u64 = 1;

/// Writes a file of the host's procfs, before any other is entered; `name` begins below /proc.
pub(super) fn write_host_proc(name: &CStr, value: &CStr) -> Result<(), Errno> {
    let fd = open_in_proc(&host_proc()?, name)?;
    rustix::io::write(&fd, value.to_bytes()).map(drop)
}

/// The label for the next execve, also through the host's procfs: a label written to another file would be no label
/// (CVE-2025-52881).
pub(super) fn write_label(file: &CStr, older: &CStr, value: &CStr) -> Result<(), Errno> {
    let proc = host_proc()?;
    let fd = match open_in_proc(&proc, file) {
        Err(Errno::NOENT) => open_in_proc(&proc, older)?,
        other => other?,
    };
    rustix::io::write(&fd, value.to_bytes()).map(drop)
}

/// The root of a procfs and nothing else: a directory of one could lie over it, too.
fn host_proc() -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let proc = rustix::fs::open(c"/proc", flags, Mode::empty())?;
    let is_root = rustix::fs::fstat(&proc)?.st_ino == PROC_ROOT_INODE;
    if is_root && path::fs_magic(&proc)? == path::PROC_MAGIC { Ok(proc) } else { Err(Errno::XDEV) }
}

/// Without crossing into anything mounted on it (`EXDEV`); `self` and `thread-self` are plain links.
fn open_in_proc(proc: &OwnedFd, name: &CStr) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
    path::open_resolved(proc, name, OFlags::WRONLY, resolve)
}

/// The sources were numbered above every target before the clone, and so were the sockets that are still needed.
pub(super) fn preserve_fds(plan: &Plan) -> Result<(), Errno> {
    for (target, fd) in (3..).zip(&plan.preserve_fds) {
        exec::install_descriptor(fd.as_fd(), target)?;
    }
    Ok(())
}

/// Without CAP_SYS_RESOURCE the hard limit cannot rise: then what is possible is set, and the step still fails (as a
/// warning), so that the caller hears of it.
pub(super) fn set_rlimit(resource: u32, soft: u64, hard: u64) -> Result<(), Errno> {
    match rlimit::set(resource, soft, hard) {
        Err(Errno::PERM) => {
            let (_, ceiling) = rlimit::get(resource)?;
            rlimit::set(resource, soft.min(ceiling), hard.min(ceiling))?;
            Err(Errno::PERM)
        }
        other => other,
    }
}

/// Opens a terminal in the container's own devpts and gives its master to the parent.
pub(super) fn open_terminal(
    slots: &mut Slots,
    report: BorrowedFd<'_>,
    rows: u16,
    cols: u16,
) -> Result<(), Errno> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = match &slots.devpts {
        Some(devpts) => rustix::fs::openat(devpts, c"ptmx", flags, Mode::empty())?,
        // An exec: the calling process's root is the container's.
        None => rustix::fs::open(c"/dev/pts/ptmx", flags, Mode::empty())?,
    };
    if !path::is_char_device(&master, 5, 2)? {
        return Err(Errno::NODEV);
    }
    rustix::pty::unlockpt(&master)?;
    let peer_flags =
        rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY | rustix::pty::OpenptFlags::CLOEXEC;
    // TIOCGPTPEER: the slave comes from the master, not from a path that could be swapped (CVE-2025-52565).
    slots.terminal = Some(rustix::pty::ioctl_tiocgptpeer(&master, peer_flags)?);
    if rows != 0 || cols != 0 {
        tty::set_size(&master, rows, cols)?;
    }
    unix::send(report, &encode(ReportKind::PtyMaster, 0, 0), &[master.as_fd()])
}

/// By descriptor beneath the root, so that `/proc/self/fd/N` and its like cannot lead out (CVE-2024-21626).
pub(super) fn change_dir(root: BorrowedFd<'_>, target: &CStr) -> Result<(), Errno> {
    let dir = path::open_in_root(root, target, OFlags::DIRECTORY)?;
    rustix::process::fchdir(dir)?;
    // A directory that is outside the root shows as "(unreachable)…" in the raw getcwd(2).
    let mut buffer = [0u8; 4096];
    let cwd = naru_kernel::path::current_dir(&mut buffer)?;
    if cwd.first() == Some(&b'/') { Ok(()) } else { Err(Errno::ACCESS) }
}

pub(super) fn install_stdio(plan: &Plan, slots: &Slots) -> Result<(), Errno> {
    if let Some(fds) = &plan.stdio {
        for (target, fd) in (0..).zip(fds) {
            give_to_user(fd.as_fd(), plan.stdio_owner);
            exec::install_stdio(fd.as_fd(), target)?;
        }
        return Ok(());
    }
    let Some(terminal) = &slots.terminal else { return Err(Errno::NOTTY) };
    give_to_user(terminal.as_fd(), plan.stdio_owner);
    tty::set_controlling(terminal)?;
    for target in 0..3 {
        exec::install_stdio(terminal.as_fd(), target)?;
    }
    Ok(())
}

/// So that an unprivileged program can open /dev/stdout again. The null device is the host's own and stays as it is;
/// what cannot be given away (a file on a foreign file system) stays, too.
pub(super) fn give_to_user(fd: BorrowedFd<'_>, uid: u32) {
    if uid != 0 && !path::is_char_device(fd, 1, 3).unwrap_or(true) {
        let _ = rustix::fs::fchown(fd, Some(Uid::from_raw(uid)), None);
    }
}
