//! Handing the connection over: attach and exec (Docker Engine API, "Hijacking").
//!
//! A client that sends `Upgrade` gets 101 and a raw stream in both directions. One that does not gets 200 and the
//! output as the body, while the rest of its request body is the input.

use crate::web::body::ResponseBody;
use crate::web::request::Request;
use crate::web::respond::{self, Response};
use crate::web::version::ApiVersion;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, UPGRADE};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use naru_wire::frame::{self, Demux, StreamKind};
use std::borrow::Cow;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc::Sender;

/// Size of the copy buffers, in bytes.
const COPY_BYTES: usize = 32 * 1024;
/// How often a silent connection is looked at for a client that has vanished.
const VANISHED_CHECK: Duration = Duration::from_secs(2);
/// A process may close its output and go on: then its client isn't kept longer than this.
const SETTLE_MAX: Duration = Duration::from_secs(2);

/// Between two looks whether a client has read its answer's head, and how long one is waited for at most.
const HEAD_CHECK: Duration = Duration::from_millis(1);
const HEAD_READ_MAX: Duration = Duration::from_millis(250);

pub const RAW: &str = "application/vnd.docker.raw-stream";
pub const MULTIPLEXED: &str = "application/vnd.docker.multiplexed-stream";

/// What passes between the client and the container.
pub struct Session {
    /// The container's side.
    pub container: UnixStream,
    /// Sent to the client before anything else, such as older logs.
    pub preface: Option<tokio::sync::mpsc::Receiver<io::Result<Bytes>>>,
    /// Bytes that detach the client; empty: none.
    pub detach_keys: Vec<u8>,
    pub tty: bool,
    pub framing: Framing,
    /// Awaited, for a bounded time, between the end of the output and the end of the connection: a client asks for the
    /// exit code as soon as its stream ends, and shall find it.
    pub settled: Settled,
}

/// How the container's output becomes the client's: a terminal's comes as it is, any other in frames.
pub enum Framing {
    AsIs,
    /// A terminal's output for a client that wants frames: all of it is stdout.
    Wrapped,
    /// For a client that says it has a terminal, of a process that has none: the payloads alone.
    Unwrapped(Demux),
}

impl Framing {
    /// `tty`: the process has a terminal; `raw`: the client wants no frames.
    pub fn between(tty: bool, raw: bool) -> Self {
        match (tty, raw) {
            (true, true) | (false, false) => Self::AsIs,
            (true, false) => Self::Wrapped,
            (false, true) => Self::Unwrapped(Demux::default()),
        }
    }

    /// The bytes for the client; an error when the container's side is not framed as it should be.
    fn pass<'a>(&mut self, bytes: &'a [u8]) -> io::Result<Cow<'a, [u8]>> {
        Ok(match self {
            Self::AsIs => bytes.into(),
            Self::Wrapped => frame::encode(StreamKind::Stdout, bytes).into(),
            Self::Unwrapped(demux) => {
                let mut payloads = Vec::with_capacity(bytes.len());
                demux.feed(bytes, |_, payload| payloads.extend_from_slice(payload))?;
                payloads.into()
            }
        })
    }
}

pub type Settled = std::pin::Pin<Box<dyn std::future::Future<Output = ()> + Send>>;

/// Nothing to wait for.
pub fn at_once() -> Settled {
    Box::pin(std::future::ready(()))
}

/// A container's side that says one thing and ends.
pub fn saying(text: &str, tty: bool) -> naru_types::Result<UnixStream> {
    let broken = |error: io::Error| naru_types::Error::internal("cannot make a stream").with_source(error);
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(broken)?;
    let bytes =
        if tty { text.as_bytes().to_vec() } else { frame::encode(StreamKind::Stdout, text.as_bytes()) };
    io::Write::write_all(&mut &theirs, &bytes).map_err(broken)?;
    ours.set_nonblocking(true).map_err(broken)?;
    UnixStream::from_std(ours).map_err(broken)
}

/// The content type of a container's stream.
pub fn stream_type(tty: bool, version: ApiVersion) -> &'static str {
    if tty || version < ApiVersion::MULTIPLEXED_TYPE { RAW } else { MULTIPLEXED }
}

