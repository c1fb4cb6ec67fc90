//! Fetching from a mirror: every length is bounded, every file that is used has been hashed.

use crate::error::{BootstrapError, Result};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Proxy};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);
/// Longest silence within a body.
const READ_TIMEOUT: Duration = Duration::from_mins(1);
const REDIRECTS_MAX: u32 = 5;
/// How often a file is asked for when the connection breaks.
const TRIES_MAX: u32 = 3;
const COPY_BYTES: usize = 256 * 1024;

pub struct Fetcher<'a> {
    agent: Agent,
    cancel: &'a AtomicBool,
}

/// What a file must be.
#[derive(Clone, Copy)]
pub struct Expected<'a> {
    /// In hex.
    pub sha256: &'a str,
    pub size: u64,
}

impl<'a> Fetcher<'a> {
    /// `proxy` is asked for plain HTTP addresses, as apt's setting means it.
    pub fn new(mirror: &str, proxy: Option<&str>, cancel: &'a AtomicBool) -> Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = TlsConfig::builder().unversioned_rustls_crypto_provider(provider);
        if mirror.starts_with("https://") {
            let native = rustls_native_certs::load_native_certs();
            let found = native.certs.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
            tls = tls.root_certs(RootCerts::Specific(Arc::new(found)));
        }
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .tls_config(tls.build())
            .max_redirects(REDIRECTS_MAX)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(ANSWER_TIMEOUT))
            .timeout_per_read(Some(READ_TIMEOUT))
            .user_agent(concat!("naru/", env!("CARGO_PKG_VERSION")));
        if let Some(proxy) = proxy.filter(|_| mirror.starts_with("http://")) {
            let parsed = Proxy::new(proxy).map_err(|error| BootstrapError::Invalid {
                what: format!("apt's proxy {proxy:?} cannot be used: {error}"),
                hint: "mend Acquire::http::Proxy in /etc/apt/apt.conf.d".into(),
            })?;
            config = config.proxy(Some(parsed));
        }
        Ok(Self { agent: config.build().new_agent(), cancel })
    }

    /// A small file whose content proves itself otherwise (by a signature).
    pub fn unchecked(&self, url: &str, limit: u64) -> Result<Vec<u8>> {
        self.retried(|| {
            let mut bytes = Vec::new();
            self.copy(url, limit, &mut bytes, &mut |_| {})?;
            Ok(bytes)
        })
    }

    /// A file in memory, with the hash and size that a signed list says.
    pub fn checked(&self, url: &str, expected: Expected<'_>) -> Result<Vec<u8>> {
        self.retried(|| {
            let mut sink = Hashing { out: Vec::new(), hasher: Sha256::new() };
            let size = self.copy(url, expected.size, &mut sink, &mut |_| {})?;
            compare(url, expected, size, sink.hasher)?;
            Ok(sink.out)
        })
    }

    /// As [`Self::checked`], into the new file `path`. `tell` gets the bytes so far.
    pub fn download(
        &self,
        url: &str,
        expected: Expected<'_>,
        path: &Path,
        tell: &mut dyn FnMut(u64),
    ) -> Result<()> {
        self.retried(|| {
            let out = File::create(path).map_err(BootstrapError::io("create", path))?;
            let mut sink = Hashing { out, hasher: Sha256::new() };
            let size = self.copy(url, expected.size, &mut sink, tell)?;
            compare(url, expected, size, sink.hasher)
        })
    }

    /// A connection may break; what came and is wrong will not be right the next time.
    fn retried<T>(&self, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
        let mut tries = 1;
        loop {
            match attempt() {
                Err(BootstrapError::Fetch { .. }) if tries < TRIES_MAX => tries += 1,
                other => return other,
            }
        }
    }

    fn copy(&self, url: &str, limit: u64, out: &mut dyn Write, tell: &mut dyn FnMut(u64)) -> Result<u64> {
        let failed = |detail: String| BootstrapError::Fetch { url: url.to_owned(), detail };
        let mut response = self.agent.get(url).call().map_err(|error| failed(error.to_string()))?;
        match response.status().as_u16() {
            200 => {}
            404 | 410 => return Err(BootstrapError::Missing { url: url.to_owned() }),
            status => return Err(failed(format!("the mirror answered {status}"))),
        }
        let mut body = response.body_mut().as_reader();
        let mut buffer = vec![0; COPY_BYTES];
        let mut total = 0;
        loop {
            if self.cancel.load(Ordering::Relaxed) {
                return Err(BootstrapError::Cancelled);
            }
            let got = body.read(&mut buffer).map_err(|error| failed(error.to_string()))?;
            if got == 0 {
                return Ok(total);
            }
            total += got as u64;
            if total > limit {
                return Err(BootstrapError::TooLarge { url: url.to_owned(), limit });
            }
            out.write_all(&buffer[..got]).map_err(BootstrapError::io("write what came from", url))?;
            tell(total);
        }
    }
}

fn compare(url: &str, expected: Expected<'_>, size: u64, hasher: Sha256) -> Result<()> {
    if size != expected.size {
        return Err(BootstrapError::ChangedSize {
            url: url.to_owned(),
            expected: expected.size,
            found: size,
        });
    }
    let found = naru_types::id::hex(&hasher.finalize());
    if found == expected.sha256 {
        return Ok(());
    }
    Err(BootstrapError::Changed { url: url.to_owned(), expected: expected.sha256.to_owned(), found })
}

struct Hashing<W> {
    out: W,
    hasher: Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}
