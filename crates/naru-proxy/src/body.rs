//! Bodies on their way through: never held, only counted.

use crate::access_log::{AccessLog, Line};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;
use tokio::sync::OwnedSemaphorePermit;

/// What a client sends, or nothing. Trailers are dropped: a field there could repeat a header that was
/// replaced on the way (RFC 9110, section 6.5.1 lets a recipient discard them).
pub(crate) struct RequestBody {
    inner: Option<Incoming>,
    progress: Progress,
}

/// Grows while the client's body moves, so that a long upload is no silence.
#[derive(Clone, Default)]
pub(crate) struct Progress(Arc<AtomicU64>);

impl Progress {
    pub fn seen(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl RequestBody {
    pub fn new(inner: Incoming, progress: Progress) -> Self {
        Self { inner: (!inner.is_end_stream()).then_some(inner), progress }
    }

    pub fn empty() -> Self {
        Self { inner: None, progress: Progress::default() }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(inner) = self.inner.as_mut() else { return Poll::Ready(None) };
        let polled = std::task::ready!(Pin::new(inner).poll_frame(cx));
        self.progress.0.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(polled.filter(|frame| !matches!(frame, Ok(frame) if frame.is_trailers())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

/// What a client gets. The access log line is written when the last byte was handed over, or when the client
/// gave up.
pub(crate) struct ReplyBody {
    inner: Inner,
    line: Line,
    begun: Instant,
    log: AccessLog,
    /// Kept until the response is through: it bounds what a backend has to do at once.
    _slot: Option<OwnedSemaphorePermit>,
}

enum Inner {
    Own(Full<Bytes>),
    Backend(Incoming),
}

impl ReplyBody {
    pub fn own(text: Bytes, line: Line, begun: Instant, log: AccessLog) -> Self {
        Self { inner: Inner::Own(Full::new(text)), line, begun, log, _slot: None }
    }

    pub fn backend(
        body: Incoming,
        line: Line,
        begun: Instant,
        log: AccessLog,
        slot: OwnedSemaphorePermit,
    ) -> Self {
        Self { inner: Inner::Backend(body), line, begun, log, _slot: Some(slot) }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = match &mut self.inner {
            Inner::Own(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
            Inner::Backend(body) => Pin::new(body).poll_frame(cx),
        };
        if let Poll::Ready(Some(frame)) = &polled {
            match frame {
                Ok(frame) => self.line.bytes += frame.data_ref().map_or(0, |data| data.len() as u64),
                Err(_) => self.line.note = "the backend broke off".into(),
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Own(body) => body.is_end_stream(),
            Inner::Backend(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Own(body) => body.size_hint(),
            Inner::Backend(body) => body.size_hint(),
        }
    }
}

impl Drop for ReplyBody {
    fn drop(&mut self) {
        let mut line = std::mem::take(&mut self.line);
        line.micros = self.begun.elapsed().as_micros() as u64;
        self.log.write(line);
    }
}