/// Answers with the session. The request's body must have been drained or be the input.
pub fn answer(mut request: Request, session: Session) -> Response {
    let raw = match session.framing {
        Framing::AsIs => session.tty,
        Framing::Wrapped => false,
        Framing::Unwrapped(_) => true,
    };
    let content_type = stream_type(raw, request.version);
    match request.upgrade.take().filter(|_| request.wants_upgrade()) {
        Some(upgrade) => {
            let mut response =
                respond::with_type(StatusCode::SWITCHING_PROTOCOLS, content_type, ResponseBody::empty());
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(UPGRADE, HeaderValue::from_static("tcp"));
            tokio::spawn(run_upgraded(upgrade, session));
            response
        }
        None => {
            let (sender, response) = respond::stream(RAW);
            tokio::spawn(run_plain(request.body.take(), sender, session));
            response
        }
    }
}

async fn run_upgraded(upgrade: OnUpgrade, session: Session) {
    // The client hung up before the switch: nothing to serve.
    let Ok(upgraded) = upgrade.await else { return };
    let Some((client, first)) = raw_stream(upgraded) else { return };
    let (from_client, mut to_client) = client.into_split();
    let mut head_was_read = false;
    let mut framing = session.framing;
    if let Some(mut preface) = session.preface {
        while let Some(Ok(piece)) = preface.recv().await {
            head_is_read(&to_client, &mut head_was_read).await;
            if to_client.write_all(&piece).await.is_err() {
                return;
            }
        }
    }
    let (mut from_container, to_container) = session.container.into_split();
    let keys = DetachKeys::new(session.detach_keys);
    let input = tokio::spawn(copy_input(from_client, first, to_container, keys, session.tty));
    let vanish = input.abort_handle();
    let detached = async {
        match input.await {
            Ok(InputEnd::Detached) | Err(_) => {}
            Ok(InputEnd::Closed(_kept)) => std::future::pending().await,
        }
    };
    tokio::pin!(detached);
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        let read = tokio::select! {
            read = from_container.read(&mut buffer) => read.unwrap_or(0),
            () = &mut detached => break,
            () = vanished(&to_client) => break,
        };
        if read == 0 {
            let _ = tokio::time::timeout(SETTLE_MAX, session.settled).await;
            break;
        }
        head_is_read(&to_client, &mut head_was_read).await;
        let Ok(output) = framing.pass(&buffer[..read]) else { break };
        if to_client.write_all(&output).await.is_err() {
            break;
        }
    }
    vanish.abort();
    // A peer that is gone already cannot be told.
    let _ = to_client.shutdown().await;
}

/// The socket itself and what hyper had read ahead.
fn raw_stream(upgraded: Upgraded) -> Option<(UnixStream, Bytes)> {
    let parts = upgraded.downcast::<TokioIo<UnixStream>>().ok()?;
    Some((parts.io.into_inner(), parts.read_buf))
}

/// Waits, for a bounded time and once, until the client has taken the head of the answer. docker-py parses it through
/// a buffer, then reads from the socket beneath: output that came along with the head is lost in that buffer.
async fn head_is_read(to_client: &OwnedWriteHalf, known: &mut bool) {
    if *known {
        return;
    }
    *known = true;
    let deadline = tokio::time::Instant::now() + HEAD_READ_MAX;
    while naru_kernel::unix::unread_by_peer(to_client.as_ref()).is_ok_and(|held| held > 0)
        && tokio::time::Instant::now() < deadline
    {
        tokio::time::sleep(HEAD_CHECK).await;
    }
}

/// Ends when the peer has closed both directions, which no read can tell from a half-close.
async fn vanished(to_client: &OwnedWriteHalf) {
    loop {
        tokio::time::sleep(VANISHED_CHECK).await;
        match to_client.ready(tokio::io::Interest::WRITABLE).await {
            Ok(ready) if !ready.is_write_closed() => {}
            _ => return,
        }
    }
}

enum InputEnd {
    Detached,
    /// The client has no more input; a terminal's write half is kept, so that the session goes on.
    Closed(#[allow(dead_code)] Option<OwnedWriteHalf>),
}

async fn copy_input(
    mut from: OwnedReadHalf,
    first: Bytes,
    mut to: OwnedWriteHalf,
    mut keys: DetachKeys,
    tty: bool,
) -> InputEnd {
    let mut buffer = vec![0; COPY_BYTES];
    let mut chunk = first.to_vec();
    loop {
        let Scan { forward, detach } = keys.scan(&chunk);
        if to.write_all(&forward).await.is_err() {
            // The container reads no more; the client's further input goes nowhere, its output goes on.
            return InputEnd::Closed(None);
        }
        if detach {
            return InputEnd::Detached;
        }
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) => chunk = buffer[..count].to_vec(),
        }
    }
    if tty {
        return InputEnd::Closed(Some(to));
    }
    let _ = to.shutdown().await;
    InputEnd::Closed(None)
}

