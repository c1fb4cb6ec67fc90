//! Images in registries that don't come into the store: `GET /distribution/{name}/json`, and naru's own manifest,
//! referrers and copy.

use crate::context::ApiContext;
use crate::convert::image_remote as convert;
use crate::routes::image::blocking;
use crate::routes::image_transfer::{message, parse_platform, say, streamed};
use crate::routes::registry_auth::{self, Registries};
use crate::web::request::Request;
use crate::web::respond::{self, Response};
use naru_image::{CopyOptions, Progress, RemoteOptions, Store};
use naru_types::{Error, ImageRef, Result};
use naru_wire::message::Message;
use std::sync::Arc;

pub async fn distribution(context: Arc<ApiContext>, request: Request) -> Result<Response> {
    if naru_types::Digest::parse(&request.name).is_ok() {
        // dockerd's answer, and its status.
        return Err(Error::internal("no manifest found for full image ID"));
    }
    let reference = ImageRef::parse(&request.name)?;
    asked(context, request, move |store, options| {
        respond::json(&convert::distribution(&store.distribution(&reference, options)?))
    })
    .await
}

/// The manifest as the registry serves it, byte for byte.
pub async fn manifest(context: Arc<ApiContext>, request: Request) -> Result<Response> {
    let reference = ImageRef::parse(request.query.text("image"))?;
    asked(context, request, move |store, options| {
        let manifest = store.remote_manifest(&reference, options)?;
        let mut response = respond::text(respond::JSON, manifest.bytes);
        respond::set_header(&mut response, "docker-content-digest", &manifest.digest.to_string())?;
        Ok(response)
    })
    .await
}

pub async fn referrers(context: Arc<ApiContext>, request: Request) -> Result<Response> {
    let reference = ImageRef::parse(request.query.text("image"))?;
    let kind = request.query.text("artifact-type").to_owned();
    asked(context, request, move |store, options| {
        let (subject, mut found) = store.referrers(&reference, options)?;
        found.retain(|referrer| kind.is_empty() || referrer.artifact_type == kind);
        respond::json(&convert::referrers(&subject, found))
    })
    .await
}

/// Asks a registry with the credentials of the request; stops when the client goes.
async fn asked(
    context: Arc<ApiContext>,
    request: Request,
    ask: impl FnOnce(&Store, &RemoteOptions<'_>) -> Result<Response> + Send + 'static,
) -> Result<Response> {
    let credentials = registry_auth::credentials(request.header("x-registry-auth"));
    let cancel = Arc::clone(&request.gone);
    blocking(move || {
        // There is no place in these answers for news of waiting.
        let options = RemoteOptions { credentials, progress: &|_| {}, cancel: &cancel };
        ask(context.engine.images(), &options)
    })
    .await
}

pub async fn copy(context: Arc<ApiContext>, request: Request) -> Result<Response> {
    let from = ImageRef::parse(request.query.text("from"))?;
    let to = ImageRef::parse(request.query.text("to"))?;
    let platform = parse_platform(request.query.text("platform"))?;
    let referrers = request.query.flag("referrers");
    let registries = Registries::from_header(request.header("x-registry-config"));
    let cancel = Arc::clone(&request.gone);
    streamed(move |lines| {
        let progress = |step: Progress| say(lines, &message(&step));
        // Said before a registry can refuse, so that the refusal comes within the stream: as the status of the answer
        // a 401 would mean that the daemon wants a login.
        say(lines, &Message::status(format!("Copying {from} to {to}")));
        let options = CopyOptions {
            from: registries.of(&from),
            to: registries.of(&to),
            platform,
            referrers,
            progress: &progress,
            cancel: &cancel,
        };
        let copied = convert::copied(&context.engine.images().copy(&from, &to, &options)?);
        let aux = serde_json::to_value(copied)
            .map_err(|error| Error::internal("cannot write the copy's result").with_source(error))?;
        say(lines, &Message::aux(aux));
        Ok(())
    })
    .await
}
