//! `kill`: signals to a container.

use super::{Call, Command};
use crate::container::Container;
use crate::error::OciError;
use crate::flags::{Count, Order, flag};
use crate::status::Status;
use naru_kernel::{Errno, pidfd};
use naru_types::signal::Signal;

pub(super) const KILL: Command = Command {
    name: "kill",
    about: "kill sends the specified signal (default: SIGTERM) to the container's init process",
    arguments: "<container-id> [signal]",
    flags: &[flag("all", "a", "send the specified signal to all processes inside the container")],
    order: Order::Anywhere,
    positional: Count { min: 1, max: 2 },
    run,
};

fn run(call: &mut Call<'_>) -> Result<u8, OciError> {
    let all = call.args.has("all");
    let container = Container::load(call.globals, call.id())?;
    let text = call.args.positional.get(1).copied().unwrap_or("SIGTERM");
    let signal = parse(text)?;
    match send(&container, signal, all) {
        // Nobody is left to be killed, which is what was wanted.
        Err(OciError::NotRunning) if all => Ok(0),
        other => other.map(|()| 0),
    }
}

fn parse(text: &str) -> Result<Option<Signal>, OciError> {
    // Signal 0 only asks whether there is somebody (kill(2)).
    if text == "0" {
        return Ok(None);
    }
    Signal::parse(text).map(Some).ok_or_else(|| OciError::Refused(format!("unknown signal {text:?}")))
}

/// `None`: only whether it could be sent.
pub(super) fn send(container: &Container, signal: Option<Signal>, all: bool) -> Result<(), OciError> {
    let status = container.status();
    let killed = signal == Some(Signal::KILL);
    // Without a pid namespace of its own the others outlive the first process, also its kill.
    let everybody = all || (killed && !container.state.own_pid_namespace);
    if everybody
        && let (Some(cgroup), Some(signal)) = (container.cgroup()?, signal)
        && (status != Status::Stopped || !container.state.own_pid_namespace)
    {
        if killed {
            return Ok(cgroup.kill_all()?);
        }
        for pid in cgroup.pids()? {
            // One that has ended meanwhile needs no signal.
            if let Ok(pidfd) = pidfd::open(pid) {
                let _ = pidfd::send_signal(&pidfd, signal);
            }
        }
        return if status == Status::Stopped { Err(OciError::NotRunning) } else { Ok(()) };
    }
    let (_, pidfd) = container.init()?;
    let Some(signal) = signal else { return Ok(()) };
    pidfd::send_signal(&pidfd, signal).map_err(|errno| match errno {
        Errno::SRCH => OciError::NotRunning,
        other => OciError::kernel("signal the container", other),
    })?;
    // A frozen process of cgroup v1 takes even a SIGKILL only when it is thawed.
    if killed
        && status == Status::Paused
        && let Some(cgroup) = container.cgroup()?
    {
        cgroup.thaw()?;
    }
    Ok(())
}
