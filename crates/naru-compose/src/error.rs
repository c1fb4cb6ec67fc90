//! The loader's one error: a place in a file, what is wrong there, and what would help.

use naru_types::{Error, Kind};

pub(crate) type Result<T, E = ComposeError> = std::result::Result<T, E>;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {}{message}", if path.is_empty() { String::new() } else { format!("{path}: ") })]
pub(crate) struct ComposeError {
    pub(crate) file: String,
    /// From one.
    pub(crate) line: usize,
    /// Such as `services.web.ports[0]`; empty for the file as a whole.
    pub(crate) path: String,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    /// A key of the format that naru doesn't honour.
    pub(crate) unsupported: bool,
}

impl ComposeError {
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<ComposeError> for Error {
    fn from(error: ComposeError) -> Self {
        let kind = if error.unsupported { Kind::NotImplemented } else { Kind::InvalidInput };
        let converted = Error::new(kind, error.to_string());
        match error.hint {
            Some(hint) => converted.with_hint(hint),
            None => converted,
        }
    }
}
