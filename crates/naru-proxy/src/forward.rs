//! One request: where does it go, and what comes back?

use crate::access_log::{Line, PATH_LEN_MAX};
use crate::body::{Progress, ReplyBody, RequestBody};
use crate::gate::{REFUSED_METHOD, UpgradeSwitch};
use crate::headers;
use crate::pages::Refusal;
use crate::pool::{Pool, Sender};
use crate::serve::now;
use crate::state::State;
use crate::table::CompiledRoute;
use crate::tunnel;
use hyper::body::{Body, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::OwnedSemaphorePermit;

/// Longest silence before the head of a response, in seconds, counted from the last byte of the request.
const RESPONSE_HEAD_SECS_MAX: u64 = 120;
/// Stale idle connections that one request tries before it opens its own.
const STALE_TRIES_MAX: usize = 8;
const HTTPS_PORT: u16 = 443;

/// What the requests of one client connection have in common.
pub(crate) struct Connection {
    pub state: Arc<State>,
    client: SocketAddr,
    /// The host of the handshake; `None` on the plain port.
    tls_host: Option<String>,
    /// The gate's ear; HTTP/2 has none.
    pub upgrade: Option<Arc<UpgradeSwitch>>,
}

impl Connection {
    pub fn plain(state: &Arc<State>, client: SocketAddr) -> Self {
        Self { state: state.clone(), client, tls_host: None, upgrade: None }
    }

    pub fn tls(state: &Arc<State>, client: SocketAddr, host: String) -> Self {
        Self { state: state.clone(), client, tls_host: Some(host), upgrade: None }
    }
}

pub(crate) async fn handle(
    request: Request<Incoming>,
    connection: Arc<Connection>,
) -> Result<Response<ReplyBody>, Infallible> {
    let begun = Instant::now();
    connection.state.requests.fetch_add(1, Ordering::Relaxed);
    let mut line = first_words(&request, &connection);
    let http1 = request.version() < Version::HTTP_2;
    let mut response = match answer(request, &connection, &mut line).await {
        Ok(Answer::Backend(response, slot)) => {
            line.status = response.status().as_u16();
            let (parts, body) = response.into_parts();
            Response::from_parts(
                parts,
                ReplyBody::backend(body, line, begun, connection.state.log.clone(), slot),
            )
        }
        Ok(Answer::Redirect(target)) => {
            let mut response =
                own(StatusCode::TEMPORARY_REDIRECT, bytes::Bytes::new(), line, begun, &connection);
            response.headers_mut().insert(header::LOCATION, target);
            response
        }
        Err(refusal) => refuse(refusal, line, begun, &connection, http1),
    };
    if response.status() != StatusCode::SWITCHING_PROTOCOLS
        && let Some(switch) = &connection.upgrade
    {
        switch.stay_closed();
    }
    if !http1 {
        response.headers_mut().remove(header::CONNECTION);
    }
    Ok(response)
}

enum Answer {
    Backend(Response<Incoming>, OwnedSemaphorePermit),
    Redirect(HeaderValue),
}

async fn answer(
    request: Request<Incoming>,
    connection: &Connection,
    line: &mut Line,
) -> Result<Answer, Refusal> {
    if request.method().as_str() == REFUSED_METHOD {
        return Err(refused_by_gate(request.uri()));
    }
    let (authority, host) = host_of_request(&request)?;
    line.host.clone_from(&host);
    let table = connection.state.table();
    let Some(tls_host) = &connection.tls_host else {
        return redirect(&request, &host, connection, table.knows_host(&host));
    };
    if *tls_host != host {
        return Err(Refusal::Misdirected);
    }
    if !table.knows_host(&host) {
        return Err(Refusal::UnknownHost);
    }
    let route = table.route(&host, request.uri().path()).ok_or(Refusal::UnknownPath)?.clone();
    // The route is ours from here on, whatever happens to the table.
    drop(table);
    line.service.clone_from(&route.service);
    pass_on(request, authority, connection, &route, line).await
}

fn refused_by_gate(uri: &Uri) -> Refusal {
    let number = uri.path().strip_prefix('/').and_then(|number| number.parse::<usize>().ok());
    number.and_then(|number| Refusal::BY_GATE.get(number)).copied().unwrap_or(Refusal::BadRequestLine)
}

/// `host[:port]` as the client wrote it, and the host to look up. HTTP/2 names it in `:authority`; a `Host`
/// beside that must agree (RFC 9113, section 8.3.1).
fn host_of_request(request: &Request<Incoming>) -> Result<(HeaderValue, String), Refusal> {
    let mut named = request.headers().get_all(header::HOST).iter();
    let (field, more) = (named.next(), named.next());
    if more.is_some() {
        return Err(Refusal::Host);
    }
    let field_host = match field {
        Some(value) => Some(value.to_str().ok().and_then(headers::host_of).ok_or(Refusal::Host)?),
        None => None,
    };
    match request.uri().authority() {
        Some(authority) => {
            let host = headers::host_of(authority.as_str()).ok_or(Refusal::Host)?;
            if field_host.is_some_and(|field| field != host) {
                return Err(Refusal::HostMismatch);
            }
            let value = HeaderValue::try_from(authority.as_str()).map_err(|_| Refusal::Host)?;
            Ok((value, host))
        }
        None => field.cloned().zip(field_host).ok_or(Refusal::Host),
    }
}

/// Temporary (307): a permanent one would stay in browsers when the project is long gone.
fn redirect(
    request: &Request<Incoming>,
    host: &str,
    connection: &Connection,
    known: bool,
) -> Result<Answer, Refusal> {
    if !known {
        return Err(Refusal::UnknownHost);
    }
    let port = match connection.state.https.port() {
        HTTPS_PORT => String::new(),
        port => format!(":{port}"),
    };
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    HeaderValue::try_from(format!("https://{host}{port}{path}"))
        .map(Answer::Redirect)
        .map_err(|_| Refusal::BadRequestLine)
}

async fn pass_on(
    mut request: Request<Incoming>,
    authority: HeaderValue,
    connection: &Connection,
    route: &CompiledRoute,
    line: &mut Line,
) -> Result<Answer, Refusal> {
    let waiting = connection.upgrade.as_ref().filter(|switch| switch.is_waiting());
    let upgrade = waiting.and_then(|_| headers::wanted_upgrade(request.headers()));
    let client_side = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
    let from_h2 = request.version() == Version::HTTP_2;
    let (mut parts, body) = request.into_parts();
    rewrite(&mut parts, connection, &authority, upgrade, from_h2)?;
    let progress = Progress::default();
    let sent = Outgoing { parts, body: RequestBody::new(body, progress.clone()), progress };
    let (mut response, backend, slot) = send(sent, &connection.state.pool, route).await?;
    line.backend = Some(backend);
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let (Some(client_side), Some(switch)) = (client_side, waiting) else { return Err(Refusal::Broken) };
        let protocol = response.headers().get(header::UPGRADE).cloned();
        headers::strip_hop_by_hop(response.headers_mut());
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        if let Some(protocol) = protocol {
            response.headers_mut().insert(header::UPGRADE, protocol);
        }
        tokio::spawn(tunnel::run(client_side, hyper::upgrade::on(&mut response)));
        switch.open();
    } else {
        headers::strip_hop_by_hop(response.headers_mut());
    }
    *response.version_mut() = Version::HTTP_11;
    Ok(Answer::Backend(response, slot))
}

