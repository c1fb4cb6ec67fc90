//! The CLI's view of the API: requests that answer with JSON, streams, hijacked connections, waits.

use crate::daemon;
use naru_types::quantity::parse_duration;
use naru_types::{Error, Result, Timestamp};
pub use naru_wire::client::BodyReader;
use naru_wire::client::{Client, ClientError, Hijacked, Request, Response};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};

pub use naru_wire::API_VERSION;
/// Longest JSON answer that is believed, in bytes.
const ANSWER_LEN_MAX: u64 = 256 << 20;

/// naru's own socket, the one that a daemon is started for; each user has one.
pub fn default_socket() -> PathBuf {
    naru_kernel::instance::socket()
}

/// Where the daemon is.
#[derive(Clone, Debug)]
pub struct Endpoint(PathBuf, Option<String>);

impl Endpoint {
    /// `-H`, else `$NARU_HOST`, else `$DOCKER_HOST`, else naru's own socket.
    pub fn choose(flag: Option<&str>) -> Self {
        let from_environment = || {
            let variable =
                |name: &str| std::env::vars().find(|(key, value)| key == name && !value.is_empty());
            variable("NARU_HOST").or_else(|| variable("DOCKER_HOST")).map(|(_, value)| value)
        };
        match flag.map(str::to_owned).or_else(from_environment) {
            None => Self(default_socket(), None),
            Some(text) => match text.strip_prefix("unix://") {
                Some(path) => Self(path.into(), None),
                None if text.starts_with('/') => Self(text.into(), None),
                None => Self(PathBuf::new(), Some(text)),
            },
        }
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    fn check(&self) -> Result<()> {
        self.1.as_ref().map_or(Ok(()), |text| {
            Err(Error::not_implemented(format!(
                "cannot connect to {text}: only unix:// sockets are supported"
            ))
            .with_hint("write unix:///path/to/naru.sock"))
        })
    }
}

/// What a request carries.
pub enum Body {
    Empty,
    Json(Value),
    /// A tar archive, sent while it is read.
    Tar(Box<dyn Read + Send>),
}

#[derive(Clone, Debug)]
pub struct Api {
    client: Client,
}

impl Api {
    /// Starts a daemon first when none answers on naru's own socket.
    pub fn connect(endpoint: &Endpoint) -> Result<Self> {
        endpoint.check()?;
        daemon::ensure_running(endpoint.path())?;
        Ok(Self { client: Client::new(endpoint.path()) })
    }

    /// Never starts one: an error of kind `Unavailable` says that none answers.
    pub fn connect_only(endpoint: &Endpoint) -> Result<Self> {
        endpoint.check()?;
        let api = Self { client: Client::new(endpoint.path()) };
        api.stream("GET", "/_ping", Body::Empty)?;
        Ok(api)
    }

    pub fn get(&self, path: &str) -> Result<Value> {
        self.json("GET", path, None)
    }

    pub fn post(&self, path: &str, body: Option<&Value>) -> Result<Value> {
        self.json("POST", path, body)
    }

    pub fn put(&self, path: &str, body: &Value) -> Result<Value> {
        self.json("PUT", path, Some(body))
    }

    pub fn delete(&self, path: &str) -> Result<Value> {
        self.json("DELETE", path, None)
    }

    /// The answer as text.
    pub fn text(&self, path: &str) -> Result<String> {
        let mut text = String::new();
        self.stream("GET", path, Body::Empty)?.read_to_string(&mut text).map_err(cut_off)?;
        Ok(text)
    }

    /// One header of the answer to a HEAD request.
    pub fn head(&self, path: &str, name: &str) -> Result<Option<String>> {
        let response = self.send("HEAD", path, Body::Empty, &[])?;
        Ok(response.head.header(name).map(str::to_owned))
    }

    /// An answer that is read as it comes. A refusal is the error.
    pub fn stream(&self, method: &'static str, path: &str, body: Body) -> Result<BodyReader> {
        Ok(self.send(method, path, body, &[])?.body)
    }

    /// As [`Self::stream`], with headers of the request's own: credentials for registries travel in them.
    pub fn stream_with(
        &self,
        method: &'static str,
        path: &str,
        body: Body,
        headers: &[(&str, &str)],
    ) -> Result<BodyReader> {
        Ok(self.send(method, path, body, headers)?.body)
    }

    fn send(
        &self,
        method: &'static str,
        path: &str,
        mut body: Body,
        headers: &[(&str, &str)],
    ) -> Result<Response> {
        let mut request = Request::new(method, versioned(path));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let sent = match &mut body {
            Body::Empty => self.client.send(request),
            Body::Json(value) => request.json(value).and_then(|request| self.client.send(request)),
            Body::Tar(reader) => self.client.send(request.stream("application/x-tar", reader)),
        };
        sent.map_err(refusal)
    }

    /// A connection that carries a container's streams from now on.
    pub fn hijack(&self, path: &str, body: Option<&Value>) -> Result<Hijacked> {
        let request = Request::post(versioned(path));
        let request = match body {
            Some(value) => request.json(value).map_err(refusal)?,
            None => request,
        };
        self.client.hijack(request).map_err(refusal)
    }

    /// Registers for the end of a container. When this returns the daemon has the waiter.
    pub fn wait(&self, id: &str, condition: &str) -> Result<Waiter> {
        let path = format!("/containers/{id}/wait{}", query(&[("condition", Some(condition))]));
        Ok(Waiter(self.stream("POST", &path, Body::Empty)?))
    }

