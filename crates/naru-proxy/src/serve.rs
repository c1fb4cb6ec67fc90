//! The process: its lock, its listeners, its connections and its end.

use crate::access_log::Line;
use crate::config::ProxyConfig;
use crate::control;
use crate::error::ProxyError;
use crate::forward::{self, Connection};
use crate::gate::Gate;
use crate::port_owner;
use crate::state::State;
use crate::tls;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use naru_types::Timestamp;
use rustix::fs::FlockOperation;
use std::fs::File;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// Client connections at the same time; more are closed at once.
const CONNECTIONS_MAX: usize = 8192;
/// Longest wait for a request head, which is also how long an idle connection is kept, in seconds.
const REQUEST_HEAD_SECS_MAX: u64 = 60;
/// How long begun requests may go on after the end was asked for, in seconds.
const DRAIN_SECS_MAX: u64 = 10;
/// HTTP/2 streams at the same time on one connection.
const STREAMS_MAX: u32 = 128;
/// Header list of an HTTP/2 request, in bytes (RFC 9113, section 6.5.2).
const HEADER_LIST_LEN_MAX: u32 = 64 * 1024;
/// Streams that a client opened and reset, and that wait to be taken note of (CVE-2023-44487).
const RESET_STREAMS_MAX: usize = 20;
/// How often a silent HTTP/2 client is pinged, in seconds.
const PING_SECS: u64 = 30;
/// How often idle backend connections are looked through, in seconds.
const SWEEP_SECS: u64 = 1;
/// Pause after a failed accept (usually: out of file descriptors), in milliseconds.
const ACCEPT_PAUSE_MS: u64 = 50;

/// Runs until a signal (SIGTERM, SIGINT) or a `shutdown` on the control socket ends it.
pub fn run(config: &ProxyConfig) -> Result<(), ProxyError> {
    // Leave the session of whoever started us, so that its terminal's signals are not ours. It fails for a
    // process that leads a session already, which is as good.
    let _ = rustix::process::setsid();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("proxy")
        .build()
        .map_err(|source| ProxyError::Runtime { source })?;
    runtime.block_on(async {
        let proxy = Proxy::start(config).await?;
        end_on_signals(&proxy)?;
        proxy.stopped().await;
        Ok(())
    })
}

fn end_on_signals(proxy: &Proxy) -> Result<(), ProxyError> {
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut signals = signal(kind).map_err(|source| ProxyError::Runtime { source })?;
        let state = proxy.state.clone();
        tokio::spawn(async move {
            signals.recv().await;
            state.end();
        });
    }
    Ok(())
}

/// A proxy that serves. Dropping it does not stop it; [`Proxy::stop`] does.
pub struct Proxy {
    state: Arc<State>,
    /// Closes when the last connection has ended.
    connections: mpsc::Receiver<()>,
    socket: std::path::PathBuf,
    lock: File,
}

impl Proxy {
    pub async fn start(config: &ProxyConfig) -> Result<Self, ProxyError> {
        let lock = lock_instance(config)?;
        let http = listen(config.http).await?;
        let https = listen(config.https).await?;
        let address = |listener: &TcpListener, wanted| {
            listener.local_addr().map_err(|source| ProxyError::Listen { address: wanted, source })
        };
        let (http_at, https_at) = (address(&http, config.http)?, address(&https, config.https)?);
        let opening = config.clone();
        let state = tokio::task::spawn_blocking(move || State::open(&opening, http_at, https_at))
            .await
            .map_err(|source| ProxyError::Runtime { source: std::io::Error::other(source) })??;
        let control = control::bind(&config.socket())?;
        let connections = begin(&state, http, https, control);
        Ok(Self { state, connections, socket: config.socket(), lock })
    }

    pub fn http(&self) -> SocketAddr {
        self.state.http
    }

    pub fn https(&self) -> SocketAddr {
        self.state.https
    }

    /// Begins the end; [`Proxy::stopped`] waits for it.
    pub fn stop(&self) {
        self.state.end();
    }

    /// Waits for the end and then for begun requests, for a while.
    pub async fn stopped(mut self) {
        let mut ending = self.state.ending();
        // The sender lives in the state that we hold, so this waits for the value only.
        let _ = ending.wait_for(|ending| *ending).await;
        // The name goes before the lock: a successor may start while this one drains.
        let _ = std::fs::remove_file(&self.socket);
        drop(self.lock);
        let drained = self.connections.recv();
        let _ = tokio::time::timeout(Duration::from_secs(DRAIN_SECS_MAX), drained).await;
    }
}

