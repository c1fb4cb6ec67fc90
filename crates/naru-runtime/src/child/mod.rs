//! The child's side: performs a [`Plan`] and executes the program.
//!
//! Runs after clone3 in a copy of the parent's memory, so it must be child-safe as `naru_kernel::process` defines it:
//! system calls on prepared data only. Nothing here allocates, locks, logs or indexes a slice that could be short;
//! descriptors are closed by their owners' `Drop`, which is a system call.
//!
//! Reports travel over a SOCK_SEQPACKET socket that closes on execve: end of file without an error is success.

mod attributes;
mod mounts;

use crate::init;
use crate::plan::{OnError, Op, Plan};
use naru_kernel::mount;
use naru_kernel::{Errno, caps, exec, keyring, loopback, ns, prctl, process, seccomp, signals, unix};
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
        Op::OomScoreAdj(value) => attributes::write_host(c"/proc/self/oom_score_adj", value),
        Op::Rlimit { resource, soft, hard } => attributes::set_rlimit(*resource, *soft, *hard),
        Op::JoinKeyring(name) => match keyring::join_session(name) {
            // A kernel without keyrings has none to share.
            Err(Errno::NOSYS) => Ok(()),
            other => other,
        },
        Op::LoopbackUp => loopback::up(),
        Op::TreePropagation(propagation) => mount::set_root_propagation(*propagation),
        // Any host directory serves as the place to attach to: pivot_root takes it away. /proc exists everywhere.
        Op::AttachRoot => mounts::attach_root(root),
        Op::OpenNull => mounts::open_null(root, slots),
        Op::NewFs(fs) => mounts::new_fs(fs, root, slots),
        Op::Bind { mount, target } => mount::attach(mount, mounts::open_target(root, target)?),
        Op::ChangeMount { target, change } => {
            mount::set_attributes(mounts::open_target(root, target)?.as_fd(), c"", *change)
        }
        Op::Device(node) => mounts::make_device(root, node),
        Op::Symlink { to, at } => mounts::make_symlink(root, to, at),
        Op::Pty { rows, cols } => attributes::open_terminal(slots, report, *rows, *cols),
        Op::Console(target) => mounts::mount_console(root, slots, target),
        Op::Sysctl { path, value } => mounts::write_sysctl(slots, path, value),
        Op::Mask(target) => mounts::mask(root, slots, target),
        Op::ReadOnly(target) => mounts::make_readonly(root, target),
        Op::MakeDirectory(target) => mounts::open_target(root, target).map(drop),
        Op::ChangeRoot(change) => mount::set_attributes(root, c"", *change),
        Op::Pivot => mount::pivot(root),
        Op::Hostname(name) => rustix::system::sethostname(name.to_bytes()),
        Op::Domainname(name) => rustix::system::setdomainname(name.to_bytes()),
        Op::WorkingDir(target) => attributes::change_dir(root, target),
        Op::Stdio => attributes::install_stdio(plan, slots),
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