    fn json(&self, method: &'static str, path: &str, body: Option<&Value>) -> Result<Value> {
        let body = body.map_or(Body::Empty, |value| Body::Json(value.clone()));
        read_json(self.stream(method, path, body)?)
    }
}

/// A registered wait; the head of its answer is here, its body comes with the end.
pub struct Waiter(BodyReader);

impl Waiter {
    pub fn answer(self) -> Result<Value> {
        read_json(self.0)
    }
}

/// naru's own routes have a version of their own in their path.
fn versioned(path: &str) -> String {
    if path.starts_with("/naru/") || path == "/_ping" {
        path.to_owned()
    } else {
        format!("/v{API_VERSION}{path}")
    }
}

fn read_json(body: BodyReader) -> Result<Value> {
    let mut bytes = Vec::new();
    body.take(ANSWER_LEN_MAX).read_to_end(&mut bytes).map_err(cut_off)?;
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&bytes)
        .map_err(|error| Error::internal("the daemon answered with broken JSON").with_source(error))
}

fn cut_off(error: std::io::Error) -> Error {
    Error::unavailable("the daemon's answer broke off").with_source(error)
}

/// The daemon's refusal with its hint, or what went wrong on the way to it.
fn refusal(error: ClientError) -> Error {
    let nobody_there = error.is_no_daemon();
    let error = Error::from(error);
    if nobody_there { error.with_hint("start the daemon with `naru system start`") } else { error }
}

/// `?a=b&c=d` of what is given, or nothing.
pub fn query(parameters: &[(&str, Option<&str>)]) -> String {
    let given: Vec<String> = parameters
        .iter()
        .filter_map(|(key, value)| value.map(|value| format!("{key}={}", encode(value))))
        .collect();
    if given.is_empty() { String::new() } else { format!("?{}", given.join("&")) }
}

/// Percent-encodes everything but RFC 3986's unreserved characters.
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:@".contains(&byte) {
            encoded.push(byte as char);
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// A name as one segment of a path.
pub fn escape(name: &str) -> String {
    encode(name.trim_start_matches('/'))
}

/// `key=value` filters as the API's JSON; `None` when there are none.
pub fn filters(list: &[String]) -> Result<Option<String>> {
    let mut map: BTreeMap<&str, BTreeMap<&str, bool>> = BTreeMap::new();
    for item in list {
        let (key, value) = item.split_once('=').ok_or_else(|| {
            Error::invalid(format!("invalid filter {item:?}")).with_hint("filters look like key=value")
        })?;
        map.entry(key).or_default().insert(value, true);
    }
    if map.is_empty() {
        return Ok(None);
    }
    serde_json::to_string(&map)
        .map(Some)
        .map_err(|error| Error::internal("cannot write the filters").with_source(error))
}

/// A time, a unix time or a duration ago, as the API wants it: seconds with a fraction.
pub fn moment(text: &str) -> Result<String> {
    if text.parse::<f64>().is_ok() {
        return Ok(text.to_owned());
    }
    let at = match parse_duration(text) {
        Some(ago) => Timestamp(naru_kernel::clock::now().0 - ago),
        None => Timestamp::parse_rfc3339(text).ok_or_else(|| {
            Error::invalid(format!("invalid time {text:?}"))
                .with_hint("write 42m for 42 minutes ago, or 2026-01-02T15:04:05Z")
        })?,
    };
    Ok(format!("{}.{:09}", at.secs(), at.subsec_nanos()))
}

/// A temporary file without a name: it is gone when the program ends, however it ends.
pub fn scratch_file() -> Result<File> {
    let dir = std::env::temp_dir();
    let flags = rustix::fs::OFlags::TMPFILE | rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
    rustix::fs::open(&dir, flags, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).map(File::from).map_err(
        |error| {
            Error::internal(format!("cannot make a temporary file in {}", dir.display())).with_source(error)
        },
    )
}

/// The file from its start, as something to send.
pub fn rewound(mut file: File) -> Result<Box<dyn Read + Send>> {
    file.rewind().map_err(|error| Error::internal("cannot read the temporary file").with_source(error))?;
    Ok(Box::new(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_on_the_wire() {
        assert_eq!(query(&[("a", Some("b c&d")), ("x", None), ("y", Some("1"))]), "?a=b%20c%26d&y=1");
        assert_eq!(query(&[("x", None)]), "");
        assert_eq!(escape("/web"), "web");
        assert_eq!(escape("../x"), "..%2Fx");
        assert_eq!(
            filters(&["label=a=b".into(), "label=c".into()]).unwrap().unwrap(),
            r#"{"label":{"a=b":true,"c":true}}"#
        );
        assert!(filters(&["nope".into()]).is_err());
        assert_eq!(moment("1700000000").unwrap(), "1700000000");
        assert_eq!(moment("2023-11-14T22:13:20Z").unwrap(), "1700000000.000000000");
        assert!(moment("yesterday").is_err());
    }

    #[test]
    fn endpoints() {
        assert_eq!(Endpoint::choose(Some("unix:///x/y.sock")).path(), Path::new("/x/y.sock"));
        assert!(Endpoint::choose(Some("tcp://1.2.3.4:1")).check().is_err());
    }
}
