//! What can fail below HTTP; `http::answer` turns it into the specification's codes.

use crate::name::{Digest, RepositoryName};
use naru_types::Error;
use std::io;
use std::path::{Path, PathBuf};

pub(crate) type Result<T> = std::result::Result<T, RegistryError>;

#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("can't {step} {path}")]
    Io { step: &'static str, path: PathBuf, source: io::Error },
    #[error("can't {step} in the registry's database")]
    Database { step: &'static str, source: rusqlite::Error },
    #[error("the registry's database has version {found}, this naru knows {known}")]
    Version { found: i64, known: i64 },
    #[error("another naru registry serves {root}")]
    Served { root: PathBuf },
    #[error("the content has the digest {found}, not {expected}")]
    DigestMismatch { expected: Digest, found: Digest },
    #[error(
        "the quota of {repository} is {quota_bytes} bytes; {used_bytes} are used and {wanted_bytes} more were sent"
    )]
    Quota { repository: RepositoryName, quota_bytes: u64, used_bytes: u64, wanted_bytes: u64 },
    #[error("{digest} is not in {repository}")]
    Missing { repository: RepositoryName, digest: Digest },
    #[error("{digest} has {found} bytes here; the manifest says {said}")]
    Size { digest: Digest, found: u64, said: u64 },
    #[error("{digest} is used by a manifest of {repository}; delete that first")]
    InUse { repository: RepositoryName, digest: Digest },
    #[error("no random bytes from the kernel")]
    Random { source: io::Error },
    #[error("no such token: {id}")]
    NoSuchToken { id: String },
    #[error("can't listen on {address}")]
    Listen { address: String, source: io::Error },
    #[error("can't use the TLS certificate {path}")]
    Certificate { path: PathBuf, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("work for a request was lost")]
    Lost,
}

impl RegistryError {
    pub(crate) fn io(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { step, path, source }
    }

    pub(crate) fn database(step: &'static str) -> impl FnOnce(rusqlite::Error) -> Self {
        move |source| Self::Database { step, source }
    }

    /// The disk is full, which the client is told as such.
    pub(crate) fn is_disk_full(&self) -> bool {
        match self {
            Self::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            Self::Database { source, .. } => {
                source.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
            }
            _ => false,
        }
    }
}

impl From<RegistryError> for Error {
    fn from(error: RegistryError) -> Self {
        match &error {
            RegistryError::NoSuchToken { .. } => {
                Self::not_found(error.to_string()).with_hint("naru registry token list shows their ids")
            }
            RegistryError::Served { .. } => Self::conflict(error.to_string()),
            _ => Self::internal(error.to_string()).with_source(error),
        }
    }
}
