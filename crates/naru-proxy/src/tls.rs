//! The TLS handshake: the host that the client names decides which certificate it gets, or that it gets none.

use crate::headers::host_of;
use crate::state::State;
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

/// Longest handshake in seconds.
const HANDSHAKE_SECS_MAX: u64 = 10;

pub(crate) struct Accepted {
    pub stream: TlsStream<TcpStream>,
    /// In lower case; requests on this connection must be for it.
    pub host: String,
    pub is_h2: bool,
}

/// What the log says about a handshake that failed.
pub(crate) struct Refused {
    /// Empty when the client named none.
    pub host: String,
    pub why: String,
}

pub(crate) async fn accept(stream: TcpStream, state: &Arc<State>) -> Result<Accepted, Refused> {
    let patience = Duration::from_secs(HANDSHAKE_SECS_MAX);
    let late = |_| Refused { host: String::new(), why: "the TLS handshake took too long".into() };
    tokio::time::timeout(patience, handshake(stream, state)).await.map_err(late)?
}

async fn handshake(stream: TcpStream, state: &Arc<State>) -> Result<Accepted, Refused> {
    let refused = |host: &str, why: String| Refused { host: host.to_owned(), why };
    let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream)
        .await
        .map_err(|error| refused("", format!("TLS: {error}")))?;
    let host = start.client_hello().server_name().and_then(host_of).unwrap_or_default();
    if !state.table().knows_host(&host) {
        let why = if host.is_empty() { "the client names no host (SNI)" } else { "no route for this host" };
        // Going on without a certificate sends the alert that ends the handshake properly.
        let _ = start.into_stream(without_certificate(state)).await;
        return Err(refused(&host, why.into()));
    }
    let config = match state.leaves.cached(&host) {
        Some(config) => config,
        None => obtain(&host, state).await.map_err(|why| refused(&host, why))?,
    };
    let stream = start.into_stream(config).await.map_err(|error| refused(&host, format!("TLS: {error}")))?;
    let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    Ok(Accepted { stream, host, is_h2 })
}

async fn obtain(host: &str, state: &Arc<State>) -> Result<Arc<ServerConfig>, String> {
    let (state, host) = (state.clone(), host.to_owned());
    let made = tokio::task::spawn_blocking(move || state.leaves.obtain(&host)).await;
    made.map_err(|error| error.to_string())?.map_err(|error| naru_types::Error::from(error).chain())
}

fn without_certificate(state: &State) -> Arc<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(state.leaves.provider())
        .with_safe_default_protocol_versions()
        .expect("the ring provider has suites for the default protocol versions");
    Arc::new(builder.with_no_client_auth().with_cert_resolver(Arc::new(NoCertificate)))
}

#[derive(Debug)]
struct NoCertificate;

impl ResolvesServerCert for NoCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        None
    }
}
