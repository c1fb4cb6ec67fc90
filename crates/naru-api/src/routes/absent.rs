//! What naru does not have, answered as a dockerd answers for what is switched off.

use crate::web::request::Request;
use crate::web::respond::{self, Response};
use crate::web::router::{Route, routes};
use naru_types::{Error, Result};
use std::sync::Arc;

pub fn routes<C: Send + Sync + 'static>() -> Vec<Route<C>> {
    let mut all = swarm();
    all.extend(plugins());
    all.extend(others());
    all
}

/// A dockerd that is in no swarm says this to everything below these paths.
fn swarm<C: Send + Sync + 'static>() -> Vec<Route<C>> {
    routes![
        POST "/swarm/init" => no_swarm_ever,
        POST "/swarm/join" => no_swarm_ever,
        POST "/swarm/leave" => not_in_swarm,
        GET "/swarm" => no_manager,
        GET "/swarm/*" => no_manager,
        POST "/swarm/*" => no_manager,
        GET "/nodes" => no_manager,
        GET "/nodes/*" => no_manager,
        POST "/nodes/*" => no_manager,
        DELETE "/nodes/*" => no_manager,
        GET "/services" => no_manager,
        GET "/services/*" => no_manager,
        POST "/services/*" => no_manager,
        DELETE "/services/*" => no_manager,
        GET "/tasks" => no_manager,
        GET "/tasks/*" => no_manager,
        GET "/secrets" => no_manager,
        GET "/secrets/*" => no_manager,
        POST "/secrets/*" => no_manager,
        DELETE "/secrets/*" => no_manager,
        GET "/configs" => no_manager,
        GET "/configs/*" => no_manager,
        POST "/configs/*" => no_manager,
        DELETE "/configs/*" => no_manager,
    ]
}

fn plugins<C: Send + Sync + 'static>() -> Vec<Route<C>> {
    routes![
        GET "/plugins" => no_plugins,
        GET "/plugins/privileges" => no_plugin_support,
        GET "/plugins/*/json" => no_such_plugin,
        POST "/plugins/*" => no_plugin_support,
        DELETE "/plugins/*" => no_such_plugin,
    ]
}

fn others<C: Send + Sync + 'static>() -> Vec<Route<C>> {
    routes![
        GET "/images/search" => no_search,
        GET "/images/*/attestations" => not_here,
        GET "/containers/*/attach/ws" => no_websocket,
        GET "/containers/*/checkpoints" => not_here,
        POST "/containers/*/checkpoints" => not_here,
        PUT "/volumes/*" => no_manager,
        POST "/build/cancel" => not_here,
    ]
}

async fn no_manager<C>(_context: Arc<C>, _request: Request) -> Result<Response> {
    Err(Error::unavailable(
        "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.",
    ))
}

async fn not_in_swarm<C>(_context: Arc<C>, _request: Request) -> Result<Response> {
    Err(Error::unavailable("This node is not part of a swarm"))
}

async fn no_swarm_ever<C>(_context: Arc<C>, _request: Request) -> Result<Response> {
    Err(Error::unavailable("naru has no swarm mode: it runs on one server")
        .with_hint("naru up deploys a compose file"))
}

async fn no_plugins<C>(_context: Arc<C>, _request: Request) -> Result<Response> {
    respond::json(&[(); 0])
}

async fn no_such_plugin<C>(_context: Arc<C>, request: Request) -> Result<Response> {
    Err(Error::not_found(format!("plugin {:?} not found", request.name)))
}

async fn no_plugin_support<C>(_context: Arc<C>, _request: Request) -> Result<Response> {
    Err(Error::not_implemented("naru has no plugins"))
}

async fn no_search<C>(_context: Arc<C>, _request: Request) -> Result<Response> {
    Err(Error::not_implemented("searching registries is not supported by naru")
        .with_hint("search on the registry's web page"))
}

async fn no_websocket<C>(_context: Arc<C>, _request: Request) -> Result<Response> {
    Err(Error::not_implemented("attaching through a WebSocket is not supported by naru")
        .with_hint("POST /containers/{id}/attach with Upgrade: tcp"))
}

/// 404 makes clients fall back to the classic builder.
async fn not_here<C>(_context: Arc<C>, _request: Request) -> Result<Response> {
    Err(Error::not_implemented("not supported by naru"))
}
