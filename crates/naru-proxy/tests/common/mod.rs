//! A proxy on free loopback ports, small backends, and a client that trusts the proxy's CA and nothing else.
#![allow(dead_code, clippy::unwrap_used, clippy::unused_async)] // each test file uses a part of it

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use naru_proxy::client::ProxyClient;
use naru_proxy::{CA_CERTIFICATE_FILE, Proxy, ProxyConfig, Route, RouteTable};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub struct Bench {
    pub dir: tempfile::TempDir,
    pub proxy: Option<Proxy>,
    pub http: SocketAddr,
    pub https: SocketAddr,
}

pub fn config(dir: &Path) -> ProxyConfig {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    ProxyConfig { root: dir.join("root"), run: dir.join("run"), http: any, https: any }
}

impl Bench {
    pub async fn new(routes: Vec<Route>) -> Self {
        let mut bench = Self::start(tempfile::tempdir().unwrap()).await;
        bench.set(routes).await;
        bench
    }

    pub async fn start(dir: tempfile::TempDir) -> Self {
        let proxy = Proxy::start(&config(dir.path())).await.unwrap();
        let (http, https) = (proxy.http(), proxy.https());
        Self { dir, proxy: Some(proxy), http, https }
    }

    pub fn client(&self) -> ProxyClient {
        ProxyClient::new(&self.dir.path().join("run"))
    }

    pub async fn set(&mut self, routes: Vec<Route>) -> u64 {
        let client = self.client();
        tokio::task::spawn_blocking(move || client.set_routes(&RouteTable { routes })).await.unwrap().unwrap()
    }

    pub async fn tls(&self, host: &str, alpn: &[u8]) -> std::io::Result<TlsStream<TcpStream>> {
        let ca =
            CertificateDer::from_pem_file(self.dir.path().join("root").join(CA_CERTIFICATE_FILE)).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(ca).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![alpn.to_vec()];
        let stream = TcpStream::connect(self.https).await?;
        let name = ServerName::try_from(host.to_owned()).unwrap();
        TlsConnector::from(Arc::new(tls)).connect(name, stream).await
    }

    /// Raw bytes over a TLS connection for `host`; everything that comes back until the proxy closes.
    pub async fn raw(&self, host: &str, bytes: &[u8]) -> String {
        let mut stream = self.tls(host, b"http/1.1").await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub async fn http1(&self, host: &str) -> http1::SendRequest<BoxBody<Bytes, Infallible>> {
        let stream = self.tls(host, b"http/1.1").await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        sender
    }

    pub async fn http2(&self, host: &str) -> http2::SendRequest<BoxBody<Bytes, Infallible>> {
        let stream = self.tls(host, b"h2").await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    pub async fn get(&self, host: &str, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).header("host", host).body(full("")).unwrap();
        read(self.http1(host).await.send_request(request).await.unwrap()).await
    }
}

pub async fn read(response: Response<Incoming>) -> (StatusCode, String) {
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

pub fn full(text: &'static str) -> BoxBody<Bytes, Infallible> {
    Full::new(Bytes::from_static(text.as_bytes())).boxed()
}

pub fn route(host: &str, path_prefix: &str, backends: &[SocketAddr]) -> Route {
    Route {
        host: host.into(),
        path_prefix: path_prefix.into(),
        backends: backends.to_vec(),
        service: "web".into(),
    }
}

/// Loopback port on which nobody listens.
pub async fn closed_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// `/who` says `name`; `/echo` gives the body back; `/headers` lists the request's headers; `/ws` upgrades
/// and echoes; `/two` sends one chunk, and the second when `release` is told to.
pub async fn backend(name: &'static str, release: Arc<tokio::sync::Notify>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let release = release.clone();
            let service = service_fn(move |request| answer(name, request, release.clone()));
            let serving =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::spawn(serving.with_upgrades());
        }
    });
    address
}

type Out = BoxBody<Bytes, hyper::Error>;

async fn answer(
    name: &'static str,
    mut request: Request<Incoming>,
    release: Arc<tokio::sync::Notify>,
) -> Result<Response<Out>, Infallible> {
    let text = |text: String| Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed();
    Ok(match request.uri().path() {
        "/echo" => Response::new(request.into_body().boxed()),
        "/headers" => {
            let lines = request.headers().iter().map(|(n, v)| format!("{n}: {}\n", v.to_str().unwrap()));
            Response::new(text(lines.collect()))
        }
        "/ws" => {
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let mut io = TokioIo::new(upgrade.await.unwrap());
                let mut buffer = [0; 64];
                while let Ok(count @ 1..) = io.read(&mut buffer).await {
                    io.write_all(&buffer[..count]).await.unwrap();
                }
            });
            let mut response = Response::new(text(String::new()));
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            response.headers_mut().insert("connection", "upgrade".parse().unwrap());
            response.headers_mut().insert("upgrade", "websocket".parse().unwrap());
            response
        }
        "/two" => {
            let (sender, receiver) = tokio::sync::mpsc::channel(1);
            tokio::spawn(async move {
                sender.send("data: one\n\n").await.unwrap();
                release.notified().await;
                let _ = sender.send("data: two\n\n").await;
            });
            Response::new(Chunks(receiver).boxed())
        }
        _ => Response::new(text(name.into())),
    })
}

/// A body of whatever comes through the channel.
struct Chunks(tokio::sync::mpsc::Receiver<&'static str>);

impl hyper::body::Body for Chunks {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.0.poll_recv(cx).map(|text| text.map(|text| Ok(Frame::data(Bytes::from_static(text.as_bytes())))))
    }
}

/// The same for a client.
pub struct Parts(pub tokio::sync::mpsc::Receiver<Bytes>);

impl hyper::body::Body for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|part| part.map(|part| Ok(Frame::data(part))))
    }
}
