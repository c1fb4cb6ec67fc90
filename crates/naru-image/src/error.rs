//! What can go wrong with images. One enum for the crate: each variant names the step and its subject,
//! and [`ImageError::kind`] is the only place that says what a face should make of it.
//!
//! The texts of registry answers are dockerd's, because clients match them.

use naru_tar::TarError;
use naru_types::{Digest, Error, Kind};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("cannot {step} {path}")]
    Io { step: &'static str, path: PathBuf, source: io::Error },
    #[error("the image store {root} is in use by another process")]
    Locked { root: PathBuf },
    #[error("the image index {path} is damaged")]
    IndexDamaged { path: PathBuf, source: serde_json::Error },
    #[error("the image index {path} is of version {found}; this naru reads up to {known}")]
    IndexVersion { path: PathBuf, found: u32, known: u32 },
    #[error("No such image: {name}")]
    NoSuchImage { name: String },
    #[error("ambiguous image id prefix {prefix:?}: it fits several images")]
    AmbiguousId { prefix: String },
    #[error("layer {diff_id} is not in the store")]
    NoSuchLayer { diff_id: Digest },
    #[error("content {digest} is missing from the store")]
    BlobMissing { digest: Digest },
    #[error("content {}: expected {expected}, got {found}", path.display())]
    BlobDamaged { path: PathBuf, expected: Digest, found: Digest },
    #[error("{0}")]
    Conflict(String),
    #[error("cannot create an image reference with a digest")]
    TagWithDigest,
    #[error(transparent)]
    Tar(#[from] TarError),
    #[error("cannot create {entry:?}: a hard link to {target:?}, which this layer does not hold")]
    LinkOutOfLayer { entry: String, target: String },
    #[error("cannot {step} {entry:?} of the archive")]
    Unpack { step: &'static str, entry: String, source: io::Error },
    #[error("cannot {step} {entry:?}")]
    Pack { step: &'static str, entry: String, source: io::Error },
    #[error("cannot write the archive")]
    Write { source: io::Error },
    #[error("the stored layer {diff_id} was changed: its archive now has the digest {found}")]
    LayerChanged { diff_id: Digest, found: Digest },
    #[error("a running container of image {image} is mounted on the damaged layer {diff_id}")]
    LayerInUse { diff_id: Digest, image: Digest },
    #[error("a pull, a build or a new container holds the damaged layer {diff_id}")]
    LayerHeld { diff_id: Digest },
    #[error("image {id} did not come from a registry, or its name there was removed")]
    NoSource { id: Digest },
    #[error("the repair failed: {what}")]
    NotHealed { what: String },
    #[error("{what}: expected {expected}, got {found}")]
    DigestMismatch { what: String, expected: Digest, found: Digest },
    #[error("{what} has {found} bytes, {expected} were announced")]
    SizeMismatch { what: String, expected: u64, found: u64 },
    #[error("{what} is {found} bytes long; the limit is {limit}")]
    TooLarge { what: String, found: u64, limit: u64 },
    #[error("{what} is not valid")]
    Malformed { what: String, source: serde_json::Error },
    #[error("{what}")]
    Unsupported { what: String, hint: &'static str },
    #[error("{what}")]
    BadArchive { what: String },
    #[error("no matching manifest for {platform} in the manifest list entries")]
    NoPlatform { platform: String },
    #[error(
        "image with reference {name} was found but its platform ({actual}) does not match the specified platform ({wanted})"
    )]
    WrongPlatform { name: String, wanted: String, actual: String },
    #[error("manifest for {name} not found: {detail}")]
    ManifestUnknown { name: String, detail: String },
    #[error(
        "pull access denied for {repository}, repository does not exist or may require 'docker login': {detail}"
    )]
    PullDenied { repository: String, detail: String },
    #[error("repository {repository} not found: {detail}")]
    RepositoryUnknown { repository: String, detail: String },
    #[error("{method} {url:?}: {detail}")]
    Unauthorized { method: &'static str, url: String, detail: String },
    #[error("login attempt to {url} failed with status: {status}")]
    LoginRefused { url: String, status: String },
    #[error("toomanyrequests: {detail} ({limit})")]
    TooManyRequests { detail: String, limit: String },
    #[error("registry answered {status} to {method} {url}: {detail}")]
    Status { method: &'static str, url: String, status: u16, detail: String },
    #[error("{method} {url:?}: {detail}")]
    Transport { method: &'static str, url: String, detail: String },
    #[error("{}:{line}: {what}", path.display())]
    BadHosts { path: PathBuf, line: usize, what: String },
    #[error("{setting}: {value:?}: {why}")]
    BadSetting { setting: &'static str, value: String, why: &'static str },
    #[error("missing {missing} for {}. CA certificates must use the extension .crt", path.display())]
    CertificatePair { path: PathBuf, missing: String },
    #[error("invalid registry address {address:?}")]
    BadRegistry { address: String },
    #[error("the thread that downloaded {digest} ended: a bug in naru")]
    DownloadDied { digest: Digest },
    /// Of a download that several pulls watched.
    #[error(transparent)]
    Shared(Arc<ImageError>),
    #[error("context canceled")]
    Cancelled,
}

pub type Result<T, E = ImageError> = std::result::Result<T, E>;

impl ImageError {
    pub(crate) fn io(step: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| ImageError::Io { step, path, source }
    }

    pub(crate) fn tar(what: impl Into<String>, entry: Option<&[u8]>) -> Self {
        ImageError::Tar(TarError::format(what, entry))
    }

    pub(crate) fn tar_read(source: io::Error) -> Self {
        ImageError::Tar(TarError::Read { source })
    }

    pub fn kind(&self) -> Kind {
        match self {
            ImageError::NoSuchImage { .. }
            | ImageError::NoPlatform { .. }
            | ImageError::WrongPlatform { .. }
            | ImageError::ManifestUnknown { .. }
            | ImageError::RepositoryUnknown { .. }
            | ImageError::PullDenied { .. } => Kind::NotFound,
            ImageError::Conflict(_) | ImageError::LayerInUse { .. } | ImageError::LayerHeld { .. } => {
                Kind::Conflict
            }
            ImageError::Unauthorized { .. } | ImageError::LoginRefused { .. } => Kind::Unauthorized,
            ImageError::AmbiguousId { .. }
            | ImageError::TagWithDigest
            | ImageError::BadArchive { .. }
            | ImageError::LinkOutOfLayer { .. }
            | ImageError::BadHosts { .. }
            | ImageError::BadSetting { .. }
            | ImageError::CertificatePair { .. }
            | ImageError::BadRegistry { .. } => Kind::InvalidInput,
            ImageError::Tar(error) => error.kind(),
            ImageError::Shared(error) => error.kind(),
            ImageError::Unsupported { .. } => Kind::NotImplemented,
            ImageError::Cancelled | ImageError::TooManyRequests { .. } => Kind::Unavailable,
            ImageError::Io { .. }
            | ImageError::Locked { .. }
            | ImageError::IndexDamaged { .. }
            | ImageError::IndexVersion { .. }
            | ImageError::NoSuchLayer { .. }
            | ImageError::BlobMissing { .. }
            | ImageError::BlobDamaged { .. }
            | ImageError::Unpack { .. }
            | ImageError::Pack { .. }
            | ImageError::Write { .. }
            | ImageError::LayerChanged { .. }
            | ImageError::NoSource { .. }
            | ImageError::NotHealed { .. }
            | ImageError::DigestMismatch { .. }
            | ImageError::SizeMismatch { .. }
            | ImageError::TooLarge { .. }
            | ImageError::Malformed { .. }
            | ImageError::Status { .. }
            | ImageError::DownloadDied { .. }
            | ImageError::Transport { .. } => Kind::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            ImageError::Locked { .. } => Some("stop the other daemon, or use another --root".into()),
            ImageError::IndexDamaged { path, .. } => {
                Some(format!("move {} away and pull the images again", path.display()))
            }
            ImageError::PullDenied { .. } | ImageError::Unauthorized { .. } => {
                Some("log in with `naru login` and try again".into())
            }
            ImageError::TooManyRequests { .. } => {
                Some("log in with `naru login`, or name a mirror in daemon.json's registry-mirrors".into())
            }
            ImageError::BlobMissing { .. }
            | ImageError::BlobDamaged { .. }
            | ImageError::LayerChanged { .. } => {
                Some("naru image verify --repair fetches it again from where the image came from".into())
            }
            ImageError::LinkOutOfLayer { .. } => Some(
                "Docker and containerd refuse such a layer as well; it has to hold the file's content itself"
                    .into(),
            ),
            ImageError::LayerInUse { .. } => Some("stop the container and repair again".into()),
            ImageError::LayerHeld { .. } => Some("repair again when that has ended".into()),
            ImageError::NoSource { .. } => Some(
                "remove it, then build, load or import it again; or pull the image that it is based on"
                    .into(),
            ),
            ImageError::Unsupported { hint, .. } => Some((*hint).into()),
            ImageError::Shared(error) => error.hint(),
            _ => None,
        }
    }
}

impl From<ImageError> for Error {
    fn from(error: ImageError) -> Self {
        let hint = error.hint();
        // The message says it all for users of an API that carries one line: causes are appended.
        let mut message = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(next) = cause {
            message = format!("{message}: {next}");
            cause = next.source();
        }
        let converted = Error::new(error.kind(), message);
        match hint {
            Some(hint) => converted.with_hint(hint),
            None => converted,
        }
    }
}
