//! The builder's errors. What is wrong with a Dockerfile says where: `Dockerfile:3: … (in "RUNN x")`.

use naru_types::{Digest, Error, Kind};
use std::io;
use std::path::PathBuf;

pub(crate) type Result<T, E = BuildError> = std::result::Result<T, E>;

/// A place in a Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    pub file: String,
    /// From one.
    pub line: usize,
    /// The last line, with its heredocs.
    pub end: usize,
    /// The instruction as written, cut to a sane length.
    pub text: String,
}

/// The longest quote of a Dockerfile line in an error, in characters.
const QUOTE_CHARS_MAX: usize = 120;

impl Position {
    pub(crate) fn new(file: &str, line: usize, text: &str) -> Self {
        let mut quote: String =
            text.lines().next().unwrap_or_default().chars().take(QUOTE_CHARS_MAX).collect();
        if quote.len() < text.trim_end().len() {
            quote.push('…');
        }
        Self { file: file.to_owned(), line, end: line, text: quote }
    }

    pub(crate) fn error(&self, message: impl Into<String>) -> BuildError {
        BuildError::Dockerfile {
            at: Box::new(self.clone()),
            message: message.into(),
            hint: None,
            unsupported: false,
        }
    }

    pub(crate) fn hinted(&self, message: impl Into<String>, hint: impl Into<String>) -> BuildError {
        BuildError::Dockerfile {
            at: Box::new(self.clone()),
            message: message.into(),
            hint: Some(hint.into()),
            unsupported: false,
        }
    }

    pub(crate) fn unsupported(&self, message: impl Into<String>, hint: impl Into<String>) -> BuildError {
        BuildError::Dockerfile {
            at: Box::new(self.clone()),
            message: message.into(),
            hint: Some(hint.into()),
            unsupported: true,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Wrong or unsupported at one place of the Dockerfile.
    #[error("{}:{}: {message}{}", at.file, at.line, quote(&at.text))]
    Dockerfile { at: Box<Position>, message: String, hint: Option<String>, unsupported: bool },
    /// COPY or ADD of something that isn't there; `message` is dockerd's.
    #[error("{}:{}: {message}{}", at.file, at.line, quote(&at.text))]
    NoSource { at: Box<Position>, message: String, pattern: String, hint: Option<String> },
    #[error("{file}: {message}")]
    File { file: String, message: String, hint: Option<String> },
    #[error("unable to evaluate symlinks in Dockerfile path: {name}: no such file or directory")]
    NoDockerfile { name: String },
    #[error("target stage {target:?} could not be found")]
    NoTarget { target: String, known: Vec<String> },
    #[error("{}:{}: {source}", at.file, at.line)]
    At { at: Box<Position>, source: Error },
    /// Docker's text, which clients and scripts look for.
    #[error("The command '{command}' returned a non-zero code: {code}")]
    Command { command: String, code: i32, at: Box<Position> },
    /// With `check=error=true`; BuildKit's text.
    #[error("lint violation found for rules: {}", rules.join(", "))]
    Lint { rules: Vec<&'static str> },
    #[error("build cancelled")]
    Cancelled,
    #[error("cannot {step} {}", path.display())]
    Io { step: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot use the layer {layer}")]
    Layer { layer: Digest, source: Error },
    #[error("{0}")]
    Outside(#[from] Error),
}

fn quote(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(" (in `{text}`)") }
}

impl BuildError {
    pub(crate) fn io(step: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { step, path, source }
    }

    /// As [`Self::io`], for rustix's errors.
    pub(crate) fn sys(
        step: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(rustix::io::Errno) -> Self {
        let path = path.into();
        move |errno| Self::Io { step, path, source: errno.into() }
    }

    /// The instruction that failed, if it was one.
    pub fn position(&self) -> Option<&Position> {
        match self {
            Self::Dockerfile { at, .. }
            | Self::NoSource { at, .. }
            | Self::At { at, .. }
            | Self::Command { at, .. } => Some(at),
            _ => None,
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Dockerfile { unsupported: true, .. } => Kind::NotImplemented,
            Self::Dockerfile { .. }
            | Self::NoSource { .. }
            | Self::File { .. }
            | Self::NoDockerfile { .. }
            | Self::NoTarget { .. }
            | Self::Lint { .. }
            | Self::Command { .. } => Kind::InvalidInput,
            Self::At { source, .. } | Self::Layer { source, .. } => source.kind(),
            Self::Cancelled => Kind::Conflict,
            Self::Io { .. } => Kind::Internal,
            Self::Outside(error) => error.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Dockerfile { hint, .. } | Self::NoSource { hint, .. } | Self::File { hint, .. } => {
                hint.clone()
            }
            Self::NoDockerfile { .. } => Some("name the file with -f, relative to the context".into()),
            Self::NoTarget { known, .. } if known.is_empty() => {
                Some("no stage of the Dockerfile has a name".into())
            }
            Self::NoTarget { known, .. } => Some(format!("the stages are: {}", known.join(", "))),
            Self::At { source, .. } | Self::Layer { source, .. } => source.hint().map(str::to_owned),
            Self::Command { at, .. } => Some(format!("see its output above; it is {}:{}", at.file, at.line)),
            Self::Lint { .. } => Some("`naru build --check` shows where".into()),
            Self::Outside(error) => error.hint().map(str::to_owned),
            Self::Cancelled | Self::Io { .. } => None,
        }
    }
}

impl From<BuildError> for Error {
    fn from(error: BuildError) -> Self {
        if let BuildError::Outside(inner) = error {
            return inner;
        }
        let mut message = error.to_string();
        if let BuildError::Io { source, .. } = &error {
            message = format!("{message}: {source}");
        }
        if let BuildError::Layer { source, .. } = &error {
            message = format!("{message}: {source}");
        }
        let converted = Error::new(error.kind(), message);
        match error.hint() {
            Some(hint) => converted.with_hint(hint),
            None => converted,
        }
    }
}
