//! Bodies: an answer held whole or read from a file piece by piece, and a request's bytes with a patience.

use crate::http::answer::{Code, Refusal};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::fs::File;
use std::future::Future as _;
use std::io::{self, Read};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

/// Longest silence of a client that sends a body.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Longest time for a body that is held in memory.
const WHOLE_BODY_MAX: Duration = Duration::from_secs(60);
/// Bytes read from a file at once.
const PIECE_BYTES: u64 = 256 * 1024;

pub(crate) enum ReplyBody {
    Whole(Option<Bytes>),
    File(FileBody),
}

pub(crate) struct FileBody {
    state: FileState,
    left: u64,
}

enum FileState {
    Idle(File),
    Reading(JoinHandle<io::Result<(File, Bytes)>>),
    Over,
}

impl ReplyBody {
    pub fn whole(bytes: Bytes) -> Self {
        Self::Whole((!bytes.is_empty()).then_some(bytes))
    }

    /// `length` bytes from where the file stands.
    pub fn file(file: File, length: u64) -> Self {
        Self::File(FileBody { state: FileState::Idle(file), left: length })
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::File(file) => file.poll_piece(context).map(|piece| piece.map(|p| p.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::File(file) => file.left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Whole(bytes) => bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
            Self::File(file) => file.left,
        })
    }
}

impl FileBody {
    /// Only asked for when the client took the piece before: a slow client holds one piece and no thread.
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            match std::mem::replace(&mut self.state, FileState::Over) {
                FileState::Over => return Poll::Ready(None),
                FileState::Idle(_) if self.left == 0 => return Poll::Ready(None),
                FileState::Idle(file) => {
                    let length = self.left.min(PIECE_BYTES) as usize;
                    let reading = tokio::task::spawn_blocking(move || read_piece(file, length));
                    self.state = FileState::Reading(reading);
                }
                FileState::Reading(mut reading) => {
                    let Poll::Ready(done) = Pin::new(&mut reading).poll(context) else {
                        self.state = FileState::Reading(reading);
                        return Poll::Pending;
                    };
                    return Poll::Ready(Some(done.map_err(io::Error::other).flatten().map(
                        |(file, piece)| {
                            self.left -= piece.len() as u64;
                            self.state = FileState::Idle(file);
                            piece
                        },
                    )));
                }
            }
        }
    }
}

fn read_piece(mut file: File, length: usize) -> io::Result<(File, Bytes)> {
    let mut piece = vec![0; length];
    file.read_exact(&mut piece)?;
    Ok((file, Bytes::from(piece)))
}

/// The next bytes of a request; `None` at its end.
pub(crate) async fn next_chunk(body: &mut Incoming) -> Result<Option<Bytes>, Refusal> {
    loop {
        let late =
            |_| Refusal::new(StatusCode::REQUEST_TIMEOUT, Code::BlobUploadInvalid, "the client fell silent");
        let Some(frame) = timeout(SILENCE_MAX, body.frame()).await.map_err(late)? else { return Ok(None) };
        let broken = |error| {
            let message = format!("the request's body broke off: {error}");
            Refusal::new(StatusCode::BAD_REQUEST, Code::BlobUploadInvalid, message)
        };
        // Trailers have no meaning here.
        if let Ok(data) = frame.map_err(broken)?.into_data() {
            return Ok(Some(data));
        }
    }
}

/// A body of at most `bytes_max`.
pub(crate) async fn read_whole(body: &mut Incoming, bytes_max: usize) -> Result<Bytes, Refusal> {
    let too_large = || {
        let message = format!("larger than {bytes_max} bytes");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, Code::ManifestInvalid, message)
    };
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(too_large());
    }
    let deadline = Instant::now() + WHOLE_BODY_MAX;
    let mut whole = BytesMut::new();
    loop {
        let late = |_| Refusal::new(StatusCode::REQUEST_TIMEOUT, Code::ManifestInvalid, "sent too slowly");
        let Some(chunk) = timeout_at(deadline, next_chunk(body)).await.map_err(late)?? else {
            return Ok(whole.freeze());
        };
        if whole.len() + chunk.len() > bytes_max {
            return Err(too_large());
        }
        whole.extend_from_slice(&chunk);
    }
}
