//! What can go wrong while a root is made from packages. Each variant names the step and its subject.

use crate::openpgp::PgpError;
use naru_types::{Error, Kind};
use std::io;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    #[error("{what}")]
    Invalid { what: String, hint: String },
    #[error("no mirror is known for {suite}")]
    NoMirror { suite: String },
    #[error("cannot {step} {path}")]
    Io { step: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot fetch {url}: {detail}")]
    Fetch { url: String, detail: String },
    #[error("{url} is not on the mirror")]
    Missing { url: String },
    #[error("{url} has more than {limit} bytes")]
    TooLarge { url: String, limit: u64 },
    #[error("{url}: its signature was refused")]
    Signature { url: String, source: PgpError },
    #[error("cannot read the keyring {name}")]
    Keyring { name: String, source: PgpError },
    #[error("{url} is malformed: {what}")]
    Malformed { url: String, what: String },
    #[error("{url} is of the suite {found}, not of {wanted}")]
    WrongSuite { url: String, found: String, wanted: String },
    #[error("{url} expired on {until}")]
    Expired { url: String, until: String },
    #[error("{url} is from the future: {date}")]
    FromTheFuture { url: String, date: String },
    #[error("{url} was changed: expected sha256:{expected}, got sha256:{found}")]
    Changed { url: String, expected: String, found: String },
    #[error("{url} was changed: expected {expected} bytes, got {found}")]
    ChangedSize { url: String, expected: u64, found: u64 },
    #[error("{release} lists no {what}")]
    NotListed { release: String, what: String },
    #[error("the suite has no package {name}")]
    NoPackage { name: String },
    #[error("{package} needs {wanted}, which no package of the suite gives")]
    Unsatisfied { package: String, wanted: String },
    #[error("{one} conflicts with {other}")]
    Conflicts { one: String, other: String },
    #[error("the package {package} is malformed: {what}")]
    Package { package: String, what: String },
    #[error("the package {package} cannot be unpacked")]
    Unpack { package: String, source: Error },
    #[error("`{command}` ended with {code} in the new root:\n{output}")]
    Configure { command: String, code: i32, output: String },
    #[error(transparent)]
    Engine(Error),
    #[error("context canceled")]
    Cancelled,
}

pub type Result<T, E = BootstrapError> = std::result::Result<T, E>;

impl BootstrapError {
    pub(crate) fn io(step: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| BootstrapError::Io { step, path, source }
    }

    fn kind(&self) -> Kind {
        match self {
            BootstrapError::NoMirror { .. }
            | BootstrapError::Missing { .. }
            | BootstrapError::NoPackage { .. }
            | BootstrapError::NotListed { .. } => Kind::NotFound,
            BootstrapError::Invalid { .. }
            | BootstrapError::Keyring { .. }
            | BootstrapError::Signature { .. }
            | BootstrapError::Malformed { .. }
            | BootstrapError::WrongSuite { .. }
            | BootstrapError::Expired { .. }
            | BootstrapError::FromTheFuture { .. }
            | BootstrapError::Changed { .. }
            | BootstrapError::ChangedSize { .. }
            | BootstrapError::TooLarge { .. }
            | BootstrapError::Unsatisfied { .. }
            | BootstrapError::Conflicts { .. }
            | BootstrapError::Package { .. }
            | BootstrapError::Unpack { .. } => Kind::InvalidInput,
            BootstrapError::Engine(error) => error.kind(),
            BootstrapError::Fetch { .. } | BootstrapError::Cancelled => Kind::Unavailable,
            BootstrapError::Io { .. } | BootstrapError::Configure { .. } => Kind::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        let text = match self {
            BootstrapError::Invalid { hint, .. } => hint,
            BootstrapError::NoMirror { .. } => {
                "name one with --mirror URL, or add the suite to /etc/apt/sources.list"
            }
            BootstrapError::Missing { .. } => {
                "look whether the mirror has this suite, and whether its address is that of the directory that holds `dists`"
            }
            BootstrapError::Signature { source: PgpError::UnknownKey { .. }, .. } => {
                "name the distribution's keyring with --keyring FILE, if you trust that key"
            }
            BootstrapError::Signature { .. }
            | BootstrapError::Changed { .. }
            | BootstrapError::ChangedSize { .. } => {
                "don't use this mirror: it, or something on the way to it, changes files"
            }
            BootstrapError::Keyring { .. } => "a keyring is made with `gpg --export KEY > FILE`",
            BootstrapError::Expired { .. } => {
                "the mirror is no longer updated, or this machine's clock is wrong; --snapshot DATE asks for an old state on purpose"
            }
            BootstrapError::FromTheFuture { .. } => "set this machine's clock",
            BootstrapError::WrongSuite { .. } => "name the suite by its codename",
            BootstrapError::NoPackage { .. } => "only the suite's component main is looked at",
            BootstrapError::Conflicts { .. } => "leave one of them out of --include",
            BootstrapError::Engine(error) => return error.hint().map(str::to_owned),
            _ => return None,
        };
        Some(text.to_owned())
    }
}

impl From<BootstrapError> for Error {
    fn from(error: BootstrapError) -> Self {
        let (kind, hint) = (error.kind(), error.hint());
        let mut message = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(next) = cause {
            message = format!("{message}: {next}");
            cause = next.source();
        }
        let converted = Error::new(kind, message);
        match hint {
            Some(hint) => converted.with_hint(hint),
            None => converted,
        }
    }
}
