//! GET, HEAD and DELETE of blobs.

use crate::http::answer::{Answered, Code, DOCKER_CONTENT_DIGEST, Refusal, reply, set, set_named};
use crate::http::body::ReplyBody;
use crate::http::range::{Asked, of_download};
use crate::http::server::{Call, Shared};
use crate::name::{Digest, RepositoryName};
use crate::token::Right;
use hyper::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use hyper::{Method, Response, StatusCode};
use std::io::{Seek, SeekFrom};
use std::sync::Arc;

pub(crate) async fn answer(
    shared: &Arc<Shared>,
    call: &Call,
    repository: RepositoryName,
    digest: Digest,
) -> Answered {
    match call.method {
        Method::GET => get(shared, call, repository, digest).await,
        Method::HEAD => head(shared, call, repository, digest).await,
        Method::DELETE => delete(shared, call, repository, digest).await,
        _ => Err(Refusal::not_allowed("blobs are read and deleted here; they are written at blobs/uploads/")),
    }
}

fn unknown() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, Code::BlobUnknown, "the repository has no such blob")
}

async fn head(shared: &Arc<Shared>, call: &Call, repository: RepositoryName, digest: Digest) -> Answered {
    call.access.demand(&repository, Right::Pull)?;
    // Who may push asks this to leave out an upload, and relies on the answer until the manifest comes.
    let keep = call.access.allows(repository.as_str(), Right::Push);
    let (store, wanted) = (Arc::clone(&shared.store), digest.clone());
    let size = shared.blocking(move || store.blob_size(&repository, &wanted, keep)).await?;
    let size = size.ok_or_else(unknown)?;
    let mut reply = reply(StatusCode::OK, "");
    set(&mut reply, CONTENT_LENGTH, &size.to_string());
    describe(&mut reply, &digest);
    Ok(reply)
}

async fn get(shared: &Arc<Shared>, call: &Call, repository: RepositoryName, digest: Digest) -> Answered {
    call.access.demand(&repository, Right::Pull)?;
    let (store, wanted) = (Arc::clone(&shared.store), digest.clone());
    let found = shared.blocking(move || store.open_blob(&repository, &wanted)).await?;
    let (mut file, size) = found.ok_or_else(unknown)?;
    let header = call.headers.get(RANGE).and_then(|value| value.to_str().ok());
    let (status, first, length) = match of_download(header, size) {
        Asked::Whole => (StatusCode::OK, 0, size),
        Asked::Part(first, length) => (StatusCode::PARTIAL_CONTENT, first, length),
        Asked::Unsatisfiable => {
            let message = format!("the blob has {size} bytes");
            let refusal = Refusal::new(StatusCode::RANGE_NOT_SATISFIABLE, Code::SizeInvalid, message);
            return Err(refusal.with(CONTENT_RANGE, format!("bytes */{size}")));
        }
    };
    let path = shared.store.blob_path(&digest);
    file.seek(SeekFrom::Start(first)).map_err(crate::RegistryError::io("seek in", &path))?;
    let mut reply = Response::new(ReplyBody::file(file, length));
    *reply.status_mut() = status;
    set(&mut reply, CONTENT_LENGTH, &length.to_string());
    if status == StatusCode::PARTIAL_CONTENT {
        set(&mut reply, CONTENT_RANGE, &format!("bytes {first}-{}/{size}", first + length - 1));
    }
    describe(&mut reply, &digest);
    Ok(reply)
}

fn describe(reply: &mut crate::http::answer::Reply, digest: &Digest) {
    set(reply, CONTENT_TYPE, "application/octet-stream");
    set(reply, ACCEPT_RANGES, "bytes");
    set_named(reply, DOCKER_CONTENT_DIGEST, &digest.to_string());
}

async fn delete(shared: &Arc<Shared>, call: &Call, repository: RepositoryName, digest: Digest) -> Answered {
    call.access.demand(&repository, Right::Delete)?;
    shared.demand_delete()?;
    let store = Arc::clone(&shared.store);
    let is_gone = shared.blocking(move || store.delete_blob(&repository, &digest)).await?;
    if is_gone { Ok(reply(StatusCode::ACCEPTED, "")) } else { Err(unknown()) }
}
