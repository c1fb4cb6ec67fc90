//! What a long operation tells while it runs, in terms that turn one to one into Docker's JSON stream
//! (moby `pkg/jsonmessage`: `{"status", "id", "progressDetail"}`). The texts are Docker's, since
//! clients print and match them; rendering bars and JSON is the caller's.

use crate::registry::patience::Delay;
use naru_types::Digest;

/// One message. `id()` and `status()` give the two texts of Docker's message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A pull begins: `latest: Pulling from library/nginx`.
    PullingFrom { tag: String, repository: String },
    /// A push begins: `The push refers to repository [docker.io/library/nginx]`.
    PushRefersTo { repository: String },
    /// One layer moved on. `id` is the short digest that Docker shows for it.
    Layer { id: String, step: LayerStep },
    /// The manifest's digest is known.
    Digest(Digest),
    /// A closing line, such as `Status: Image is up to date for nginx:latest`.
    Status(String),
    /// A push ended: `latest: digest: sha256:… size: 528`, and the `aux` of the same content.
    Pushed { tag: String, digest: Digest, size: u64 },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LayerStep {
    PullingFsLayer,
    Waiting,
    Downloading {
        current: u64,
        total: u64,
    },
    VerifyingChecksum,
    DownloadComplete,
    Extracting {
        current: u64,
        total: u64,
    },
    PullComplete,
    AlreadyExists,
    Retrying {
        seconds: u64,
    },
    /// The registry answered that it was asked too often.
    RateLimited {
        seconds: u64,
    },
    Preparing,
    Pushing {
        current: u64,
        total: u64,
    },
    Pushed,
    LayerAlreadyExists,
    MountedFrom(String),
    /// A blob goes from one registry to another.
    Copying {
        current: u64,
        total: u64,
    },
    Copied,
    ManifestCopied,
    ManifestAlreadyExists,
    Loading {
        current: u64,
        total: u64,
    },
}

/// A request that waits outside of any layer.
pub(crate) fn delayed(registry: &str, delay: Delay) -> Progress {
    let (seconds, unit) = (delay.seconds(), if delay.seconds() == 1 { "second" } else { "seconds" });
    Progress::Status(if delay.is_rate_limit {
        format!("{registry} was asked too often (its rate limit is reached): retrying in {seconds} {unit}")
    } else {
        format!("{registry} does not answer as it should: retrying in {seconds} {unit}")
    })
}

/// Where messages go; called from several threads at once.
pub type ProgressFn<'a> = dyn Fn(Progress) + Sync + 'a;

impl Progress {
    pub(crate) fn layer(id: &str, step: LayerStep) -> Self {
        Progress::Layer { id: id.to_owned(), step }
    }

    /// The `id` member of Docker's message.
    pub fn id(&self) -> Option<&str> {
        match self {
            Progress::PullingFrom { tag, .. } => Some(tag),
            Progress::Layer { id, .. } => Some(id),
            Progress::PushRefersTo { .. }
            | Progress::Digest(_)
            | Progress::Status(_)
            | Progress::Pushed { .. } => None,
        }
    }

    /// The `status` member of Docker's message.
    pub fn status(&self) -> String {
        match self {
            Progress::PullingFrom { repository, .. } => format!("Pulling from {repository}"),
            Progress::PushRefersTo { repository } => format!("The push refers to repository [{repository}]"),
            Progress::Layer { step, .. } => step.status(),
            Progress::Digest(digest) => format!("Digest: {digest}"),
            Progress::Status(text) => text.clone(),
            Progress::Pushed { tag, digest, size } => format!("{tag}: digest: {digest} size: {size}"),
        }
    }

    /// The `progressDetail` member: bytes done and bytes in all (zero where unknown).
    pub fn detail(&self) -> Option<(u64, u64)> {
        match self {
            Progress::Layer {
                step:
                    LayerStep::Downloading { current, total }
                    | LayerStep::Extracting { current, total }
                    | LayerStep::Pushing { current, total }
                    | LayerStep::Copying { current, total }
                    | LayerStep::Loading { current, total },
                ..
            } => Some((*current, *total)),
            _ => None,
        }
    }
}

impl From<Delay> for LayerStep {
    fn from(delay: Delay) -> Self {
        let seconds = delay.seconds();
        if delay.is_rate_limit { LayerStep::RateLimited { seconds } } else { LayerStep::Retrying { seconds } }
    }
}

impl LayerStep {
    fn status(&self) -> String {
        match self {
            LayerStep::PullingFsLayer => "Pulling fs layer".into(),
            LayerStep::Waiting => "Waiting".into(),
            LayerStep::Downloading { .. } => "Downloading".into(),
            LayerStep::VerifyingChecksum => "Verifying Checksum".into(),
            LayerStep::DownloadComplete => "Download complete".into(),
            LayerStep::Extracting { .. } => "Extracting".into(),
            LayerStep::PullComplete => "Pull complete".into(),
            LayerStep::AlreadyExists => "Already exists".into(),
            LayerStep::Retrying { seconds } => {
                format!("Retrying in {seconds} second{}", if *seconds == 1 { "" } else { "s" })
            }
            LayerStep::RateLimited { seconds } => format!(
                "The registry's rate limit is reached: retrying in {seconds} second{}",
                if *seconds == 1 { "" } else { "s" }
            ),
            LayerStep::Preparing => "Preparing".into(),
            LayerStep::Pushing { .. } => "Pushing".into(),
            LayerStep::Pushed => "Pushed".into(),
            LayerStep::LayerAlreadyExists => "Layer already exists".into(),
            LayerStep::MountedFrom(repository) => format!("Mounted from {repository}"),
            LayerStep::Copying { .. } => "Copying".into(),
            LayerStep::Copied => "Copied".into(),
            LayerStep::ManifestCopied => "Manifest copied".into(),
            LayerStep::ManifestAlreadyExists => "Manifest already exists".into(),
            LayerStep::Loading { .. } => "Loading layer".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_dockers() {
        let message = Progress::layer("abc", LayerStep::Downloading { current: 1, total: 2 });
        assert_eq!(
            (message.id(), message.status().as_str(), message.detail()),
            (Some("abc"), "Downloading", Some((1, 2)))
        );
        let retry = Progress::layer("abc", LayerStep::Retrying { seconds: 1 });
        assert_eq!(retry.status(), "Retrying in 1 second");
    }
}
