//! The HTTP clients of a store: one that verifies certificates, one for insecure registries.
//!
//! TLS is rustls with ring's primitives, named here and not taken from a process-wide default, because a
//! library must not depend on who set that first.

use crate::error::{ImageError, Result};
use crate::store::StoreConfig;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
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

/// HTTP clients of the store, made when first needed: reading the system's certificates takes time.
pub struct Agents {
    ca_files: Vec<PathBuf>,
    verified: OnceLock<Agent>,
    unverified: OnceLock<Agent>,
}

impl Agents {
    pub fn new(config: &StoreConfig) -> Self {
        Self { ca_files: config.ca_files.clone(), verified: OnceLock::new(), unverified: OnceLock::new() }
    }

    pub fn agent(&self, verify: bool) -> Result<&Agent> {
        let cell = if verify { &self.verified } else { &self.unverified };
        if let Some(agent) = cell.get() {
            return Ok(agent);
        }
        let agent = self.build(verify)?;
        Ok(cell.get_or_init(|| agent))
    }

    fn build(&self, verify: bool) -> Result<Agent> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = TlsConfig::builder().unversioned_rustls_crypto_provider(provider);
        if verify {
            tls = tls.root_certs(RootCerts::Specific(Arc::new(self.certificates()?)));
        } else {
            tls = tls.disable_verification(true);
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .tls_config(tls.build())
            .max_redirects(REDIRECTS_MAX)
            // Storage elsewhere signs its URLs; a password or token isn't for it.
            .redirect_auth_headers(RedirectAuthHeaders::Never)
            .timeout_connect(Some(CONNECT_TIMEOUT))
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
