//! One layer on its way to a registry: in a form that is there, or compressed anew.

use crate::blob::HashingWriter;
use crate::error::{ImageError, Result};
use crate::index::BlobRecord;
use crate::progress::{LayerStep, Progress, ProgressFn};
use crate::registry::client::{Payload, Session};
use crate::registry::manifest;
use crate::registry::upload::{has_blob, mount, put};
use crate::split;
use crate::store::{Store, remove_tree};
use naru_types::{Digest, ImageRef};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// gzip level, the one that `gzip` and Docker use.
const GZIP_LEVEL: u32 = 6;
/// Bytes between two progress messages.
const PROGRESS_STEP_BYTES: u64 = 512 * 1024;

/// A compressed layer in staging; deleted when dropped.
struct Compressed {
    path: PathBuf,
    digest: Digest,
    size: u64,
}

impl Drop for Compressed {
    fn drop(&mut self) {
        // What stays behind is swept at the next start.
        let _ = remove_tree(&self.path);
    }
}

impl Store {
    /// Makes sure that the repository holds the layer in some compressed form, and says which.
    pub(super) fn push_layer(
        &self,
        session: &Session<'_>,
        reference: &ImageRef,
        layer: &Digest,
        preferred: Option<Digest>,
        tell: &ProgressFn<'_>,
    ) -> Result<BlobRecord> {
        let id = layer.short();
        let repository = reference.repository();
        let index = self.index();
        let mut known = index.layers.get(layer).map(|layer| layer.blobs.clone()).unwrap_or_default();
        known.sort_by_key(|blob| Some(blob.digest) != preferred);
        for blob in &known {
            if has_blob(session, &blob.digest)? {
                tell(Progress::layer(&id, LayerStep::LayerAlreadyExists));
                return Ok(held_by(blob, &repository));
            }
        }
        for blob in &known {
            for from in other_repositories(blob, reference) {
                if mount(session, &blob.digest, from)? {
                    tell(Progress::layer(&id, LayerStep::MountedFrom(from.to_owned())));
                    return Ok(held_by(blob, &repository));
                }
            }
        }
        let compressed = self.compress(session, layer)?;
        let blob = BlobRecord {
            digest: compressed.digest,
            size: compressed.size,
            media_type: manifest::DOCKER_LAYER.to_owned(),
            repositories: BTreeSet::from([repository]),
        };
        if has_blob(session, &blob.digest)? {
            tell(Progress::layer(&id, LayerStep::LayerAlreadyExists));
            return Ok(blob);
        }
        upload_file(session, &compressed, &id, tell)?;
        tell(Progress::layer(&id, LayerStep::Pushed));
        Ok(blob)
    }

    /// Writes the layer's exact archive again, checks its digest, compresses it into staging.
    fn compress(&self, session: &Session<'_>, layer: &Digest) -> Result<Compressed> {
        let path = self.staging_path("push");
        let file = File::create_new(&path).map_err(ImageError::io("create", &path))?;
        let mut compressed = Compressed { path: path.clone(), digest: *layer, size: 0 };
        let sink = HashingWriter::new(BufWriter::new(file));
        // flate2's default header has neither a name nor a time (RFC 1952): equal input, equal output.
        let gzip = flate2::write::GzEncoder::new(sink, flate2::Compression::new(GZIP_LEVEL));
        let mut tar = HashingWriter::new(Cancellable { inner: gzip, session });
        split::write_tar(&self.layer_path(layer), &mut tar).map_err(|error| {
            match session.check_cancelled() {
                Err(cancelled) => cancelled,
                Ok(()) => error,
            }
        })?;
        let found = tar.digest();
        if found != *layer {
            return Err(ImageError::LayerChanged { diff_id: *layer, found });
        }
        let mut sink = tar.inner.inner.finish().map_err(ImageError::io("write", &path))?;
        sink.flush().map_err(ImageError::io("write", &path))?;
        compressed.digest = sink.digest();
        compressed.size = sink.bytes;
        Ok(compressed)
    }
}

struct Cancellable<'a, W> {
    inner: W,
    session: &'a Session<'a>,
}

impl<W: Write> Write for Cancellable<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.session.check_cancelled().map_err(std::io::Error::other)?;
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

/// Repositories of the same registry that were seen to hold the blob.
fn other_repositories<'a>(blob: &'a BlobRecord, reference: &ImageRef) -> Vec<&'a str> {
    let prefix = format!("{}/", reference.domain());
    let others = blob.repositories.iter().filter_map(|name| name.strip_prefix(&prefix));
    others.filter(|from| *from != reference.path()).collect()
}

fn held_by(blob: &BlobRecord, repository: &str) -> BlobRecord {
    let mut held = blob.clone();
    held.repositories.insert(repository.to_owned());
    held
}

fn upload_file(session: &Session<'_>, blob: &Compressed, id: &str, tell: &ProgressFn<'_>) -> Result<()> {
    let total = blob.size;
    let told = AtomicU64::new(0);
    let progress = |current: u64| {
        if current == total || current >= told.load(Ordering::Relaxed) + PROGRESS_STEP_BYTES {
            told.store(current, Ordering::Relaxed);
            tell(Progress::layer(id, LayerStep::Pushing { current, total }));
        }
    };
    let path: &Path = &blob.path;
    put(session, &blob.digest, Payload::File { path, size: total, progress: &progress })
}
