//! Starts a further process in a running container: the same clone and report as [`crate::spawn`], another plan.
//!
//! The child enters all namespaces of the container's first process by its pidfd; its pid namespace is entered by the
//! parent around the clone, so that one clone is enough and the new process is the caller's own child.

use crate::compile;
use crate::errors::{Context, StartError};
use crate::request::{ExecRequest, SpawnError, Spawned};
use crate::spawn::start;

/// Starts a process beside a container's first one; see [`crate::request`].
pub fn exec(request: ExecRequest<'_>) -> Result<Spawned, SpawnError> {
    start(&compile::exec(request)?, StartError::new(Context::Exec))
}
