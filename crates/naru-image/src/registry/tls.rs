//! What TLS needs to know of one host: authorities beside the system's, a certificate of our own, and
//! whether anything is verified at all; and Docker's directories with such files
//! (`certs.d/<host>/*.crt`, `*.cert` with `*.key`).

use crate::error::{ImageError, Result};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey};

/// Longest file with certificates or a key, in bytes.
const PEM_BYTES_MAX: u64 = 1 << 20;

/// Files are read when an image is pulled, so that a renewed certificate needs no restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    pub verify: bool,
    /// PEM.
    authorities: Vec<Pem>,
    client: Option<(Pem, Pem)>,
    pub connect_timeout: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pem {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Default for Tls {
    fn default() -> Self {
        Self { verify: true, authorities: Vec::new(), client: None, connect_timeout: None }
    }
}

impl Tls {
    pub fn new(verify: bool) -> Self {
        Self { verify, ..Self::default() }
    }

    pub fn add_ca(&mut self, path: &Path) -> Result<()> {
        let pem = Pem::read(path)?;
        pem.certificates()?;
        self.authorities.push(pem);
        Ok(())
    }

    /// Takes over what another place says of the same host.
    pub fn join(&mut self, other: &Tls) {
        self.verify &= other.verify;
        self.authorities.extend(other.authorities.iter().cloned());
        self.client = self.client.take().or_else(|| other.client.clone());
        self.connect_timeout = self.connect_timeout.or(other.connect_timeout);
    }

    /// One certificate is what a host gets to see.
    pub fn set_client(&mut self, certificate: &Path, key: &Path) -> Result<()> {
        let pair = (Pem::read(certificate)?, Pem::read(key)?);
        pair.0.certificates()?;
        pair.1.key()?;
        if let Some((first, _)) = &self.client {
            let what = format!(
                "{} is a second client certificate beside {}",
                certificate.display(),
                first.path.display()
            );
            return Err(ImageError::Unsupported { what, hint: "leave the one that the registry knows" });
        }
        self.client = Some(pair);
        Ok(())
    }

    /// Adds the files of `certs.d/<host>` as dockerd reads them (moby, registry/registry.go
    /// `ReadCertsDirectory`). A directory that isn't there adds nothing.
    pub fn add_directory(&mut self, dir: &Path) -> Result<()> {
        let items = match fs::read_dir(dir) {
            Ok(items) => items,
            Err(error) if is_absent(&error) => return Ok(()),
            Err(source) => return Err(ImageError::Io { step: "list", path: dir.to_owned(), source }),
        };
        let mut names = Vec::new();
        for item in items {
            names.push(item.map_err(ImageError::io("list", dir))?.path());
        }
        names.sort();
        let missing = |what: &str, other: &Path, path: &Path| ImageError::CertificatePair {
            path: path.to_owned(),
            missing: format!("{what} {}", other.display()),
        };
        for path in &names {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => self.add_ca(path)?,
                Some("cert") => {
                    let key = path.with_extension("key");
                    if !names.contains(&key) {
                        return Err(missing("key", &key, path));
                    }
                    self.set_client(path, &key)?;
                }
                Some("key") if !names.contains(&path.with_extension("cert")) => {
                    return Err(missing("client certificate", &path.with_extension("cert"), path));
                }
                _ => {}
            }
        }
        Ok(())
    }

    pub fn certificates(&self) -> Result<Vec<Certificate<'static>>> {
        let mut found = Vec::new();
        for pem in &self.authorities {
            found.extend(pem.certificates()?);
        }
        Ok(found)
    }

    pub fn client(&self) -> Result<Option<ClientCert>> {
        let Some((certificate, key)) = &self.client else { return Ok(None) };
        Ok(Some(ClientCert::new_with_certs(&certificate.certificates()?, key.key()?)))
    }
}

/// `ENOTDIR` too: a file in the place of a directory holds no certificates.
pub fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

impl Pem {
    fn read(path: &Path) -> Result<Self> {
        let failed = |source| ImageError::Io { step: READ, path: path.to_owned(), source };
        let size = fs::metadata(path).map_err(failed)?.len();
        if size > PEM_BYTES_MAX {
            return Err(ImageError::TooLarge {
                what: path.display().to_string(),
                found: size,
                limit: PEM_BYTES_MAX,
            });
        }
        Ok(Self { path: path.to_owned(), bytes: fs::read(path).map_err(failed)? })
    }

    fn items(&self) -> Result<Vec<PemItem<'static>>> {
        let items = ureq::tls::parse_pem(&self.bytes);
        items.map(|item| item.map_err(|error| self.bad(&error.to_string()))).collect()
    }

    fn certificates(&self) -> Result<Vec<Certificate<'static>>> {
        let certificates = self.items()?.into_iter().filter_map(|item| match item {
            PemItem::Certificate(certificate) => Some(certificate),
            _ => None,
        });
        let found: Vec<_> = certificates.collect();
        if found.is_empty() { Err(self.bad("there is no certificate in PEM form in it")) } else { Ok(found) }
    }

    fn key(&self) -> Result<PrivateKey<'static>> {
        let mut keys = self.items()?.into_iter().filter_map(|item| match item {
            PemItem::PrivateKey(key) => Some(key),
            _ => None,
        });
        keys.next().ok_or_else(|| self.bad("there is no private key in PEM form in it"))
    }

    fn bad(&self, what: &str) -> ImageError {
        ImageError::Io { step: READ, path: self.path.clone(), source: io::Error::other(what.to_owned()) }
    }
}

const READ: &str = "read the certificates of";
