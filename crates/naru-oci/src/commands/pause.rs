//! `pause` and `resume`: through the freezer of the container's control group.

use super::{Call, Command, ID, ONE};
use crate::container::Container;
use crate::error::OciError;
use crate::flags::Order;
use crate::status::Status;

pub(super) const PAUSE: Command = Command {
    name: "pause",
    about: "pause suspends all processes inside the container",
    arguments: ID,
    flags: &[],
    order: Order::Anywhere,
    positional: ONE,
    run: pause,
};

pub(super) const RESUME: Command = Command {
    name: "resume",
    about: "resumes all processes that have been previously paused",
    arguments: ID,
    flags: &[],
    order: Order::Anywhere,
    positional: ONE,
    run: resume,
};

fn pause(call: &mut Call<'_>) -> Result<u8, OciError> {
    let (container, _locked) = Container::load_locked(call.globals, call.id())?;
    match container.status() {
        Status::Running | Status::Created => {}
        Status::Creating | Status::Paused | Status::Stopped => return Err(OciError::NotRunning),
    }
    container.need_cgroup("pause")?.freeze()?;
    Ok(0)
}

fn resume(call: &mut Call<'_>) -> Result<u8, OciError> {
    let (container, _locked) = Container::load_locked(call.globals, call.id())?;
    if container.status() != Status::Paused {
        return Err(OciError::NotPaused);
    }
    container.need_cgroup("resume")?.thaw()?;
    Ok(0)
}
