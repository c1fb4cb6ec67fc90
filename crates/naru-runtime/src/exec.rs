//! Starts a further process in a running container.

use crate::request::{ExecRequest, SpawnError, Spawned};

/// Starts a process beside a container's first one; see [`crate::request`].
pub fn exec(request: ExecRequest<'_>) -> Result<Spawned, SpawnError> {
    drop(request);
    Err(SpawnError { step: "exec".into(), errno: 38, message: "not yet".into(), exit_code: 128 })
}
