//! `start`: opens the gate at which a created container waits.

use super::{Call, Command, ID, ONE};
use crate::container::Container;
use crate::error::OciError;
use crate::flags::Order;
use crate::protect;
use crate::state;
use crate::status::Status;
use naru_kernel::unix;
use naru_runtime::gate::{self, GateInput};
use naru_runtime::hooks::HookInput;
use std::os::fd::AsFd;

pub(super) const START: Command = Command {
    name: "start",
    about: "executes the user defined process in a created container",
    arguments: ID,
    flags: &[],
    order: Order::Anywhere,
    positional: ONE,
    run,
};

fn run(call: &mut Call<'_>) -> Result<u8, OciError> {
    let (container, _locked) = Container::load_locked(call.globals, call.id())?;
    match container.status() {
        Status::Created => {}
        Status::Stopped => return Err(OciError::Refused("cannot start a container that has stopped".into())),
        Status::Running => return Err(OciError::Refused("cannot start an already running container".into())),
        other => {
            let status = other.name();
            return Err(OciError::Refused(format!("cannot start a container in the {status} state")));
        }
    }
    let (init, pidfd) = container.init()?;
    let spec = container.spec()?;
    if !spec.hooks.start_container.is_empty() {
        // They are born in the container's namespaces, from this process. May start the program over.
        protect::own_binary()?;
    }
    let cgroup = container.cgroup()?;
    let hooks = HookInput { hooks: &spec.hooks, state: container.told() };
    let path = state::gate(&container.directory);
    let connection =
        unix::seqpacket_connect(&path).map_err(|cause| OciError::file("connect to", &path, cause))?;
    let opened = gate::open(
        connection,
        &GateInput {
            spec: &spec,
            pid: init.pid,
            pidfd: pidfd.as_fd(),
            cgroup: cgroup.as_ref(),
            hooks: Some(&hooks),
        },
    );
    // Opened or killed: nobody waits there any more.
    std::fs::remove_file(&path).map_err(|cause| OciError::file("remove", &path, cause))?;
    call.log.warn_all(&opened?);
    Ok(0)
}
