//! The child's side: performs a [`Plan`] and executes the program.
//!
//! Runs after clone3 in a copy of the parent's memory, so it must be child-safe as `naru_kernel::process` defines it:
//! system calls on prepared data only. Nothing here allocates, locks, logs or indexes a slice that could be short;
//! descriptors are closed by their owners' `Drop`, which is a system call.
//!
//! Reports travel over a SOCK_SEQPACKET socket that closes on execve: end of file without an error is success.

use crate::init;
use crate::plan::{DeviceNode, Keep, NewFs, OnError, Op, Plan, Target};
use naru_kernel::mount::{self, Change, RDONLY};
use naru_kernel::path::{self, Missing};
use naru_kernel::{
    Errno, caps, exec, keyring, loopback, ns, prctl, process, rlimit, seccomp, signals, tty, unix,
};
use rustix::fs::{Gid, Mode, OFlags, ResolveFlags, Uid};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Index that stands for "the execve itself" in a report.
pub(crate) const EXECVE: u32 = u32::MAX;

/// Bytes of a report: kind, step index, errno, each a native 32-bit number.
pub(crate) const REPORT_BYTES: usize = 12;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum ReportKind {
    Failed = 1,
    Warning = 2,
    /// Carries the master of the terminal.
    PtyMaster = 3,
}

/// Descriptors that steps make for later steps.
#[derive(Default)]
struct Slots {
    proc: Option<OwnedFd>,
    devpts: Option<OwnedFd>,
    null: Option<OwnedFd>,
    /// An attached, empty, read-only directory to mask with.
    empty_dir: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
}

/// Performs the plan; returns the exit code of a failed child (a successful one never returns).
pub(crate) fn run(plan: &Plan, report: BorrowedFd<'_>) -> i32 {
    let mut slots = Slots::default();
    for (index, step) in plan.steps.iter().enumerate() {
        let index = index as u32;
        if let Err(errno) = perform(&step.op, plan, &mut slots, report) {
            match step.on_error {
                OnError::Ignore => {}
                OnError::Warn => send(report, ReportKind::Warning, index, errno),
                OnError::Fail => {
                    send(report, ReportKind::Failed, index, errno);
                    return process::PANIC_EXIT_CODE;
                }
            }
        }
    }
    let errno = execute(plan);
    send(report, ReportKind::Failed, EXECVE, errno);
    process::PANIC_EXIT_CODE
}

fn send(report: BorrowedFd<'_>, kind: ReportKind, index: u32, errno: Errno) {
    // When the parent is gone there is nobody to tell.
    let _ = unix::send(report, &encode(kind, index, errno.raw_os_error()), &[]);
}

fn encode(kind: ReportKind, index: u32, errno: i32) -> [u8; REPORT_BYTES] {
    let mut bytes = [0; REPORT_BYTES];
    bytes[..4].copy_from_slice(&(kind as u32).to_ne_bytes());
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..].copy_from_slice(&errno.to_ne_bytes());
    bytes
}