/// Makes of the client's request the one that a backend gets.
fn rewrite(
    parts: &mut Parts,
    connection: &Connection,
    authority: &HeaderValue,
    upgrade: Option<HeaderValue>,
    from_h2: bool,
) -> Result<(), Refusal> {
    let path = parts.uri.path_and_query().cloned().ok_or(Refusal::BadRequestLine)?;
    parts.uri = Uri::from(path);
    parts.version = Version::HTTP_11;
    let fields = &mut parts.headers;
    headers::strip_hop_by_hop(fields);
    // The proxy answers `100-continue` itself when the backend begins to read.
    fields.remove(header::EXPECT);
    fields.remove("http2-settings");
    if from_h2 {
        headers::join_cookies(fields);
    }
    headers::set_origin(fields, connection.client.ip(), "https", authority);
    if let Some(protocol) = upgrade {
        fields.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        fields.insert(header::UPGRADE, protocol);
    }
    Ok(())
}

struct Outgoing {
    parts: Parts,
    body: RequestBody,
    progress: Progress,
}

impl Outgoing {
    /// RFC 9110, section 9.2.2: sending it again does no harm. And there is no body that is gone already.
    fn may_repeat(&self) -> bool {
        let safe = [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE];
        self.body.is_end_stream() && safe.contains(&self.parts.method)
    }

    fn request(&mut self) -> Request<RequestBody> {
        let body = std::mem::replace(&mut self.body, RequestBody::empty());
        let mut request = Request::new(body);
        *request.method_mut() = self.parts.method.clone();
        *request.uri_mut() = self.parts.uri.clone();
        request.headers_mut().clone_from(&self.parts.headers);
        request
    }
}

type Sent = (Response<Incoming>, SocketAddr, OwnedSemaphorePermit);

