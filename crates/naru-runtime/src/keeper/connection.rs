//! The client's socket: the greeting, calls matched to replies by number, and the reader thread.

use super::client::Notice;
use super::held::HeldRegistry;
use super::protocol::{Event, FdRole, FromKeeper, Refusal, Reply, Request, VERSION, VERSION_MIN};
use super::socket_path;
use super::starting::START_TIMEOUT;
use super::wire::{self, Fds, Patience, Received, WireError};
use naru_kernel::{Errno, unix};
use rustix::net::Shutdown;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a call waits for its reply. A start mounts an overlay and may wait for a slow disk.
const REPLY_TIMEOUT: Duration = Duration::from_mins(1);
// A start that its daemon has given up must not come to life afterwards.
const _: () = assert!(START_TIMEOUT.as_secs() < REPLY_TIMEOUT.as_secs());
/// How long the greeting may take: the keeper answers between two batches of output.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("no keeper listens on {}", path.display())]
    Connect { path: PathBuf, source: io::Error },
    #[error("cannot make a socket for the keeper")]
    Socket(#[source] io::Error),
    #[error(
        "the keeper (protocol {theirs}) and this daemon (protocol {VERSION}) do not understand each other"
    )]
    Version { theirs: u32 },
    #[error("the keeper has gone")]
    Disconnected,
    #[error("the keeper did not answer within {} s", REPLY_TIMEOUT.as_secs())]
    Timeout,
    /// The keeper said no.
    #[error("{message}")]
    Refused { reason: Refusal, message: String },
    #[error("the keeper's answer does not fit the question")]
    Unexpected,
    #[error("cannot talk to the keeper")]
    Wire(#[from] WireError),
    #[error("cannot start the thread that reads from the keeper")]
    Thread(#[source] std::io::Error),
    #[error("cannot write {}", path.display())]
    BundleFile { path: PathBuf, source: std::io::Error },
    #[error("cannot encode {}", path.display())]
    Encode { path: PathBuf, source: serde_json::Error },
}

/// Makes errors of replies.
pub(super) struct CallError;

impl CallError {
    pub fn unexpected(reply: Reply) -> ClientError {
        match reply {
            Reply::Refused { reason, message } => ClientError::Refused { reason, message },
            Reply::Done
            | Reply::Updated { .. }
            | Reply::Hello { .. }
            | Reply::Started { .. }
            | Reply::StartFailed(_)
            | Reply::List { .. } => ClientError::Unexpected,
        }
    }
}

/// A connection after its greeting.
pub struct Connection {
    socket: OwnedFd,
    keeper_pid: i32,
    keeper_build: String,
    version: u32,
}

impl Connection {
    pub fn open(run_dir: &Path) -> Result<Self, ClientError> {
        let path = socket_path(run_dir);
        let socket =
            unix::seqpacket_connect(&path).map_err(|source| ClientError::Connect { path, source })?;
        let set_timeout = |timeout| {
            set_socket_timeout(&socket, Timeout::Recv, timeout)
                .map_err(|errno| ClientError::Socket(errno.into()))
        };
        set_timeout(Some(HELLO_TIMEOUT))?;
        let (keeper_pid, keeper_build, version) = greet(socket.as_fd())?;
        set_timeout(None)?;
        Ok(Self { socket, keeper_pid, keeper_build, version })
    }

    pub fn keeper_pid(&self) -> i32 {
        self.keeper_pid
    }

    pub fn keeper_build(&self) -> &str {
        &self.keeper_build
    }

    /// The protocol's, as both sides speak it.
    pub fn version(&self) -> u32 {
        self.version
    }
}

fn greet(socket: BorrowedFd<'_>) -> Result<(i32, String, u32), ClientError> {
    let hello = Request::Hello { version: VERSION, version_min: VERSION_MIN };
    wire::send(socket, Patience::Wait, 1, &hello, &[])?;
    // Events may come first: the keeper sends them to whoever is connected.
    loop {
        let envelope = match wire::receive::<FromKeeper>(socket, Patience::Wait, &mut Vec::new()) {
            Ok(Received::Message(envelope, _)) => envelope,
            Ok(Received::Closed) => return Err(ClientError::Disconnected),
            Err(WireError::Receive(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(ClientError::Timeout);
            }
            Err(error) => return Err(error.into()),
        };
        match envelope.body {
            FromKeeper::Reply(Reply::Hello { version, pid, build })
                if (VERSION_MIN..=VERSION).contains(&version) =>
            {
                return Ok((pid, build, version));
            }
            FromKeeper::Reply(Reply::Hello { version, .. }) => {
                return Err(ClientError::Version { theirs: version });
            }
            FromKeeper::Reply(other) => return Err(CallError::unexpected(other)),
            FromKeeper::Event(_) => {}
        }
    }
}

type Waiting = Mutex<Option<HashMap<u64, SyncSender<(Reply, Fds)>>>>;

/// Sends requests and hands each reply to who asked.
pub(super) struct Dispatcher {
    socket: Arc<OwnedFd>,
    /// `None` once the keeper has gone.
    waiting: Arc<Waiting>,
    next_seq: AtomicU64,
}

impl Dispatcher {
    pub fn start(
        connection: Connection,
        registry: Arc<HeldRegistry>,
        on_notice: Box<dyn FnMut(Notice) + Send>,
    ) -> Result<Self, ClientError> {
        let socket = Arc::new(connection.socket);
        let waiting: Arc<Waiting> = Arc::new(Mutex::new(Some(HashMap::new())));
        let reader =
            Reader { socket: Arc::clone(&socket), waiting: Arc::clone(&waiting), registry, on_notice };
        std::thread::Builder::new()
            .name("keeper-reader".into())
            .spawn(|| reader.run())
            .map_err(ClientError::Thread)?;
        Ok(Self { socket, waiting, next_seq: AtomicU64::new(2) })
    }

    pub fn call(
        &self,
        request: &Request,
        fds: &[(FdRole, BorrowedFd<'_>)],
    ) -> Result<(Reply, Fds), ClientError> {
        let seq = self.next_seq.fetch_add(1, Ordering::Relaxed);
        let receiver = self.expect(seq)?;
        if let Err(error) = wire::send(self.socket.as_fd(), Patience::Wait, seq, request, fds) {
            self.withdraw(seq);
            return Err(match error {
                WireError::Send(Errno::PIPE | Errno::CONNRESET) => ClientError::Disconnected,
                other => other.into(),
            });
        }
        receiver.recv_timeout(REPLY_TIMEOUT).map_err(|error| match error {
            RecvTimeoutError::Timeout => {
                self.withdraw(seq);
                ClientError::Timeout
            }
            RecvTimeoutError::Disconnected => ClientError::Disconnected,
        })
    }

    fn expect(&self, seq: u64) -> Result<Receiver<(Reply, Fds)>, ClientError> {
        let (sender, receiver) = sync_channel(1);
        lock(&self.waiting).as_mut().ok_or(ClientError::Disconnected)?.insert(seq, sender);
        Ok(receiver)
    }

    fn withdraw(&self, seq: u64) {
        if let Some(waiting) = lock(&self.waiting).as_mut() {
            waiting.remove(&seq);
        }
    }
}

impl Drop for Dispatcher {
    /// Wakes the reader thread, which then ends.
    fn drop(&mut self) {
        let _ = rustix::net::shutdown(&*self.socket, Shutdown::Both);
    }
}

struct Reader {
    socket: Arc<OwnedFd>,
    waiting: Arc<Waiting>,
    registry: Arc<HeldRegistry>,
    on_notice: Box<dyn FnMut(Notice) + Send>,
}

impl Reader {
    fn run(mut self) {
        let mut buffer = Vec::new();
        // What a keeper of our own version sends is always understood; anything else ends the connection like a hang-up.
        while let Ok(Received::Message(envelope, fds)) =
            wire::receive::<FromKeeper>(self.socket.as_fd(), Patience::Wait, &mut buffer)
        {
            match envelope.body {
                FromKeeper::Reply(reply) => self.answer(envelope.seq, reply, fds),
                FromKeeper::Event(event) => self.notify(event),
            }
        }
        // Dropping the senders wakes every waiting caller with `Disconnected`.
        lock(&self.waiting).take();
        (self.on_notice)(Notice::Disconnected);
    }

    fn answer(&self, seq: u64, reply: Reply, fds: Fds) {
        let sender = lock(&self.waiting).as_mut().and_then(|waiting| waiting.remove(&seq));
        if let Some(sender) = sender {
            // The caller may have given up; then the descriptors are closed here.
            let _ = sender.try_send((reply, fds));
        }
    }

    fn notify(&mut self, event: Event) {
        match &event {
            Event::StdinClosed { target } => self.registry.close(target),
            Event::Exited { target, .. } => self.registry.ended(target),
            Event::Oom { .. } => {}
        }
        (self.on_notice)(Notice::Event(event));
    }
}

/// See `held::lock`.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
