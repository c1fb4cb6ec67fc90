//! Reading a registry's answers, errors above all.

use super::patience::limit_in_words;
use crate::error::{ImageError, Result};
use serde::Deserialize;
use std::io::{self, Read};
use std::time::{Duration, Instant};
use ureq::Body;
use ureq::http::{Response, StatusCode};

/// Longest error body that is read, in bytes.
pub const ERROR_BYTES_MAX: u64 = 64 * 1024;

/// Longest time that a manifest, a configuration or an error may take to arrive.
const ANSWER_TIME_MAX: Duration = Duration::from_mins(2);

/// One error of a registry's answer (distribution-spec, "Error Codes").
#[derive(Debug, Deserialize)]
pub struct RegistryError {
    #[serde(default)]
    pub code: String,
    #[serde(default)]
    message: String,
}

impl RegistryError {
    /// As distribution's Go client prints it: `manifest unknown: manifest unknown`.
    pub fn text(&self) -> String {
        let code = self.code.to_ascii_lowercase().replace('_', " ");
        if self.message.is_empty() { code } else { format!("{code}: {}", self.message) }
    }
}

#[derive(Deserialize)]
struct RegistryErrors {
    errors: Vec<RegistryError>,
}

pub fn error_of(response: &mut Response<Body>) -> Option<RegistryError> {
    let body = read_limited(response, ERROR_BYTES_MAX, "the error").ok()?;
    serde_json::from_slice::<RegistryErrors>(&body).ok()?.errors.into_iter().next()
}

/// The error for an answer that has no better meaning.
pub fn status_error(method: &'static str, url: &str, response: &mut Response<Body>) -> ImageError {
    let status = response.status();
    let headers = response.headers().clone();
    let said = error_of(response);
    let detail =
        said.map_or_else(|| status.canonical_reason().unwrap_or("").to_owned(), |error| error.text());
    match status {
        StatusCode::TOO_MANY_REQUESTS => {
            let host = url.split_once("://").map_or(url, |(_, rest)| rest).split('/').next();
            ImageError::TooManyRequests {
                detail: detail.strip_prefix("toomanyrequests: ").unwrap_or(&detail).to_owned(),
                limit: limit_in_words(host.unwrap_or_default(), &headers),
            }
        }
        StatusCode::UNAUTHORIZED => ImageError::Unauthorized { method, url: url.to_owned(), detail },
        _ => ImageError::Status { method, url: url.to_owned(), status: status.as_u16(), detail },
    }
}

pub fn read_limited(response: &mut Response<Body>, limit: u64, what: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let body = response.body_mut().with_config().limit(u64::MAX).reader().take(limit + 1);
    let mut reader = Deadline { inner: body, until: Instant::now() + ANSWER_TIME_MAX };
    reader.read_to_end(&mut bytes).map_err(|source| ImageError::Transport {
        method: "Get",
        url: what.to_owned(),
        detail: source.to_string(),
    })?;
    if bytes.len() as u64 > limit {
        return Err(ImageError::TooLarge { what: what.to_owned(), found: bytes.len() as u64, limit });
    }
    Ok(bytes)
}

/// Gives up on a body that drips in.
struct Deadline<R> {
    inner: R,
    until: Instant,
}

impl<R: Read> Read for Deadline<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if Instant::now() >= self.until {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the registry sends too slowly"));
        }
        self.inner.read(buffer)
    }
}
