//! The builder's face.

use crate::event::BuildEvent;
use crate::request::BuildRequest;
use crate::runner::StepRunner;
use naru_image::Store;
use naru_types::{Digest, Result};
use std::path::Path;
use std::sync::Arc;

/// Where events go. `Send`, since a pull reports from its own threads.
pub type EventSink<'a> = dyn FnMut(BuildEvent) + Send + 'a;

/// What pruning the cache has freed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrunedCache {
    pub entries: u64,
    /// Unpacked bytes of the layers that the entries referred to, and of the cache mounts.
    pub bytes: u64,
}

/// Builds images into one store. Cheap to clone; builds may run at once.
#[derive(Clone)]
pub struct Builder {
    store: Store,
    runner: Arc<dyn StepRunner>,
}

impl Builder {
    /// Uses `<root>/build-cache` (kept) and `<root>/build-tmp` (swept now); `root` must be on the
    /// filesystem of the store's layers.
    pub fn open(store: Store, _root: &Path, runner: Arc<dyn StepRunner>) -> Result<Self> {
        Ok(Self { store, runner })
    }

    /// Runs the build to its end on the calling thread and gives the image's id. A failed step's exit code
    /// is told by [`BuildEvent::CommandFailed`] before the error returns.
    pub fn build(&self, _request: &BuildRequest, _on_event: &mut EventSink<'_>) -> Result<Digest> {
        let _ = (&self.store, &self.runner);
        Err(naru_types::Error::not_implemented("the builder is being written"))
    }

    /// Forgets every cache entry and cache mount that no running build uses (`docker builder prune`).
    pub fn prune(&self) -> Result<PrunedCache> {
        Ok(PrunedCache::default())
    }

    /// Bytes and entries of the cache, for `docker system df`.
    pub fn cache_usage(&self) -> Result<PrunedCache> {
        Ok(PrunedCache::default())
    }
}
