//! Starts a further process in a running container: the same clone and report as [`crate::spawn`], another plan.
//!
//! The child enters all namespaces of the container's first process by its pidfd; its pid namespace is entered by the
//! parent around the clone, so that one clone is enough and the new process is the caller's own child.

use crate::compile;
use crate::compile::namespaces::Caller;
use crate::errors::{Context, StartError};
use crate::request::{ExecRequest, SpawnError, Spawned};
use crate::spawn::Start;

/// Starts a process beside a container's first one; see [`crate::request`].
pub fn exec(request: ExecRequest<'_>) -> Result<Spawned, SpawnError> {
    exec_path(request, None)
}

/// As [`exec`], executing `path` instead of what the first argument names.
pub(crate) fn exec_path(request: ExecRequest<'_>, path: Option<&str>) -> Result<Spawned, SpawnError> {
    let (spec, cgroup, state) = (request.spec, request.cgroup, request.state);
    let compiled = compile::exec(request, path, Caller::own())?;
    let error = StartError::new(Context::Exec);
    Start { compiled: &compiled, error, spec, cgroup, hooks: None, state, tell_birth: None }.run()
}
