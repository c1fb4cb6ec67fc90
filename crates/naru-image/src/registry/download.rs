//! Reads one blob to its end through dropped connections: what is missing is asked for by range
//! (RFC 9110, "Range"), so the digest over the stream goes on where it was.

use super::answer::status_error;
use super::client::{Request, Session};
use super::patience::{ATTEMPTS_MAX, Delay, backoff};
use crate::error::{ImageError, Result};
use std::io::{self, Read};
use std::time::{Duration, Instant};
use ureq::http::{HeaderMap, Method, StatusCode};

/// Bytes after which a connection has proved itself and failures are counted from zero again.
const PROVEN_BYTES: u64 = 256 * 1024;
/// A registry that gives fewer bytes than this in [`RATE_WINDOW`] of waiting for it is taken for gone: a
/// timeout between two reads alone would let it drip for ever.
const RATE_BYTES_MIN: u64 = 16 * 1024;
const RATE_WINDOW: Duration = Duration::from_mins(1);
/// Read at a time of what is known already.
const SKIP_BYTES: usize = 64 * 1024;

pub struct Download<'a> {
    session: &'a Session<'a>,
    url: String,
    size: u64,
    done: u64,
    body: Option<Box<dyn Read + Send>>,
    failures: u32,
    /// Bytes since the last failure.
    proven: u64,
    /// Time spent waiting for the body in this window, and what came in it.
    waited: Duration,
    window_bytes: u64,
    /// Called with the bytes so far.
    progress: &'a (dyn Fn(u64) + Sync),
}

impl<'a> Download<'a> {
    /// `size` is what the manifest announced; not a byte more is read.
    pub fn new(
        session: &'a Session<'a>,
        digest: &naru_types::Digest,
        size: u64,
        progress: &'a (dyn Fn(u64) + Sync),
    ) -> Self {
        let url = session.url(&format!("blobs/{digest}"));
        Self {
            session,
            url,
            size,
            done: 0,
            body: None,
            failures: 0,
            proven: 0,
            waited: Duration::ZERO,
            window_bytes: 0,
            progress,
        }
    }

    fn open(&self) -> Result<Box<dyn Read + Send>> {
        let range = format!("bytes={}-", self.done);
        let headers = [("Range", range.as_str())];
        let mut request = Request::new(Method::GET, &self.url);
        if self.done > 0 {
            request.headers = &headers;
        }
        let mut response = self.session.send(&request)?;
        let begins = match response.status() {
            StatusCode::PARTIAL_CONTENT if self.done > 0 => match range_start(response.headers()) {
                Some(start) if start <= self.done => start,
                _ => return Err(self.dropped("the registry answered with another range")),
            },
            // A server without ranges begins again.
            StatusCode::OK => 0,
            _ => return Err(status_error("Get", &self.url, &mut response)),
        };
        let mut body = response.into_body().into_with_config().limit(u64::MAX).reader();
        // What is known already is read over; the digest goes on where it was.
        let mut known = self.done - begins;
        let mut buffer = vec![0; SKIP_BYTES];
        while known > 0 {
            self.session.check_cancelled()?;
            let want = buffer.len().min(usize::try_from(known).unwrap_or(usize::MAX));
            match body.read(&mut buffer[..want]) {
                Ok(got @ 1..) => known -= got as u64,
                Ok(0) | Err(_) => return Err(self.dropped("the connection broke while it was resumed")),
            }
        }
        Ok(Box::new(body))
    }

    fn dropped(&self, why: &str) -> ImageError {
        ImageError::Transport { method: "Get", url: self.url.clone(), detail: why.to_owned() }
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize> {
        self.session.check_cancelled()?;
        let mut body = match self.body.take() {
            Some(body) => body,
            // The session has tried this several times already: its failure is final.
            None => self.open().inspect_err(|_| self.failures = ATTEMPTS_MAX)?,
        };
        let want = buffer.len().min(usize::try_from(self.size - self.done).unwrap_or(usize::MAX));
        let begun = Instant::now();
        let read = body.read(&mut buffer[..want]);
        self.waited += begun.elapsed();
        match read {
            Ok(0) => Err(self.dropped(&format!("unexpected EOF after {} of {} bytes", self.done, self.size))),
            Ok(got) => {
                self.window_bytes += got as u64;
                if self.waited >= RATE_WINDOW {
                    let is_dripping = self.window_bytes < RATE_BYTES_MIN;
                    (self.waited, self.window_bytes) = (Duration::ZERO, 0);
                    if is_dripping {
                        return Err(self.dropped("the registry sends too slowly"));
                    }
                }
                self.body = Some(body);
                Ok(got)
            }
            Err(error) => Err(self.dropped(&error.to_string())),
        }
    }
}

impl Read for Download<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.done == self.size || buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match self.read_some(buffer) {
                Ok(got) => {
                    self.done += got as u64;
                    self.proven += got as u64;
                    if self.proven >= PROVEN_BYTES {
                        self.failures = 0;
                    }
                    (self.progress)(self.done);
                    return Ok(got);
                }
                Err(ImageError::Transport { .. }) if self.failures + 1 < ATTEMPTS_MAX => {
                    self.failures += 1;
                    self.proven = 0;
                    let delay = Delay { wait: backoff(self.failures), is_rate_limit: false };
                    self.session.sleep(delay).map_err(io::Error::other)?;
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
    }
}

/// `bytes START-END/SIZE` (RFC 9110, "Content-Range").
fn range_start(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get("content-range")?.to_str().ok()?;
    text.strip_prefix("bytes ")?.split_once('-')?.0.trim().parse().ok()
}
