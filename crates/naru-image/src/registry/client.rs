//! A session with one registry about one repository: requests with authentication, retries with
//! back-off, and errors in dockerd's words.

use super::agents::Agents;
use super::answer::status_error;
use super::auth::{Challenge, Credentials, query_value};
use super::endpoint::{Endpoint, host_of};
use super::patience::{Delay, DelayFn};
use super::token::{self, TokenRequest};
use crate::error::{ImageError, Result};
use crate::store::locked;
use naru_types::ImageRef;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use ureq::http::{self, Method, Response, StatusCode};
use ureq::{Agent, Body, SendBody};

/// Steps in which a wait looks at the cancel flag, in milliseconds.
const CANCEL_POLL_MS: u64 = 50;

/// What a request carries.
pub enum Payload<'a> {
    None,
    Bytes(&'a [u8]),
    /// Read anew for each try.
    Stream {
        body: &'a dyn Reopen,
        size: u64,
    },
    /// Read anew for each try; a finished read reports its bytes.
    File {
        path: &'a std::path::Path,
        size: u64,
        progress: &'a (dyn Fn(u64) + Sync),
    },
}

/// Bytes that can be had several times.
pub trait Reopen {
    fn open(&self) -> Box<dyn Read + '_>;
}

pub struct Request<'a> {
    pub method: Method,
    pub url: &'a str,
    pub headers: &'a [(&'a str, &'a str)],
    pub payload: Payload<'a>,
}

impl<'a> Request<'a> {
    pub fn new(method: Method, url: &'a str) -> Self {
        Self { method, url, headers: &[], payload: Payload::None }
    }
}

/// What a session is allowed to do, where the registry doesn't say what it wants to be asked for.
pub struct Scope<'a> {
    actions: &'static str,
    /// Another repository of the registry, whose blobs are mounted.
    mounts_from: Option<&'a str>,
}

impl<'a> Scope<'a> {
    pub const PULL: Self = Self { actions: "pull", mounts_from: None };
    pub const PUSH: Self = Self { actions: "pull,push", mounts_from: None };

    pub fn push_and_mount(from: &'a str) -> Self {
        Self { mounts_from: Some(from), ..Self::PUSH }
    }

    /// Several scopes are separated by spaces (distribution, spec/auth/scope).
    fn of(&self, repository: &str) -> String {
        let own = format!("repository:{repository}:{}", self.actions);
        match self.mounts_from {
            Some(other) if other != repository => format!("{own} repository:{other}:pull"),
            _ => own,
        }
    }
}

/// One repository of one registry in one user's name.
pub struct Peer {
    agent: Agent,
    pub endpoint: Endpoint,
    reference: ImageRef,
    scope: String,
    credentials: Credentials,
    authorization: Mutex<Option<String>>,
}

impl Peer {
    /// Whether the other one would get the same answers.
    pub fn is_same(&self, other: &Peer) -> bool {
        self.endpoint == other.endpoint
            && self.reference.path() == other.reference.path()
            && self.credentials == other.credentials
    }

    #[cfg(test)]
    pub fn anonymous(domain: &str, repository: &str) -> naru_types::Result<Self> {
        let config = crate::store::StoreConfig::default();
        let reference = ImageRef::parse(&format!("{domain}/{repository}"))?;
        let endpoint = super::endpoint::endpoints(&reference, &config)?.remove(0);
        Ok(Self {
            agent: Agents::new(&config).agent(&endpoint.tls)?,
            endpoint,
            reference,
            scope: String::new(),
            credentials: Credentials::Anonymous,
            authorization: Mutex::default(),
        })
    }
}

/// How a session's caller is listened and spoken to.
#[derive(Clone, Copy)]
pub struct Caller<'a> {
    pub cancel: &'a AtomicBool,
    pub on_delay: &'a DelayFn<'a>,
}

pub struct Session<'a> {
    pub peer: Arc<Peer>,
    caller: Caller<'a>,
}

