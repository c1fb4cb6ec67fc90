//! What the handlers work with, and the port to the operations layer.

use naru_bootstrap::Bootstrapper;
use naru_build::Builder;
use naru_buildkit::BuildKit;
use naru_engine::Engine;
use naru_image::GcPolicy;
use naru_types::Result;
use naru_wire::naru::{Alert, Deploy, DeployFinish, DeployStart, Routes};
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::Notify;

pub struct ApiContext {
    pub engine: Arc<Engine>,
    pub builder: Builder,
    pub buildkit: BuildKit,
    pub bootstrapper: Bootstrapper,
    pub ops: Arc<dyn OpsFace>,
    /// What `POST /naru/v1/images/gc` does when it isn't told.
    pub image_gc: GcPolicy,
    /// Where build contexts are unpacked, one directory each, removed with the build. Swept by whoever opens it.
    pub build_contexts: PathBuf,
    /// Notified when a client asks for the daemon's end.
    pub shutdown: Arc<Notify>,
}

pub type OpsFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// What the API needs of the operations layer. A port, so that this crate is tested without it and the types on the
/// wire stay apart from its own.
pub trait OpsFace: Send + Sync {
    fn routes(&self) -> OpsFuture<'_, Routes>;
    /// Gives the deploy's number.
    fn deploy_started(&self, start: DeployStart) -> OpsFuture<'_, i64>;
    fn deploy_finished(&self, id: i64, finish: DeployFinish) -> OpsFuture<'_, ()>;
    fn deploys(&self, limit: usize) -> OpsFuture<'_, Vec<Deploy>>;
    fn alerts(&self, limit: usize) -> OpsFuture<'_, Vec<Alert>>;
    fn has_webhook(&self) -> bool;
    /// `None` forgets the stored address.
    fn set_webhook(&self, url: Option<String>) -> OpsFuture<'_, ()>;
    fn test_webhook(&self) -> OpsFuture<'_, ()>;
    fn ca_certificate_pem(&self) -> OpsFuture<'_, String>;
}
