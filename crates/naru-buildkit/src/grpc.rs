//! gRPC's framing over HTTP/2 (grpc.io, "gRPC over HTTP2"): five bytes before each message, the status in trailers.

use crate::error::{Error, Result};
use crate::wire::Out;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc::{self, Receiver, Sender};

/// Largest message that is read, in bytes; BuildKit's own limit.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// Messages that wait for a slow peer.
const QUEUE_MESSAGES: usize = 32;

const CONTENT: HeaderValue = HeaderValue::from_static("application/grpc");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

pub type Response = hyper::Response<OutBody>;

/// A body fed through a queue: its end is the sender's.
pub struct OutBody(Receiver<Frame<Bytes>>);

impl OutBody {
    pub fn new() -> (Writer, Self) {
        let (sender, receiver) = mpsc::channel(QUEUE_MESSAGES);
        (Writer(sender), Self(receiver))
    }
}

impl Body for OutBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|frame| frame.map(Ok))
    }
}

/// The sending side of an [`OutBody`].
#[derive(Clone)]
pub struct Writer(Sender<Frame<Bytes>>);

impl Writer {
    /// Waits for room; an error says that the peer has gone.
    pub async fn send(&self, message: &[u8]) -> Result<()> {
        self.0.send(Frame::data(framed(message))).await.map_err(|_| Error::Cancelled)
    }

    /// The status ends a response; a request just ends.
    pub async fn finish(self, outcome: Result<()>) {
        // A peer that has gone needs no status.
        let _ = self.0.send(Frame::trailers(trailers(&outcome))).await;
    }

    pub async fn closed(&self) {
        self.0.closed().await;
    }
}

fn framed(message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(message.len() + 5);
    bytes.put_u8(0);
    bytes.put_u32(message.len() as u32);
    bytes.put_slice(message);
    bytes.freeze()
}

fn trailers(outcome: &Result<()>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let code = outcome.as_ref().err().map_or(0, Error::code);
    headers.insert(STATUS, HeaderValue::from(code));
    if let Err(error) = outcome
        && let Ok(text) = HeaderValue::from_str(&percent(&error.text()))
    {
        headers.insert(MESSAGE, text);
    }
    if let Err(error) = outcome
        && let Some(details) = error.details()
        && let Ok(text) = HeaderValue::from_str(&STANDARD_NO_PAD.encode(details))
    {
        headers.insert(DETAILS, text);
    }
    headers
}

/// Anything but printable ASCII is escaped, and the escape itself.
pub fn percent(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if (b' '..=b'~').contains(&byte) && byte != b'%' {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// The inverse of [`percent`]; what is no escape stays.
pub fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut plain, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let code = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        plain.push(code.unwrap_or(bytes[at]));
        at += if code.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&plain).into_owned()
}

/// A response whose messages come through the writer.
pub fn streaming() -> (Writer, Response) {
    let (writer, body) = OutBody::new();
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, CONTENT);
    (writer, response)
}

/// A response of one message, or of none and an error.
pub async fn unary(outcome: Result<Out>) -> Response {
    let (writer, response) = streaming();
    let outcome = match outcome {
        // The queue has room for both.
        Ok(message) => writer.send(&message.0).await,
        Err(error) => Err(error),
    };
    writer.finish(outcome).await;
    response
}

/// The messages of a request or of a response.
pub struct Messages {
    body: Incoming,
    held: BytesMut,
}

impl Messages {
    pub fn new(body: Incoming) -> Self {
        Self { body, held: BytesMut::new() }
    }

    /// The next message; `None` at a regular end.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            if let Some(message) = split(&mut self.held)? {
                return Ok(Some(message));
            }
            match self.body.frame().await.transpose()? {
                None if self.held.is_empty() => return Ok(None),
                None => return Err(Error::Malformed { what: "a message that is cut off" }),
                Some(frame) => match frame.into_data() {
                    Ok(data) => self.held.extend_from_slice(&data),
                    Err(frame) => return ended(frame.trailers_ref()).map(|()| None),
                },
            }
        }
    }

    /// The single message of a unary request.
    pub async fn only(mut self) -> Result<Bytes> {
        self.next().await?.ok_or(Error::Malformed { what: "a request without a message" })
    }
}

pub fn split(held: &mut BytesMut) -> Result<Option<Bytes>> {
    let Some((head, _)) = held.split_first_chunk::<5>() else { return Ok(None) };
    if head[0] != 0 {
        return Err(Error::Malformed { what: "a compressed message" });
    }
    let bytes = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if bytes > MESSAGE_BYTES_MAX {
        return Err(Error::TooLarge { bytes, max: MESSAGE_BYTES_MAX });
    }
    if held.len() < 5 + bytes {
        return Ok(None);
    }
    held.advance(5);
    Ok(Some(held.split_to(bytes).freeze()))
}

/// What the trailers say of a call.
pub fn ended(trailers: Option<&HeaderMap>) -> Result<()> {
    let text = |name| trailers.and_then(|map| map.get(name)).and_then(|value| value.to_str().ok());
    match text(&STATUS).and_then(|code| code.parse().ok()) {
        None | Some(0) => Ok(()),
        Some(code) => {
            Err(Error::Returned { code, message: unescape(text(&MESSAGE).unwrap_or("")), status: Vec::new() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_out() {
        let mut held = BytesMut::from(&framed(b"one")[..]);
        held.extend_from_slice(&framed(b"")[..4]);
        assert_eq!(split(&mut held).unwrap().unwrap(), "one");
        assert_eq!(split(&mut held).unwrap(), None);
        assert!(split(&mut BytesMut::from(&b"\x01\0\0\0\x01x"[..])).is_err());
        assert!(split(&mut BytesMut::from(&b"\0\xff\xff\xff\xffx"[..])).is_err());
    }

    #[test]
    fn texts_pass_as_headers() {
        let text = "line one\nzwei: 100 % ü";
        assert!(HeaderValue::from_str(&percent(text)).is_ok());
        assert_eq!(unescape(&percent(text)), text);
        assert_eq!(unescape("50% %zz %"), "50% %zz %");
    }
}
