//! Bringing blobs and manifests to a registry (distribution-spec, "Pushing blobs", "Pushing manifests").

use super::answer::status_error;
use super::auth::query_value;
use super::client::{Payload, Request, Session};
use crate::blob::sha256;
use crate::error::{ImageError, Result};
use naru_types::Digest;
use ureq::Body;
use ureq::http::{Method, Response, StatusCode};

/// Set by a registry that keeps lists of referrers itself (distribution-spec, "Pushing Manifests with Subject").
const SUBJECT_HEADER: &str = "oci-subject";

pub fn has_blob(session: &Session<'_>, digest: &Digest) -> Result<bool> {
    let url = session.url(&format!("blobs/{digest}"));
    let mut response = session.send(&Request::new(Method::HEAD, &url))?;
    match response.status() {
        StatusCode::OK => Ok(true),
        StatusCode::NOT_FOUND => Ok(false),
        _ => Err(status_error("Head", &url, &mut response)),
    }
}

/// Asks the registry to take the blob over from its repository `from`. `false`: it did not.
pub fn mount(session: &Session<'_>, digest: &Digest, from: &str) -> Result<bool> {
    let (digest, from) = (query_value(&digest.to_string()), query_value(from));
    let url = session.url(&format!("blobs/uploads/?mount={digest}&from={from}"));
    let response = session.send(&post(&url))?;
    match response.status() {
        StatusCode::CREATED => return Ok(true),
        // An upload was begun instead: it is ended, so that the registry need not wait for it.
        StatusCode::ACCEPTED => {
            if let Some(location) = location(session, &response) {
                session.send(&Request::new(Method::DELETE, &location)).map(drop)?;
            }
        }
        _ => {}
    }
    Ok(false)
}

/// Uploads a configuration, unless it is there.
pub fn push_bytes(session: &Session<'_>, digest: &Digest, bytes: &[u8]) -> Result<()> {
    debug_assert_eq!(sha256(bytes), *digest);
    if has_blob(session, digest)? {
        return Ok(());
    }
    put(session, digest, Payload::Bytes(bytes))
}

/// Uploads a blob as a whole.
pub fn put(session: &Session<'_>, digest: &Digest, payload: Payload<'_>) -> Result<()> {
    let url = begin(session, digest)?;
    let headers = [("Content-Type", "application/octet-stream")];
    let mut response =
        session.send(&Request { method: Method::PUT, url: &url, headers: &headers, payload })?;
    if response.status() == StatusCode::CREATED {
        return Ok(());
    }
    Err(status_error("Put", &url, &mut response))
}

/// Whether a manifest is there, by its digest.
pub fn has_manifest(session: &Session<'_>, digest: &Digest) -> Result<bool> {
    let url = session.url(&format!("manifests/{digest}"));
    let headers = [("Accept", super::manifest::ACCEPT)];
    let mut response = session.send(&Request {
        method: Method::HEAD,
        url: &url,
        headers: &headers,
        payload: Payload::None,
    })?;
    match response.status() {
        StatusCode::OK => Ok(true),
        StatusCode::NOT_FOUND => Ok(false),
        _ => Err(status_error("Head", &url, &mut response)),
    }
}

/// Stores a manifest under a tag or its digest; says whether the registry has noted what it refers to.
pub fn put_manifest(session: &Session<'_>, name: &str, bytes: &[u8], media_type: &str) -> Result<bool> {
    let url = session.url(&format!("manifests/{name}"));
    let headers = [("Content-Type", media_type)];
    let mut response = session.send(&Request {
        method: Method::PUT,
        url: &url,
        headers: &headers,
        payload: Payload::Bytes(bytes),
    })?;
    if !response.status().is_success() {
        return Err(status_error("Put", &url, &mut response));
    }
    Ok(response.headers().contains_key(SUBJECT_HEADER))
}

fn post(url: &str) -> Request<'_> {
    Request { method: Method::POST, url, headers: &[], payload: Payload::Bytes(b"") }
}

/// Begins an upload; returns the address that takes the whole blob in one PUT.
fn begin(session: &Session<'_>, digest: &Digest) -> Result<String> {
    let url = session.url("blobs/uploads/");
    let mut response = session.send(&post(&url))?;
    if response.status() != StatusCode::ACCEPTED {
        return Err(status_error("Post", &url, &mut response));
    }
    let location = location(session, &response).ok_or_else(|| ImageError::Transport {
        method: "Post",
        url: url.clone(),
        detail: "the answer has no Location".into(),
    })?;
    let join = if location.contains('?') { '&' } else { '?' };
    Ok(format!("{location}{join}digest={}", query_value(&digest.to_string())))
}

fn location(session: &Session<'_>, response: &Response<Body>) -> Option<String> {
    let location = response.headers().get("location")?.to_str().ok()?;
    Some(if location.starts_with('/') {
        format!("{}{location}", session.peer.endpoint.base)
    } else {
        location.to_owned()
    })
}
