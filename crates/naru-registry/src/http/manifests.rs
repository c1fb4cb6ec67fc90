//! GET, HEAD, PUT and DELETE of manifests and tags.

use crate::http::answer::{Answered, Code, DOCKER_CONTENT_DIGEST, Refusal, reply, set, set_named};
use crate::http::body::read_whole;
use crate::http::server::{Call, Shared};
use crate::manifest::{self, MANIFEST_BYTES_MAX};
use crate::name::{Algorithm, Digest, Reference, RepositoryName, Tag};
use crate::token::Right;
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, LOCATION};
use hyper::{Method, StatusCode};
use std::sync::Arc;

/// Tags that one PUT may set (`?tag=`).
const TAGS_MAX: usize = 10;

pub(crate) async fn answer(
    shared: &Arc<Shared>,
    call: &Call,
    body: &mut Incoming,
    repository: RepositoryName,
    reference: Reference,
) -> Answered {
    match call.method {
        Method::GET | Method::HEAD => get(shared, call, repository, reference).await,
        Method::PUT => put(shared, call, body, repository, reference).await,
        Method::DELETE => delete(shared, call, repository, reference).await,
        _ => Err(Refusal::not_allowed("manifests are read, written with PUT, and deleted")),
    }
}

fn unknown() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, Code::ManifestUnknown, "the repository has no such manifest")
}

async fn get(
    shared: &Arc<Shared>,
    call: &Call,
    repository: RepositoryName,
    reference: Reference,
) -> Answered {
    call.access.demand(&repository, Right::Pull)?;
    let store = Arc::clone(&shared.store);
    let found = shared.blocking(move || store.manifest(&repository, &reference)).await?;
    let found = found.ok_or_else(unknown)?;
    let length = found.content.len();
    let body = if call.method == Method::HEAD { Vec::new() } else { found.content };
    let mut reply = reply(StatusCode::OK, body);
    set(&mut reply, CONTENT_LENGTH, &length.to_string());
    set(&mut reply, CONTENT_TYPE, &found.media_type);
    set_named(&mut reply, DOCKER_CONTENT_DIGEST, &found.digest);
    Ok(reply)
}

async fn put(
    shared: &Arc<Shared>,
    call: &Call,
    body: &mut Incoming,
    repository: RepositoryName,
    reference: Reference,
) -> Answered {
    call.access.demand(&repository, Right::Push)?;
    let mut tags = tags_of(call)?;
    let content = read_whole(body, MANIFEST_BYTES_MAX).await?;
    let digest = match reference {
        Reference::Tag(tag) => {
            tags.push(tag);
            Digest::of(Algorithm::Sha256, &content)
        }
        Reference::Digest(expected) => {
            let found = Digest::of(expected.algorithm(), &content);
            if found != expected {
                return Err(crate::RegistryError::DigestMismatch { expected, found }.into());
            }
            found
        }
    };
    let content_type = call.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let invalid = |why| Refusal::new(StatusCode::BAD_REQUEST, Code::ManifestInvalid, why);
    let parsed = manifest::parse(&content, content_type).map_err(invalid)?;
    let subject = parsed.subject.clone();
    let mut reply = reply(StatusCode::CREATED, "");
    set(&mut reply, LOCATION, &format!("/v2/{repository}/manifests/{digest}"));
    set_named(&mut reply, DOCKER_CONTENT_DIGEST, &digest.to_string());
    if let Some(subject) = subject {
        set_named(&mut reply, "oci-subject", &subject.to_string());
    }
    for tag in call.query.all("tag") {
        if let Ok(tag) = HeaderValue::from_str(tag) {
            reply.headers_mut().append("oci-tag", tag);
        }
    }
    let store = Arc::clone(&shared.store);
    shared.blocking(move || store.put_manifest(&repository, &digest, &parsed, &content, &tags)).await?;
    Ok(reply)
}

fn tags_of(call: &Call) -> Result<Vec<Tag>, Refusal> {
    let invalid = |why: &str| Refusal::new(StatusCode::BAD_REQUEST, Code::ManifestInvalid, why);
    let tags: Option<Vec<Tag>> = call.query.all("tag").map(Tag::parse).collect();
    let tags = tags.ok_or_else(|| invalid("invalid tag"))?;
    if tags.len() > TAGS_MAX {
        let message = format!("at most {TAGS_MAX} tags at once");
        return Err(Refusal::new(StatusCode::URI_TOO_LONG, Code::ManifestInvalid, message));
    }
    Ok(tags)
}

async fn delete(
    shared: &Arc<Shared>,
    call: &Call,
    repository: RepositoryName,
    reference: Reference,
) -> Answered {
    call.access.demand(&repository, Right::Delete)?;
    shared.demand_delete()?;
    let store = Arc::clone(&shared.store);
    let is_gone = shared.blocking(move || store.delete_manifest(&repository, &reference)).await?;
    if is_gone { Ok(reply(StatusCode::ACCEPTED, "")) } else { Err(unknown()) }
}
