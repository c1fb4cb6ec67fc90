//! Blobs of a copy, a few at a time. Per blob, cheapest first: it is there; the registry takes it over from its other
//! repository; it is streamed from download to upload, through a hash.

use super::CopiedImage;
use crate::blob::HashingReader;
use crate::error::{ImageError, Result};
use crate::progress::{LayerStep, Progress, ProgressFn};
use crate::registry::client::{Payload, Reopen, Session};
use crate::registry::download::Download;
use crate::registry::manifest::{Descriptor, Manifest};
use crate::registry::upload::{has_blob, mount, put};
use crate::store::locked;
use naru_types::Digest;
use std::collections::BTreeSet;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Blobs copied at a time, as many as layers are downloaded.
const BLOB_THREADS_MAX: usize = 3;
/// Bytes between two progress messages of one blob.
const PROGRESS_STEP_BYTES: u64 = 512 * 1024;
/// Layers that only their own host may give out (image-spec, "Non-Distributable Layers"; Docker's "foreign").
const NOT_DISTRIBUTABLE: [&str; 2] = [".nondistributable.", ".foreign."];

pub(super) struct Blobs<'a> {
    source: &'a Session<'a>,
    target: &'a Session<'a>,
    /// The source's repository, where it is one of the target's registry.
    mount_from: Option<&'a str>,
    progress: &'a ProgressFn<'a>,
    /// One blob failed: the others need not go on.
    failed: AtomicBool,
    streamed: AtomicU64,
    streamed_bytes: AtomicU64,
    mounted: AtomicU64,
    present: AtomicU64,
}

impl<'a> Blobs<'a> {
    pub fn new(
        source: &'a Session<'a>,
        target: &'a Session<'a>,
        mount_from: Option<&'a str>,
        progress: &'a ProgressFn<'a>,
    ) -> Self {
        let [streamed, streamed_bytes, mounted, present] = Default::default();
        let failed = AtomicBool::new(false);
        Self { source, target, mount_from, progress, failed, streamed, streamed_bytes, mounted, present }
    }

    pub fn count(&self, digest: Digest, size: u64, manifests: u64) -> CopiedImage {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CopiedImage {
            digest,
            size,
            manifests,
            streamed: of(&self.streamed),
            streamed_bytes: of(&self.streamed_bytes),
            mounted: of(&self.mounted),
            present: of(&self.present),
        }
    }

    /// All that an image's manifest names, each blob once.
    pub fn bring(&self, image: &Manifest) -> Result<()> {
        let is_ours = |one: &&Descriptor| !NOT_DISTRIBUTABLE.iter().any(|word| one.media_type.contains(word));
        let mut seen = BTreeSet::new();
        let all = image.layers.iter().chain([&image.config]).filter(is_ours);
        let blobs: Vec<&Descriptor> = all.filter(|one| seen.insert(one.digest)).collect();
        let next = AtomicUsize::new(0);
        let first_error: Mutex<Option<ImageError>> = Mutex::default();
        std::thread::scope(|scope| {
            for _ in 0..blobs.len().min(BLOB_THREADS_MAX) {
                scope.spawn(|| {
                    while !self.failed.load(Ordering::Relaxed)
                        && let Some(blob) = blobs.get(next.fetch_add(1, Ordering::Relaxed))
                    {
                        if let Err(error) = self.one(blob) {
                            // Before the others can: they are cancelled by it.
                            locked(&first_error).get_or_insert(error);
                            self.failed.store(true, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        first_error.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    fn one(&self, blob: &Descriptor) -> Result<()> {
        let tell = |step| (self.progress)(Progress::layer(&blob.digest.short(), step));
        if has_blob(self.target, &blob.digest)? {
            self.present.fetch_add(1, Ordering::Relaxed);
            tell(LayerStep::LayerAlreadyExists);
            return Ok(());
        }
        if let Some(from) = self.mount_from
            && mount(self.target, &blob.digest, from)?
        {
            self.mounted.fetch_add(1, Ordering::Relaxed);
            tell(LayerStep::MountedFrom(from.to_owned()));
            return Ok(());
        }
        self.stream(blob)?;
        self.streamed.fetch_add(1, Ordering::Relaxed);
        self.streamed_bytes.fetch_add(blob.size, Ordering::Relaxed);
        tell(LayerStep::Copied);
        Ok(())
    }

    fn stream(&self, blob: &Descriptor) -> Result<()> {
        let (total, told) = (blob.size, AtomicU64::new(0));
        let progress = |current: u64| {
            // Less than was told: a try that follows a failed one.
            let last = told.load(Ordering::Relaxed);
            if current == total || current >= last + PROGRESS_STEP_BYTES || current < last {
                told.store(current, Ordering::Relaxed);
                let step = LayerStep::Copying { current, total };
                (self.progress)(Progress::layer(&blob.digest.short(), step));
            }
        };
        let body = Source { session: self.source, blob, progress: &progress, stop: &self.failed };
        put(self.target, &blob.digest, Payload::Stream { body: &body, size: total })
    }
}

/// A blob at the registry that is read.
struct Source<'a> {
    session: &'a Session<'a>,
    blob: &'a Descriptor,
    progress: &'a (dyn Fn(u64) + Sync),
    stop: &'a AtomicBool,
}

impl Reopen for Source<'_> {
    fn open(&self) -> Box<dyn Read + '_> {
        let Self { session, blob, progress, stop } = *self;
        let download = Download::new(session, &blob.digest, blob.size, progress);
        Box::new(Checked { inner: HashingReader::new(download), blob, stop })
    }
}

/// Hands on a blob's bytes, the last of them only when all have the digest that the manifest says: no registry gets
/// the whole of a wrong one.
struct Checked<'a, R> {
    inner: HashingReader<R>,
    blob: &'a Descriptor,
    stop: &'a AtomicBool,
}

impl<R: Read> Read for Checked<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other(ImageError::Cancelled));
        }
        let got = self.inner.read(buffer)?;
        let expected = self.blob.digest;
        if got > 0 && self.inner.bytes == self.blob.size && self.inner.digest() != expected {
            let found = self.inner.digest();
            let what = format!("content {expected} of the registry");
            return Err(io::Error::other(ImageError::DigestMismatch { what, expected, found }));
        }
        Ok(got)
    }
}
