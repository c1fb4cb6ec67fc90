//! Control.Session: a session inside of a call instead of on a connection of its own. Each side's bytes come in
//! BytesMessages; within them the client is a server, as in `POST /session`.

use crate::error::{Error, Result};
use crate::grpc::{Messages, Writer};
use crate::server::Shared;
use crate::session::SessionHead;
use crate::wire::{self, Out};
use bytes::BytesMut;
use hyper::header::HeaderMap;
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};

/// Bytes on the way in either direction.
const BUFFER_BYTES: usize = 256 << 10;
/// Bytes of one message.
const CHUNK_BYTES: usize = 32 << 10;

/// Lasts as long as the session.
pub async fn serve(shared: Arc<Shared>, headers: HeaderMap, messages: Messages, writer: Writer) {
    let outcome = match SessionHead::from_headers(&headers) {
        None => Err(Error::Malformed { what: "a session without an id" }),
        Some(head) => {
            let (near, far) = tokio::io::duplex(BUFFER_BYTES);
            let (from_session, to_session) = tokio::io::split(far);
            // Whichever ends first ends the session: what it was for is over.
            tokio::select! {
                outcome = shared.sessions.serve(TokioIo::new(near), head) => outcome,
                outcome = bring(messages, to_session) => outcome,
                outcome = take(from_session, &writer) => outcome,
            }
        }
    };
    writer.finish(outcome).await;
}

async fn bring(mut messages: Messages, mut session: WriteHalf<DuplexStream>) -> Result<()> {
    while let Some(message) = messages.next().await? {
        session.write_all(wire::data(&message)?).await.map_err(|_| Error::Cancelled)?;
    }
    Ok(())
}

async fn take(mut session: ReadHalf<DuplexStream>, writer: &Writer) -> Result<()> {
    let mut buffer = BytesMut::with_capacity(CHUNK_BYTES);
    loop {
        buffer.clear();
        match session.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return Ok(()),
            Ok(_) => writer.send(&Out::default().bytes(1, &buffer).0).await?,
        }
    }
}
