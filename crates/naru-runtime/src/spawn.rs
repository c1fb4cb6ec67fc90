//! Starts processes: one clone3 per container or exec, then waits until the program runs or the child has told why not.

use crate::child::{self, EXECVE, REPORT_BYTES, ReportKind};
use crate::compile::{self, Compiled};
use crate::errors::{Context, StartError, text};
use crate::plan::{Op, Plan};
use crate::request::{SpawnError, SpawnRequest, Spawned};
use naru_kernel::process::{Child, CloneArgs};
use naru_kernel::{Errno, ns, pidfd, process, unix};
use std::os::fd::{AsFd, OwnedFd};

/// Starts a container's first process; see [`crate::request`].
pub fn spawn(request: SpawnRequest<'_>) -> Result<Spawned, SpawnError> {
    start(&compile::container(request)?, StartError::new(Context::Init))
}

pub(crate) fn start(compiled: &Compiled, error: StartError) -> Result<Spawned, SpawnError> {
    let (ours, theirs) = unix::seqpacket_pair().map_err(|cause| error.io("make a socket pair", &cause))?;
    let child = clone(compiled, &theirs, error)?;
    // Only the child holds its end now, so execve or exit of the child is our end of file.
    drop(theirs);
    let mut warnings = Vec::new();
    match listen(&ours, &compiled.plan, &mut warnings, error) {
        Ok(pty_master) => Ok(Spawned { pid: child.pid, pidfd: child.pidfd, pty_master, warnings }),
        Err(failure) => {
            // It has said its last word and exits, or was killed: reaping cannot take long. A kill makes sure.
            let _ = pidfd::send_signal(&child.pidfd, naru_types::signal::Signal::KILL);
            let _ = pidfd::wait(&child.pidfd);
            Err(failure)
        }
    }
}

fn clone(compiled: &Compiled, report: &OwnedFd, error: StartError) -> Result<Child, SpawnError> {
    let _inside = match &compiled.join_pid {
        Some(fd) => Some(PidNamespace::enter(fd, error)?),
        None => None,
    };
    let cgroup = compiled.cgroup_v2.as_ref().map(AsFd::as_fd);
    let args = CloneArgs { namespaces: compiled.namespaces, cgroup };
    process::spawn(&args, || child::run(&compiled.plan, report.as_fd()))
        .map_err(|errno| error.errno("clone", errno))
}

/// The calling thread's children are born in another pid namespace while this lives.
struct PidNamespace {
    own: OwnedFd,
}

impl PidNamespace {
    fn enter(fd: &OwnedFd, error: StartError) -> Result<Self, SpawnError> {
        let own = ns::open_own("pid").map_err(|cause| error.io("open the own pid namespace", &cause))?;
        ns::setns(fd, ns::NEWPID).map_err(|errno| error.errno("join the pid namespace", errno))?;
        Ok(Self { own })
    }
}

impl Drop for PidNamespace {
    fn drop(&mut self) {
        // Going back to one's own pid namespace needs only the right that entering the other one needed.
        let _ = ns::setns(&self.own, ns::NEWPID);
    }
}

/// Reads reports until the child's end closes.
fn listen(
    socket: &OwnedFd,
    plan: &Plan,
    warnings: &mut Vec<String>,
    error: StartError,
) -> Result<Option<OwnedFd>, SpawnError> {
    let mut pty_master = None;
    loop {
        let mut buffer = [0u8; REPORT_BYTES];
        let mut received =
            unix::recv(socket, &mut buffer).map_err(|cause| error.io("hear from the new process", &cause))?;
        if received.len == 0 {
            return Ok(pty_master);
        }
        let Some((kind, index, errno)) = decode(&buffer[..received.len]) else {
            return Err(error.plain("the new process spoke nonsense"));
        };
        match kind {
            ReportKind::PtyMaster => pty_master = received.fds.pop(),
            ReportKind::Warning => warnings.push(warning(plan, index, errno)),
            ReportKind::Failed => return Err(failure(plan, index, errno, error)),
        }
    }
}

fn decode(bytes: &[u8]) -> Option<(ReportKind, u32, i32)> {
    let word = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
    let kind = match word(0)? {
        1 => ReportKind::Failed,
        2 => ReportKind::Warning,
        3 => ReportKind::PtyMaster,
        _ => return None,
    };
    Some((kind, word(4)?, word(8)? as i32))
}

fn warning(plan: &Plan, index: u32, errno: i32) -> String {
    let step = plan.steps.get(index as usize).map(|step| step.op.describe()).unwrap_or_default();
    format!("cannot {step}: {}", text(errno))
}

fn failure(plan: &Plan, index: u32, errno: i32, error: StartError) -> SpawnError {
    if index == EXECVE {
        let name = plan.program.args.strings().first().map(|name| name.to_string_lossy()).unwrap_or_default();
        return error.execve(&name, errno);
    }
    let Some(step) = plan.steps.get(index as usize) else {
        return error.plain("the new process named a step that does not exist");
    };
    let mut failure = error.errno(&step.op.describe(), Errno::from_raw_os_error(errno));
    if matches!(step.op, Op::WorkingDir(_)) && errno == Errno::ACCESS.raw_os_error() {
        failure.exit_code = crate::errors::NOT_EXECUTABLE;
    }
    failure
}