/// Round robin; a backend that does not accept is followed by the next one. Those that refused a moment ago
/// come last.
async fn send(mut outgoing: Outgoing, pool: &Arc<Pool>, route: &CompiledRoute) -> Result<Sent, Refusal> {
    let (down, mut order): (Vec<_>, Vec<_>) = route.in_turn().partition(|backend| pool.is_down(*backend));
    order.extend(down);
    let mut worst = Refusal::NotReady;
    for backend in order {
        let Some(slot) = pool.slot(backend) else {
            worst = Refusal::Busy;
            continue;
        };
        match send_to(&mut outgoing, backend, pool).await {
            Ok(response) => return Ok((response, backend, slot)),
            Err(Failure::NotSent) => worst = Refusal::Unreachable,
            Err(Failure::Final(refusal)) => return Err(refusal),
        }
    }
    Err(worst)
}

enum Failure {
    /// No byte of the request has reached this backend; another may be tried.
    NotSent,
    Final(Refusal),
}

async fn send_to(
    outgoing: &mut Outgoing,
    backend: SocketAddr,
    pool: &Arc<Pool>,
) -> Result<Response<Incoming>, Failure> {
    let mut tried = 0;
    loop {
        let idle = if tried < STALE_TRIES_MAX { pool.take_idle(backend) } else { None };
        tried += 1;
        let was_idle = idle.is_some();
        let mut sender = match idle {
            Some(sender) => sender,
            None => pool.connect(backend).await.map_err(|_| Failure::NotSent)?,
        };
        match exchange(outgoing, &mut sender).await {
            Ok(response) => {
                pool.give_back(backend, sender);
                return Ok(response);
            }
            Err(Exchange::NotSent) if !was_idle => return Err(Failure::NotSent),
            // The backend closed an idle connection in the same moment: a fresh one decides.
            Err(Exchange::NotSent) => {}
            Err(Exchange::Repeatable) if was_idle => {}
            Err(Exchange::Repeatable) => return Err(Failure::Final(Refusal::Broken)),
            Err(Exchange::Final(refusal)) => return Err(Failure::Final(refusal)),
        }
    }
}

enum Exchange {
    NotSent,
    /// It broke before an answer, and the request does no harm twice.
    Repeatable,
    Final(Refusal),
}

async fn exchange(outgoing: &mut Outgoing, sender: &mut Sender) -> Result<Response<Incoming>, Exchange> {
    let may_repeat = outgoing.may_repeat();
    let mut answer = std::pin::pin!(sender.try_send_request(outgoing.request()));
    let mut seen = outgoing.progress.seen();
    let outcome = loop {
        match tokio::time::timeout(Duration::from_secs(RESPONSE_HEAD_SECS_MAX), answer.as_mut()).await {
            Ok(outcome) => break outcome,
            Err(_) if outgoing.progress.seen() != seen => seen = outgoing.progress.seen(),
            Err(_) => return Err(Exchange::Final(Refusal::Silent)),
        }
    };
    outcome.map_err(|mut failed| match failed.take_message() {
        Some(unsent) => {
            outgoing.body = unsent.into_body();
            Exchange::NotSent
        }
        None if may_repeat => Exchange::Repeatable,
        // The client's body broke off or was refused by the gate.
        None if failed.error().is_user() || failed.error().is_body_write_aborted() => {
            Exchange::Final(Refusal::Body)
        }
        None => Exchange::Final(Refusal::Broken),
    })
}

fn first_words(request: &Request<Incoming>, connection: &Connection) -> Line {
    let protocol = match request.version() {
        Version::HTTP_2 => "h2",
        Version::HTTP_10 => "http/1.0",
        _ => "http/1.1",
    };
    let path: String = request.uri().path().chars().take(PATH_LEN_MAX).collect();
    Line {
        at: now().to_string(),
        client: connection.client.ip().to_canonical().to_string(),
        protocol,
        method: request.method().as_str().into(),
        path,
        ..Line::default()
    }
}

fn refuse(
    refusal: Refusal,
    mut line: Line,
    begun: Instant,
    connection: &Connection,
    http1: bool,
) -> Response<ReplyBody> {
    line.note = refusal.sentence().into();
    if line.method == REFUSED_METHOD {
        (line.method, line.path) = (String::new(), String::new());
    }
    let mut response = own(refusal.status(), refusal.page(), line, begun, connection);
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if refusal.status() == StatusCode::SERVICE_UNAVAILABLE {
        fields.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    if http1 && refusal.closes() {
        fields.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn own(
    status: StatusCode,
    text: bytes::Bytes,
    mut line: Line,
    begun: Instant,
    connection: &Connection,
) -> Response<ReplyBody> {
    line.status = status.as_u16();
    let mut response = Response::new(ReplyBody::own(text, line, begun, connection.state.log.clone()));
    *response.status_mut() = status;
    response
}
