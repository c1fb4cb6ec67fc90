//! A small synchronous HTTP/1.1 client over a unix socket: one connection per request.
//!
//! It does what a client of a container engine needs and no more: JSON and streamed bodies out, bodies
//! of any framing in, and the `Upgrade: tcp` hijack. No pool, no redirects, no TLS: those belong to a remote
//! transport, which naru reaches by forwarding the socket (`ssh -L`).

mod body;
mod error;
mod head;

pub use body::BodyReader;
pub use error::ClientError;
pub use head::Head;

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest text of an error answer, in bytes.
const ERROR_BYTES_MAX: u64 = 1 << 20;
/// Longest JSON document that [`Response::json`] reads, in bytes.
const JSON_BYTES_MAX: u64 = 256 << 20;
/// Size of one chunk of a streamed request body, in bytes.
const CHUNK_BYTES: usize = 64 * 1024;

/// What separates the hint from the message in an error answer to naru's own client.
pub const HINT_SEPARATOR: &str = "\nhint: ";

type Result<T, E = ClientError> = std::result::Result<T, E>;

/// Where the daemon listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    socket: PathBuf,
}

/// What goes with a request.
pub enum Body<'a> {
    Empty,
    Json(Vec<u8>),
    /// Sent in chunks while it is read.
    Stream {
        content_type: &'static str,
        reader: &'a mut dyn Read,
    },
}

pub struct Request<'a> {
    method: &'static str,
    /// Path and query, already encoded.
    target: String,
    headers: Vec<(String, String)>,
    body: Body<'a>,
    timeout: Option<Duration>,
}

pub struct Response {
    pub head: Head,
    pub body: BodyReader,
    request: String,
}

/// A connection that has become a raw stream in both directions.
#[derive(Debug)]
pub struct Hijacked {
    pub head: Head,
    /// Reads what the daemon sent, the bytes that came along with the head first.
    pub reader: BufReader<UnixStream>,
    /// Writes to the daemon; `shutdown(Write)` is the end of the standard input.
    pub writer: UnixStream,
}

impl Client {
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// From an address as `DOCKER_HOST` has it: `unix:///run/naru/naru.sock`, or a plain path.
    pub fn from_address(address: &str) -> Result<Self> {
        let refuse = |why| Err(ClientError::Address { address: address.to_owned(), why });
        match address.split_once("://") {
            Some(("unix", path)) if path.starts_with('/') => Ok(Self::new(path)),
            Some(("unix", _)) => refuse("the path of a unix socket must be absolute"),
            Some(_) => refuse("only unix:// sockets are supported; forward a remote one with ssh -L"),
            None if address.starts_with('/') => Ok(Self::new(address)),
            None => refuse("it should look like unix:///run/naru/naru.sock"),
        }
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Sends the request and reads the head of the answer; a refusal (status 400 and up) is an error.
    pub fn send(&self, request: Request<'_>) -> Result<Response> {
        self.send_raw(request)?.accept()
    }

    /// As [`Client::send`], with every status being an answer.
    pub fn send_raw(&self, request: Request<'_>) -> Result<Response> {
        let name = request.name();
        let is_head_request = request.method == "HEAD";
        let (stream, head) = self.exchange(request, None)?;
        let body = frame(stream, &head, is_head_request)
            .map_err(|what| ClientError::Malformed { request: name.clone(), what })?;
        Ok(Response { head, body, request: name })
    }

    /// Asks for the connection itself (`Upgrade: tcp`), for attach and exec.
    pub fn hijack(&self, request: Request<'_>) -> Result<Hijacked> {
        let name = request.name();
        let (reader, head) = self.exchange(request, Some("tcp"))?;
        if head.status != 101 {
            let body = frame(reader, &head, false)
                .map_err(|what| ClientError::Malformed { request: name.clone(), what })?;
            Response { head, body, request: name.clone() }.accept()?;
            return Err(ClientError::Malformed { request: name, what: "the connection was not upgraded" });
        }
        let writer =
            reader.get_ref().try_clone().map_err(|source| ClientError::Receive { request: name, source })?;
        Ok(Hijacked { head, reader, writer })
    }

    fn exchange(&self, request: Request<'_>, upgrade: Option<&str>) -> Result<(BufReader<UnixStream>, Head)> {
        let name = request.name();
        let connect = |source| ClientError::Connect { path: self.socket.clone(), source };
        let stream = UnixStream::connect(&self.socket).map_err(connect)?;
        stream.set_read_timeout(request.timeout).map_err(connect)?;
        stream.set_write_timeout(request.timeout).map_err(connect)?;
        let sent = write_request(&stream, request, upgrade);
        let mut reader = BufReader::new(stream);
        // A daemon that refuses early closes its reading side; its answer says more than the broken pipe.
        match (head::read(&mut reader), sent) {
            (_, Err(SendError::Body(source))) => Err(ClientError::ReadBody { request: name, source }),
            (Ok(head), _) => Ok((reader, head)),
            (Err(_), Err(SendError::Wire(source))) => Err(ClientError::Send { request: name, source }),
            (Err(head::HeadError::Io(source)), Ok(())) => Err(ClientError::Receive { request: name, source }),
            (Err(head::HeadError::Malformed(what)), Ok(())) => {
                Err(ClientError::Malformed { request: name, what })
            }
        }
    }
}

impl<'a> Request<'a> {
    pub fn new(method: &'static str, target: impl Into<String>) -> Self {
        Self { method, target: target.into(), headers: Vec::new(), body: Body::Empty, timeout: None }
    }

    pub fn get(target: impl Into<String>) -> Self {
        Self::new("GET", target)
    }

