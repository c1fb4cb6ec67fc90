//! What stands between the socket and the HTTP/1 parser: every head is checked before the parser sees it.
//!
//! Request smuggling lives on two parsers that read one byte stream differently. hyper is tolerant where a
//! proxy must not be (two Hosts, Content-Length beside Transfer-Encoding, a repeated Content-Length), and it
//! throws the evidence away while parsing. So the gate follows the stream by itself, accepts only what has one
//! reading, and hands bytes on only after they were judged. A refused head is replaced by a harmless request of
//! the proxy's own (method [`REFUSED_METHOD`]), so that the answers to pipelined requests before it still go out
//! in order and the client gets a proper 400; nothing after it is read.
//!
//! After a head that asks for an upgrade the gate holds everything back until the service has decided.

mod chunked;
mod head;

pub(crate) use head::FIELDS_MAX;

use crate::pages::Refusal;
use bytes::{Buf, BytesMut};
use chunked::Chunked;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes read from the socket at once.
const READ_LEN: usize = 16 * 1024;
/// A client that sends this method is refused as any other that is refused: nothing is gained by it.
pub(crate) const REFUSED_METHOD: &str = "NARU-REFUSED";

pub(crate) struct Gate<T> {
    io: T,
    held: BytesMut,
    /// So many bytes at the front of `held` were judged and may go on.
    judged: usize,
    phase: Phase,
    upgrade: Arc<UpgradeSwitch>,
}

/// What comes after the judged bytes.
enum Phase {
    /// A head; so many bytes of it were searched for its end.
    Head {
        searched: usize,
    },
    Body {
        left: u64,
    },
    ChunkedBody(Chunked),
    /// Undecided: the next request, or another protocol.
    Waiting,
    /// Another protocol: nothing is judged any more.
    Open,
    /// The client sends no more.
    Ended,
    /// Whatever else the client sends is thrown away. The parser gets no end, since it would take that for a
    /// client that has left; it closes by itself after the answer to the refused request.
    Refused,
    /// A body that has no single reading: the parser gets an error.
    Broken,
}

/// The service's word to the gate of its connection.
#[derive(Default)]
pub(crate) struct UpgradeSwitch {
    position: AtomicU8,
    waker: Mutex<Option<Waker>>,
}

const CLOSED: u8 = 0;
const WAITING: u8 = 1;
const OPEN: u8 = 2;

impl UpgradeSwitch {
    /// Whether the request at hand was let through as one that asks for an upgrade.
    pub fn is_waiting(&self) -> bool {
        self.position.load(Ordering::Acquire) == WAITING
    }

    /// The connection speaks another protocol from here on.
    pub fn open(&self) {
        self.decide(OPEN);
    }

    /// There was no upgrade; the next request may come. Does nothing when nothing waits.
    pub fn stay_closed(&self) {
        if self.is_waiting() {
            self.decide(CLOSED);
        }
    }

    fn decide(&self, position: u8) {
        self.position.store(position, Ordering::Release);
        if let Some(waker) = self.waker.lock().unwrap_or_else(PoisonError::into_inner).take() {
            waker.wake();
        }
    }

    fn wait(&self, waker: &Waker) -> u8 {
        let mut slot = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        *slot = Some(waker.clone());
        self.position.load(Ordering::Acquire)
    }
}

impl<T> Gate<T> {
    pub fn new(io: T) -> (Self, Arc<UpgradeSwitch>) {
        let upgrade = Arc::new(UpgradeSwitch::default());
        let phase = Phase::Head { searched: 0 };
        (Self { io, held: BytesMut::new(), judged: 0, phase, upgrade: upgrade.clone() }, upgrade)
    }

