//! Networks.

use crate::context::ApiContext;
use crate::convert::{endpoint, network as convert};
use crate::web::filters::{Filters, name_fits};
use crate::web::request::Request;
use crate::web::respond::{self, Response};
use hyper::StatusCode;
use naru_engine::NetworkView;
use naru_kernel::clock;
use naru_types::{Kind, Result};
use naru_wire::network::{NetworkConnect, NetworkCreate, NetworkCreated, NetworkDisconnect, NetworksPruned};
use std::sync::Arc;

const KNOWN: [&str; 7] = ["dangling", "driver", "id", "label", "name", "scope", "type"];

pub async fn list(context: Arc<ApiContext>, request: Request) -> Result<Response> {
    let filters = Filters::parse(&request.query, &KNOWN)?;
    let dangling = if filters.has("dangling") { Some(filters.flag("dangling", true)?) } else { None };
    let fits = |view: &&NetworkView| {
        filters.any("name", |name| name_fits(name, &view.name))
            && filters.any("id", |id| view.id.as_str().starts_with(id))
            && filters.any("driver", |driver| view.driver == driver)
            && filters.any("scope", |scope| view.scope == scope)
            && filters.any("type", |kind| (kind == "builtin") == is_builtin(view))
            && filters.labels_fit("label", &view.labels)
            && dangling.is_none_or(|wanted| wanted == (!is_builtin(view) && view.containers.is_empty()))
    };
    let networks = context.engine.networks();
    let shown: Vec<_> = networks.iter().filter(fits).map(|view| convert::network(view, true)).collect();
    respond::json(&shown)
}

fn is_builtin(view: &NetworkView) -> bool {
    matches!(view.name.as_str(), "bridge" | "host" | "none")
}

pub async fn inspect(context: Arc<ApiContext>, request: Request) -> Result<Response> {
    respond::json(&convert::network(&context.engine.network(&request.name)?, false))
}

pub async fn create(context: Arc<ApiContext>, mut request: Request) -> Result<Response> {
    let body: NetworkCreate = request.json().await?;
    let id = context.engine.network_create(convert::create(body)?).await?;
    respond::created(&NetworkCreated { id: id.to_string(), warning: String::new() })
}

pub async fn remove(context: Arc<ApiContext>, request: Request) -> Result<Response> {
    context.engine.network_remove(&request.name).await?;
    Ok(respond::no_content())
}

pub async fn connect(context: Arc<ApiContext>, mut request: Request) -> Result<Response> {
    let body: NetworkConnect = request.json().await?;
    let wish = endpoint::spec(body.endpoint_config.unwrap_or_default())?;
    context.engine.network_connect(&request.name, &body.container, wish).await?;
    Ok(respond::status(StatusCode::OK))
}

pub async fn disconnect(context: Arc<ApiContext>, mut request: Request) -> Result<Response> {
    let body: NetworkDisconnect = request.json().await?;
    context.engine.network_disconnect(&request.name, &body.container, body.force).await?;
    Ok(respond::status(StatusCode::OK))
}

pub async fn prune(context: Arc<ApiContext>, request: Request) -> Result<Response> {
    let filters = Filters::parse(&request.query, &["label", "label!", "until"])?;
    let until = filters.until(clock::now())?;
    let mut pruned = NetworksPruned::default();
    for view in context.engine.networks() {
        let chosen = !is_builtin(&view)
            && view.containers.is_empty()
            && filters.prune_labels_fit(&view.labels)
            && until.is_none_or(|until| view.created < until);
        if !chosen {
            continue;
        }
        match context.engine.network_remove(view.id.as_str()).await {
            Ok(()) => pruned.networks_deleted.get_or_insert_default().push(view.name),
            // Used or removed by somebody else in between: theirs.
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Conflict | Kind::Forbidden) => {}
            Err(error) => return Err(error),
        }
    }
    respond::json(&pruned)
}
