//! Uploads: POST starts one (or mounts, or takes a whole blob), PATCH adds a chunk, PUT ends it.

use crate::http::answer::{Answered, Code, DOCKER_CONTENT_DIGEST, Refusal, Reply, reply, set, set_named};
use crate::http::body::next_chunk;
use crate::http::range::of_chunk;
use crate::http::server::{Call, Shared};
use crate::name::{Algorithm, Digest, RepositoryName};
use crate::token::Right;
use crate::upload::{Part, Upload};
use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_RANGE, LOCATION, RANGE};
use hyper::{Method, StatusCode};
use std::sync::Arc;
use tokio::sync::OwnedMutexGuard;

/// Bytes collected from a client before they are written: what a slow one holds, instead of a thread.
const BATCH_BYTES: usize = 512 * 1024;

type Place = OwnedMutexGuard<Option<Part>>;

/// `…/blobs/uploads/`
pub(crate) async fn start(
    shared: &Arc<Shared>,
    call: &Call,
    body: &mut Incoming,
    repository: RepositoryName,
) -> Answered {
    if call.method != Method::POST {
        return Err(Refusal::not_allowed("an upload is started with POST"));
    }
    call.access.demand(&repository, Right::Push)?;
    if let Some(digest) = call.query.first("mount") {
        let digest = Digest::parse(digest).ok_or_else(invalid_digest)?;
        if let Some(reply) = mount(shared, call, &repository, digest).await? {
            return Ok(reply);
        }
    }
    let digest = call.query.first("digest").map(|text| Digest::parse(text).ok_or_else(invalid_digest));
    let digest = digest.transpose()?;
    let hint = call.query.first("digest-algorithm").and_then(Algorithm::parse);
    let algorithm = digest.as_ref().map(Digest::algorithm).or(hint).unwrap_or(Algorithm::Sha256);
    let (starting, name) = (Arc::clone(shared), repository.clone());
    let upload = shared
        .blocking(move || starting.uploads.start(&starting.store, &name, algorithm))
        .await?
        .ok_or_else(Refusal::too_many)?;
    let Some(digest) = digest else { return Ok(progress(StatusCode::ACCEPTED, &upload)) };
    // The blob comes whole, with this request: nobody can go on with it.
    let taken = take(&upload);
    let ended = async { end(shared, &upload, taken?, body, digest).await }.await;
    shared.uploads.forget(&upload.id);
    ended
}

/// `…/blobs/uploads/<id>`
pub(crate) async fn answer(
    shared: &Arc<Shared>,
    call: &Call,
    body: &mut Incoming,
    repository: RepositoryName,
    id: &str,
) -> Answered {
    call.access.demand(&repository, Right::Push)?;
    let upload = shared.uploads.find(&repository, id).ok_or_else(unknown)?;
    match call.method {
        Method::GET | Method::HEAD => Ok(progress(StatusCode::NO_CONTENT, &upload)),
        Method::PATCH => {
            let mut place = take(&upload)?;
            check_position(call, &upload, body)?;
            receive(shared, &upload, &mut place, body).await?;
            Ok(progress(StatusCode::ACCEPTED, &upload))
        }
        Method::PUT => {
            let digest = Digest::parse(call.query.text("digest")).ok_or_else(invalid_digest)?;
            let place = take(&upload)?;
            check_position(call, &upload, body)?;
            end(shared, &upload, place, body, digest).await
        }
        Method::DELETE => {
            let mut place = take(&upload)?;
            shared.uploads.forget(&upload.id);
            let part = place.take();
            shared.blocking(move || Ok(drop(part))).await?;
            Ok(reply(StatusCode::NO_CONTENT, ""))
        }
        _ => Err(Refusal::not_allowed("an upload takes GET, PATCH, PUT and DELETE")),
    }
}

/// `None`: the client has to upload. That it may not read the source is told in no other way.
async fn mount(
    shared: &Arc<Shared>,
    call: &Call,
    repository: &RepositoryName,
    digest: Digest,
) -> Result<Option<Reply>, Refusal> {
    let from = match call.query.first("from") {
        // Without a source only the repository itself is looked at.
        None => repository.clone(),
        Some(from) => {
            let invalid =
                || Refusal::new(StatusCode::BAD_REQUEST, Code::NameInvalid, "invalid name in from=");
            RepositoryName::parse(from).ok_or_else(invalid)?
        }
    };
    if !call.access.allows(from.as_str(), Right::Pull) {
        return Ok(None);
    }
    let (store, to, wanted) = (Arc::clone(&shared.store), repository.clone(), digest.clone());
    let is_mounted = shared.blocking(move || store.mount_blob(&from, &to, &wanted)).await?;
    Ok(is_mounted.then(|| created(repository, &digest)))
}

fn take(upload: &Upload) -> Result<Place, Refusal> {
    let busy = |_| {
        let message = "another request writes to this upload";
        Refusal::new(StatusCode::CONFLICT, Code::BlobUploadInvalid, message)
    };
    let place = Arc::clone(&upload.part).try_lock_owned().map_err(busy)?;
    if place.is_some() { Ok(place) } else { Err(unknown()) }
}

