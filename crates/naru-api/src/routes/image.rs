//! One image: inspect, history, tag, remove.

use crate::context::ApiContext;
use crate::convert::image as convert;
use crate::routes::container::reference;
use crate::web::request::Request;
use crate::web::respond::{self, Response};
use hyper::StatusCode;
use naru_engine::{Engine, Status};
use naru_image::{ImageUser, RemoveOptions, Removed};
use naru_kernel::clock;
use naru_types::event::{Event, EventType};
use naru_types::{Digest, Error, Result};
use std::sync::Arc;

pub async fn inspect(context: Arc<ApiContext>, request: Request) -> Result<Response> {
    if request.query.flag("manifests") {
        return Err(Error::not_implemented("showing an image's manifests is not supported by naru"));
    }
    let store = context.engine.images();
    let image = store.get(&request.name)?;
    let dirs = store.layer_dirs(&image)?;
    respond::json(&convert::inspect(&image, &dirs, request.version))
}

pub async fn history(context: Arc<ApiContext>, request: Request) -> Result<Response> {
    let store = context.engine.images();
    let entries = store.history(&store.get(&request.name)?)?;
    let shown: Vec<_> = entries.iter().map(convert::history).collect();
    respond::json(&shown)
}

pub async fn tag(context: Arc<ApiContext>, request: Request) -> Result<Response> {
    let target = reference(request.query.text("repo"), request.query.text("tag"))?
        .ok_or_else(|| Error::invalid("repository name must have at least one component"))?;
    blocking(move || {
        let id = context.engine.images().id_of(&request.name)?;
        context.engine.images().tag(&id, &target)?;
        emit(&context.engine, "tag", &id.to_string(), &target.familiar());
        Ok(respond::status(StatusCode::CREATED))
    })
    .await
}

pub async fn remove(context: Arc<ApiContext>, request: Request) -> Result<Response> {
    let (force, keep_parents) = (request.query.flag("force"), request.query.flag("noprune"));
    blocking(move || {
        let engine = &context.engine;
        let id = engine.images().id_of(&request.name)?.to_string();
        let users = |id: &Digest| users(engine, id);
        let options = RemoveOptions { force, keep_parents, users: &users };
        let removed = engine.images().remove(&request.name, &options)?;
        for item in &removed {
            match item {
                Removed::Untagged(name) => emit(engine, "untag", &id, name),
                Removed::Deleted(deleted) if deleted.to_string() == id => emit(engine, "delete", &id, &id),
                Removed::Deleted(_) => {}
            }
        }
        let shown: Vec<_> = removed.iter().map(convert::removed).collect();
        respond::json(&shown)
    })
    .await
}

/// The containers that were made from an image.
pub fn users(engine: &Engine, id: &Digest) -> Vec<ImageUser> {
    let user = |container: naru_types::ContainerId| {
        let status = engine.inspect(container.as_str()).ok().map(|view| view.state.status);
        let is_running = matches!(status, Some(Status::Running | Status::Paused | Status::Restarting));
        ImageUser { container: container.to_string(), is_running }
    };
    engine.image_users(id).into_iter().map(user).collect()
}

/// Tells the world what happened to an image.
pub fn emit(engine: &Engine, action: &str, id: &str, name: &str) {
    engine.emit(Event {
        kind: EventType::Image,
        action: action.to_owned(),
        actor_id: id.to_owned(),
        attributes: [("name".to_owned(), name.to_owned())].into(),
        at: clock::now(),
    });
}

/// Runs work that blocks (locks, fsync, network) outside of the async threads.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(Error::internal("a bug in naru: blocking work panicked").with_source(error)),
    }
}
