//! naru's own API, `/naru/v1/…`. What it shows comes through [`crate::context::OpsFace`].

use crate::context::ApiContext;
use crate::web::request::Request;
use crate::web::respond::{self, Response};
use naru_types::spec::ContainerSpec;
use naru_types::{Error, Result};
use naru_wire::create::CreateResponse;
use naru_wire::naru::{DeployFinish, DeployStart, DeployStarted, Settings, SettingsChange};
use naru_wire::url::Query;
use std::sync::Arc;

/// Entries of a list when no limit was asked for, and the most that may be.
const LIMIT_DEFAULT: usize = 50;
const LIMIT_MAX: usize = 1000;

/// Creates a container from naru's own description, for clients that have one (`naru up`): no detour through Docker's JSON
/// loses anything of it. The engine checks it as it checks every other.
pub async fn create_container(context: Arc<ApiContext>, mut request: Request) -> Result<Response> {
    let spec: ContainerSpec = request.json().await?;
    let name = request.query.text("name");
    let created = context.engine.create((!name.is_empty()).then_some(name), spec).await?;
    respond::created(&CreateResponse { id: created.id.to_string(), warnings: created.warnings })
}

pub async fn routes(context: Arc<ApiContext>, _request: Request) -> Result<Response> {
    respond::json(&context.ops.routes().await?)
}

pub async fn deploys(context: Arc<ApiContext>, request: Request) -> Result<Response> {
    respond::json(&context.ops.deploys(limit(&request.query)?).await?)
}

pub async fn deploy_started(context: Arc<ApiContext>, mut request: Request) -> Result<Response> {
    let start: DeployStart = request.json().await?;
    if start.project.is_empty() {
        return Err(Error::invalid("a deploy needs the name of its project"));
    }
    let id = context.ops.deploy_started(start).await?;
    respond::created(&DeployStarted { id })
}

pub async fn deploy_finished(context: Arc<ApiContext>, mut request: Request) -> Result<Response> {
    let id =
        request.name.parse().map_err(|_| Error::not_found(format!("No such deploy: {}", request.name)))?;
    let finish: DeployFinish = request.json().await?;
    context.ops.deploy_finished(id, finish).await?;
    Ok(respond::no_content())
}

pub async fn alerts(context: Arc<ApiContext>, request: Request) -> Result<Response> {
    respond::json(&context.ops.alerts(limit(&request.query)?).await?)
}

fn limit(query: &Query) -> Result<usize> {
    match query.text("limit") {
        "" => Ok(LIMIT_DEFAULT),
        text => text
            .parse()
            .ok()
            .filter(|limit| (1..=LIMIT_MAX).contains(limit))
            .ok_or_else(|| Error::invalid(format!("invalid limit {text:?}: it must be 1 to {LIMIT_MAX}"))),
    }
}

pub async fn settings(context: Arc<ApiContext>, _request: Request) -> Result<Response> {
    respond::json(&Settings { has_webhook: context.ops.has_webhook() })
}

pub async fn change_settings(context: Arc<ApiContext>, mut request: Request) -> Result<Response> {
    let change: SettingsChange = request.json().await?;
    if let Some(webhook) = change.webhook {
        context.ops.set_webhook(Some(webhook).filter(|url| !url.is_empty())).await?;
    }
    Ok(respond::no_content())
}

pub async fn test_webhook(context: Arc<ApiContext>, _request: Request) -> Result<Response> {
    context.ops.test_webhook().await?;
    Ok(respond::no_content())
}

pub async fn ca_certificate(context: Arc<ApiContext>, _request: Request) -> Result<Response> {
    Ok(respond::text("application/x-pem-file", context.ops.ca_certificate_pem().await?))
}

pub async fn shutdown(context: Arc<ApiContext>, _request: Request) -> Result<Response> {
    context.shutdown.notify_one();
    Ok(respond::no_content())
}
