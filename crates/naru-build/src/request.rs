//! What is asked of the builder.

use crate::kept::KeptContext;
use crate::runner::StepNetwork;
use crate::session::{BuildSession, NoSession};
use naru_image::Credentials;
use naru_types::ImageRef;
use naru_types::platform::Platform;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Where the Dockerfile comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DockerfileSource {
    /// A path relative to the context, `Dockerfile` by custom. It may not lead out of the context.
    InContext(String),
    /// The text itself, read from elsewhere (`-f` outside of the context, stdin); `name` is for messages
    /// and for finding `<name>.dockerignore` in the context.
    Text { name: String, text: String },
}

/// Registry credentials for one image, given to the store when it must be pulled.
pub type CredentialsFor = dyn Fn(&ImageRef) -> Credentials + Send + Sync;

/// What a name that a Dockerfile takes from (`FROM name`, `--from=name`) means instead
/// (`--build-context`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamedContext {
    /// A directory of the host, at rest during the build. Its files belong to root, as the context's do.
    Directory(PathBuf),
    /// Another image (`docker-image://…`).
    Image(String),
}

#[derive(Clone)]
pub struct BuildRequest {
    /// A directory that holds the context and doesn't change during the build.
    pub context: PathBuf,
    /// The context is the tree of this one, which was filled for this build.
    pub kept: Option<Arc<KeptContext>>,
    /// The context holds what is to be copied and no more: ignore rules in it are files like any other.
    pub filtered: bool,
    pub dockerfile: DockerfileSource,
    /// `--build-arg`.
    pub args: BTreeMap<String, String>,
    /// `--target`: a stage's name or number; the last stage otherwise.
    pub target: Option<String>,
    pub tags: Vec<ImageRef>,
    /// The image goes into the store's list. Otherwise it has no names and is gone once [`crate::Built::held`] is: for a result
    /// that is written elsewhere.
    pub listed: bool,
    pub no_cache: bool,
    /// Ask the registry even when the base image is here.
    pub pull: bool,
    pub labels: BTreeMap<String, String>,
    /// Only the host's own platform can be built.
    pub platform: Option<Platform>,
    /// The network of RUN steps that don't name one.
    pub network: StepNetwork,
    /// Whether `RUN --network=host` may have it (BuildKit's entitlement `network.host`). A build whose network is the host's
    /// allows it anyway.
    pub host_network_allowed: bool,
    /// `name:address` lines for /etc/hosts of RUN steps.
    pub extra_hosts: Vec<String>,
    /// Bytes of /dev/shm in RUN steps; `None` is Docker's 64 MiB.
    pub shm_size: Option<i64>,
    pub credentials: Arc<CredentialsFor>,
    /// `--build-context`, by name.
    pub contexts: BTreeMap<String, NamedContext>,
    /// Where secrets and SSH agents of `RUN --mount` come from.
    pub session: Arc<dyn BuildSession>,
    /// Set it, and the build stops at the next step or kills the one that runs.
    pub cancel: Arc<AtomicBool>,
}

impl BuildRequest {
    /// A build of `Dockerfile` in `context` with nothing special.
    pub fn new(context: impl Into<PathBuf>) -> Self {
        Self {
            context: context.into(),
            kept: None,
            filtered: false,
            dockerfile: DockerfileSource::InContext("Dockerfile".into()),
            args: BTreeMap::new(),
            target: None,
            tags: Vec::new(),
            listed: true,
            no_cache: false,
            pull: false,
            labels: BTreeMap::new(),
            platform: None,
            network: StepNetwork::Bridge,
            host_network_allowed: false,
            extra_hosts: Vec::new(),
            shm_size: None,
            credentials: Arc::new(|_| Credentials::default()),
            contexts: BTreeMap::new(),
            session: Arc::new(NoSession),
            cancel: Arc::new(AtomicBool::new(false)),
        }
    }
}