fn perform(op: &Op, plan: &Plan, slots: &mut Slots, report: BorrowedFd<'_>) -> Result<(), Errno> {
    let root = plan.root.as_fd();
    match op {
        Op::Undumpable => prctl::set_dumpable(false),
        Op::ResetSignals => {
            signals::reset_dispositions();
            signals::set_mask(0).map(drop)
        }
        Op::NewSession => rustix::process::setsid().map(drop),
        Op::SetNs { fd, flags } => ns::setns(fd, *flags),
        Op::JoinCgroup { tasks } => rustix::io::write(tasks, b"0").map(drop),
        Op::Unshare(flags) => ns::unshare(*flags),
        Op::OomScoreAdj(value) => write_host(c"/proc/self/oom_score_adj", value),
        Op::Rlimit { resource, soft, hard } => set_rlimit(*resource, *soft, *hard),
        Op::JoinKeyring(name) => match keyring::join_session(name) {
            // A kernel without keyrings has none to share.
            Err(Errno::NOSYS) => Ok(()),
            other => other,
        },
        Op::LoopbackUp => loopback::up(),
        Op::TreePropagation(propagation) => mount::set_root_propagation(*propagation),
        // Any host directory serves as the place to attach to: pivot_root takes it away. /proc exists everywhere.
        Op::AttachRoot => attach_root(root),
        Op::OpenNull => open_null(root, slots),
        Op::NewFs(fs) => new_fs(fs, root, slots),
        Op::Bind { mount, target } => mount::attach(mount, open_target(root, target)?),
        Op::ChangeMount { target, change } => {
            mount::set_attributes(open_target(root, target)?.as_fd(), c"", *change)
        }
        Op::Device(node) => make_device(root, node),
        Op::Symlink { to, at } => make_symlink(root, to, at),
        Op::Pty { rows, cols } => open_terminal(slots, report, *rows, *cols),
        Op::Console(target) => mount_console(root, slots, target),
        Op::Sysctl { path, value } => write_sysctl(slots, path, value),
        Op::Mask(target) => mask(root, slots, target),
        Op::ReadOnly(target) => make_readonly(root, target),
        Op::MakeDirectory(target) => open_target(root, target).map(drop),
        Op::ChangeRoot(change) => mount::set_attributes(root, c"", *change),
        Op::Pivot => mount::pivot(root),
        Op::Hostname(name) => rustix::system::sethostname(name.to_bytes()),
        Op::Domainname(name) => rustix::system::setdomainname(name.to_bytes()),
        Op::WorkingDir(target) => change_dir(root, target),
        Op::Stdio => install_stdio(plan, slots),
        Op::Umask(mask) => {
            exec::set_umask(*mask);
            Ok(())
        }
        Op::DropBounding(capability) => caps::drop_bounding(*capability),
        Op::ClearAmbient => caps::clear_ambient(),
        Op::KeepCaps => prctl::set_keep_caps(true),
        Op::Groups(groups) => exec::set_groups(groups),
        Op::Gid(gid) => exec::set_gid(*gid),
        Op::Uid(uid) => exec::set_uid(*uid),
        Op::CloseRest => exec::cloexec_from(3),
        Op::NoNewPrivs => prctl::set_no_new_privs(),
        Op::Seccomp { program, flags } => seccomp::load(program, *flags),
        Op::Caps { effective, permitted, inheritable } => caps::set(*effective, *permitted, *inheritable),
        Op::RaiseAmbient(capability) => caps::raise_ambient(*capability),
        Op::Init => init::split(),
    }
}

/// Tries each candidate as execvp(3) does: a missing one is passed over, a forbidden one is remembered.
fn execute(plan: &Plan) -> Errno {
    let mut result = Errno::NOENT;
    for candidate in &plan.program.candidates {
        match exec::execve(candidate, &plan.program.args, &plan.program.env) {
            Errno::NOENT | Errno::NOTDIR => {}
            Errno::ACCESS => {
                let is_dir = rustix::fs::stat(candidate.as_c_str())
                    .is_ok_and(|stat| stat.st_mode & libc_mode::TYPE_MASK == libc_mode::DIRECTORY);
                result = if is_dir { Errno::ISDIR } else { Errno::ACCESS };
            }
            errno => return errno,
        }
    }
    result
}

/// Type bits of st_mode (inode(7)).
mod libc_mode {
    pub const TYPE_MASK: u32 = 0o170_000;
    pub const DIRECTORY: u32 = 0o040_000;
}

fn open_target(root: BorrowedFd<'_>, target: &Target) -> Result<OwnedFd, Errno> {
    path::make_in_root(root, &target.prefixes, &target.components, target.missing)
}

fn write_host(path: &CStr, value: &CStr) -> Result<(), Errno> {
    let fd = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&fd, value.to_bytes()).map(drop)
}

/// Without CAP_SYS_RESOURCE the hard limit cannot rise: then what is possible is set, and the step still fails (as a
/// warning), so that the caller hears of it.
fn set_rlimit(resource: u32, soft: u64, hard: u64) -> Result<(), Errno> {
    match rlimit::set(resource, soft, hard) {
        Err(Errno::PERM) => {
            let (_, ceiling) = rlimit::get(resource)?;
            rlimit::set(resource, soft.min(ceiling), hard.min(ceiling))?;
            Err(Errno::PERM)
        }
        other => other,
    }
}

