//! What can go wrong between a client and the builder, and the gRPC status that says it.

use crate::details::{self, Excerpt};
use naru_build::BuildError;
use std::io;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("a malformed message: {what}")]
    Malformed { what: &'static str },
    #[error("a message of {bytes} bytes; at most {max} are read")]
    TooLarge { bytes: usize, max: usize },
    #[error("no such method: {method}")]
    NoMethod { method: String },
    #[error("no active build {id:?}")]
    NoBuild { id: String },
    #[error("no active session {id:?}")]
    NoSession { id: String },
    #[error("{what} is not supported by naru: {hint}")]
    Unsupported { what: String, hint: &'static str },
    #[error("failed to read dockerfile: open {name}: no such file or directory")]
    NoDockerfile { name: String },
    #[error("the transfer of {dir}: {what} {path:?}")]
    Hostile { dir: String, what: &'static str, path: String },
    #[error("the transfer of {dir}: more than {max} {what}")]
    TransferLimit { dir: String, what: &'static str, max: u64 },
    #[error("the client ended the transfer of {dir}: {message}")]
    Refused { dir: String, message: String },
    #[error("cannot {step}")]
    Io { step: String, source: io::Error },
    #[error("the connection broke off")]
    Connection(#[from] hyper::Error),
    /// What the client itself had reported as the build's end; `status` is its google.rpc.Status.
    #[error("{message}")]
    Returned { code: u32, message: String, status: Vec<u8> },
    #[error("{message}")]
    Build { message: String, excerpt: Option<Box<Excerpt>> },
    #[error("{0}")]
    Naru(#[from] naru_types::Error),
    #[error("context canceled")]
    Cancelled,
    #[error("the build's thread broke off: this is a bug in naru")]
    Broken,
}

impl Error {
    /// The code of google.rpc.Code.
    pub fn code(&self) -> u32 {
        match self {
            Self::Cancelled => 1,
            Self::Malformed { .. } | Self::Hostile { .. } => 3,
            Self::NoBuild { .. } | Self::NoSession { .. } => 5,
            Self::TooLarge { .. } | Self::TransferLimit { .. } => 8,
            Self::NoMethod { .. } | Self::Unsupported { .. } => 12,
            Self::Broken => 13,
            Self::Connection(_) => 14,
            Self::Returned { code, .. } => *code,
            Self::NoDockerfile { .. }
            | Self::Refused { .. }
            | Self::Io { .. }
            | Self::Naru(_)
            | Self::Build { .. } => 2,
        }
    }

    /// The whole chain on one line, with the hint where there is one.
    pub fn text(&self) -> String {
        match self {
            Self::Naru(error) => error.chain(),
            Self::Io { source, .. } => format!("{self}: {source}"),
            other => other.to_string(),
        }
    }

    /// A build's own error, in the words of BuildKit where it has some that tools look for.
    pub fn build(error: BuildError, dockerfile: &str) -> Self {
        let excerpt = error.position().map(|at| {
            Box::new(Excerpt {
                file: at.file.clone(),
                text: dockerfile.to_owned(),
                line: at.line,
                end: at.end,
            })
        });
        let message = match error {
            BuildError::Command { command, code, .. } => {
                format!("process {command:?} did not complete successfully: exit code: {code}")
            }
            // BuildKit finds it missing when it hashes it.
            BuildError::NoSource { pattern, .. } => format!(
                "failed to compute cache key: failed to calculate checksum: \"/{}\": not found",
                pattern.trim_start_matches('/')
            ),
            other => naru_types::Error::from(other).chain(),
        };
        Self::Build { message, excerpt }
    }

    /// The encoded google.rpc.Status, when it holds more than code and message.
    pub fn details(&self) -> Option<Vec<u8>> {
        match self {
            Self::Returned { status, .. } if !status.is_empty() => Some(status.clone()),
            Self::Build { message, excerpt: Some(excerpt) } => {
                Some(details::status(self.code(), message, Some(excerpt)).0)
            }
            _ => None,
        }
    }

    /// For `map_err`: names the step that an I/O error ended.
    pub fn io(step: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let step = step.into();
        move |source| Self::Io { step, source }
    }

    pub fn sys(step: impl Into<String>) -> impl FnOnce(rustix::io::Errno) -> Self {
        let step = step.into();
        move |errno| Self::Io { step, source: errno.into() }
    }
}
