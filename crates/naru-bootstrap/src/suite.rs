//! A suite of a mirror, from the signature down to the index: the chain of trust of this crate on one page.

use crate::deb;
use crate::error::{BootstrapError, Result};
use crate::fetch::{Expected, Fetcher};
use crate::openpgp::{self, Cleartext, Keyring, dearmor, signatures};
use crate::packages::{Index, Package};
use crate::release::Release;
use crate::sources::{self, COMPONENT, SignedBy, Source};
use crate::{Progress, ProgressFn, Request, snapshot_time};
use naru_types::{ImageRef, Timestamp};
use std::path::Path;

/// Largest Release file; Debian's has 0.2 MB.
const RELEASE_BYTES_MAX: u64 = 16 << 20;
/// Largest index, as it comes and unpacked; Debian's main has 9 MB and 50 MB.
const INDEX_BYTES_MAX: u64 = 128 << 20;
const INDEX_PLAIN_BYTES_MAX: u64 = 1 << 30;
/// Largest package; Debian's largest have about 2 GB, and none of them belongs into a base image.
const PACKAGE_BYTES_MAX: u64 = 1 << 30;
const KEYRING_BYTES_MAX: u64 = 16 << 20;

/// The package of the image `busybox`.
const BUSYBOX: &str = "busybox";
/// Whose package busybox-static is taken.
const BUSYBOX_DISTRIBUTION: &str = "debian";

/// A suite whose Release file was signed by a key of the keyring, and its index.
pub struct Suite<'a> {
    pub distribution: String,
    pub name: String,
    /// The suite's own source first, then those of its updates.
    pub sources: Vec<Source>,
    pub release: Release,
    pub index: Index,
    pub architecture: &'static str,
    /// The keys, in binary.
    pub keyring: Vec<u8>,
    fetcher: Fetcher<'a>,
}

pub fn is_busybox(base: &ImageRef) -> bool {
    base.familiar_repository() == BUSYBOX
}

/// Whose packages a base is made of.
pub fn distribution(base: &ImageRef) -> String {
    if is_busybox(base) { BUSYBOX_DISTRIBUTION.to_owned() } else { base.familiar_repository() }
}

impl<'a> Suite<'a> {
    /// Reads and checks everything but the packages. `host` is the root of the machine whose apt sources count.
    pub fn open(request: &'a Request, host: &Path, now: Timestamp, tell: &ProgressFn<'_>) -> Result<Self> {
        let (distribution, name, sources) = find(request, host)?;
        let now = request.snapshot.as_deref().map_or(Ok(now), snapshot_time)?;
        let uri = sources[0].uri.clone();
        let architecture = architecture()?;
        let keyring = keyring(request, &sources[0], &distribution, host)?;
        let keys = Keyring::parse(&keyring)
            .map_err(|source| BootstrapError::Keyring { name: "of the request".into(), source });
        let proxy = sources::host_proxy(host)?;
        let fetcher = Fetcher::new(&uri, proxy.as_deref(), &request.cancel)?;
        tell(Progress::Status(format!("Reading {name} of {uri}")));
        let dists = format!("{uri}/dists/{name}");
        let release = signed_release(&fetcher, &dists, &keys?, now, tell)?;
        release.check(&name, now, &dists)?;
        let index = index(&fetcher, &dists, &release, architecture)?;
        tell(Progress::Status(format!("{} packages in the suite of {}", index.packages.len(), release.date)));
        Ok(Self { distribution, name, sources, release, index, architecture, keyring, fetcher })
    }

    /// Downloads packages into `dir`, each as `name.deb`, and hashes them.
    pub fn download(&self, packages: &[&Package], dir: &Path, tell: &ProgressFn<'_>) -> Result<()> {
        let total = packages.iter().map(|package| package.size).sum();
        tell(Progress::Status(format!("Fetching {} packages ({} kB)", packages.len(), total / 1000)));
        let mut before = 0;
        for package in packages {
            let url = format!("{}/{}", self.sources[0].uri, package.path);
            if package.size > PACKAGE_BYTES_MAX {
                return Err(BootstrapError::TooLarge { url, limit: PACKAGE_BYTES_MAX });
            }
            let expected = Expected { sha256: &package.sha256, size: package.size };
            let path = dir.join(format!("{}.deb", package.name));
            self.fetcher.download(&url, expected, &path, &mut |bytes| {
                tell(Progress::Packages { current: before + bytes, total });
            })?;
            before += package.size;
        }
        Ok(())
    }
}