    pub fn post(target: impl Into<String>) -> Self {
        Self::new("POST", target)
    }

    pub fn delete(target: impl Into<String>) -> Self {
        Self::new("DELETE", target)
    }

    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With a JSON body.
    pub fn json(mut self, value: &impl Serialize) -> Result<Self> {
        let bytes =
            serde_json::to_vec(value).map_err(|source| ClientError::Json { request: self.name(), source })?;
        self.body = Body::Json(bytes);
        Ok(self)
    }

    /// With a body that is read while it is sent.
    #[must_use]
    pub fn stream(mut self, content_type: &'static str, reader: &'a mut dyn Read) -> Self {
        self.body = Body::Stream { content_type, reader };
        self
    }

    /// Longest wait for any single read or write; without one a request waits as long as the daemon takes.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    fn name(&self) -> String {
        let path = self.target.split('?').next().unwrap_or("");
        format!("{} {path}", self.method)
    }
}

impl Response {
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// Turns a refusal into an error that carries the daemon's message.
    pub fn accept(mut self) -> Result<Self> {
        let status = self.head.status;
        if status < 400 {
            return Ok(self);
        }
        let mut text = String::new();
        let read = (&mut self.body).take(ERROR_BYTES_MAX).read_to_string(&mut text);
        read.map_err(|source| ClientError::Receive { request: self.request.clone(), source })?;
        let parsed = serde_json::from_str::<crate::message::ErrorBody>(&text).ok();
        let message =
            parsed.map_or_else(|| format!("status {status}: {}", text.trim()), |error| error.message);
        let (message, hint) = match message.split_once(HINT_SEPARATOR) {
            Some((message, hint)) => (message.to_owned(), Some(hint.to_owned())),
            None => (message, None),
        };
        Err(ClientError::Refused { status, message, hint })
    }

    pub fn json<T: DeserializeOwned>(self) -> Result<T> {
        let request = self.request;
        serde_json::from_reader(self.body.take(JSON_BYTES_MAX))
            .map_err(|source| ClientError::Json { request, source })
    }

    /// One JSON document per line, as progress and events come.
    pub fn json_lines<T: DeserializeOwned>(self) -> impl Iterator<Item = Result<T>> {
        let request = self.request;
        let stream = serde_json::Deserializer::from_reader(BufReader::new(self.body)).into_iter::<T>();
        stream.map(move |item| item.map_err(|source| ClientError::Json { request: request.clone(), source }))
    }

    /// Reads to the end and forgets.
    pub fn drain(mut self) -> Result<()> {
        io::copy(&mut self.body, &mut io::sink())
            .map(drop)
            .map_err(|source| ClientError::Receive { request: self.request, source })
    }
}

enum SendError {
    Body(io::Error),
    Wire(io::Error),
}

fn write_request(
    mut stream: &UnixStream,
    request: Request<'_>,
    upgrade: Option<&str>,
) -> Result<(), SendError> {
    let mut head = format!("{} {} HTTP/1.1\r\nHost: naru\r\n", request.method, request.target);
    head.push_str(concat!("User-Agent: naru/", env!("CARGO_PKG_VERSION"), "\r\n"));
    for (name, value) in &request.headers {
        head.extend([name, ": ", value, "\r\n"]);
    }
    match upgrade {
        Some(protocol) => head.extend(["Connection: Upgrade\r\nUpgrade: ", protocol, "\r\n"]),
        None => head.push_str("Connection: close\r\n"),
    }
    match &request.body {
        Body::Empty if request.method == "GET" || request.method == "HEAD" => {}
        Body::Empty => head.push_str("Content-Length: 0\r\n"),
        Body::Json(bytes) => {
            let len = bytes.len().to_string();
            head.extend(["Content-Type: application/json\r\nContent-Length: ", &len, "\r\n"]);
        }
        Body::Stream { content_type, .. } => {
            head.extend(["Content-Type: ", content_type, "\r\nTransfer-Encoding: chunked\r\n"]);
        }
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).map_err(SendError::Wire)?;
    match request.body {
        Body::Empty => Ok(()),
        Body::Json(bytes) => stream.write_all(&bytes).map_err(SendError::Wire),
        Body::Stream { reader, .. } => write_chunks(stream, reader),
    }
}

fn write_chunks(mut stream: &UnixStream, reader: &mut dyn Read) -> Result<(), SendError> {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(SendError::Body(error)),
        };
        let mut chunk = format!("{count:x}\r\n").into_bytes();
        chunk.extend_from_slice(&buffer[..count]);
        chunk.extend_from_slice(b"\r\n");
        stream.write_all(&chunk).map_err(SendError::Wire)?;
        if count == 0 {
            return Ok(());
        }
    }
}

fn frame(
    stream: BufReader<UnixStream>,
    head: &Head,
    is_head_request: bool,
) -> Result<BodyReader, &'static str> {
    if is_head_request || matches!(head.status, 204 | 304) {
        return Ok(BodyReader::with_length(stream, 0));
    }
    if head.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        return Ok(BodyReader::chunked(stream));
    }
    match head.header("content-length").map(str::parse) {
        Some(Ok(length)) => Ok(BodyReader::with_length(stream, length)),
        Some(Err(_)) => Err("a content-length that is no number"),
        None => Ok(BodyReader::until_close(stream)),
    }
}

/// Whether the reader holds bytes already, for callers that poll the connection themselves.
pub fn has_buffered(reader: &BufReader<UnixStream>) -> bool {
    !reader.buffer().is_empty()
}

#[cfg(test)]
mod tests;
