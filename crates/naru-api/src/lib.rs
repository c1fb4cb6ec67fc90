//! The daemon's HTTP face: the Docker Engine API and naru's own, on one unix socket.
//!
//! # What it is
//! A router, one module per group of routes, and the conversions between Docker's JSON and the engine's types: one
//! into `ContainerSpec` ([`convert`]), one out of each view.
//!
//! # What it must not do
//! It keeps no state of its own and decides nothing about containers: HTTP in, calls of the engine out.
//!
//! # Start reading at
//! [`serve`], then `web::router` and `routes`.
//!
//! # Invariants
//! Every error is `{"message": …}` with the status of its kind. A body is read up to a named limit or streamed. A
//! panic in a handler costs that request only. Work behind a request is cancelled when its client goes away, unless
//! stopping half way would be worse than finishing (start, stop, remove).
//!
//! # How it is tested
//! Conversions field by field against answers recorded from a real dockerd (`tests/golden`); the server on a
//! temporary socket with the routes that need no engine; the rest by the stock docker CLI in `xtask`.

pub mod context;
mod convert;
mod routes;
mod web;

pub use context::{ApiContext, OpsFace, OpsFuture};

use std::future::Future;
use std::sync::Arc;
use tokio::net::UnixListener;

/// Tells the listeners of `GET /events` that an image has got a name.
pub fn tell_tagged(engine: &naru_engine::Engine, id: &str, name: &str) {
    routes::tell_tagged(engine, id, name);
}

/// The policy that a configuration names.
pub fn image_gc_policy(policy: &naru_wire::naru::ImageGcPolicy) -> naru_types::Result<naru_image::GcPolicy> {
    convert::image_care::gc_policy(policy)
}

/// Collects images now; blocks.
pub fn collect_images(engine: &naru_engine::Engine, policy: &naru_image::GcPolicy) -> naru_types::Result<()> {
    routes::collect_images(engine, policy)
}

/// Answers requests until `shutdown` completes; requests in flight then have a short time to end.
pub async fn serve(listener: UnixListener, context: Arc<ApiContext>, shutdown: impl Future<Output = ()>) {
    web::server::serve(listener, routes::table(), context, shutdown).await;
}