impl<'a> Session<'a> {
    /// Asks `/v2/` whether a registry answers there, and gets past its door.
    pub fn open(
        agents: &Agents,
        endpoint: &Endpoint,
        reference: &ImageRef,
        scope: &Scope<'_>,
        credentials: &Credentials,
        caller: Caller<'a>,
    ) -> Result<Self> {
        // A mirror is another party than the one that the credentials are for.
        let credentials = if endpoint.is_mirror { Credentials::Anonymous } else { credentials.clone() };
        let authorization = match &credentials {
            Credentials::RegistryToken(token) => Some(format!("Bearer {}", token.reveal())),
            _ => None,
        };
        let peer = Peer {
            agent: agents.agent(&endpoint.tls)?,
            endpoint: endpoint.clone(),
            reference: reference.clone(),
            scope: scope.of(reference.path()),
            credentials,
            authorization: Mutex::new(authorization),
        };
        let session = Self { peer: Arc::new(peer), caller };
        let url = format!("{}{}/", session.peer.endpoint.base, session.peer.endpoint.api);
        // Where nothing answers, the next endpoint is tried at once.
        let is_answer = |result: &Result<Response<Body>>| result.is_ok();
        let mut response = session.patiently(&Request::new(Method::GET, &url), &is_answer)?;
        match response.status() {
            StatusCode::UNAUTHORIZED => session.authenticate(&response, &url, "Get")?,
            StatusCode::TOO_MANY_REQUESTS => return Err(status_error("Get", &url, &mut response)),
            // Some registries serve no /v2/ but do serve what is beneath it.
            _ => {}
        }
        Ok(session)
    }

    /// A session with a peer whose door is open.
    pub fn with(peer: &Arc<Peer>, caller: Caller<'a>) -> Self {
        Self { peer: Arc::clone(peer), caller }
    }

    /// `<base>/v2/<repository>/<rest>`, and `?ns=` for a mirror of several registries.
    pub fn url(&self, rest: &str) -> String {
        let Endpoint { base, api, namespace, .. } = &self.peer.endpoint;
        let path = format!("{base}{api}/{}/{rest}", self.peer.reference.path());
        match namespace {
            Some(namespace) => {
                let join = if rest.contains('?') { '&' } else { '?' };
                format!("{path}{join}ns={}", query_value(namespace))
            }
            None => path,
        }
    }

    pub fn check_cancelled(&self) -> Result<()> {
        if self.caller.cancel.load(Ordering::Relaxed) { Err(ImageError::Cancelled) } else { Ok(()) }
    }

    /// Sends, again where that may help; the answer is not a 401, 429 or 5xx of passing trouble.
    pub fn send(&self, request: &Request<'_>) -> Result<Response<Body>> {
        let response = self.patiently(request, &|_| true)?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        self.authenticate(&response, request.url, title(&request.method))?;
        self.patiently(request, &|_| true)
    }

    /// Sends until it is answered for good, as far as `may_repeat` allows.
    fn patiently(
        &self,
        request: &Request<'_>,
        may_repeat: &dyn Fn(&Result<Response<Body>>) -> bool,
    ) -> Result<Response<Body>> {
        let mut attempt = 1;
        loop {
            self.check_cancelled()?;
            let result = self.once(request);
            match Delay::after(&result, attempt).filter(|_| may_repeat(&result)) {
                Some(delay) => self.sleep(delay)?,
                None => return result,
            }
            attempt += 1;
        }
    }

    fn once(&self, request: &Request<'_>) -> Result<Response<Body>> {
        let failed = |error: ureq::Error| transport_error(&request.method, request.url, &error);
        let mut builder = http::Request::builder().method(request.method.clone()).uri(request.url);
        for (name, value) in request.headers {
            builder = builder.header(*name, *value);
        }
        // A URL from the registry may lead to another host, which the token isn't for.
        let is_ours =
            request.url.strip_prefix(&self.peer.endpoint.base).is_some_and(|rest| rest.starts_with('/'));
        if is_ours && let Some(value) = &*locked(&self.peer.authorization) {
            builder = builder.header("Authorization", value);
        }
        if is_ours {
            for (name, value) in &self.peer.endpoint.headers {
                builder = builder.header(name, value);
            }
        }
        let bad = |error: http::Error| failed(ureq::Error::Http(error));
        match &request.payload {
            Payload::None => self.peer.agent.run(builder.body(()).map_err(bad)?).map_err(failed),
            Payload::Bytes(bytes) => self.peer.agent.run(builder.body(*bytes).map_err(bad)?).map_err(failed),
            Payload::Stream { body, size } => {
                let mut body = body.open();
                let builder = builder.header("Content-Length", *size);
                let request = builder.body(SendBody::from_reader(&mut body)).map_err(bad)?;
                self.peer.agent.run(request).map_err(|error| own_error(error).unwrap_or_else(failed))
            }
            Payload::File { path, size, progress } => {
                let file = std::fs::File::open(path).map_err(ImageError::io("open", *path))?;
                let mut body =
                    Counted { inner: file, done: 0, progress: *progress, cancel: self.caller.cancel };
                let builder = builder.header("Content-Length", *size);
                self.peer
                    .agent
                    .run(builder.body(SendBody::from_reader(&mut body)).map_err(bad)?)
                    .map_err(failed)
            }
        }
    }