async fn run_plain(input: Option<Incoming>, sender: Sender<io::Result<Bytes>>, session: Session) {
    let mut framing = session.framing;
    if let Some(mut preface) = session.preface {
        while let Some(piece) = preface.recv().await {
            if sender.send(piece).await.is_err() {
                return;
            }
        }
    }
    let (mut from_container, mut to_container) = session.container.into_split();
    let feed = tokio::spawn(async move {
        if let Some(mut input) = input {
            while let Some(Ok(frame)) = input.frame().await {
                let Ok(bytes) = frame.into_data() else { continue };
                if to_container.write_all(&bytes).await.is_err() {
                    return;
                }
            }
        }
        // A container that reads no more does not mind.
        let _ = to_container.shutdown().await;
    });
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        let read = tokio::select! {
            read = from_container.read(&mut buffer) => read.unwrap_or(0),
            () = sender.closed() => break,
        };
        if read == 0 {
            let _ = tokio::time::timeout(SETTLE_MAX, session.settled).await;
            break;
        }
        let Ok(output) = framing.pass(&buffer[..read]) else { break };
        if sender.send(Ok(Bytes::from(output.into_owned()))).await.is_err() {
            break;
        }
    }
    feed.abort();
}

/// Finds the detach sequence in the input; bytes that may begin it are held back until they turn out not to.
pub struct DetachKeys {
    keys: Vec<u8>,
    held: usize,
}

struct Scan {
    forward: Vec<u8>,
    detach: bool,
}

impl DetachKeys {
    pub fn new(keys: Vec<u8>) -> Self {
        Self { keys, held: 0 }
    }

    fn scan(&mut self, input: &[u8]) -> Scan {
        if self.keys.is_empty() {
            return Scan { forward: input.to_vec(), detach: false };
        }
        let mut forward = Vec::with_capacity(input.len());
        for byte in input {
            if *byte != self.keys[self.held] {
                forward.extend_from_slice(&self.keys[..self.held]);
                self.held = 0;
            }
            if *byte == self.keys[self.held] {
                self.held += 1;
                if self.held == self.keys.len() {
                    return Scan { forward, detach: true };
                }
            } else {
                forward.push(*byte);
            }
        }
        Scan { forward, detach: false }
    }
}

/// Docker's notation: `ctrl-p,ctrl-q` (the default for an empty text), single characters, comma between.
pub fn parse_detach_keys(text: &str) -> naru_types::Result<Vec<u8>> {
    let text = if text.is_empty() { "ctrl-p,ctrl-q" } else { text };
    let key = |word: &str| match word.strip_prefix("ctrl-").map(str::as_bytes) {
        Some([letter @ b'a'..=b'z']) => Some(letter - b'a' + 1),
        Some(b"@") => Some(0),
        Some([symbol @ b'['..=b'_']) => Some(symbol - b'[' + 27),
        Some(_) => None,
        None => match word.as_bytes() {
            [byte] => Some(*byte),
            _ => None,
        },
    };
    text.split(',').map(key).collect::<Option<Vec<u8>>>().ok_or_else(|| {
        naru_types::Error::invalid(format!("Invalid detach keys ({text}) provided: unknown key"))
            .with_hint("write them like ctrl-p,ctrl-q")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn framing_as_the_client_wants_it() {
        let framed = frame::encode(StreamKind::Stderr, b"words");
        let mut same = Framing::between(false, false);
        assert_eq!(same.pass(&framed).unwrap(), framed.as_slice());
        let mut unwrapped = Framing::between(false, true);
        assert_eq!(unwrapped.pass(&framed[..10]).unwrap().as_ref(), b"wo");
        assert_eq!(unwrapped.pass(&framed[10..]).unwrap().as_ref(), b"rds");
        assert!(Framing::between(false, true).pass(b"no frames").is_err());
        let wrapped = Framing::between(true, false).pass(b"words").unwrap().into_owned();
        assert_eq!(wrapped, frame::encode(StreamKind::Stdout, b"words"));
    }

    #[test]
    fn detach_sequences() {
        let mut keys = DetachKeys::new(parse_detach_keys("").unwrap());
        let scan = keys.scan(b"ab\x10");
        assert_eq!((scan.forward, scan.detach), (b"ab".to_vec(), false));
        let scan = keys.scan(b"x\x10\x10");
        assert_eq!((scan.forward, scan.detach), (b"\x10x\x10".to_vec(), false));
        assert!(keys.scan(b"\x11rest").detach);
        assert_eq!(parse_detach_keys("a,ctrl-[,ctrl-@").unwrap(), [b'a', 27, 0]);
        assert!(parse_detach_keys("ctrl-1").is_err());
    }
}
