//! The only place that knows everybody: read it from top to bottom to see what the daemon is made of.

use crate::buildkit_host::EngineHost;
use crate::config::DaemonConfig;
use crate::ops_face::OpsAdapter;
use crate::step_runner::{BootstrapSteps, EngineSteps};
use naru_api::ApiContext;
use naru_bootstrap::Bootstrapper;
use naru_build::Builder;
use naru_buildkit::BuildKit;
use naru_engine::Engine;
use naru_image::GcPolicy;
use naru_ops::Ops;
use naru_types::{Error, Result};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::sync::Notify;

/// Between two collections of images, where the configuration has a policy for them.
const IMAGE_GC_INTERVAL: Duration = Duration::from_secs(3600);

pub struct Daemon {
    engine: Arc<Engine>,
    ops: Arc<Ops>,
    api: Arc<ApiContext>,
}

impl Daemon {
    pub async fn start(config: &DaemonConfig) -> Result<Self> {
        let engine = Engine::open(config.engine.clone()).await?;
        let ops = Ops::open(Arc::clone(&engine), config.ops.clone()).await?;
        let builder = builder(&engine).await?;
        let contexts = build_contexts(&config.engine.root)?;
        let api = Arc::new(ApiContext {
            buildkit: BuildKit::new(
                builder.clone(),
                contexts.clone(),
                Arc::new(EngineHost(Arc::clone(&engine))),
            ),
            engine: Arc::clone(&engine),
            bootstrapper: bootstrapper(&engine, &config.bootstrap_mirrors)?,
            builder,
            ops: Arc::new(OpsAdapter::new(Arc::clone(&ops), &config.ops)),
            build_contexts: contexts,
            image_gc: config.image_gc.clone(),
            shutdown: Arc::new(Notify::new()),
        });
        if !config.image_gc.is_off() {
            tokio::spawn(collect_images(Arc::downgrade(&engine), config.image_gc.clone()));
        }
        Ok(Self { engine, ops, api })
    }

    /// Completes when a client asked for the end.
    pub fn shutdown_asked(&self) -> impl Future<Output = ()> + use<> {
        let shutdown = Arc::clone(&self.api.shutdown);
        async move { shutdown.notified().await }
    }

    pub async fn serve(&self, listener: UnixListener, stop: impl Future<Output = ()>) {
        naru_api::serve(listener, Arc::clone(&self.api), stop).await;
    }

    /// Ops first: it reads the engine's events to the last.
    pub async fn stop(self) -> Result<()> {
        let ops = self.ops.shutdown().await;
        self.engine.shutdown().await?;
        ops
    }
}

/// Deletes what the configured policy gives up, for as long as the engine lives.
async fn collect_images(engine: Weak<Engine>, policy: GcPolicy) {
    let mut turns = tokio::time::interval(IMAGE_GC_INTERVAL);
    loop {
        turns.tick().await;
        let Some(engine) = engine.upgrade() else { return };
        let policy = policy.clone();
        let collected = tokio::task::spawn_blocking(move || naru_api::collect_images(&engine, &policy)).await;
        // What failed is tried again at the next turn, and `naru image gc` says why.
        let _ = collected;
    }
}

async fn builder(engine: &Arc<Engine>) -> Result<Builder> {
    let engine = Arc::clone(engine);
    let opened = tokio::task::spawn_blocking(move || {
        let store = engine.images().as_ref().clone();
        let root = engine.config().root.clone();
        let run = engine.config().run.clone();
        Builder::open(store, &root, Arc::new(EngineSteps(engine)))?.with_secrets_in(&run)
    });
    opened
        .await
        .map_err(|error| Error::internal("opening the builder broke off: this is a bug").with_source(error))?
}

fn bootstrapper(engine: &Arc<Engine>, mirrors: &BTreeMap<String, String>) -> Result<Bootstrapper> {
    let store = engine.images().as_ref().clone();
    let steps = Arc::new(BootstrapSteps(Arc::clone(engine)));
    Ok(Bootstrapper::open(store, &engine.config().root, steps)?.with_mirrors(mirrors.clone()))
}

/// Contexts that a killed daemon left are nobody's any more.
fn build_contexts(root: &std::path::Path) -> Result<std::path::PathBuf> {
    let dir = root.join("build-contexts");
    let broken = |error| Error::internal(format!("cannot prepare {}", dir.display())).with_source(error);
    match std::fs::remove_dir_all(&dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(broken(error)),
        _ => {}
    }
    std::fs::create_dir(&dir).map_err(broken)?;
    Ok(dir)
}