/// Distribution, suite and where it is.
fn find(request: &Request, host: &Path) -> Result<(String, String, Vec<Source>)> {
    let invalid = |what: String, hint: &str| BootstrapError::Invalid { what, hint: hint.to_owned() };
    let distribution = distribution(&request.base);
    if distribution.contains('/') || request.base.digest().is_some() {
        let what = format!("{}: a base is a distribution and a suite", request.base.familiar());
        return Err(invalid(what, "write it as debian:bookworm, and the image's name as -t NAME"));
    }
    let known = sources::of_host(host)?;
    let has_main = |source: &&Source| source.components.iter().any(|name| name == COMPONENT);
    let name = match request.base.tag() {
        Some(tag) => tag.to_owned(),
        None if is_busybox(&request.base) && request.mirror.is_none() => {
            let first = known.iter().filter(has_main).find(|source| source.uri.ends_with("/debian"));
            first
                .map(|source| source.suite.clone())
                .ok_or_else(|| BootstrapError::NoMirror { suite: repository_of(request) })?
        }
        None => {
            return Err(invalid(
                format!("{} names no suite", repository_of(request)),
                "write it as debian:bookworm",
            ));
        }
    };
    let sources = match (&request.mirror, &request.snapshot) {
        (Some(mirror), _) if !mirror.starts_with("http://") && !mirror.starts_with("https://") => {
            return Err(invalid(
                format!("{mirror:?} is not the address of a mirror"),
                "it begins with http:// or https://",
            ));
        }
        (None, None) => sources::with_updates(&known, &sources::for_suite(&known, &distribution, &name)?),
        (mirror, snapshot) => {
            let mut uri = match mirror {
                Some(mirror) => mirror.trim_end_matches('/').to_owned(),
                None => snapshot_archive(&distribution)?.to_owned(),
            };
            if let Some(snapshot) = snapshot {
                let time = snapshot_time(snapshot)?.to_string().replace(['-', ':'], "");
                uri = format!("{uri}/{time}");
            }
            vec![Source { uri, suite: name.clone(), components: vec![COMPONENT.into()], signed_by: None }]
        }
    };
    Ok((distribution, name, sources))
}

fn repository_of(request: &Request) -> String {
    request.base.familiar_repository()
}

/// Where a distribution keeps its old states.
fn snapshot_archive(distribution: &str) -> Result<&'static str> {
    match distribution {
        "debian" => Ok("http://snapshot.debian.org/archive/debian"),
        "ubuntu" => Ok("http://snapshot.ubuntu.com/ubuntu"),
        other => Err(BootstrapError::Invalid {
            what: format!("no archive of snapshots of {other} is known"),
            hint: "name one with --mirror: the address to which the time is added".into(),
        }),
    }
}

/// The request's keys, those that the host's source names, or the distribution's package of keys; in binary.
fn keyring(request: &Request, source: &Source, distribution: &str, host: &Path) -> Result<Vec<u8>> {
    let usual = Path::new("/usr/share/keyrings").join(format!("{distribution}-archive-keyring.gpg"));
    let file = match (&request.keyring, &source.signed_by) {
        (Some(keys), _) => return binary(keys, "of the request"),
        (None, Some(SignedBy::Key(text))) => return binary(text.as_bytes(), "in the apt source"),
        (None, Some(SignedBy::File(path))) => path.clone(),
        (None, None) => usual,
    };
    let path = host.join(file.strip_prefix("/").unwrap_or(&file));
    let too_large = |found: &std::fs::Metadata| found.len() > KEYRING_BYTES_MAX;
    match std::fs::metadata(&path) {
        Ok(found) if !too_large(&found) => {}
        _ => {
            return Err(BootstrapError::Invalid {
                what: format!(
                    "there is no keyring {} to check signatures of {distribution} against",
                    path.display()
                ),
                hint: format!("install {distribution}-archive-keyring, or name the keys with --keyring FILE"),
            });
        }
    }
    let bytes = std::fs::read(&path).map_err(BootstrapError::io("read", &path))?;
    binary(&bytes, &path.display().to_string())
}

