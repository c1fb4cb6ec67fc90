//! The port through which a command runs in the new root. Who implements [`Runner`] makes the container.

use naru_types::{ContainerId, Result};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

pub trait Runner: Send + Sync {
    /// Runs the command to its end and gives its exit code. Afterwards nothing of it is left but what it wrote to `upper`.
    fn run(&self, step: &Step, output: &mut dyn FnMut(&[u8])) -> Result<i32>;
}

/// One command, as root of the new system, without a network.
#[derive(Clone, Debug)]
pub struct Step {
    pub id: ContainerId,
    /// An empty directory: overlayfs wants one beneath `upper`.
    pub lower: PathBuf,
    /// The new root itself.
    pub upper: PathBuf,
    pub work: PathBuf,
    pub args: Vec<String>,
    pub env: Vec<String>,
    /// A host directory, and where in the root it is seen, read-only.
    pub bind: Option<(PathBuf, String)>,
    pub cancel: Arc<AtomicBool>,
}
