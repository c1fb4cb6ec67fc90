//! After a `101 Switching Protocols`: bytes both ways, until one side ends or both are silent for too long.

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Longest silence on a tunnel, in seconds. WebSocket libraries ping every half a minute or so.
const SILENCE_SECS_MAX: u64 = 3600;

pub(crate) async fn run(client: OnUpgrade, backend: OnUpgrade) {
    let (Ok(client), Ok(backend)) = tokio::join!(client, backend) else { return };
    let activity = Arc::new(AtomicU64::new(0));
    let mut client = Counted { io: TokioIo::new(client), activity: activity.clone() };
    let mut backend = TokioIo::new(backend);
    tokio::select! {
        // How it ended does not matter to anybody: both ends see their connection close.
        _ = tokio::io::copy_bidirectional(&mut client, &mut backend) => {}
        () = silence(&activity) => {}
    }
}

async fn silence(activity: &AtomicU64) {
    let mut seen = activity.load(Ordering::Relaxed);
    loop {
        tokio::time::sleep(Duration::from_secs(SILENCE_SECS_MAX)).await;
        let now = activity.load(Ordering::Relaxed);
        if now == seen {
            return;
        }
        seen = now;
    }
}

/// Every byte of a tunnel passes the client's side, so it is enough to watch that one.
struct Counted {
    io: TokioIo<Upgraded>,
    activity: Arc<AtomicU64>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.activity.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.activity.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
