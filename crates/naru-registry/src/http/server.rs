//! Connections: accept within limits, read requests, answer each in a task of its own.

use crate::error::{RegistryError, Result};
use crate::http::access::Access;
use crate::http::answer::{Answered, Refusal, Reply, json_reply, set_named};
use crate::http::patient::Patient;
use crate::http::route::{self, Route};
use crate::http::{blobs, lists, manifests, uploads};
use crate::store::Store;
use crate::token::{Believed, Rights};
use crate::upload::{IDLE_MAX, Uploads};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use naru_wire::url::{self, Query};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

/// Connections at once, from all clients and from one address.
const CONNECTIONS_MAX: usize = 2048;
const CONNECTIONS_PER_ADDRESS_MAX: usize = 256;
/// Longest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Longest time for a head; also how long an idle connection is kept.
const HEAD_MAX: Duration = Duration::from_secs(30);
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Time that requests in flight have when the server ends.
const DRAIN: Duration = Duration::from_secs(10);
/// Pause after accept failed, for example for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Between two looks for idle uploads.
const HOUSEKEEPING: Duration = Duration::from_secs(60);

pub struct ServeOptions {
    /// Whether manifests, tags and blobs may be deleted (202) or not (405).
    pub delete: bool,
    /// What clients without a token may do.
    pub anonymous: Rights,
    pub tls: Option<TlsFiles>,
    /// Gets one line per request that failed here, and none with a secret in it.
    pub log: Box<dyn Fn(&str) + Send + Sync>,
}

/// PEM files.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    pub certificates: PathBuf,
    pub key: PathBuf,
}

pub(crate) struct Shared {
    pub store: Arc<Store>,
    pub uploads: Uploads,
    pub believed: Believed,
    pub options: ServeOptions,
}

/// A request without its body.
pub(crate) struct Call {
    pub method: Method,
    pub headers: HeaderMap,
    pub query: Query,
    pub access: Access,
}

impl Shared {
    /// Runs what touches the disk on a thread that may wait.
    pub async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> std::result::Result<T, Refusal> {
        let done = tokio::task::spawn_blocking(work).await;
        Ok(done.map_err(|_| RegistryError::Lost)??)
    }

    pub fn demand_delete(&self) -> std::result::Result<(), Refusal> {
        if self.options.delete {
            return Ok(());
        }
        Err(Refusal::not_allowed("this registry was started without --delete"))
    }
}

/// Answers requests until `shutdown` completes; requests in flight then have a short time to end.
pub async fn serve(
    listener: TcpListener,
    store: Arc<Store>,
    options: ServeOptions,
    shutdown: impl Future<Output = ()>,
) -> Result<()> {
    let _lock = store.lock_for_server()?;
    let tls = options.tls.as_ref().map(tls_acceptor).transpose()?;
    let shared =
        Arc::new(Shared { store, uploads: Uploads::default(), believed: Believed::default(), options });
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let addresses = Addresses::default();
    let (ending, ended) = watch::channel(false);
    let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
    tokio::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &slots) => accepted,
            _ = housekeeping.tick() => {
                shared.uploads.expire(IDLE_MAX);
                continue;
            }
            () = &mut shutdown => break,
        };
        let Some((stream, peer, slot)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Some(place) = addresses.enter(peer.ip()) else { continue };
        let (shared, tls, ended) = (Arc::clone(&shared), tls.clone(), ended.clone());
        tokio::spawn(async move {
            match tls {
                None => connection(stream, shared, ended).await,
                Some(tls) => {
                    // A handshake that fails or takes too long is the client's affair.
                    if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_MAX, tls.accept(stream)).await {
                        connection(stream, shared, ended).await;
                    }
                }
            }
            drop((place, slot));
        });
    }
    // Receivers see the change only after the sender is told; the send fails when nobody is connected.
    let _ = ending.send(true);
    drop(ended);
    let _ = tokio::time::timeout(DRAIN, ending.closed()).await;
    Ok(())
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    let (stream, peer) = listener.accept().await.ok()?;
    // Only a matter of speed.
    let _ = stream.set_nodelay(true);
    Some((stream, peer, slot))
}