/// A chunk begins where the last one ended, and is as long as it says.
fn check_position(call: &Call, upload: &Upload, body: &Incoming) -> Result<(), Refusal> {
    let Some(header) = call.headers.get(CONTENT_RANGE) else { return Ok(()) };
    let written = upload.written_bytes();
    let chunk = header.to_str().ok().and_then(of_chunk);
    let length = body.size_hint().exact();
    let is_right = chunk.is_some_and(|(first, last)| {
        first == written && length.is_none_or(|length| last.checked_sub(first) == length.checked_sub(1))
    });
    if is_right {
        return Ok(());
    }
    let message = format!("the next chunk begins at byte {written}");
    let refusal = Refusal::new(StatusCode::RANGE_NOT_SATISFIABLE, Code::BlobUploadInvalid, message);
    Err(refusal.with(LOCATION, location(upload)).with(RANGE, range(upload)))
}

/// Writes the request's bytes. A client that breaks off may go on where it was; a disk that fails or a
/// quota that is reached ends the upload.
async fn receive(
    shared: &Arc<Shared>,
    upload: &Arc<Upload>,
    place: &mut Place,
    body: &mut Incoming,
) -> Result<(), Refusal> {
    let announced = body.size_hint().lower();
    let mut ahead = announced;
    loop {
        let (batch, ended) = collect(body).await;
        let bytes: usize = batch.iter().map(Bytes::len).sum();
        if bytes > 0 || ahead > 0 {
            write(shared, upload, place, batch, ahead).await?;
        }
        ahead = 0;
        if ended? {
            return Ok(());
        }
    }
}

/// Up to [`BATCH_BYTES`], and whether the body is over.
async fn collect(body: &mut Incoming) -> (Vec<Bytes>, Result<bool, Refusal>) {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while bytes < BATCH_BYTES {
        match next_chunk(body).await {
            Ok(Some(chunk)) => {
                bytes += chunk.len();
                batch.push(chunk);
            }
            Ok(None) => return (batch, Ok(true)),
            Err(refusal) => return (batch, Err(refusal)),
        }
    }
    (batch, Ok(false))
}

/// `ahead`: bytes that the request announced.
async fn write(
    shared: &Arc<Shared>,
    upload: &Arc<Upload>,
    place: &mut Place,
    batch: Vec<Bytes>,
    ahead: u64,
) -> Result<(), Refusal> {
    let Some(mut part) = place.take() else { return Err(unknown()) };
    let (store, repository) = (Arc::clone(&shared.store), upload.repository.clone());
    let written = shared
        .blocking(move || {
            let bytes = batch.iter().map(|chunk| chunk.len() as u64).sum::<u64>().max(ahead);
            store.check_quota(&repository, part.written_bytes().saturating_add(bytes))?;
            part.write(&batch)?;
            Ok(part)
        })
        .await;
    match written {
        Ok(part) => {
            shared.uploads.note(upload, part.written_bytes());
            **place = Some(part);
            Ok(())
        }
        Err(refusal) => {
            shared.uploads.forget(&upload.id);
            Err(refusal)
        }
    }
}

async fn end(
    shared: &Arc<Shared>,
    upload: &Arc<Upload>,
    mut place: Place,
    body: &mut Incoming,
    digest: Digest,
) -> Answered {
    receive(shared, upload, &mut place, body).await?;
    shared.uploads.forget(&upload.id);
    let Some(part) = place.take() else { return Err(unknown()) };
    let (store, repository, wanted) = (Arc::clone(&shared.store), upload.repository.clone(), digest.clone());
    shared.blocking(move || part.finish(&store, &repository, &wanted)).await?;
    Ok(created(&upload.repository, &digest))
}

fn created(repository: &RepositoryName, digest: &Digest) -> Reply {
    let mut reply = reply(StatusCode::CREATED, "");
    set(&mut reply, LOCATION, &format!("/v2/{repository}/blobs/{digest}"));
    set_named(&mut reply, DOCKER_CONTENT_DIGEST, &digest.to_string());
    reply
}

fn progress(status: StatusCode, upload: &Upload) -> Reply {
    let mut reply = reply(status, "");
    set(&mut reply, LOCATION, &location(upload));
    set(&mut reply, RANGE, &range(upload));
    set_named(&mut reply, "docker-upload-uuid", &upload.id);
    reply
}

fn location(upload: &Upload) -> String {
    format!("/v2/{}/blobs/uploads/{}", upload.repository, upload.id)
}

/// The last byte, not the count; there is no way to say that there is none, and all registries say `0-0`.
fn range(upload: &Upload) -> String {
    format!("0-{}", upload.written_bytes().saturating_sub(1))
}

fn unknown() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, Code::BlobUploadUnknown, "no such upload in this repository")
}

fn invalid_digest() -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, Code::DigestInvalid, "invalid digest")
}
