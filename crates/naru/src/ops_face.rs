//! The operations layer as the API sees it: one conversion per noun, nothing decided.

use naru_api::{OpsFace, OpsFuture};
use naru_ops::{AlertState, DeployId, DeployState, Ops, OpsConfig, ProxyState, WebhookUrl};
use naru_types::Timestamp;
use naru_wire::naru::{Alert, Deploy, DeployFinish, DeployOutcome, DeployStart, Route, Routes};
use std::sync::Arc;

pub struct OpsAdapter {
    ops: Arc<Ops>,
    http: String,
    https: String,
}

impl OpsAdapter {
    pub fn new(ops: Arc<Ops>, config: &OpsConfig) -> Self {
        Self { ops, http: config.proxy_http.to_string(), https: config.proxy_https.to_string() }
    }
}

impl OpsFace for OpsAdapter {
    fn routes(&self) -> OpsFuture<'_, Routes> {
        Box::pin(async move {
            let view = self.ops.routes();
            let (proxy, proxy_error) = match view.proxy {
                ProxyState::Idle => ("idle", String::new()),
                ProxyState::Serving { .. } => ("serving", String::new()),
                ProxyState::Failed { error, .. } => ("failed", error),
            };
            let routes = view.table.routes.into_iter().map(|route| Route {
                host: route.host,
                path_prefix: route.path_prefix,
                service: route.service,
                backends: route.backends.iter().map(ToString::to_string).collect(),
            });
            Ok(Routes {
                routes: routes.collect(),
                proxy: proxy.into(),
                proxy_error,
                http: self.http.clone(),
                https: self.https.clone(),
                problems: view.problems,
            })
        })
    }

    fn deploy_started(&self, start: DeployStart) -> OpsFuture<'_, i64> {
        Box::pin(async move { Ok(self.ops.deploy_started(&start.project, &start.services).await?.0) })
    }

    fn deploy_finished(&self, id: i64, finish: DeployFinish) -> OpsFuture<'_, ()> {
        let outcome = match finish.status {
            DeployOutcome::Succeeded => Ok(()),
            DeployOutcome::Failed => Err(finish.error),
        };
        Box::pin(self.ops.deploy_finished(DeployId(id), outcome))
    }

    fn deploys(&self, limit: usize) -> OpsFuture<'_, Vec<Deploy>> {
        Box::pin(async move { Ok(self.ops.deploys(limit).await?.into_iter().map(deploy).collect()) })
    }

    fn alerts(&self, limit: usize) -> OpsFuture<'_, Vec<Alert>> {
        Box::pin(async move { Ok(self.ops.recent_alerts(limit).await?.into_iter().map(alert).collect()) })
    }

    fn has_webhook(&self) -> bool {
        self.ops.has_webhook()
    }

    fn set_webhook(&self, url: Option<String>) -> OpsFuture<'_, ()> {
        Box::pin(async move {
            let url = url.as_deref().map(WebhookUrl::parse).transpose()?;
            self.ops.set_webhook(url).await
        })
    }

    fn test_webhook(&self) -> OpsFuture<'_, ()> {
        Box::pin(self.ops.test_webhook())
    }

    fn ca_certificate_pem(&self) -> OpsFuture<'_, String> {
        Box::pin(self.ops.ca_certificate_pem())
    }
}

fn deploy(view: naru_ops::DeployView) -> Deploy {
    let (status, error) = match view.state {
        DeployState::Running => ("running", String::new()),
        DeployState::Succeeded => ("succeeded", String::new()),
        DeployState::Failed { error } => ("failed", error),
    };
    Deploy {
        id: view.id.0,
        project: view.project,
        services: view.services,
        status: status.into(),
        error,
        started_at: view.started_at.to_string(),
        finished_at: time(view.finished_at),
    }
}

fn alert(view: naru_ops::AlertView) -> Alert {
    let (status, error) = match view.state {
        AlertState::Pending { last_error, .. } => ("pending", last_error.unwrap_or_default()),
        AlertState::Sent { .. } => ("sent", String::new()),
        AlertState::Failed { error } => ("failed", error),
        AlertState::NoWebhook => ("no-webhook", String::new()),
    };
    Alert {
        id: view.id,
        title: view.title,
        at: view.at.to_string(),
        seen: view.seen,
        status: status.into(),
        error,
    }
}

/// Empty for what has not happened yet.
fn time(at: Timestamp) -> String {
    if at == Timestamp::ZERO { String::new() } else { at.to_string() }
}
