//! The gate between `create` and `start`: lets a created container's first process go on.
//!
//! The process waits in accept(2) on the socket that [`crate::request::SpawnOptions::gate`] gave it. Whoever connects
//! and calls [`open`] makes it go on, and hears of every step that fails until execve closes the connection.

use crate::child::{EXECVE, GO, ReportKind};
use crate::errors::{Context, StartError, text};
use crate::hooks::{self, Container, HookInput, Kind};
use crate::oci;
use crate::report::Report;
use crate::request::SpawnError;
use naru_kernel::{Errno, pidfd, unix};
use rustix::event::{PollFd, PollFlags, Timespec};
use std::os::fd::{BorrowedFd, OwnedFd};

/// What is needed of the created container.
#[derive(Debug)]
pub struct GateInput<'a> {
    /// The spec it was created from.
    pub spec: &'a oci::Spec,
    /// Its first process, by number and by pidfd.
    pub pid: i32,
    pub pidfd: BorrowedFd<'a>,
    pub cgroup: Option<&'a crate::cgroup::Cgroup>,
    /// The startContainer and poststart hooks are run from here.
    pub hooks: Option<&'a HookInput<'a>>,
}

/// How long a process that was killed at the gate may take to end.
const END_WAIT: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// Sends the word over `connection` (a SOCK_SEQPACKET socket connected to the gate), runs the hooks of `start` and
/// returns, with warnings, when the program runs. After an error the process has been killed and has ended.
pub fn open(connection: OwnedFd, input: &GateInput<'_>) -> Result<Vec<String>, SpawnError> {
    let opened = open_or_fail(&connection, input);
    // The process hears of a caller that gave up by this, not by the caller's exit.
    drop(connection);
    if opened.is_err() {
        // It is not our child: its parent, or who took it over, reaps it.
        let _ = pidfd::send_signal(input.pidfd, naru_types::signal::Signal::KILL);
        // Whoever deletes the container now shall find it stopped.
        let _ = rustix::event::poll(&mut [PollFd::new(&input.pidfd, PollFlags::IN)], Some(&END_WAIT));
    }
    opened
}

fn open_or_fail(connection: &OwnedFd, input: &GateInput<'_>) -> Result<Vec<String>, SpawnError> {
    let error = StartError::new(Context::Init);
    let container = Container { spec: input.spec, pid: input.pid, pidfd: input.pidfd, cgroup: input.cgroup };
    let run = |kind| match input.hooks {
        Some(hooks) => {
            hooks::run_all(hooks, kind, &container).map_err(|cause| error.plain(&cause.to_string()))
        }
        None => Ok(()),
    };
    run(Kind::StartContainer)?;
    unix::send(connection, GO, &[]).map_err(|errno| error.errno("open the gate", errno))?;
    let mut warnings = Vec::new();
    loop {
        let report = Report::receive(connection, error)?;
        if report.end {
            break;
        }
        match report.kind {
            Some(ReportKind::Warning) => {
                warnings.push(format!("cannot {}: {}", report.text, text(report.errno)));
            }
            Some(ReportKind::Failed) if report.index == EXECVE => {
                return Err(error.execve(&report.text, report.errno));
            }
            Some(ReportKind::Failed) => {
                return Err(error.errno(&report.text, Errno::from_raw_os_error(report.errno)));
            }
            _ => return Err(error.plain("the process behind the gate spoke nonsense")),
        }
    }
    run(Kind::Poststart)?;
    Ok(warnings)
}
