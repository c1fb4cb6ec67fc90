//! naru's own development CA: made once per instance, below `<root>/proxy/ca`.
//!
//! The certificate is for users to trust; the key never leaves its file (0600). The subject carries a piece
//! of the key's fingerprint, so that the CAs of two instances can be told apart in a trust store, and so that
//! the issuer can be rebuilt from the key alone.

use crate::durable;
use crate::error::ProxyError;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Where the certificate is, below the root directory.
pub const CA_CERTIFICATE_FILE: &str = "proxy/ca/ca.pem";
/// How long the CA is valid, in days: ten years.
const CA_VALID_DAYS: u32 = 3650;
/// Certificates begin in the past by so much, in days, for clients whose clock is slow.
pub(crate) const BACKDATE_DAYS: u32 = 1;
pub(crate) const DAY: Duration = Duration::from_hours(24);

/// A key in PEM. `Debug` prints `****`.
pub(crate) struct PrivateKeyPem(String);

impl PrivateKeyPem {
    pub fn new(pem: String) -> Self {
        Self(pem)
    }

    /// For the file of mode 0600 and for the TLS library, nobody else.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PrivateKeyPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKeyPem(****)")
    }
}

/// Signs leaf certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
}

impl Authority {
    /// Reads the CA below `dir` (`<root>/proxy`), or makes it. The key is written first: a crash between the
    /// two leaves a key for which the certificate is made again, with the same name.
    pub fn open(dir: &Path) -> Result<Self, ProxyError> {
        let dir = dir.join("ca");
        durable::create_private_dir(&dir)?;
        let key = read_or_make_key(&dir.join("ca.key"))?;
        let params = parameters(&key);
        let certificate_path = dir.join("ca.pem");
        let certificate_pem = match std::fs::read_to_string(&certificate_path) {
            Ok(pem) => pem,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let made =
                    params.self_signed(&key).map_err(certificate_error("make the CA certificate"))?.pem();
                durable::write_private(&certificate_path, made.as_bytes())?;
                made
            }
            Err(error) => return Err(ProxyError::disk("read", &certificate_path)(error)),
        };
        Ok(Self { issuer: Issuer::new(params, key), certificate_pem })
    }

    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    pub fn sign(&self, params: &CertificateParams, key: &KeyPair) -> Result<String, ProxyError> {
        Ok(params.signed_by(key, &self.issuer).map_err(certificate_error("sign a certificate"))?.pem())
    }
}

fn read_or_make_key(path: &PathBuf) -> Result<KeyPair, ProxyError> {
    match std::fs::read_to_string(path) {
        Ok(pem) => KeyPair::from_pem(&pem).map_err(certificate_error("read the CA's key")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let key = KeyPair::generate().map_err(certificate_error("make the CA's key"))?;
            let pem = PrivateKeyPem::new(key.serialize_pem());
            durable::write_private(path, pem.reveal().as_bytes())?;
            Ok(key)
        }
        Err(error) => Err(ProxyError::disk("read", path)(error)),
    }
}

fn parameters(key: &KeyPair) -> CertificateParams {
    let mut params = CertificateParams::default();
    let fingerprint = params.key_identifier(key);
    let name =
        format!("naru development CA {}", naru_types::id::hex(&fingerprint[..fingerprint.len().min(4)]));
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    // It signs leaves only: no CA below it.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let now = SystemTime::now();
    params.not_before = (now - DAY * BACKDATE_DAYS).into();
    params.not_after = (now + DAY * CA_VALID_DAYS).into();
    params
}

pub(crate) fn certificate_error<E: std::error::Error + Send + Sync + 'static>(
    step: &'static str,
) -> impl FnOnce(E) -> ProxyError {
    move |source| ProxyError::Certificate { step, source: Box::new(source) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn made_once_and_kept_private() {
        let dir = tempfile::tempdir().unwrap();
        let first = Authority::open(dir.path()).unwrap();
        let again = Authority::open(dir.path()).unwrap();
        assert_eq!(first.certificate_pem(), again.certificate_pem());
        let mode = std::fs::metadata(dir.path().join("ca/ca.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(format!("{:?}", PrivateKeyPem::new("secret".into())), "PrivateKeyPem(****)");
    }
}
