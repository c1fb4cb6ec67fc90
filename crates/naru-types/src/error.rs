//! The error that crosses crate borders: a kind that faces map to an exit code or a status, one
//! sentence that says what, which and why, and a hint with the command that would help.
//!
//! Inside a crate each module has its own enum; it turns into this type where a caller of another
//! crate sees it. `Display` prints the sentence only; [`Error::chain`] prints the causes.

use std::fmt;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, as far as a caller can act on it. [`Kind::http_status`] is the only table from
/// kind to Docker's HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The named thing does not exist.
    NotFound,
    /// The request itself is wrong.
    InvalidInput,
    /// The request clashes with the present state.
    Conflict,
    /// Nothing to do: it already is as asked.
    NotModified,
    Unauthorized,
    Forbidden,
    /// A feature that naru does not have.
    NotImplemented,
    /// Not now; later perhaps (a peer down, a limit reached).
    Unavailable,
    /// naru's or the host's fault, not the caller's.
    Internal,
}

impl Kind {
    /// Docker Engine API status, as moby's `httpstatus` table has it.
    pub fn http_status(self) -> u16 {
        match self {
            Kind::NotFound => 404,
            Kind::InvalidInput => 400,
            Kind::Conflict => 409,
            Kind::NotModified => 304,
            Kind::Unauthorized => 401,
            Kind::Forbidden => 403,
            Kind::NotImplemented => 501,
            Kind::Unavailable => 503,
            Kind::Internal => 500,
        }
    }
}

type Source = Box<dyn std::error::Error + Send + Sync + 'static>;

#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    hint: Option<String>,
    source: Option<Source>,
}

impl Error {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None, source: None }
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, message)
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::InvalidInput, message)
    }

    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, message)
    }

    pub fn not_implemented(message: impl Into<String>) -> Self {
        Self::new(Kind::NotImplemented, message)
    }

    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Kind::Unavailable, message)
    }

    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Kind::Internal, message)
    }

    /// A command or a change that would help, without the word "hint".
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Puts `what` before the message: `what: message`. Kind, hint and source stay.
    #[must_use]
    pub fn context(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn message(&self) -> &str {
        &self.message
    }

    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The message and every cause behind it, joined with `: `, a cause that repeats what was said
    /// already left out.
    pub fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut next = std::error::Error::source(self);
        while let Some(cause) = next {
            let said = cause.to_string();
            if !text.contains(&said) {
                text.push_str(": ");
                text.push_str(&said);
            }
            next = cause.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_names_each_cause_once() {
        let cause = std::io::Error::other("disk gone");
        let error = Error::internal("cannot write /x").with_source(cause);
        assert_eq!(error.chain(), "cannot write /x: disk gone");
        assert_eq!(error.context("saving").to_string(), "saving: cannot write /x");
    }
}
