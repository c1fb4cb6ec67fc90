//! What can be wrong with an archive: it breaks the format or a limit, or it cannot be read.

use naru_types::{Error, Kind};
use std::io;

#[derive(Debug, thiserror::Error)]
pub enum TarError {
    #[error("archive: {what}{}", entry.as_ref().map(|name| format!(" (entry {name:?})")).unwrap_or_default())]
    Format { what: String, entry: Option<String> },
    #[error("archive: cannot read")]
    Read { source: io::Error },
}

pub type Result<T, E = TarError> = std::result::Result<T, E>;

impl TarError {
    /// A breach of the format or of a limit, by `entry` where its name is known.
    pub fn format(what: impl Into<String>, entry: Option<&[u8]>) -> Self {
        TarError::Format {
            what: what.into(),
            entry: entry.map(|name| String::from_utf8_lossy(name).into_owned()),
        }
    }

    pub fn kind(&self) -> Kind {
        match self {
            TarError::Format { .. } => Kind::InvalidInput,
            TarError::Read { .. } => Kind::Internal,
        }
    }
}

impl From<TarError> for Error {
    fn from(error: TarError) -> Self {
        let kind = error.kind();
        match error {
            TarError::Format { .. } => Error::new(kind, error.to_string()),
            TarError::Read { source } => Error::new(kind, format!("archive: cannot read: {source}")),
        }
    }
}
