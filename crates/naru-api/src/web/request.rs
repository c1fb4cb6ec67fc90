//! A request as handlers see it.

use crate::web::body::BodyReader;
use crate::web::version::ApiVersion;
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::HeaderMap;
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, UPGRADE, USER_AGENT};
use hyper::upgrade::OnUpgrade;
use naru_types::{Error, Result};
use naru_wire::fold;
use naru_wire::url::Query;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Longest JSON body, in bytes. A seccomp profile or a compose config fits many times.
const JSON_BYTES_MAX: usize = 16 << 20;

/// Who connected (SO_PEERCRED).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    pub uid: u32,
}

pub struct Request {
    /// The part of the path that the route's `*` stands for, decoded; empty without one.
    pub name: String,
    pub query: Query,
    pub headers: HeaderMap,
    pub peer: Option<Peer>,
    pub version: ApiVersion,
    /// Becomes true when the client has gone.
    pub gone: Arc<AtomicBool>,
    pub(super) body: Option<Incoming>,
    pub(super) upgrade: Option<OnUpgrade>,
}

impl Request {
    /// A header's text; empty when it is absent or no text.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    /// The JSON body, in Go's tolerant way.
    pub async fn json<T: DeserializeOwned>(&mut self) -> Result<T> {
        let bytes = self.json_bytes().await?;
        fold::from_slice(&bytes).map_err(bad_json)
    }

    /// As [`Request::json`], where no body at all stands for the default.
    pub async fn json_or_default<T: DeserializeOwned + Default>(&mut self) -> Result<T> {
        if self.body.as_ref().is_none_or(Body::is_end_stream) {
            return Ok(T::default());
        }
        let bytes = self.json_bytes().await?;
        if bytes.is_empty() { Ok(T::default()) } else { fold::from_slice(&bytes).map_err(bad_json) }
    }

    /// The body's bytes after the check of its type (moby `httputils.CheckForJSON`).
    pub async fn json_bytes(&mut self) -> Result<Bytes> {
        let content_type = self.header(CONTENT_TYPE.as_str()).to_owned();
        let bytes = match self.body.take() {
            Some(body) => read_whole(body, JSON_BYTES_MAX).await?,
            None => Bytes::new(),
        };
        let essence = content_type.split(';').next().unwrap_or("").trim();
        if essence.is_empty() && !bytes.is_empty() {
            return Err(Error::invalid("malformed Content-Type header (): mime: no media type"));
        }
        if !essence.is_empty() && !essence.eq_ignore_ascii_case("application/json") {
            return Err(Error::invalid(format!(
                "unsupported Content-Type header ({content_type}): must be 'application/json'"
            )));
        }
        Ok(bytes)
    }

    /// The body for code that blocks; it may be of any length.
    pub fn reader(&mut self) -> BodyReader {
        BodyReader::new(self.body.take())
    }

    /// Forgets a body of known length: some clients send options that nobody asked for before they hijack, and
    /// those are no input. A chunked body stays, it is the input of a session without upgrade.
    pub async fn drain(&mut self) -> Result<()> {
        if self.headers.contains_key(CONTENT_LENGTH)
            && let Some(body) = self.body.take()
        {
            read_whole(body, JSON_BYTES_MAX).await?;
        }
        Ok(())
    }

    /// The connection itself, for a client that wants it to speak this protocol.
    pub fn take_upgrade(&mut self, protocol: &str) -> Option<OnUpgrade> {
        let wanted = self.header(UPGRADE.as_str()).eq_ignore_ascii_case(protocol);
        self.upgrade.take().filter(|_| wanted)
    }

    /// Whether the client wants the connection itself.
    pub fn wants_upgrade(&self) -> bool {
        self.headers.contains_key(UPGRADE)
    }
}

pub fn bad_json(error: fold::FoldError) -> Error {
    Error::invalid(error.to_string())
}

pub fn is_naru_client(headers: &HeaderMap) -> bool {
    let agent = headers.get(USER_AGENT).and_then(|value| value.to_str().ok());
    agent.is_some_and(|agent| agent.starts_with(naru_wire::USER_AGENT_PREFIX))
}

async fn read_whole(body: Incoming, limit: usize) -> Result<Bytes> {
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Err(Error::invalid(format!("the request body is longer than {limit} bytes")))
        }
        Err(error) => Err(Error::invalid("cannot read the request body").with_source(error)),
    }
}
