//! Answers, and refusals with the specification's codes ("Error Codes").

use crate::error::RegistryError;
use crate::http::body::ReplyBody;
use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use serde_json::json;

pub(crate) type Reply = Response<ReplyBody>;
pub(crate) type Answered = Result<Reply, Refusal>;

pub(crate) const DOCKER_CONTENT_DIGEST: &str = "docker-content-digest";
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// What a client is asked to wait after too many requests.
const RETRY_AFTER_SECS: &str = "5";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    SizeInvalid,
    Unauthorized,
    Denied,
    Unsupported,
    TooManyRequests,
    /// Not the specification's, which has none for the registry's own failures; distribution's.
    Unknown,
}

impl Code {
    fn text(self) -> &'static str {
        match self {
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Self::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Self::ManifestInvalid => "MANIFEST_INVALID",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::NameInvalid => "NAME_INVALID",
            Self::NameUnknown => "NAME_UNKNOWN",
            Self::SizeInvalid => "SIZE_INVALID",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Denied => "DENIED",
            Self::Unsupported => "UNSUPPORTED",
            Self::TooManyRequests => "TOOMANYREQUESTS",
            Self::Unknown => "UNKNOWN",
        }
    }
}

#[derive(Debug)]
pub(crate) struct Refusal {
    pub status: StatusCode,
    code: Code,
    message: String,
    headers: Vec<(HeaderName, String)>,
    /// For the log only: what failed here.
    pub cause: Option<RegistryError>,
}

impl Refusal {
    pub fn new(status: StatusCode, code: Code, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), headers: Vec::new(), cause: None }
    }

    pub fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, Code::Unauthorized, "authentication required")
            .with(WWW_AUTHENTICATE, "Basic realm=\"naru registry\"")
    }

    pub fn denied() -> Self {
        Self::new(StatusCode::FORBIDDEN, Code::Denied, "the token does not allow this")
    }

    pub fn too_many() -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            Code::TooManyRequests,
            "too many uploads at once; try again later",
        )
        .with(RETRY_AFTER, RETRY_AFTER_SECS)
    }

    pub fn not_allowed(what: &str) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, Code::Unsupported, what)
    }

    pub fn with(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn into_reply(self) -> Reply {
        let body = json!({"errors": [{"code": self.code.text(), "message": self.message}]});
        let mut reply = reply(self.status, Bytes::from(body.to_string()));
        reply.headers_mut().insert(CONTENT_TYPE, JSON);
        for (name, value) in self.headers {
            set(&mut reply, name, &value);
        }
        reply
    }
}

impl From<RegistryError> for Refusal {
    fn from(error: RegistryError) -> Self {
        let (status, code) = match &error {
            RegistryError::DigestMismatch { .. } => (StatusCode::BAD_REQUEST, Code::DigestInvalid),
            RegistryError::Quota { .. } | RegistryError::InUse { .. } => {
                (StatusCode::FORBIDDEN, Code::Denied)
            }
            RegistryError::Missing { .. } => (StatusCode::NOT_FOUND, Code::ManifestBlobUnknown),
            RegistryError::Size { .. } => (StatusCode::BAD_REQUEST, Code::ManifestInvalid),
            _ if error.is_disk_full() => {
                let full = "the registry's disk is full";
                let status = StatusCode::INSUFFICIENT_STORAGE;
                return Self { cause: Some(error), ..Self::new(status, Code::Denied, full) };
            }
            _ => {
                let failed = "the registry failed; its log says why";
                let status = StatusCode::INTERNAL_SERVER_ERROR;
                return Self { cause: Some(error), ..Self::new(status, Code::Unknown, failed) };
            }
        };
        Self::new(status, code, error.to_string())
    }
}

pub(crate) fn reply(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(ReplyBody::whole(body.into()));
    *reply.status_mut() = status;
    reply
}

pub(crate) fn json_reply(value: &serde_json::Value) -> Reply {
    let mut reply = reply(StatusCode::OK, value.to_string());
    reply.headers_mut().insert(CONTENT_TYPE, JSON);
    reply
}

/// For values made of checked names, digests and numbers; anything else would be left out.
pub(crate) fn set(reply: &mut Reply, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        reply.headers_mut().insert(name, value);
    }
}

pub(crate) fn set_named(reply: &mut Reply, name: &'static str, value: &str) {
    set(reply, HeaderName::from_static(name), value);
}
