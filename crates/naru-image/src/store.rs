//! The store.
use naru_types::{Digest, Result, platform::Platform};
use std::path::{Path, PathBuf};

#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// Tried in order before docker.io itself: `https://host[:port]`.
    pub registry_mirrors: Vec<String>,
    /// `host[:port]` or CIDR; plain HTTP and unverified TLS allowed. Loopback always is.
    pub insecure_registries: Vec<String>,
    /// Extra PEM files with certificate authorities.
    pub ca_files: Vec<PathBuf>,
    /// Keep the compressed layers of pulled images in `content/blobs`.
    pub keep_layer_blobs: bool,
    /// The platform of images that are pulled without one being named.
    pub platform: Platform,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self { registry_mirrors: Vec::new(), insecure_registries: Vec::new(), ca_files: Vec::new(), keep_layer_blobs: false, platform: Platform::host() }
    }
}

#[derive(Clone)]
pub struct Store;

/// Keeps layers from being collected while the guard lives.
pub struct Lease;

impl Store {
    pub fn open(_root: &Path, _config: StoreConfig) -> Result<Self> {
        todo!()
    }
    pub fn lease(&self) -> Lease {
        todo!()
    }
    /// Keeps `layers` (a build cache, say) under `owner` until `unpin`; survives restarts.
    pub fn pin(&self, _owner: &str, _layers: &[Digest]) -> Result<()> {
        todo!()
    }
    pub fn unpin(&self, _owner: &str) -> Result<()> {
        todo!()
    }
}

impl Lease {
    /// Protects a stored layer; an error when it isn't there.
    pub fn hold(&self, _diff_id: &Digest) -> Result<()> {
        todo!()
    }
}