fn binary(keys: &[u8], name: &str) -> Result<Vec<u8>> {
    dearmor(keys).map_err(|source| BootstrapError::Keyring { name: name.to_owned(), source })
}

/// `InRelease`, or `Release` with `Release.gpg` where a mirror has only those.
fn signed_release(
    fetcher: &Fetcher<'_>,
    dists: &str,
    keys: &Keyring,
    now: Timestamp,
    tell: &ProgressFn<'_>,
) -> Result<Release> {
    let url = format!("{dists}/InRelease");
    let refused = |url: &str| {
        let url = url.to_owned();
        move |source| BootstrapError::Signature { url, source }
    };
    let utf8 = |bytes: Vec<u8>, url: &str| {
        String::from_utf8(bytes)
            .map_err(|_| BootstrapError::Malformed { url: url.to_owned(), what: "it is not text".into() })
    };
    let signed_by = |found: Vec<String>| tell(Progress::Status(format!("Signed by {}", found.join(", "))));
    match fetcher.unchecked(&url, RELEASE_BYTES_MAX) {
        Ok(bytes) => {
            let document = Cleartext::parse(&utf8(bytes, &url)?).map_err(refused(&url))?;
            signed_by(
                openpgp::verify(keys, &document.canonical(), &document.signatures, now.secs())
                    .map_err(refused(&url))?,
            );
            Release::parse(&document.text, &url)
        }
        Err(BootstrapError::Missing { .. }) => {
            let url = format!("{dists}/Release");
            let text = fetcher.unchecked(&url, RELEASE_BYTES_MAX)?;
            let detached = fetcher.unchecked(&format!("{url}.gpg"), RELEASE_BYTES_MAX)?;
            let found = dearmor(&detached).and_then(|bytes| signatures(&bytes)).map_err(refused(&url))?;
            signed_by(openpgp::verify(keys, &text, &found, now.secs()).map_err(refused(&url))?);
            Release::parse(&utf8(text, &url)?, &url)
        }
        Err(error) => Err(error),
    }
}

fn index(fetcher: &Fetcher<'_>, dists: &str, release: &Release, architecture: &str) -> Result<Index> {
    let plain = format!("{COMPONENT}/binary-{architecture}/Packages");
    let listed = |suffix: &str| {
        let path = format!("{plain}{suffix}");
        release.file(&path).map(|(hash, size)| (path, hash, size))
    };
    let found = listed(".xz").or_else(|| listed(".gz")).or_else(|| listed(""));
    let (path, sha256, size) = found.ok_or_else(|| BootstrapError::NotListed {
        release: dists.to_owned(),
        what: format!("{plain}: it has the architectures {}", release.architectures.join(", ")),
    })?;
    let url = format!("{dists}/{path}");
    if size > INDEX_BYTES_MAX {
        return Err(BootstrapError::TooLarge { url, limit: INDEX_BYTES_MAX });
    }
    let expected = Expected { sha256, size };
    // By its hash it is found even while the mirror is being updated.
    let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
    let by_hash = format!("{dists}/{directory}/by-hash/SHA256/{sha256}");
    let bytes = match release.by_hash.then(|| fetcher.checked(&by_hash, expected)) {
        Some(Err(BootstrapError::Missing { .. })) | None => fetcher.checked(&url, expected)?,
        Some(other) => other?,
    };
    let malformed = |what: String| BootstrapError::Malformed { url: url.clone(), what };
    let text = deb::decompress(&bytes, &path, INDEX_PLAIN_BYTES_MAX)
        .map_err(|error| malformed(error.to_string()))?;
    let text = String::from_utf8(text).map_err(|_| malformed("it is not UTF-8".into()))?;
    Index::parse(&text, &url)
}

/// Debian's name of this machine's architecture.
fn architecture() -> Result<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        "arm" => Ok("armhf"),
        "x86" => Ok("i386"),
        "powerpc64" => Ok("ppc64el"),
        "loongarch64" => Ok("loong64"),
        "riscv64" => Ok("riscv64"),
        "s390x" => Ok("s390x"),
        other => Err(BootstrapError::Invalid {
            what: format!("Debian's name for {other} is not known"),
            hint: "import a root made elsewhere with `naru import`".into(),
        }),
    }
}
