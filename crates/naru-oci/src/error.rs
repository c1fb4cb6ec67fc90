//! Why a command failed, in runc's words where callers look for them.

use crate::text;
use naru_runtime::cgroup::CgroupError;
use naru_runtime::oci::SpecError;
use naru_runtime::request::SpawnError;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

/// A command of the runtime failed.
#[derive(Debug, thiserror::Error)]
pub enum OciError {
    #[error("flag provided but not defined: {0} (hint: `naru oci help` lists what there is)")]
    UnknownFlag(String),
    #[error("flag needs an argument: {0}")]
    MissingValue(String),
    #[error("invalid value {value:?} for flag -{flag}: {why}")]
    BadValue { flag: &'static str, value: String, why: String },
    #[error("{command:?} requires {wanted}")]
    Arguments { command: &'static str, wanted: String },
    #[error("no help topic for {0:?}{hint}", hint = .1.map(|near| format!(" (hint: did you mean {near:?}?)")).unwrap_or_default())]
    NoCommand(String, Option<&'static str>),
    #[error("the argument {0:?} is not UTF-8")]
    NotText(OsString),
    #[error("container id cannot be empty")]
    EmptyId,
    #[error("invalid container ID format")]
    InvalidId,
    #[error("container does not exist")]
    NotExist,
    #[error("container with given ID already exists")]
    Exists,
    #[error("container not running")]
    NotRunning,
    #[error("container not paused")]
    NotPaused,
    #[error("container init still running")]
    StillRunning,
    #[error("cannot delete container {id} that is not stopped: {status}")]
    NotStopped { id: String, status: &'static str },
    /// A command that makes no sense in this state or with these arguments.
    #[error("{0}")]
    Refused(String),
    #[error("{what} is not supported (hint: {hint})")]
    Unsupported { what: String, hint: String },
    #[error("JSON specification file config.json not found")]
    NoConfig,
    #[error("the state of the container is damaged: {path}: {why} (hint: `delete --force` removes it)", path = path.display())]
    Damaged { path: PathBuf, why: String },
    #[error("{step} {path}: {cause}", path = path.display(), cause = text::of_error(source))]
    File {
        step: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{step}: {cause}", cause = text::of_error(source))]
    Kernel {
        step: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("{what}: {why}")]
    Json { what: String, why: serde_json::Error },
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error(transparent)]
    Resctrl(#[from] naru_runtime::resctrl::ResctrlError),
    /// Everything that keeps an exec from starting, under the words and the exit code of their own.
    #[error("{prefix}{0}", prefix = exec_prefix(.0))]
    Exec(Box<OciError>),
}

impl OciError {
    pub(crate) fn file(step: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::File { step, path: path.to_owned(), source: source.into() }
    }

    pub(crate) fn kernel(step: &'static str, source: impl Into<io::Error>) -> Self {
        Self::Kernel { step, source: source.into() }
    }
}

/// The runtime's own errors of an exec start with these words already.
fn exec_prefix(error: &OciError) -> &'static str {
    if matches!(error, OciError::Spawn(_)) { "" } else { "exec failed: " }
}
