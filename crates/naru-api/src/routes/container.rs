//! Containers: create, inspect, rename, update, changes, remove, commit.

use crate::context::ApiContext;
use crate::convert::{create as convert_create, inspect as convert_inspect, resources};
use crate::web::request::{Request, bad_json};
use crate::web::respond::{self, Response};
use naru_engine::{ChangeKind, CommitOptions, RemoveOptions, UpdateOptions};
use naru_types::image::RunConfig;
use naru_types::platform::Platform;
use naru_types::{Error, ImageRef, Kind, Result};
use naru_wire::create::{Config, CreateRequest, CreateResponse, UpdateResponse};
use naru_wire::exec::IdResponse;
use naru_wire::host_config::HostConfig;
use naru_wire::inspect::Change;
use std::sync::Arc;

pub async fn create(context: Arc<ApiContext>, mut request: Request) -> Result<Response> {
    check_platform(request.query.text("platform"))?;
    let body = CreateRequest::from_slice(&request.json_bytes().await?).map_err(bad_json)?;
    let spec = convert_create::spec(body)?;
    let name =
        request.query.first("name").map(|name| name.trim_start_matches('/')).filter(|name| !name.is_empty());
    let image = spec.image.clone();
    let made =
        context.engine.create(name, spec).await.map_err(|error| not_about_image(&context, &image, error))?;
    respond::created(&CreateResponse { id: made.id.to_string(), warnings: made.warnings })
}

/// A client takes a 404 for a missing image and pulls it. What else is missing (a network, another container) is thus
/// told as a bad request.
fn not_about_image(context: &ApiContext, image: &str, error: Error) -> Error {
    if error.kind() != Kind::NotFound || context.engine.images().get(image).is_err() {
        return error;
    }
    let told = Error::invalid(error.chain());
    match error.hint() {
        Some(hint) => told.with_hint(hint),
        None => told,
    }
}

/// Only what runs here can be asked for.
fn check_platform(text: &str) -> Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    let platform = Platform::parse(text).ok_or_else(|| {
        Error::invalid(format!("{text:?}: invalid platform")).with_hint("write it as linux/amd64")
    })?;
    let host = Platform::host();
    if platform.runs_on(&host) {
        return Ok(());
    }
    Err(Error::invalid(format!("image platform {platform} does not match the host's, {host}")))
}

pub async fn inspect(context: Arc<ApiContext>, request: Request) -> Result<Response> {
    let view = context.engine.inspect(&request.name)?;
    let size = if request.query.flag("size") {
        Some(context.engine.container_size(view.id.as_str()).await?)
    } else {
        None
    };
    respond::json(&convert_inspect::container(&view, size))
}

pub async fn rename(context: Arc<ApiContext>, request: Request) -> Result<Response> {
    context.engine.rename(&request.name, request.query.text("name")).await?;
    Ok(respond::no_content())
}

pub async fn update(context: Arc<ApiContext>, mut request: Request) -> Result<Response> {
    let body: HostConfig = request.json().await?;
    crate::convert::refuse::unsupported(&Config::default(), &body)?;
    let restart =
        (!body.restart_policy.name.is_empty()).then(|| convert_create::restart(&body.restart_policy));
    let change = UpdateOptions { resources: resources::resources(&body)?, restart: restart.transpose()? };
    let warnings = context.engine.update(&request.name, change).await?;
    respond::json(&UpdateResponse { warnings: (!warnings.is_empty()).then_some(warnings) })
}

/// `null` when nothing changed, as Go writes it.
pub async fn changes(context: Arc<ApiContext>, request: Request) -> Result<Response> {
    let changes = context.engine.changes(&request.name).await?;
    let shown = changes.into_iter().map(|change| Change {
        path: change.path,
        kind: match change.kind {
            ChangeKind::Modified => 0,
            ChangeKind::Added => 1,
            ChangeKind::Deleted => 2,
        },
    });
    let shown: Vec<Change> = shown.collect();
    respond::json(&(!shown.is_empty()).then_some(shown))
}

pub async fn remove(context: Arc<ApiContext>, request: Request) -> Result<Response> {
    if request.query.flag("link") {
        return Err(Error::not_implemented("removing a legacy link is not supported by naru"));
    }
    let options = RemoveOptions { force: request.query.flag("force"), volumes: request.query.flag("v") };
    context.engine.remove(&request.name, options).await?;
    Ok(respond::no_content())
}

pub async fn commit(context: Arc<ApiContext>, mut request: Request) -> Result<Response> {
    let body: Option<Config> = request.json_or_default().await?;
    let query = &request.query;
    let options = CommitOptions {
        reference: reference(query.text("repo"), query.text("tag"))?,
        author: query.text("author").to_owned(),
        comment: query.text("comment").to_owned(),
        pause: query.flag_or("pause", true),
        config: body.map(run_config),
        changes: query.all("changes").flat_map(str::lines).map(str::to_owned).collect(),
    };
    let id = context.engine.commit(query.text("container"), options).await?;
    respond::created(&IdResponse { id: id.to_string() })
}

/// A repository and a tag as query parameters.
pub fn reference(repo: &str, tag: &str) -> Result<Option<ImageRef>> {
    if repo.is_empty() {
        return Ok(None);
    }
    let parsed = ImageRef::parse(repo)?;
    let named = if tag.is_empty() { parsed.with_default_tag() } else { parsed.with_tag(tag)? };
    Ok(Some(named))
}

fn run_config(config: Config) -> RunConfig {
    RunConfig {
        user: config.user,
        exposed_ports: config.exposed_ports,
        env: config.env.unwrap_or_default(),
        entrypoint: config.entrypoint,
        cmd: config.cmd,
        volumes: config.volumes.unwrap_or_default(),
        working_dir: config.working_dir,
        labels: config.labels,
        stop_signal: Some(config.stop_signal).filter(|signal| !signal.is_empty()),
        healthcheck: config.healthcheck,
        shell: config.shell,
        on_build: config.on_build,
        ..RunConfig::default()
    }
}
