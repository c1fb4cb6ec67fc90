//! Base images without a registry: a root file system made of a distribution's signed packages.
//!
//! # What it is
//! `naru image bootstrap debian:bookworm`: reads a suite's Release file, checks its OpenPGP signature against a keyring, the index
//! against the Release file's hashes and each package against the index; chooses a minimal set of packages; unpacks them; has
//! their own dpkg configure them in a container ([`Runner`]); makes an image of one layer of the result.
//!
//! # What it must not do
//! Run a program of the host, or anything outside of a container. Trust a byte of a mirror that no signature leads to.
//!
//! # Start reading at
//! [`Bootstrapper::bootstrap`], then [`suite`].
//!
//! # Invariants
//! - Nothing is unpacked before all packages were hashed, and no hash is believed that isn't signed for.
//! - The same Release file and the same request give the same image: the time in it is the Release file's.
//! - What is half-made lies in one scratch directory, which goes away on every path.
//!
//! # How it is tested
//! Unit tests beside the code; `tests/mirror.rs` serves small repositories signed by gpg, with single bits flipped.

mod control;
mod deb;
mod error;
mod fetch;
pub mod openpgp;
mod packages;
mod release;
mod resolve;
mod root;
mod runner;
mod scratch;
pub mod sources;
pub mod suite;
mod system;
mod version;

pub use error::{BootstrapError, Result};
pub use runner::{Runner, Step};

use naru_image::Store;
use naru_image::import::ImportOptions;
use naru_types::image::RunConfig;
use naru_types::{Digest, Error, ImageRef, Timestamp};
use scratch::Scratch;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use suite::Suite;

const PATH_ENV: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// `debian:bookworm`, or `busybox` with or without a suite.
    pub base: ImageRef,
    /// The image's name; `base` otherwise.
    pub tag: Option<ImageRef>,
    /// Address of the directory that holds `dists`.
    pub mirror: Option<String>,
    /// OpenPGP keys, binary or armored, in place of the distribution's.
    pub keyring: Option<Vec<u8>>,
    /// Packages beside the minimal ones.
    pub include: Vec<String>,
    /// The archive as it was then: `20250520T000000Z`.
    pub snapshot: Option<String>,
    pub cancel: Arc<AtomicBool>,
}

/// What is told on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    Status(String),
    /// Bytes of all packages so far.
    Packages {
        current: u64,
        total: u64,
    },
}

pub type ProgressFn<'a> = dyn Fn(Progress) + Sync + 'a;

/// Makes base images in one store.
#[derive(Clone)]
pub struct Bootstrapper {
    store: Store,
    scratch: PathBuf,
    runner: Arc<dyn Runner>,
    mirrors: BTreeMap<String, String>,
}

impl Bootstrapper {
    /// Uses `<root>/bootstrap-tmp`, which is swept now.
    pub fn open(store: Store, root: &Path, runner: Arc<dyn Runner>) -> Result<Self, Error> {
        let scratch = root.join("bootstrap-tmp");
        scratch::sweep(&scratch)?;
        Ok(Self { store, scratch, runner, mirrors: BTreeMap::new() })
    }

    /// Mirrors of distributions, which go before the host's apt sources.
    pub fn with_mirrors(mut self, mirrors: BTreeMap<String, String>) -> Self {
        self.mirrors = mirrors;
        self
    }

    /// Makes the image and gives its id. Blocks.
    pub fn bootstrap(&self, request: &Request, tell: &ProgressFn<'_>) -> Result<Digest, Error> {
        Ok(self.image(request, tell)?)
    }

    fn image(&self, request: &Request, tell: &ProgressFn<'_>) -> Result<Digest> {
        let mut request = request.clone();
        if request.mirror.is_none() && request.snapshot.is_none() {
            request.mirror = self.mirrors.get(&suite::distribution(&request.base)).cloned();
        }
        let request = &request;
        let suite = Suite::open(request, Path::new("/"), naru_kernel::clock::now(), tell)?;
        let date = suite.release.date;
        let scratch = Scratch::make(&self.scratch)?;
        let system =
            system::Making { suite: &suite, request, scratch: &scratch, runner: &*self.runner, tell };
        let (command, what) = if suite::is_busybox(&request.base) {
            (system.busybox()?, "busybox-static".to_owned())
        } else {
            let include = if request.include.is_empty() {
                String::new()
            } else {
                format!(" --include {}", request.include.join(","))
            };
            (system.distribution()?, format!("{}{include}", request.base.familiar()))
        };
        tell(Progress::Status("Storing the image".into()));
        let mut layer = root::layer(&scratch.root(), scratch.path(), date)?;
        let options = ImportOptions {
            config: RunConfig {
                env: vec![PATH_ENV.into()],
                cmd: Some(vec![command.into()]),
                ..RunConfig::default()
            },
            message: Some(format!(
                "naru image bootstrap {what}; {} {} of {date}",
                suite.distribution, suite.name
            )),
            platform: None,
            tag: Some(request.tag.clone().unwrap_or_else(|| request.base.with_default_tag())),
            now: date,
        };
        let image = self.store.import(&mut layer, options).map_err(BootstrapError::Engine)?;
        Ok(image.id)
    }
}

/// The time that `--snapshot` means: `20250520T000000Z`, or `20250520` for its beginning.
pub fn snapshot_time(text: &str) -> Result<Timestamp> {
    let invalid = || BootstrapError::Invalid {
        what: format!("{text:?} is not the time of a snapshot"),
        hint: "write it as 20250520T000000Z, or 20250520".into(),
    };
    let (day, clock) =
        text.strip_suffix('Z').and_then(|rest| rest.split_once('T')).unwrap_or((text, "000000"));
    let digits = |text: &str, count| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(day, 8) || !digits(clock, 6) {
        return Err(invalid());
    }
    let written = format!(
        "{}-{}-{}T{}:{}:{}Z",
        &day[..4],
        &day[4..6],
        &day[6..],
        &clock[..2],
        &clock[2..4],
        &clock[4..]
    );
    Timestamp::parse_rfc3339(&written).ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_snapshots() {
        assert_eq!(snapshot_time("20250520T010203Z").unwrap().to_string(), "2025-05-20T01:02:03Z");
        assert_eq!(snapshot_time("20250520").unwrap().to_string(), "2025-05-20T00:00:00Z");
        for bad in ["", "2025", "20251320", "20250520T01", "yesterday"] {
            assert!(snapshot_time(bad).is_err(), "{bad}");
        }
    }
}