    /// Judges what is held. `true`: something may go on, or the phase changed; `false`: more bytes are needed.
    fn judge(&mut self) -> bool {
        match &mut self.phase {
            Phase::Head { searched } => match head::find_end(&self.held, *searched) {
                Ok(None) => {
                    *searched = self.held.len();
                    false
                }
                Ok(Some(end)) => {
                    match head::check(&self.held[..end]) {
                        Ok(framing) => self.let_through(end, framing),
                        Err(refusal) => self.refuse(refusal),
                    }
                    true
                }
                Err(refusal) => {
                    self.refuse(refusal);
                    true
                }
            },
            Phase::Body { left: 0 } => {
                self.phase = Phase::Head { searched: 0 };
                true
            }
            Phase::Body { left } => {
                let part = usize::try_from(*left).unwrap_or(usize::MAX).min(self.held.len());
                *left -= part as u64;
                self.judged = part;
                part > 0
            }
            Phase::ChunkedBody(chunked) => {
                let Ok((part, end)) = chunked.follow(&self.held) else {
                    self.phase = Phase::Broken;
                    return true;
                };
                self.judged = part;
                if end {
                    self.phase = Phase::Head { searched: 0 };
                }
                part > 0
            }
            Phase::Open => {
                self.judged = self.held.len();
                self.judged > 0
            }
            Phase::Waiting | Phase::Ended | Phase::Refused | Phase::Broken => false,
        }
    }

    fn let_through(&mut self, end: usize, framing: head::Framing) {
        // Empty lines before a request line are for the gate to swallow (RFC 9112, section 2.2).
        let empty = head::leading_empty(&self.held);
        self.held.advance(empty);
        self.judged = end - empty;
        self.phase = match framing {
            head::Framing::None => Phase::Head { searched: 0 },
            head::Framing::Length(left) => Phase::Body { left },
            head::Framing::Chunked => Phase::ChunkedBody(Chunked::default()),
            head::Framing::Upgrade => {
                self.upgrade.position.store(WAITING, Ordering::Release);
                Phase::Waiting
            }
        };
    }

    fn refuse(&mut self, refusal: Refusal) {
        let number = Refusal::BY_GATE.iter().position(|known| *known == refusal).unwrap_or_default();
        let instead =
            format!("{REFUSED_METHOD} /{number} HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n");
        self.held = BytesMut::from(instead.as_str());
        self.judged = self.held.len();
        self.phase = Phase::Refused;
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Gate<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let gate = &mut *self;
        loop {
            if gate.judged > 0 {
                let part = gate.judged.min(buf.remaining());
                buf.put_slice(&gate.held[..part]);
                gate.held.advance(part);
                gate.judged -= part;
                return Poll::Ready(Ok(()));
            }
            match gate.phase {
                Phase::Ended => return Poll::Ready(Ok(())),
                Phase::Refused => {
                    let read = ready!(fill(&mut gate.io, &mut gate.held, cx))?;
                    gate.held.clear();
                    if read == 0 {
                        return Poll::Pending;
                    }
                    continue;
                }
                Phase::Broken => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
                Phase::Waiting => match gate.upgrade.wait(cx.waker()) {
                    WAITING => return Poll::Pending,
                    OPEN => gate.phase = Phase::Open,
                    _ => gate.phase = Phase::Head { searched: 0 },
                },
                Phase::Open if gate.held.is_empty() => return Pin::new(&mut gate.io).poll_read(cx, buf),
                Phase::Head { .. } | Phase::Body { .. } | Phase::ChunkedBody(_) | Phase::Open => {}
            }
            if gate.judge() {
                continue;
            }
            if matches!(gate.phase, Phase::Waiting) {
                continue;
            }
            if ready!(fill(&mut gate.io, &mut gate.held, cx))? == 0 {
                // An unfinished head is nobody's request; an unfinished body is told by its early end.
                gate.phase = Phase::Ended;
            }
        }
    }
}

fn fill<T: AsyncRead + Unpin>(
    io: &mut T,
    held: &mut BytesMut,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let mut room = [0; READ_LEN];
    let mut room = ReadBuf::new(&mut room);
    ready!(Pin::new(io).poll_read(cx, &mut room))?;
    held.extend_from_slice(room.filled());
    Poll::Ready(Ok(room.filled().len()))
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Gate<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
