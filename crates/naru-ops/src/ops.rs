//! The face of the crate: one object per daemon, opened after the engine and shut down before it.

use crate::config::OpsConfig;
use crate::db::Db;
use crate::deploys;
use crate::discord::{Poster, Verdict};
use crate::error::OpsError;
use crate::events;
use crate::message;
use crate::outbox;
use crate::port::EnginePort;
use crate::router::Router;
use crate::sender::{self, Desk, now};
use crate::views::{AlertView, DeployId, DeployView, RoutesView};
use crate::watch;
use crate::webhook::WebhookUrl;
use naru_engine::Engine;
use naru_types::Result;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch as signal;
use tokio::task::JoinHandle;

const WEBHOOK_SETTING: &str = "webhook";
/// Most rows in one answer.
const LIST_MAX: usize = 1000;

pub struct Ops {
    engine: Arc<dyn EnginePort>,
    db: Arc<Db>,
    desk: Arc<Desk>,
    router: Arc<Router>,
    certificate: PathBuf,
    ending: signal::Sender<bool>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Ops {
    /// Marks deploys that a former daemon left behind as failed, pushes the routes, and begins to watch.
    pub async fn open(engine: Arc<Engine>, config: OpsConfig) -> Result<Arc<Ops>> {
        Self::open_with(Arc::new(engine), config).await
    }

    pub(crate) async fn open_with(engine: Arc<dyn EnginePort>, config: OpsConfig) -> Result<Arc<Ops>> {
        // Subscribed first: what happens from here on is seen.
        let (alerts, routes) = (engine.subscribe(), engine.subscribe());
        let (path, given, host_name) =
            (config.root.join("ops.db"), config.webhook.clone(), config.host_name.clone());
        let (db, desk, interrupted) = blocking(move || {
            let db = Arc::new(Db::open(&path)?);
            let stored = db.setting(WEBHOOK_SETTING)?.and_then(|text| WebhookUrl::parse(&text).ok());
            let desk = Arc::new(Desk::new(db.clone(), host_name, given.or(stored)));
            let interrupted = deploys::fail_interrupted(&db, now(), desk.has_webhook())?;
            // It ends when it is told to; its handle says nothing more.
            sender::start(desk.clone())?;
            Ok((db, desk, interrupted))
        })
        .await?;
        for deploy in &interrupted {
            engine.emit(events::deploy(deploy));
        }
        let ending = signal::Sender::new(false);
        let certificate = config.root.join(naru_proxy::CA_CERTIFICATE_FILE);
        let router = Arc::new(Router::new(engine.clone(), desk.clone(), config));
        let tasks = vec![
            tokio::spawn(watch::run(engine.clone(), alerts, desk.clone(), ending.subscribe())),
            tokio::spawn(router.clone().run(routes, ending.subscribe())),
        ];
        Ok(Arc::new(Ops { engine, db, desk, router, certificate, ending, tasks: Mutex::new(tasks) }))
    }

    /// The table, what became of it, and labels that could not be followed.
    pub fn routes(&self) -> RoutesView {
        self.router.view()
    }

    /// Computes and pushes now, for a caller that wants to be sure before it goes on.
    pub async fn sync_routes(&self) -> RoutesView {
        self.router.clone().push().await;
        self.router.view()
    }

    pub async fn deploy_started(&self, project: &str, services: &[String]) -> Result<DeployId> {
        let (db, desk, project, services) =
            (self.db.clone(), self.desk.clone(), project.to_owned(), services.to_vec());
        let deploy =
            blocking(move || deploys::start(&db, &project, &services, now(), desk.has_webhook())).await?;
        self.announce(&deploy);
        Ok(deploy.id)
    }

    /// The error's text goes into the record and the alert. A deploy ends once.
    pub async fn deploy_finished(&self, id: DeployId, outcome: Result<(), String>) -> Result<()> {
        let (db, desk) = (self.db.clone(), self.desk.clone());
        let work = move || {
            let outcome = outcome.as_ref().copied().map_err(String::as_str);
            deploys::finish(&db, id, outcome, now(), desk.has_webhook())
        };
        let deploy = blocking(work).await?;
        self.announce(&deploy);
        Ok(())
    }

    fn announce(&self, deploy: &DeployView) {
        self.desk.ring();
        self.engine.emit(events::deploy(deploy));
    }

    /// Newest first.
    pub async fn deploys(&self, limit: usize) -> Result<Vec<DeployView>> {
        let db = self.db.clone();
        blocking(move || deploys::recent(&db, limit.min(LIST_MAX))).await
    }

    /// Newest first.
    pub async fn recent_alerts(&self, limit: usize) -> Result<Vec<AlertView>> {
        let db = self.db.clone();
        blocking(move || outbox::recent(&db, limit.min(LIST_MAX))).await
    }

    /// Stored, and used from now on; `None` forgets it. A webhook from the environment or the configuration
    /// file comes back with the next start.
    pub async fn set_webhook(&self, url: Option<WebhookUrl>) -> Result<()> {
        let (db, desk) = (self.db.clone(), self.desk.clone());
        blocking(move || {
            db.set_setting(WEBHOOK_SETTING, url.as_ref().map(WebhookUrl::reveal))?;
            desk.set_webhook(url);
            Ok(())
        })
        .await
    }

    pub fn has_webhook(&self) -> bool {
        self.desk.has_webhook()
    }

    /// Sends one message past the outbox and answers with what the receiver made of it.
    pub async fn test_webhook(&self) -> Result<()> {
        let desk = self.desk.clone();
        blocking(move || {
            let url = desk.webhook().ok_or(OpsError::NoWebhook)?;
            let footer = format!("naru on {}", desk.host_name);
            match Poster::new().post(&url, &message::of_test(now()).embed.message(&footer)) {
                Verdict::Taken { .. } => Ok(()),
                Verdict::Wait { pause } => Err(OpsError::TestRefused {
                    why: format!("rate limited for {:.1} s", pause.as_secs_f64()),
                }),
                Verdict::Retry { error } | Verdict::Refused { error, .. } => {
                    Err(OpsError::TestRefused { why: error })
                }
            }
        })
        .await
    }

    /// The certificate that clients have to trust, in PEM.
    pub async fn ca_certificate_pem(&self) -> Result<String> {
        let path = self.certificate.clone();
        blocking(move || {
            std::fs::read_to_string(&path).map_err(|source| OpsError::NoCertificate { path, source })
        })
        .await
    }

    /// Stops watching and sending. What waits in the outbox is sent by the next daemon. The proxy goes on, or
    /// ends when nothing is routed.
    pub async fn shutdown(&self) -> Result<()> {
        self.ending.send_replace(true);
        self.desk.stop();
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            task.await.map_err(|source| OpsError::Task { source })?;
        }
        let router = self.router.clone();
        blocking(move || {
            router.release_proxy();
            Ok(())
        })
        .await
    }
}

impl Drop for Ops {
    fn drop(&mut self) {
        self.ending.send_replace(true);
        self.desk.stop();
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, OpsError> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await.map_err(|source| OpsError::Task { source })?;
    Ok(done?)
}