/// The mask source: the container's own node, made by this very plan, verified by number to be the null device
/// (CVE-2025-31133). Never the host's node: a chmod through the mask would reach it.
fn open_null(root: BorrowedFd<'_>, slots: &mut Slots) -> Result<(), Errno> {
    let fd = path::open_in_root(root, c"dev/null", OFlags::NOFOLLOW)?;
    if !path::is_char_device(&fd, 1, 3)? {
        return Err(Errno::NODEV);
    }
    slots.null = Some(fd);
    Ok(())
}

fn attach_root(root: BorrowedFd<'_>) -> Result<(), Errno> {
    // A directory of the host may be a shared mount: pivot_root(2) refuses one, and nothing may travel back to it.
    let private = Some(mount::Propagation::Private);
    mount::set_attributes(root, c"", Change { propagation: private, recursive: true, ..Change::default() })?;
    mount::attach_host(root, c"/proc")
}

fn new_fs(fs: &NewFs, root: BorrowedFd<'_>, slots: &mut Slots) -> Result<(), Errno> {
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

fn make_device(root: BorrowedFd<'_>, node: &DeviceNode) -> Result<(), Errno> {
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

fn make_symlink(root: BorrowedFd<'_>, to: &CStr, at: &Target) -> Result<(), Errno> {
    let parent = open_parent(root, at)?;
    let Some(name) = at.components.last() else { return Err(Errno::INVAL) };
    match rustix::fs::symlinkat(to, &parent, name) {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}

/// The directory that holds the target, made when missing.
fn open_parent(root: BorrowedFd<'_>, target: &Target) -> Result<OwnedFd, Errno> {
    let depth = target.prefixes.len().saturating_sub(1);
    let prefixes = target.prefixes.get(..depth).unwrap_or_default();
    let components = target.components.get(..depth).unwrap_or_default();
    path::make_in_root(root, prefixes, components, Missing::Directory)
}

/// Opens a terminal in the container's own devpts and gives its master to the parent.
fn open_terminal(slots: &mut Slots, report: BorrowedFd<'_>, rows: u16, cols: u16) -> Result<(), Errno> {
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

fn mount_console(root: BorrowedFd<'_>, slots: &Slots, target: &Target) -> Result<(), Errno> {
    let Some(terminal) = &slots.terminal else { return Ok(()) };
    mount::attach(mount::clone_tree(terminal, c"", false)?, open_target(root, target)?)
}

/// Through the procfs that this plan mounted, without crossing into anything mounted on it (CVE-2025-52881).
fn write_sysctl(slots: &mut Slots, name: &CStr, value: &CStr) -> Result<(), Errno> {
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
fn mask(root: BorrowedFd<'_>, slots: &mut Slots, target: &CStr) -> Result<(), Errno> {
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

fn make_readonly(root: BorrowedFd<'_>, target: &CStr) -> Result<(), Errno> {
    let target = match path::open_in_root(root, target, OFlags::empty()) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        other => other?,
    };
    let copy = mount::clone_tree(&target, c"", true)?;
    let change = Change { set: RDONLY, recursive: true, ..Change::default() };
    mount::set_attributes(copy.as_fd(), c"", change)?;
    mount::attach(copy, target)
}

/// By descriptor beneath the root, so that `/proc/self/fd/N` and its like cannot lead out (CVE-2024-21626).
fn change_dir(root: BorrowedFd<'_>, target: &CStr) -> Result<(), Errno> {
    let dir = path::open_in_root(root, target, OFlags::DIRECTORY)?;
    rustix::process::fchdir(dir)?;
    // A directory that is outside the root shows as "(unreachable)…" in the raw getcwd(2).
    let mut buffer = [0u8; 4096];
    let cwd = naru_kernel::path::current_dir(&mut buffer)?;
    if cwd.first() == Some(&b'/') { Ok(()) } else { Err(Errno::ACCESS) }
}

fn install_stdio(plan: &Plan, slots: &Slots) -> Result<(), Errno> {
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
fn give_to_user(fd: BorrowedFd<'_>, uid: u32) {
    if uid != 0 && !path::is_char_device(fd, 1, 3).unwrap_or(true) {
        let _ = rustix::fs::fchown(fd, Some(Uid::from_raw(uid)), None);
    }
}
