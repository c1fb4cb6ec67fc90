//! Connections to backends: HTTP/1.1, kept alive for a short while, bounded per backend.

use crate::body::RequestBody;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Idle connections kept per backend.
const IDLE_PER_BACKEND_MAX: usize = 64;
/// How long one is kept idle, in milliseconds: below the 5 s after which Node.js closes it from its side.
const IDLE_MS_MAX: u64 = 4000;
/// Requests at one backend at the same time.
const IN_FLIGHT_PER_BACKEND_MAX: usize = 1024;
/// Longest wait for a backend to accept, in milliseconds. It is on this machine.
const CONNECT_MS_MAX: u64 = 3000;
/// A backend that refused is passed over for so long, in milliseconds, while another one answers.
const DOWN_MS: u64 = 1000;
/// Longest head of a response, in bytes.
const RESPONSE_HEAD_LEN_MAX: usize = 256 * 1024;

pub(crate) type Sender = SendRequest<RequestBody>;

#[derive(Default)]
pub(crate) struct Pool {
    backends: Mutex<HashMap<SocketAddr, Backend>>,
}

struct Backend {
    /// The last one used is taken first, so that the others can go idle.
    idle: Vec<(Sender, Instant)>,
    slots: Arc<Semaphore>,
    down_until: Option<Instant>,
}

impl Default for Backend {
    fn default() -> Self {
        Self {
            idle: Vec::new(),
            slots: Arc::new(Semaphore::new(IN_FLIGHT_PER_BACKEND_MAX)),
            down_until: None,
        }
    }
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, Backend>> {
        // Nothing panics while it is held; every entry is whole at each step.
        self.backends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The right to have one more request there; `None` when it has all it may have.
    pub fn slot(&self, backend: SocketAddr) -> Option<OwnedSemaphorePermit> {
        let slots = self.lock().entry(backend).or_default().slots.clone();
        slots.try_acquire_owned().ok()
    }

    pub fn take_idle(&self, backend: SocketAddr) -> Option<Sender> {
        let mut backends = self.lock();
        let idle = &mut backends.get_mut(&backend)?.idle;
        while let Some((sender, since)) = idle.pop() {
            if usable(&sender, since) {
                return Some(sender);
            }
        }
        None
    }

    pub async fn connect(&self, backend: SocketAddr) -> std::io::Result<Sender> {
        let patience = Duration::from_millis(CONNECT_MS_MAX);
        let stream = tokio::time::timeout(patience, TcpStream::connect(backend)).await;
        let stream =
            stream.map_err(std::io::Error::from).flatten().inspect_err(|_| self.mark_down(backend))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(RESPONSE_HEAD_LEN_MAX)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(std::io::Error::other)?;
        // Its errors reach whoever waits for the response; an idle one that fails is simply gone.
        tokio::spawn(connection.with_upgrades());
        Ok(sender)
    }

    fn mark_down(&self, backend: SocketAddr) {
        let until = Instant::now() + Duration::from_millis(DOWN_MS);
        self.lock().entry(backend).or_default().down_until = Some(until);
    }

    pub fn is_down(&self, backend: SocketAddr) -> bool {
        self.lock()
            .get(&backend)
            .and_then(|known| known.down_until)
            .is_some_and(|until| Instant::now() < until)
    }

    /// Takes the connection back once its response has been read to the end. One that breaks off is dropped.
    pub fn give_back(self: &Arc<Self>, backend: SocketAddr, mut sender: Sender) {
        let pool = self.clone();
        tokio::spawn(async move {
            if sender.ready().await.is_err() {
                return;
            }
            // A backend that left the table has no entry and gets none.
            if let Some(known) = pool.lock().get_mut(&backend)
                && known.idle.len() < IDLE_PER_BACKEND_MAX
            {
                known.idle.push((sender, Instant::now()));
            }
        });
    }

    /// Forgets backends that left the table. Requests in flight hold their own connection and go on.
    pub fn keep_only(&self, wanted: &HashSet<SocketAddr>) {
        self.lock().retain(|backend, _| wanted.contains(backend));
    }

    /// Drops what was idle for too long; called from time to time.
    pub fn sweep(&self) {
        for backend in self.lock().values_mut() {
            backend.idle.retain(|(sender, since)| usable(sender, *since));
        }
    }
}

fn usable(sender: &Sender, since: Instant) -> bool {
    sender.is_ready() && since.elapsed() < Duration::from_millis(IDLE_MS_MAX)
}