/// Connections by address, so that one client can't take all of them.
#[derive(Clone, Default)]
struct Addresses(Arc<Mutex<HashMap<IpAddr, usize>>>);

struct Place {
    addresses: Addresses,
    address: IpAddr,
}

impl Addresses {
    fn enter(&self, address: IpAddr) -> Option<Place> {
        let mut counts = crate::database::locked(&self.0);
        let count = counts.entry(address).or_default();
        if *count >= CONNECTIONS_PER_ADDRESS_MAX {
            return None;
        }
        *count += 1;
        Some(Place { addresses: self.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = crate::database::locked(&self.addresses.0);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    shared: Arc<Shared>,
    mut ended: watch::Receiver<bool>,
) {
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(guarded(shared, request).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(Patient::new(stream)), service);
    tokio::pin!(connection);
    tokio::select! {
        // A broken connection is the client's affair; a broken request was answered by hyper.
        _ = connection.as_mut() => {}
        _ = ended.changed() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

/// In a task of its own: a panic is this request's only, and a client that hangs up stops no work half way.
async fn guarded(shared: Arc<Shared>, request: Request<Incoming>) -> Reply {
    let line = format!("{} {}", request.method(), request.uri().path());
    let answering = Arc::clone(&shared);
    let answered = tokio::spawn(async move { answer(&answering, request).await }).await;
    let answered = answered.unwrap_or_else(|_| Err(RegistryError::Lost.into()));
    let mut reply = answered.unwrap_or_else(|refusal| {
        if let Some(cause) = &refusal.cause {
            let chain = std::iter::successors(std::error::Error::source(cause), |error| error.source());
            let why = chain.fold(cause.to_string(), |text, error| format!("{text}: {error}"));
            (shared.options.log)(&format!("{line}: {}: {why}", refusal.status.as_u16()));
        }
        refusal.into_reply()
    });
    set_named(&mut reply, "docker-distribution-api-version", "registry/2.0");
    set_named(&mut reply, "x-content-type-options", "nosniff");
    reply
}

async fn answer(shared: &Arc<Shared>, request: Request<Incoming>) -> Answered {
    let (head, mut body) = request.into_parts();
    let access = Access::of(shared, &head.headers).await?;
    let route = route::parse(&url::decode(head.uri.path()))?;
    let query = Query::parse(head.uri.query().unwrap_or(""));
    let call = Call { method: head.method, headers: head.headers, query, access };
    match route {
        Route::Base => base(&call),
        Route::Catalog => lists::catalog(shared, &call).await,
        Route::Tags(repository) => lists::tags(shared, &call, repository).await,
        Route::Referrers(repository, subject) => lists::referrers(shared, &call, repository, subject).await,
        Route::Blob(repository, digest) => blobs::answer(shared, &call, repository, digest).await,
        Route::Manifest(repository, reference) => {
            manifests::answer(shared, &call, &mut body, repository, reference).await
        }
        Route::Uploads(repository) => uploads::start(shared, &call, &mut body, repository).await,
        Route::Upload(repository, id) => uploads::answer(shared, &call, &mut body, repository, &id).await,
    }
}

fn base(call: &Call) -> Answered {
    if !matches!(call.method, Method::GET | Method::HEAD) {
        return Err(Refusal::not_allowed("this can only be read"));
    }
    call.access.demand_any()?;
    let mut reply = json_reply(&serde_json::json!({}));
    *reply.status_mut() = StatusCode::OK;
    Ok(reply)
}

fn tls_acceptor(files: &TlsFiles) -> Result<TlsAcceptor> {
    fn refused(path: &Path) -> impl FnOnce(Box<dyn std::error::Error + Send + Sync>) -> RegistryError {
        let path = path.to_owned();
        move |source| RegistryError::Certificate { path, source }
    }
    let (path, key_path) = (files.certificates.as_path(), files.key.as_path());
    let chain = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>)
        .map_err(|error| refused(path)(error.into()))?;
    let key = PrivateKeyDer::from_pem_file(key_path).map_err(|error| refused(key_path)(error.into()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| refused(path)(error.into()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
