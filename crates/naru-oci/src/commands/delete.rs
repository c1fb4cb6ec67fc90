//! `delete`: removes what a container holds.

use super::{Call, Command, ID, ONE};
use crate::container::Container;
use crate::destroy;
use crate::error::OciError;
use crate::flags::{Order, flag};
use crate::log::Log;
use crate::state::State;
use crate::status::Status;
use crate::store::{self, Locked};
use naru_types::signal::Signal;
use rustix::event::{PollFd, PollFlags, Timespec};

/// How long a killed container may take to end, as runc waits.
const END_WAIT: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

pub(super) const DELETE: Command = Command {
    name: "delete",
    about: "delete any resources held by the container often used with detached container",
    arguments: ID,
    flags: &[flag("force", "f", "forcibly delete the container if it is still running (uses SIGKILL)")],
    order: Order::Anywhere,
    positional: ONE,
    run,
};

fn run(call: &mut Call<'_>) -> Result<u8, OciError> {
    let force = call.args.has("force");
    let directory = store::directory(&call.globals.root, call.id())?;
    let exists = rustix::fs::stat(&directory).is_ok();
    let locked = match exists.then(|| store::lock(&directory)) {
        None | Some(Err(OciError::NotExist)) => return if force { Ok(0) } else { Err(OciError::NotExist) },
        Some(locked) => locked?,
    };
    match locked.state() {
        Ok(state @ State { init: Some(_), .. }) => {
            let container = Container { directory: locked.directory.clone(), state };
            delete(&container, &locked, force, call.log).map(|()| 0)
        }
        Ok(state) => destroy::leftover(&locked, Some(&state), call.log).map(|()| 0),
        // As runc: the remains go away, and without --force it is told that there was no container.
        Err(OciError::NotExist) => {
            destroy::leftover(&locked, None, call.log)?;
            if force { Ok(0) } else { Err(OciError::NotExist) }
        }
        Err(OciError::Damaged { .. }) if force => {
            call.log
                .warn("the state of the container was damaged: its processes and control group may be left");
            destroy::leftover(&locked, None, call.log).map(|()| 0)
        }
        Err(other) => Err(other),
    }
}

fn delete(container: &Container, locked: &Locked, force: bool, log: &mut Log) -> Result<(), OciError> {
    match container.status() {
        Status::Stopped => {}
        status @ (Status::Running | Status::Paused) if !force => {
            return Err(OciError::NotStopped { id: container.state.id.clone(), status: status.name() });
        }
        _ => kill_and_wait(container)?,
    }
    destroy::stopped(locked, &container.state, log)
}

fn kill_and_wait(container: &Container) -> Result<(), OciError> {
    let pidfd = match container.init() {
        Ok((_, pidfd)) => pidfd,
        Err(OciError::NotRunning) => return Ok(()),
        Err(other) => return Err(other),
    };
    match super::kill::send(container, Some(Signal::KILL), false) {
        Ok(()) | Err(OciError::NotRunning) => {}
        Err(other) => return Err(other),
    }
    // A pidfd is readable as soon as the process is a zombie, whoever its parent is.
    let mut polled = [PollFd::new(&pidfd, PollFlags::IN)];
    match rustix::event::poll(&mut polled, Some(&END_WAIT)) {
        Ok(1..) => Ok(()),
        _ => Err(OciError::StillRunning),
    }
}