/// One proxy per run directory. The lock goes with the process, however it ends.
fn lock_instance(config: &ProxyConfig) -> Result<File, ProxyError> {
    let path = config.run.join("proxy.lock");
    std::fs::create_dir_all(&config.run).map_err(ProxyError::disk("create", &config.run))?;
    let file = File::options().write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(ProxyError::disk("open", &path))?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| ProxyError::AlreadyRunning { run: config.run.clone() })?;
    Ok(file)
}

async fn listen(address: SocketAddr) -> Result<TcpListener, ProxyError> {
    TcpListener::bind(address).await.map_err(|source| match source.kind() {
        ErrorKind::AddrInUse => ProxyError::PortTaken { address, owner: port_owner::describe(address) },
        ErrorKind::PermissionDenied => ProxyError::PortForbidden { address },
        _ => ProxyError::Listen { address, source },
    })
}

fn begin(
    state: &Arc<State>,
    http: TcpListener,
    https: TcpListener,
    control: UnixListener,
) -> mpsc::Receiver<()> {
    let (alive, connections) = mpsc::channel(1);
    tokio::spawn(control::serve(control, state.clone()));
    tokio::spawn(accept(http, state.clone(), false, alive.clone()));
    tokio::spawn(accept(https, state.clone(), true, alive));
    let (sweeping, mut ending) = (state.clone(), state.ending());
    tokio::spawn(async move {
        let mut tick = tokio::time::interval(Duration::from_secs(SWEEP_SECS));
        loop {
            tokio::select! {
                _ = tick.tick() => sweeping.pool.sweep(),
                _ = ending.wait_for(|ending| *ending) => return,
            }
        }
    });
    connections
}

/// Each connection holds a clone of `alive`, so that the end can wait for the last of them.
async fn accept(listener: TcpListener, state: Arc<State>, is_tls: bool, alive: mpsc::Sender<()>) {
    let mut ending = state.ending();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = ending.wait_for(|ending| *ending) => return,
        };
        let Ok((stream, client)) = accepted else {
            tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
            continue;
        };
        let open = Open::count(&state);
        if open.state.connections.load(Ordering::Relaxed) > CONNECTIONS_MAX {
            continue;
        }
        let alive = alive.clone();
        tokio::spawn(async move {
            connection(stream, client, &open.state, is_tls).await;
            drop((open, alive));
        });
    }
}

/// Counts a connection for as long as it lives.
struct Open {
    state: Arc<State>,
}

impl Open {
    fn count(state: &Arc<State>) -> Self {
        state.connections.fetch_add(1, Ordering::Relaxed);
        Self { state: state.clone() }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.state.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn connection(stream: TcpStream, client: SocketAddr, state: &Arc<State>, is_tls: bool) {
    // Without it small answers wait for the client's acknowledgement; with a dead socket nothing matters.
    let _ = stream.set_nodelay(true);
    if !is_tls {
        return serve_http1(stream, Connection::plain(state, client)).await;
    }
    match tls::accept(stream, state).await {
        Ok(accepted) if accepted.is_h2 => {
            serve_http2(accepted.stream, Connection::tls(state, client, accepted.host)).await;
        }
        Ok(accepted) => serve_http1(accepted.stream, Connection::tls(state, client, accepted.host)).await,
        Err(refused) => state.log.write(Line {
            at: now().to_string(),
            client: client.ip().to_canonical().to_string(),
            host: refused.host,
            note: refused.why,
            ..Line::default()
        }),
    }
}

async fn serve_http1<T: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: T,
    mut connection: Connection,
) {
    let (gate, switch) = Gate::new(stream);
    connection.upgrade = Some(switch);
    let mut ending = connection.state.ending();
    let connection = Arc::new(connection);
    let service = service_fn(move |request| forward::handle(request, connection.clone()));
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(REQUEST_HEAD_SECS_MAX))
        .max_headers(crate::gate::FIELDS_MAX)
        .serve_connection(TokioIo::new(gate), service)
        .with_upgrades();
    let mut serving = std::pin::pin!(serving);
    tokio::select! {
        // A connection that breaks has no one left to be told.
        _ = serving.as_mut() => return,
        _ = ending.wait_for(|ending| *ending) => serving.as_mut().graceful_shutdown(),
    }
    let _ = serving.await;
}

async fn serve_http2<T: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: T, connection: Connection) {
    let mut ending = connection.state.ending();
    let connection = Arc::new(connection);
    let service = service_fn(move |request| forward::handle(request, connection.clone()));
    let serving = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_LIST_LEN_MAX)
        .max_pending_accept_reset_streams(RESET_STREAMS_MAX)
        .keep_alive_interval(Duration::from_secs(PING_SECS))
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    tokio::select! {
        _ = serving.as_mut() => return,
        _ = ending.wait_for(|ending| *ending) => serving.as_mut().graceful_shutdown(),
    }
    let _ = serving.await;
}

pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_parts(since.as_secs() as i64, since.subsec_nanos())
}
