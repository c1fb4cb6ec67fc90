//! Certificates of single hosts: issued when first asked for, kept on disk, renewed before they expire.
//!
//! One file per host, `<root>/proxy/certificates/<host>.pem`, mode 0600: a line with the time of expiry, the
//! certificate, the CA's certificate, the key. A file that cannot be used is replaced, not an error: nothing
//! in it is worth more than a new one. Host names were checked when the table was (`table::host_problem`), so
//! they have no slash and no leading dot.

use crate::ca::{Authority, BACKDATE_DAYS, DAY, PrivateKeyPem, certificate_error};
use crate::durable;
use crate::error::ProxyError;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long a leaf is valid, in days (clients of Apple refuse more than 825).
const LEAF_VALID_DAYS: u32 = 90;
/// It is renewed when it has less left, in days.
const RENEW_BEFORE_DAYS: u32 = 30;
/// First line of a file: `expires: <seconds since the epoch>`. PEM readers skip text outside the blocks
/// (RFC 7468, section 2).
const EXPIRES: &str = "expires: ";

pub(crate) struct Leaves {
    authority: Authority,
    dir: PathBuf,
    provider: Arc<CryptoProvider>,
    /// By host. A host leaves it when its certificate has to be renewed; the table bounds it, since nobody
    /// asks for a host that the table has not.
    ready: Mutex<HashMap<String, Ready>>,
}

struct Ready {
    config: Arc<ServerConfig>,
    expires: SystemTime,
}

impl Leaves {
    pub fn new(authority: Authority, dir: &Path) -> Result<Self, ProxyError> {
        let dir = dir.join("certificates");
        durable::create_private_dir(&dir)?;
        Ok(Self { authority, dir, provider: Arc::new(ring::default_provider()), ready: Mutex::default() })
    }

    pub fn provider(&self) -> Arc<CryptoProvider> {
        self.provider.clone()
    }

    /// What is at hand in memory and good for a while.
    pub fn cached(&self, host: &str) -> Option<Arc<ServerConfig>> {
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.get(host).filter(|leaf| still_good(leaf.expires)).map(|leaf| leaf.config.clone())
    }

    /// From disk, or made. Blocks on the disk.
    pub fn obtain(&self, host: &str) -> Result<Arc<ServerConfig>, ProxyError> {
        // The lock is held while one is made, so that a burst of first handshakes makes one certificate.
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(leaf) = ready.get(host).filter(|leaf| still_good(leaf.expires)) {
            return Ok(leaf.config.clone());
        }
        let path = self.dir.join(format!("{host}.pem"));
        let leaf = match self.read(&path) {
            Some(leaf) => leaf,
            None => self.make(host, &path)?,
        };
        let config = leaf.config.clone();
        ready.insert(host.to_owned(), leaf);
        Ok(config)
    }

    fn read(&self, path: &Path) -> Option<Ready> {
        let text = std::fs::read_to_string(path).ok()?;
        let expires = text.lines().next()?.strip_prefix(EXPIRES)?.parse().ok()?;
        let expires = UNIX_EPOCH.checked_add(Duration::from_secs(expires))?;
        // A leaf of another CA (the CA was made anew) would be refused by every client.
        let ours = text.contains(self.authority.certificate_pem());
        (ours && still_good(expires))
            .then(|| self.config(&text).ok())?
            .map(|config| Ready { config, expires })
    }

    fn make(&self, host: &str, path: &Path) -> Result<Ready, ProxyError> {
        let step = "make a certificate";
        let key = KeyPair::generate().map_err(certificate_error(step))?;
        let mut params = CertificateParams::new([host.to_owned()]).map_err(certificate_error(step))?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        // The name is in the alternative names; a common name is limited to 64 characters (RFC 5280, A.1).
        params.distinguished_name.push(DnType::CommonName, "naru");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let now = SystemTime::now();
        let expires = now + DAY * LEAF_VALID_DAYS;
        params.not_before = (now - DAY * BACKDATE_DAYS).into();
        params.not_after = expires.into();
        let certificate = self.authority.sign(&params, &key)?;
        let key = PrivateKeyPem::new(key.serialize_pem());
        let seconds = expires.duration_since(UNIX_EPOCH).map_err(certificate_error(step))?.as_secs();
        let text =
            format!("{EXPIRES}{seconds}\n{certificate}{}{}", self.authority.certificate_pem(), key.reveal());
        let config = self.config(&text)?;
        durable::write_private(path, text.as_bytes())?;
        Ok(Ready { config, expires })
    }

    fn config(&self, pem: &str) -> Result<Arc<ServerConfig>, ProxyError> {
        let step = "use a certificate";
        let chain = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes());
        let (chain, key) = (chain.map_err(certificate_error(step))?, key.map_err(certificate_error(step))?);
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(certificate_error(step))?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(certificate_error(step))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn still_good(expires: SystemTime) -> bool {
    SystemTime::now() + DAY * RENEW_BEFORE_DAYS < expires
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(dir: &Path) -> Leaves {
        Leaves::new(Authority::open(dir).unwrap(), dir).unwrap()
    }

    #[test]
    fn kept_on_disk_and_renewed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("certificates/a.test.pem");
        leaves(dir.path()).obtain("a.test").unwrap();
        let first = std::fs::read_to_string(&path).unwrap();
        leaves(dir.path()).obtain("a.test").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), first, "a good one is used again");

        let (_, rest) = first.split_once('\n').unwrap();
        for spoilt in [format!("{EXPIRES}1000\n{rest}"), "garbage".into(), String::new()] {
            std::fs::write(&path, spoilt).unwrap();
            leaves(dir.path()).obtain("a.test").unwrap();
            let now = std::fs::read_to_string(&path).unwrap();
            assert!(now != first && now.starts_with(EXPIRES), "it is made again");
        }
    }
}