    /// Says so, and sleeps in short steps; a cancellation ends it.
    pub fn sleep(&self, delay: Delay) -> Result<()> {
        (self.caller.on_delay)(delay);
        let until = Instant::now() + delay.wait;
        loop {
            self.check_cancelled()?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(Duration::from_millis(CANCEL_POLL_MS)));
        }
    }

    fn authenticate(&self, response: &Response<Body>, url: &str, method: &'static str) -> Result<()> {
        let denied = |detail: &str| ImageError::Unauthorized {
            method,
            url: url.to_owned(),
            detail: detail.to_owned(),
        };
        let value = match token::challenge_of(&self.peer.endpoint.base, response)? {
            None => return Err(denied("authentication required")),
            Some(Challenge::Basic) => {
                let basic =
                    self.peer.credentials.basic().ok_or_else(|| denied("no basic auth credentials"))?;
                if locked(&self.peer.authorization).as_deref() == Some(&basic) {
                    return Err(denied("unauthorized: authentication required"));
                }
                basic
            }
            Some(Challenge::Bearer { realm, service, scope }) => {
                let scope = scope.unwrap_or_else(|| self.peer.scope.clone());
                let request = TokenRequest {
                    agent: &self.peer.agent,
                    base: &self.peer.endpoint.base,
                    credentials: &self.peer.credentials,
                    realm: &realm,
                    service: service.as_deref().unwrap_or_default(),
                    scope: Some(&scope),
                    wants_refresh_token: false,
                };
                format!("Bearer {}", request.fetch()?.access)
            }
        };
        *locked(&self.peer.authorization) = Some(value);
        Ok(())
    }
}

struct Counted<'a> {
    inner: std::fs::File,
    done: u64,
    progress: &'a (dyn Fn(u64) + Sync),
    cancel: &'a AtomicBool,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.load(Ordering::Relaxed) {
            return Err(io::Error::other(ImageError::Cancelled));
        }
        let got = self.inner.read(buffer)?;
        self.done += got as u64;
        (self.progress)(self.done);
        Ok(got)
    }
}

/// Go's spelling of a method in `url.Error`, which dockerd's messages begin with.
pub fn title(method: &Method) -> &'static str {
    match *method {
        Method::HEAD => "Head",
        Method::POST => "Post",
        Method::PUT => "Put",
        Method::PATCH => "Patch",
        _ => "Get",
    }
}

pub fn transport_error(method: &Method, url: &str, error: &ureq::Error) -> ImageError {
    let address = url.split_once("://").map_or(url, |(_, rest)| rest).split('/').next().unwrap_or_default();
    let detail = match error {
        ureq::Error::Io(source) if is_ours(source) => {
            return ImageError::Cancelled;
        }
        ureq::Error::Io(source) if source.kind() == io::ErrorKind::ConnectionRefused => {
            format!("dial tcp {address}: connect: connection refused")
        }
        // The resolver's errors have no kind of their own (getaddrinfo(3)).
        ureq::Error::Io(source) if source.to_string().contains("failed to lookup address") => {
            format!("dial tcp: lookup {}: no such host", host_of(address))
        }
        ureq::Error::ConnectionFailed => format!("dial tcp {address}: connect: connection failed"),
        ureq::Error::HostNotFound => format!("dial tcp: lookup {}: no such host", host_of(address)),
        other => other.to_string(),
    };
    ImageError::Transport { method: title(method), url: url.to_owned(), detail }
}

/// The error of ours that a request's own body ended with.
fn own_error(error: ureq::Error) -> Result<ImageError, ureq::Error> {
    match error {
        ureq::Error::Io(source) => source.downcast::<ImageError>().map_err(ureq::Error::Io),
        other => Err(other),
    }
}

/// Whether the request's own body (a cancelled upload) made the error.
fn is_ours(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.downcast_ref::<ImageError>().is_some())
}
