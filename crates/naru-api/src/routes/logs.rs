//! `GET /containers/{id}/logs`.

use crate::context::ApiContext;
use crate::web::body::{PIECES_MAX, ResponseBody};
use crate::web::filters::parse_time;
use crate::web::hijack;
use crate::web::request::Request;
use crate::web::respond::{self, Response};
use bytes::Bytes;
use hyper::StatusCode;
use naru_engine::{LogOptions, LogRecord};
use naru_kernel::clock;
use naru_types::logrec::Stream;
use naru_types::{Error, Result, Timestamp};
use naru_wire::frame::{self, StreamKind};
use std::io;
use std::sync::Arc;
use tokio::sync::mpsc::{Receiver, channel};

/// How a record is written.
#[derive(Clone, Copy)]
pub struct Shape {
    /// Raw bytes without frames.
    pub tty: bool,
    pub timestamps: bool,
    pub details: bool,
}

pub async fn logs(context: Arc<ApiContext>, request: Request) -> Result<Response> {
    let query = &request.query;
    let (stdout, stderr) = (query.flag("stdout"), query.flag("stderr"));
    if !stdout && !stderr {
        return Err(Error::invalid("Bad parameters: you must choose at least one stream"));
    }
    let view = context.engine.inspect(&request.name)?;
    let options = LogOptions {
        stdout,
        stderr,
        since: time("since", query.text("since"))?,
        until: time("until", query.text("until"))?,
        // Anything but a number means all, as in moby.
        tail: query.text("tail").parse().ok(),
        follow: query.flag("follow"),
    };
    let records = context.engine.logs(view.id.as_str(), options).await?;
    let tty = view.spec.stdio.tty;
    let shape = Shape { tty, timestamps: query.flag("timestamps"), details: query.flag("details") };
    let body = ResponseBody::stream(framed(records, shape));
    Ok(respond::with_type(StatusCode::OK, hijack::stream_type(tty, request.version), body))
}

/// Empty and `0` mean no limit.
fn time(name: &str, text: &str) -> Result<Option<Timestamp>> {
    if matches!(text, "" | "0") {
        return Ok(None);
    }
    let parsed = parse_time(text, clock::now());
    parsed.map(Some).ok_or_else(|| Error::invalid(format!("invalid value for \"{name}\": {text:?}")))
}

/// Records as pieces of a body. Ends when the records end or the reader goes.
pub fn framed(mut records: Receiver<LogRecord>, shape: Shape) -> Receiver<io::Result<Bytes>> {
    let (sender, pieces) = channel(PIECES_MAX);
    tokio::spawn(async move {
        let mut lines = Lines::new(shape);
        loop {
            let record = tokio::select! {
                record = records.recv() => record,
                () = sender.closed() => return,
            };
            let Some(record) = record else { return };
            if sender.send(Ok(lines.write(&record).into())).await.is_err() {
                return;
            }
        }
    });
    pieces
}

/// Remembers per stream whether a line goes on, so that only its start is stamped.
struct Lines {
    shape: Shape,
    goes_on: [bool; 2],
}

impl Lines {
    fn new(shape: Shape) -> Self {
        Self { shape, goes_on: [false; 2] }
    }

    fn write(&mut self, record: &LogRecord) -> Vec<u8> {
        let (kind, slot) = match record.stream {
            Stream::Stdout => (StreamKind::Stdout, 0),
            Stream::Stderr => (StreamKind::Stderr, 1),
        };
        let mut line = Vec::with_capacity(record.payload.len() + 40);
        if !std::mem::replace(&mut self.goes_on[slot], record.partial) {
            if self.shape.timestamps {
                line.extend_from_slice(record.at.rfc3339_fixed().as_bytes());
                line.push(b' ');
            }
            // The details are the attributes that log options ask for; naru refuses those options, so there are none.
            if self.shape.details {
                line.push(b' ');
            }
        }
        line.extend_from_slice(&record.payload);
        if self.shape.tty { line } else { frame::encode(kind, &line) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_recorded_from_dockerd() {
        let record = |stream, payload: &'static [u8], nanos| LogRecord {
            stream,
            partial: false,
            at: Timestamp::from_parts(1_795_391_139, nanos),
            payload: Bytes::from_static(payload),
        };
        let mut lines = Lines::new(Shape { tty: false, timestamps: true, details: false });
        let out = lines.write(&record(Stream::Stdout, b"out\n", 518_866_266));
        assert_eq!(out, b"\x01\0\0\0\0\0\0\x232026-11-22T23:45:39.518866266Z out\n");
        let err = lines.write(&record(Stream::Stderr, b"err\n", 518_896_020));
        assert_eq!(err, b"\x02\0\0\0\0\0\0\x232026-11-22T23:45:39.518896020Z err\n");
    }

    #[test]
    fn a_long_line_is_stamped_once() {
        let mut lines = Lines::new(Shape { tty: true, timestamps: true, details: true });
        let mut record = LogRecord {
            stream: Stream::Stdout,
            partial: true,
            at: Timestamp::from_parts(0, 1),
            payload: Bytes::from_static(b"a"),
        };
        assert_eq!(lines.write(&record), b"1970-01-01T00:00:00.000000001Z  a");
        record.partial = false;
        assert_eq!(lines.write(&record), b"a");
    }
}
