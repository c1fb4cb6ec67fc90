//! What can go wrong between a client and the daemon.

use naru_types::{Error, Kind};
use std::io;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("cannot connect to {}", path.display())]
    Connect { path: PathBuf, source: io::Error },
    #[error("unsupported daemon address {address:?}: {why}")]
    Address { address: String, why: &'static str },
    #[error("cannot send {request}")]
    Send { request: String, source: io::Error },
    #[error("cannot read the body to be sent with {request}")]
    ReadBody { request: String, source: io::Error },
    #[error("cannot read the answer to {request}")]
    Receive { request: String, source: io::Error },
    #[error("the answer to {request} is not valid HTTP: {what}")]
    Malformed { request: String, what: &'static str },
    #[error("the answer to {request} is not the JSON that was expected")]
    Json { request: String, source: serde_json::Error },
    /// The daemon refused; the message is its own.
    #[error("{message}")]
    Refused { status: u16, message: String, hint: Option<String> },
}

impl ClientError {
    /// Nobody listens there: the daemon is not running.
    pub fn is_no_daemon(&self) -> bool {
        matches!(self, Self::Connect { source, .. }
            if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused))
    }

    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Connect { .. } => Kind::Unavailable,
            Self::Address { .. } | Self::ReadBody { .. } => Kind::InvalidInput,
            Self::Send { .. } | Self::Receive { .. } | Self::Malformed { .. } | Self::Json { .. } => {
                Kind::Internal
            }
            Self::Refused { status, .. } => kind_of(*status),
        }
    }
}

/// The reverse of [`Kind::http_status`].
fn kind_of(status: u16) -> Kind {
    match status {
        304 => Kind::NotModified,
        400 => Kind::InvalidInput,
        401 => Kind::Unauthorized,
        403 => Kind::Forbidden,
        404 => Kind::NotFound,
        409 => Kind::Conflict,
        501 => Kind::NotImplemented,
        503 => Kind::Unavailable,
        _ => Kind::Internal,
    }
}

impl From<ClientError> for Error {
    fn from(error: ClientError) -> Self {
        let converted = Error::new(error.kind(), error.to_string());
        match error {
            ClientError::Refused { hint: Some(hint), .. } => converted.with_hint(hint),
            ClientError::Refused { hint: None, .. }
            | ClientError::Address { .. }
            | ClientError::Malformed { .. } => converted,
            ClientError::Connect { source, .. }
            | ClientError::Send { source, .. }
            | ClientError::ReadBody { source, .. }
            | ClientError::Receive { source, .. } => converted.with_source(source),
            ClientError::Json { source, .. } => converted.with_source(source),
        }
    }
}
