//! The child's side: performs a [`Plan`] and executes the program.
//!
//! Runs after clone3 in a copy of the parent's memory, so it must be child-safe as `naru_kernel::process` defines it:
//! system calls on prepared data only. Nothing here allocates, locks, logs or indexes a slice that could be short;
//! descriptors are closed by their owners' `Drop`, which is a system call.
//!
//! Reports travel over a SOCK_SEQPACKET socket that closes on execve: end of file without an error is success. At a
//! point the child reports where it is and waits for one byte; at the gate it leaves the parent's socket for another.

mod attributes;
mod copyup;
mod entry;
mod gate;
mod mounts;
mod relay;
#[cfg(test)]
mod tests;

use crate::init;
use crate::plan::{OnError, Op, Plan};
use naru_kernel::fscontext;
use naru_kernel::mount;
use naru_kernel::{Errno, caps, exec, keyring, loopback, ns, prctl, process, seccomp, signals, task, unix};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

pub(crate) use entry::{Arrival, Entry};
pub(crate) use relay::{Join, Relay, run as run_relay};

/// Index that stands for "the execve itself" in a report.
pub(crate) const EXECVE: u32 = u32::MAX;

/// Bytes of a report without its text: kind, step index, errno, each a native 32-bit number.
pub(crate) const HEADER_BYTES: usize = 12;

/// Bytes of a report; a longer text is cut.
pub(crate) const REPORT_BYTES_MAX: usize = HEADER_BYTES + 256;

/// What the parent, or who opens the gate, answers at a point.
pub(crate) const GO: &[u8] = b"G";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum ReportKind {
    Failed = 1,
    Warning = 2,
    /// Carries the master of the terminal.
    PtyMaster = 3,
    /// The index is a [`crate::plan::Point`]; the child waits for [`GO`].
    Point = 4,
    /// The child waits at the gate.
    Created = 5,
    /// Carries the descriptor of a filter with SCMP_ACT_NOTIFY.
    Listener = 6,
    /// From the process in between: the index is the pid of the child, whose pidfd comes along.
    Born = 7,
    /// From the process in between: the index is that of the join.
    JoinFailed = 8,
    /// The v2 control group does not take the process.
    GroupRefused = 10,
    /// The kernel's words on the step that the next report is about.
    Detail = 11,
}

impl ReportKind {
    pub fn from_number(number: u32) -> Option<Self> {
        use ReportKind::{Born, Created, Detail, Failed, GroupRefused};
        use ReportKind::{JoinFailed, Listener, Point, PtyMaster, Warning};
        [Failed, Warning, PtyMaster, Point, Created, Listener, Born, JoinFailed, GroupRefused, Detail]
            .into_iter()
            .find(|kind| *kind as u32 == number)
    }
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
    /// What the kernel said about the step that failed.
    message: fscontext::Message,
}

/// Performs the plan; returns the exit code of a failed child (a successful one never returns).
pub(crate) fn run(plan: &Plan, mut report: OwnedFd) -> i32 {
    let mut slots = Slots::default();
    for (index, step) in plan.steps.iter().enumerate() {
        let index = index as u32;
        let done = match &step.op {
            Op::Gate => gate::wait(plan, &mut report),
            Op::CheckProgram => gate::check_program(plan).map_err(|errno| {
                send(plan, report.as_fd(), ReportKind::Failed, EXECVE, errno);
                process::exit_now(process::PANIC_EXIT_CODE)
            }),
            op => perform(op, plan, &mut slots, report.as_fd()),
        };
        if let Err(errno) = done {
            tell_detail(report.as_fd(), &mut slots);
            match step.on_error {
                OnError::Ignore => {}
                OnError::Warn => send(plan, report.as_fd(), ReportKind::Warning, index, errno),
                OnError::Fail => {
                    send(plan, report.as_fd(), ReportKind::Failed, index, errno);
                    return process::PANIC_EXIT_CODE;
                }
            }
        }
    }
    let errno = execute(plan);
    send(plan, report.as_fd(), ReportKind::Failed, EXECVE, errno);
    process::PANIC_EXIT_CODE
}

/// The step's words come along where the plan has them.
fn send(plan: &Plan, report: BorrowedFd<'_>, kind: ReportKind, index: u32, errno: Errno) {
    let mut bytes = [0; REPORT_BYTES_MAX];
    let (header, rest) = bytes.split_at_mut(HEADER_BYTES);
    header.copy_from_slice(&encode(kind, index, errno.raw_os_error()));
    let name = match index {
        EXECVE => plan.program.args.strings().first(),
        _ => plan.names.get(index as usize),
    };
    let mut len = HEADER_BYTES;
    for (to, from) in rest.iter_mut().zip(name.map_or(&[][..], |name| name.to_bytes())) {
        *to = *from;
        len += 1;
    }
    // When the parent is gone there is nobody to tell.
    let _ = unix::send(report, bytes.get(..len).unwrap_or_default(), &[]);
}

