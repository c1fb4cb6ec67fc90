//! Starts a further process in a running container: the same clone and report as [`crate::spawn`], another plan.
//!
//! The child enters all namespaces of the container's first process by its pidfd; its pid namespace is entered by the
//! parent around the clone, so that one clone is enough and the new process is the caller's own child.

use crate::compile;
use crate::compile::namespaces::Caller;
use crate::errors::{Context, StartError};
use crate::oci;
use crate::request::{ExecRequest, SpawnError, Spawned};
use crate::spawn::Start;
use crate::worker::{self, Begun};
use naru_kernel::process::Child;
use std::os::fd::AsFd;

/// Starts a process beside a container's first one; see [`crate::request`].
pub fn exec(request: ExecRequest<'_>) -> Result<Spawned, SpawnError> {
    exec_path(request, None)
}

/// `execCPUAffinity.initial` of an exec, as a bit mask in hexadecimal without leading zeros; `None`: not set.
pub fn initial_cpus(process: &oci::Process, first: &oci::Process) -> Result<Option<String>, SpawnError> {
    let wanted = process.exec_cpu_affinity.as_ref().or(first.exec_cpu_affinity.as_ref());
    let Some(list) = wanted.map(|affinity| affinity.initial.as_str()).filter(|list| !list.is_empty()) else {
        return Ok(None);
    };
    let error = StartError::new(Context::Exec);
    let mask = compile::mask(list, "execCPUAffinity.initial", error)?;
    let digits: String = mask.iter().rev().map(|word| format!("{word:016x}")).collect();
    let digits = digits.trim_start_matches('0');
    Ok(Some(if digits.is_empty() { "0".to_owned() } else { digits.to_owned() }))
}

/// As [`exec`], executing `path` instead of what the first argument names.
pub(crate) fn exec_path(request: ExecRequest<'_>, path: Option<&str>) -> Result<Spawned, SpawnError> {
    exec_as(request, path, None)
}

/// As [`exec`], without waiting for anything that the container could delay: its files, its share of the CPU, its memory,
/// a freezer. All that is done by a worker. The caller must have one thread.
pub(crate) fn exec_in_worker(request: ExecRequest<'_>) -> Result<Begun, SpawnError> {
    let error = StartError::new(Context::Exec);
    worker::begin(error, move |side| {
        side.die_with_caller().map_err(|errno| error.errno("live as long as the caller", errno))?;
        let mut own = worker::fds_of(&request.stdio);
        own.push(request.init_pidfd);
        own.extend(request.preserve_fds.iter().map(AsFd::as_fd));
        side.keep_only(&own);
        exec_as(request, None, Some(&|child| side.tell_birth(child)))
    })
}

fn exec_as(
    request: ExecRequest<'_>,
    path: Option<&str>,
    tell_birth: Option<&dyn Fn(&Child)>,
) -> Result<Spawned, SpawnError> {
    let (spec, cgroup, state) = (request.spec, request.cgroup, request.state);
    let compiled = compile::exec(request, path, Caller::own())?;
    let error = StartError::new(Context::Exec);
    Start { compiled: &compiled, error, spec, cgroup, hooks: None, state, tell_birth }.run()
}
