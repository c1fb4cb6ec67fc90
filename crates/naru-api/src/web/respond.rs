//! Answers: JSON, streams, errors.

use crate::web::body::{PIECES_MAX, ResponseBody};
use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response as HyperResponse, StatusCode};
use naru_types::{Error, Kind, Result};
use naru_wire::client::HINT_SEPARATOR;
use naru_wire::message::{ErrorBody, Message};
use serde::Serialize;
use std::io;
use tokio::sync::mpsc::{Sender, channel};

pub type Response = HyperResponse<ResponseBody>;

pub const JSON: &str = "application/json";

/// 200 with JSON.
pub fn json(value: &impl Serialize) -> Result<Response> {
    json_with(StatusCode::OK, value)
}

/// 201 with JSON.
pub fn created(value: &impl Serialize) -> Result<Response> {
    json_with(StatusCode::CREATED, value)
}

fn json_with(status: StatusCode, value: &impl Serialize) -> Result<Response> {
    Ok(with_type(status, JSON, ResponseBody::whole(to_line(value)?)))
}

/// JSON with the line feed that Go's encoder writes.
pub fn to_line(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(value)
        .map_err(|error| Error::internal("cannot write an answer as JSON").with_source(error))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// An empty answer.
pub fn status(status: StatusCode) -> Response {
    let mut response = HyperResponse::new(ResponseBody::empty());
    *response.status_mut() = status;
    response
}

pub fn no_content() -> Response {
    status(StatusCode::NO_CONTENT)
}

pub fn text(content_type: &'static str, body: impl Into<Bytes>) -> Response {
    with_type(StatusCode::OK, content_type, ResponseBody::whole(body))
}

/// An answer that is written piece by piece. It ends when the sender is dropped.
pub fn stream(content_type: &'static str) -> (Sender<io::Result<Bytes>>, Response) {
    let (sender, pieces) = channel(PIECES_MAX);
    (sender, with_type(StatusCode::OK, content_type, ResponseBody::stream(pieces)))
}

pub fn with_type(status: StatusCode, content_type: &'static str, body: ResponseBody) -> Response {
    let mut response = HyperResponse::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Sets a header whose value was made at run time; one that HTTP cannot carry is our bug.
pub fn set_header(response: &mut Response, name: &'static str, value: &str) -> Result<()> {
    let value = HeaderValue::from_str(value)
        .map_err(|error| Error::internal(format!("cannot send header {name}")).with_source(error))?;
    response.headers_mut().insert(HeaderName::from_static(name), value);
    Ok(())
}

/// `{"message": …}` with the status of the error's kind. naru's own client gets the hint too.
pub fn error(error: &Error, with_hint: bool) -> Response {
    let code = StatusCode::from_u16(error.kind().http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if error.kind() == Kind::NotModified {
        return status(code);
    }
    error_body(code, message_of(error, with_hint))
}

pub fn error_body(code: StatusCode, message: String) -> Response {
    let body = to_line(&ErrorBody { message }).unwrap_or_default();
    with_type(code, JSON, ResponseBody::whole(body))
}

fn message_of(error: &Error, with_hint: bool) -> String {
    match error.hint() {
        Some(hint) if with_hint => format!("{}{HINT_SEPARATOR}{hint}", error.chain()),
        _ => error.chain(),
    }
}

/// One progress line. False when nobody reads any more.
pub async fn send_line(sender: &Sender<io::Result<Bytes>>, line: &impl Serialize) -> bool {
    match to_line(line) {
        Ok(bytes) => sender.send(Ok(bytes.into())).await.is_ok(),
        Err(_) => false,
    }
}

/// The line that ends a stream that went wrong after its head was sent.
pub fn error_line(error: &Error) -> Message {
    let mut message = Message::error(error.chain(), 0);
    if let Some(detail) = &mut message.error_detail {
        detail.hint = error.hint().map(str::to_owned);
    }
    message
}
