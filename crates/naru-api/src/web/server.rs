//! Connections: accept, read requests, run handlers, write answers.

use crate::web::body::Alive;
use crate::web::request::{Peer, Request, is_naru_client};
use crate::web::respond::{self, Response};
use crate::web::router::Router;
use crate::web::version::{self, ApiVersion};
use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{HeaderMap, StatusCode};
use hyper_util::rt::TokioIo;
use naru_types::{Error, Result};
use naru_wire::url::{self, Query};
use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};

/// Connections at once; more wait in the socket's backlog.
const CONNECTIONS_MAX: usize = 4096;
/// Longest head of a request, in bytes; a credential header may be long.
const HEAD_BYTES_MAX: usize = 256 * 1024;
/// Time that requests in flight have when the daemon ends.
const DRAIN: Duration = Duration::from_secs(2);
/// Pause after accept failed, for example for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

struct Shared<C> {
    router: Router<C>,
    context: Arc<C>,
}

pub async fn serve<C: Send + Sync + 'static>(
    listener: UnixListener,
    router: Router<C>,
    context: Arc<C>,
    shutdown: impl Future<Output = ()>,
) {
    let shared = Arc::new(Shared { router, context });
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let (ending, ended) = watch::channel(false);
    tokio::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &slots) => accepted,
            () = &mut shutdown => break,
        };
        let Some((stream, slot)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (shared, ended) = (Arc::clone(&shared), ended.clone());
        tokio::spawn(async move {
            connection(stream, shared, ended).await;
            drop(slot);
        });
    }
    // Receivers see the change only after the sender is told; the send fails when nobody is connected.
    let _ = ending.send(true);
    drop(ended);
    let _ = tokio::time::timeout(DRAIN, ending.closed()).await;
}

async fn accept(
    listener: &UnixListener,
    slots: &Arc<Semaphore>,
) -> Option<(UnixStream, tokio::sync::OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    let (stream, _) = listener.accept().await.ok()?;
    Some((stream, slot))
}

async fn connection<C: Send + Sync + 'static>(
    stream: UnixStream,
    shared: Arc<Shared<C>>,
    mut ended: watch::Receiver<bool>,
) {
    let peer = stream.peer_cred().ok().map(|peer| Peer { uid: peer.uid() });
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        let shared = Arc::clone(&shared);
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        async move { Ok::<_, Infallible>(answer(&shared, request).await) }
    });
    // No time limit between requests: clients keep idle connections for long and take a closed one for a failure.
    let connection = hyper::server::conn::http1::Builder::new()
        .title_case_headers(true)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
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

async fn answer<C: Send + Sync + 'static>(shared: &Shared<C>, request: hyper::Request<Incoming>) -> Response {
    let path = url::decode(request.uri().path());
    let (asked, rest) = version::split_path(&path);
    let Some((handler, name)) = shared.router.find(request.method(), rest) else {
        return respond::error_body(StatusCode::NOT_FOUND, "page not found".into());
    };
    let with_hint = is_naru_client(request.headers());
    let alive = Alive(Arc::new(AtomicBool::new(false)));
    let outcome = match ApiVersion::negotiate(asked) {
        Ok(version) => {
            let request = parsed(request, name, version, &alive);
            guarded(handler(Arc::clone(&shared.context), request)).await
        }
        Err(error) => Err(error),
    };
    let mut response = outcome.unwrap_or_else(|error| respond::error(&error, with_hint));
    set_common_headers(response.headers_mut());
    response.body_mut().keep(alive);
    response
}

fn parsed(
    mut request: hyper::Request<Incoming>,
    name: String,
    version: ApiVersion,
    alive: &Alive,
) -> Request {
    let upgrade = Some(hyper::upgrade::on(&mut request));
    let query = Query::parse(request.uri().query().unwrap_or(""));
    let (head, body) = request.into_parts();
    Request {
        name,
        query,
        headers: head.headers,
        peer: head.extensions.get::<Peer>().copied(),
        version,
        gone: Arc::clone(&alive.0),
        body: Some(body),
        upgrade,
    }
}

/// Runs a handler in a task of its own: a panic is this request's only, and a client that hangs up does not stop work
/// half way. Handlers that should stop watch [`Request::gone`].
async fn guarded(answer: impl Future<Output = Result<Response>> + Send + 'static) -> Result<Response> {
    match tokio::spawn(answer).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Error::internal("a bug in naru: the request's handler panicked")
            .with_hint("please report it with the daemon's log")),
    }
}

fn set_common_headers(headers: &mut HeaderMap) {
    const COMMON: [(&str, &str); 4] = [
        ("api-version", naru_wire::API_VERSION),
        ("docker-experimental", "false"),
        ("ostype", "linux"),
        ("server", concat!("Docker/28.2.2 (linux) naru/", env!("CARGO_PKG_VERSION"))),
    ];
    for (name, value) in COMMON {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
}
