//! A start by a caller without privileges: a process of its own makes (or joins) the user namespace and a mount
//! namespace first, and does everything else as root in there, where mounts may be made.
//!
//! The first process of the container is made as that worker's sibling, so that it is the caller's child. Hooks of the
//! runtime's namespaces run in the worker's, which differ from the caller's in these two.

use crate::compile::namespaces::Caller;
use crate::errors::{Context, StartError};
use crate::oci::{self, NamespaceKind};
use crate::request::{SpawnError, SpawnRequest, Spawned};
use crate::spawn::spawn_as;
use crate::userns::Maps;
use crate::worker::{self, Begun, Side, Stillborn};
use naru_kernel::{ns, pidfd, prctl};
use std::os::fd::AsFd;

pub(crate) fn needs_worker(spec: &oci::Spec, caller: Caller) -> bool {
    !caller.privileged && spec.namespace(NamespaceKind::User).is_some()
}

/// Waits for the worker.
pub(crate) fn spawn(request: SpawnRequest<'_>) -> Result<Spawned, SpawnError> {
    let Begun { socket, worker, mut listener } =
        worker::begin(StartError::new(Context::Init), move |side| work(request, side))?;
    let done = loop {
        if let Some(done) = listener.hear(socket.as_fd()) {
            break done;
        }
    };
    let _ = pidfd::wait(&worker.pidfd);
    done.map_err(|Stillborn { error, child }| {
        if let Some(child) = child {
            let _ = pidfd::wait(&child.pidfd);
        }
        error
    })
}

/// What the worker does.
pub(crate) fn work(request: SpawnRequest<'_>, side: &Side) -> Result<Spawned, SpawnError> {
    let inner = enter(request.spec)?;
    let caller = Caller { privileged: true, worker: true };
    spawn_as(SpawnRequest { spec: &inner, ..request }, caller, Some(&|child| side.tell_birth(child)))
}

/// Goes into the user namespace; what is left of the spec to do there.
fn enter(spec: &oci::Spec) -> Result<oci::Spec, SpawnError> {
    let error = StartError::new(Context::Init);
    crate::compile::validate(spec, error)?;
    let mut inner = spec.clone();
    inner.linux.namespaces.retain(|namespace| namespace.kind != NamespaceKind::User);
    inner.linux.uid_mappings.clear();
    inner.linux.gid_mappings.clear();
    // Otherwise /proc/self/uid_map belongs to somebody else.
    prctl::set_dumpable(true).map_err(|errno| error.errno("become dumpable", errno))?;
    if let Some(path) = spec.namespace(NamespaceKind::User).and_then(|namespace| namespace.path.as_ref()) {
        let fd = ns::open(path).map_err(|cause| error.io(&format!("open namespace {path}"), &cause))?;
        ns::setns(&fd, ns::NEWUSER).map_err(|errno| error.errno("join the user namespace", errno))?;
        ns::unshare(ns::NEWNS).map_err(|errno| error.errno("make a mount namespace", errno))?;
        return Ok(inner);
    }
    let maps = Maps::new(&spec.linux.uid_mappings, &spec.linux.gid_mappings, false)
        .map_err(|cause| error.plain(&cause.to_string()))?;
    ns::unshare(ns::NEWUSER | ns::NEWNS).map_err(|errno| error.errno("make a user namespace", errno))?;
    maps.write("self").map_err(|cause| error.plain(&cause.to_string()))?;
    Ok(inner)
}
