//! Starts a container's first process: compiles the plan, clones once, waits until the program runs.

use crate::request::{SpawnError, SpawnRequest, Spawned};

/// Starts the container's first process; see [`crate::request`].
pub fn spawn(request: SpawnRequest<'_>) -> Result<Spawned, SpawnError> {
    drop(request);
    Err(SpawnError { step: "start".into(), errno: 38, message: "not yet".into(), exit_code: 128 })
}
