//! `POST /containers/{id}/attach`.

use crate::context::ApiContext;
use crate::routes::logs;
use crate::web::hijack::{self, Framing, Session};
use crate::web::request::Request;
use crate::web::respond::Response;
use naru_engine::{AttachOptions, LogOptions};
use naru_types::Result;
use std::sync::Arc;

pub async fn attach(context: Arc<ApiContext>, mut request: Request) -> Result<Response> {
    let view = context.engine.inspect(&request.name)?;
    let id = view.id.as_str();
    let tty = view.spec.stdio.tty;
    let query = &request.query;
    let (stdout, stderr) = (query.flag("stdout"), query.flag("stderr"));
    let stream = query.flag("stream");
    let keys = hijack::parse_detach_keys(query.text("detachKeys"))?;
    let options = AttachOptions {
        stdin: stream && query.flag("stdin") && view.spec.stdio.open_stdin,
        stdout: stream && stdout,
        stderr: stream && stderr,
    };
    let with_logs = query.flag("logs");
    request.drain().await?;
    // First the live stream, then the older lines: the other way round, lines in between would be lost.
    let container = if stream { context.engine.attach(id, options).await? } else { closed_stream()? };
    let preface = if with_logs {
        let options = LogOptions { stdout, stderr, ..LogOptions::default() };
        let records = context.engine.logs(id, options).await?;
        Some(logs::framed(records, logs::Shape { tty, timestamps: false, details: false }))
    } else {
        None
    };
    let detach_keys = if tty && options.stdin { keys } else { Vec::new() };
    let (framing, settled) = (Framing::AsIs, hijack::at_once());
    Ok(hijack::answer(request, Session { container, preface, detach_keys, tty, framing, settled }))
}

/// For `stream=0`: only the logs, then the end.
fn closed_stream() -> Result<tokio::net::UnixStream> {
    let (ours, _closed) = tokio::net::UnixStream::pair()
        .map_err(|error| naru_types::Error::internal("cannot make a socket pair").with_source(error))?;
    Ok(ours)
}
