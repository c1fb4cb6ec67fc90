//! Bodies of answers (whole or streamed) and of requests as a blocking reader.

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::io::{self, Read};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Pieces of a streamed body in flight, either way.
pub const PIECES_MAX: usize = 16;

/// How long the rest of a request is taken after its answer is known.
const LEFTOVER_TIME: std::time::Duration = std::time::Duration::from_secs(5);

/// Sets its flag when the client has gone or the answer has ended: whoever works for that client sees it.
pub struct Alive(pub Arc<AtomicBool>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

enum Source {
    Whole(Option<Bytes>),
    /// An error ends the connection without the closing chunk, so that a client knows.
    Stream(Receiver<io::Result<Bytes>>),
}

pub struct ResponseBody {
    source: Source,
    alive: Option<Alive>,
}

impl ResponseBody {
    pub fn empty() -> Self {
        Self { source: Source::Whole(None), alive: None }
    }

    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        Self { source: Source::Whole(Some(bytes.into())), alive: None }
    }

    pub fn stream(pieces: Receiver<io::Result<Bytes>>) -> Self {
        Self { source: Source::Stream(pieces), alive: None }
    }

    pub fn keep(&mut self, alive: Alive) {
        self.alive = Some(alive);
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match &mut self.source {
            Source::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Source::Stream(pieces) => {
                pieces.poll_recv(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.source, Source::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Source::Stream(_) => SizeHint::default(),
        }
    }
}

/// A request's body for code that blocks. Reading fails when the client goes away in the middle.
pub struct BodyReader {
    pieces: Receiver<io::Result<Bytes>>,
    rest: Bytes,
}

impl BodyReader {
    /// Without a body there is nothing to read.
    pub fn new(body: Option<Incoming>) -> Self {
        let (sender, pieces) = channel(PIECES_MAX);
        if let Some(body) = body {
            tokio::spawn(pump(body, sender));
        }
        Self { pieces, rest: Bytes::new() }
    }
}

async fn pump(mut body: Incoming, sender: Sender<io::Result<Bytes>>) {
    while let Some(frame) = body.frame().await {
        let piece = match frame {
            Ok(frame) => match frame.into_data() {
                Ok(bytes) => Ok(bytes),
                Err(_trailers) => continue,
            },
            Err(error) => Err(io::Error::other(error)),
        };
        if sender.send(piece).await.is_err() {
            // Out of time: the client is cut off, as it would have been at once.
            let _ = tokio::time::timeout(LEFTOVER_TIME, discard(body)).await;
            return;
        }
    }
}

/// The answer came before the request's end (a full disk, a broken archive). A client that is cut off while it writes
/// reports a broken pipe and never reads the reason, so its bytes are taken until it has.
async fn discard(mut body: Incoming) {
    while let Some(Ok(_)) = body.frame().await {}
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.pieces.blocking_recv() {
                None => return Ok(0),
                Some(piece) => self.rest = piece?,
            }
        }
        let count = buffer.len().min(self.rest.len());
        buffer[..count].copy_from_slice(&self.rest.split_to(count));
        Ok(count)
    }
}

/// The other way: what blocking code writes becomes pieces of an answer.
pub struct PieceWriter(pub Sender<io::Result<Bytes>>);

impl io::Write for PieceWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = Ok(Bytes::copy_from_slice(bytes));
        self.0.blocking_send(piece).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