fn tell_detail(report: BorrowedFd<'_>, slots: &mut Slots) {
    let message = std::mem::take(&mut slots.message);
    if message.as_bytes().is_empty() {
        return;
    }
    let mut bytes = [0; REPORT_BYTES_MAX];
    let (header, rest) = bytes.split_at_mut(HEADER_BYTES);
    header.copy_from_slice(&encode(ReportKind::Detail, 0, 0));
    let mut len = HEADER_BYTES;
    for (to, from) in rest.iter_mut().zip(message.as_bytes()) {
        *to = *from;
        len += 1;
    }
    let _ = unix::send(report, bytes.get(..len).unwrap_or_default(), &[]);
}

fn encode(kind: ReportKind, index: u32, errno: i32) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
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
        Op::Await(point) => {
            unix::send(report, &encode(ReportKind::Point, *point as u32, 0), &[])?;
            gate::hear(report)
        }
        Op::BecomeRoot { uid, gid, groups } => {
            exec::set_gid(*gid)?;
            if *groups {
                exec::set_groups(&[])?;
            }
            exec::set_uid(*uid)
        }
        Op::Affinity(mask) => task::set_affinity(0, mask),
        Op::IoPriority { class, level } => task::set_io_priority(0, *class, *level),
        Op::Scheduler(attr) => task::set_scheduler(0, *attr),
        Op::MemoryPolicy { mode, nodes } => task::set_memory_policy(*mode, nodes),
        Op::Personality(domain) => task::set_personality(*domain),
        Op::Label { file, older, value } => attributes::write_label(file, older, value),
        Op::OomScoreAdj(value) => attributes::write_host_proc(c"self/oom_score_adj", value),
        Op::Rlimit { resource, soft, hard } => attributes::set_rlimit(*resource, *soft, *hard),
        Op::JoinKeyring(name) => match keyring::join_session(name) {
            // A kernel without keyrings has none to share.
            Err(Errno::NOSYS) => Ok(()),
            other => other,
        },
        Op::LoopbackUp => loopback::up(),
        Op::TreePropagation(propagation) => mount::set_root_propagation(*propagation),
        Op::AttachRoot { at, propagation } => mounts::attach_root(root, at, *propagation),
        Op::OpenNull => mounts::open_null(root, slots),
        Op::NewFs(fs) => mounts::new_fs(fs, root, slots),
        Op::Bind { mount, target } => mounts::bind(mount, root, slots, target),
        Op::ChangeMount { target, change } => {
            mount::set_attributes(mounts::open_target(root, target)?.as_fd(), c"", *change)
        }
        Op::Reconfigure { target, options } => mounts::reconfigure(root, slots, target, options),
        Op::Device(node) => mounts::make_device(root, node),
        Op::Symlink { to, at, replace } => mounts::make_symlink(root, to, at, *replace),
        Op::Pty { rows, cols } => attributes::open_terminal(slots, report, *rows, *cols),
        Op::Console(target) => mounts::mount_console(root, slots, target),
        Op::Sysctl { path, value } => mounts::write_sysctl(slots, path, value),
        Op::Mask(target) => mounts::mask(root, slots, target),
        Op::ReadOnly(target) => mounts::make_readonly(root, slots, target),
        Op::MakeDirectory(target) => mounts::open_target(root, target).map(drop),
        Op::ChangeRoot(change) => mount::set_attributes(root, c"", *change),
        Op::Pivot => mount::pivot(root),
        Op::MoveRoot { hide } => mounts::move_root(root, hide),
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
        Op::PreserveFds => attributes::preserve_fds(plan),
        Op::CloseRest(first) => exec::cloexec_from(*first),
        // Both are done where the loop is.
        Op::CheckProgram | Op::Gate => Ok(()),
        Op::NoNewPrivs => prctl::set_no_new_privs(),
        Op::Seccomp { program, flags, listening: false } => seccomp::load(program, *flags),
        Op::Seccomp { program, flags, listening: true } => {
            let listener = seccomp::load_listening(program, *flags)?;
            // No wait for an answer: a call that is notified before the agent has the listener waits by itself.
            unix::send(report, &encode(ReportKind::Listener, 0, 0), &[listener.as_fd()])
        }
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
