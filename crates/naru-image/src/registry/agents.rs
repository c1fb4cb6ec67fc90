//! The HTTP clients of a store: one for each way in which hosts are verified, kept for the next request.
//!
//! TLS is rustls with ring's primitives, named here and not taken from a process-wide default, because a
//! library must not depend on who set that first.

use super::tls::Tls;
use crate::error::{ImageError, Result};
use crate::store::{StoreConfig, locked};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use ureq::Agent;
use ureq::config::RedirectAuthHeaders;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);
/// Redirects followed for one request (Go's client stops there too).
const REDIRECTS_MAX: u32 = 10;
/// Longest silence within a body.
const READ_TIMEOUT: Duration = Duration::from_mins(1);
/// Clients kept: more ways to verify than these are unusual, and each takes time to make, nothing else.
const AGENTS_MAX: usize = 16;

/// HTTP clients of the store, made when first needed: reading the system's certificates takes time.
pub struct Agents {
    ca_files: Vec<PathBuf>,
    made: Mutex<Vec<(Tls, Agent)>>,
}

impl Agents {
    pub fn new(config: &StoreConfig) -> Self {
        Self { ca_files: config.ca_files.clone(), made: Mutex::default() }
    }

    /// A handle; clones share connections.
    pub fn agent(&self, tls: &Tls) -> Result<Agent> {
        let find = |made: &[(Tls, Agent)]| {
            made.iter().find(|(known, _)| known == tls).map(|(_, agent)| agent.clone())
        };
        if let Some(agent) = find(&locked(&self.made)) {
            return Ok(agent);
        }
        let agent = self.build(tls)?;
        let mut made = locked(&self.made);
        if let Some(agent) = find(&made) {
            return Ok(agent);
        }
        if made.len() >= AGENTS_MAX {
            made.remove(0);
        }
        made.push((tls.clone(), agent.clone()));
        Ok(agent)
    }

    fn build(&self, tls: &Tls) -> Result<Agent> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config =
            TlsConfig::builder().unversioned_rustls_crypto_provider(provider).client_cert(tls.client()?);
        if tls.verify {
            let mut roots = self.certificates()?;
            roots.extend(tls.certificates()?);
            config = config.root_certs(RootCerts::Specific(Arc::new(roots)));
        } else {
            config = config.disable_verification(true);
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .tls_config(config.build())
            .max_redirects(REDIRECTS_MAX)
            // Storage elsewhere signs its URLs; a password or token isn't for it.
            .redirect_auth_headers(RedirectAuthHeaders::Never)
            .timeout_connect(Some(tls.connect_timeout.unwrap_or(CONNECT_TIMEOUT)))
            .timeout_recv_response(Some(ANSWER_TIMEOUT))
            .timeout_per_read(Some(READ_TIMEOUT))
            .user_agent(concat!("naru/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(config.new_agent())
    }

    fn certificates(&self) -> Result<Vec<Certificate<'static>>> {
        let native = rustls_native_certs::load_native_certs();
        let mut found: Vec<Certificate<'static>> =
            native.certs.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
        for path in &self.ca_files {
            let pem = std::fs::read(path).map_err(ImageError::io("read the certificates of", path))?;
            for item in ureq::tls::parse_pem(&pem) {
                let item = item.map_err(|error| ImageError::Io {
                    step: "read the certificates of",
                    path: path.clone(),
                    source: io::Error::other(error),
                })?;
                if let PemItem::Certificate(certificate) = item {
                    found.push(certificate);
                }
            }
        }
        Ok(found)
    }
}
