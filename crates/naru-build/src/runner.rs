//! The port through which RUN steps are executed. The builder prepares directories and describes the
//! step; who implements [`StepRunner`] mounts, starts, waits and cleans up.

use crate::event::Stream;
use naru_types::{ContainerId, Result};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Runs one command to its end.
pub trait StepRunner: Send + Sync {
    /// An error means that the command couldn't be run at all; a command that failed is a [`StepExit`].
    /// When `step.cancel` becomes true the command is killed and an error returned. Afterwards nothing of
    /// the step is left but what it wrote to `upper`.
    fn run(&self, step: &StepSpec, output: &mut dyn FnMut(Stream, &[u8])) -> Result<StepExit>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepExit {
    /// As a shell has it: 128 plus the number for a command that a signal ended.
    pub code: i32,
}

#[derive(Clone, Debug)]
pub struct StepSpec {
    /// Drawn by the builder, shown as `Running in …`.
    pub id: ContainerId,
    /// Read-only layer directories, topmost first; empty for a root that begins as `FROM scratch`.
    pub lowers: Vec<PathBuf>,
    /// Takes the step's changes; an existing directory, on one filesystem with `work`.
    pub upper: PathBuf,
    /// overlayfs's own work directory; exists and is empty.
    pub work: PathBuf,
    pub args: Vec<String>,
    /// `KEY=value`; PATH is always among them, HOME only when the Dockerfile set it.
    pub env: Vec<String>,
    /// Absolute.
    pub cwd: String,
    /// `user[:group]`, resolved in the root's own /etc/passwd; empty: root.
    pub user: String,
    pub network: StepNetwork,
    pub hostname: String,
    pub extra_hosts: Vec<String>,
    /// Mounted in this order after /proc, /dev and /sys. Missing targets are made (and what is made in
    /// `upper` for them is cleared away by the builder).
    pub mounts: Vec<StepMount>,
    /// Bytes; `None` is Docker's 64 MiB.
    pub shm_size: Option<i64>,
    pub cancel: Arc<AtomicBool>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StepNetwork {
    /// The network named `bridge`.
    #[default]
    Bridge,
    None,
    Host,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepMount {
    /// Absolute path in the step's root.
    pub target: String,
    pub kind: StepMountKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepMountKind {
    /// A host directory or file.
    Bind { source: PathBuf, read_only: bool },
    /// Bytes; `None`: the kernel's default.
    Tmpfs { size: Option<i64> },
}
