//! The layers of a pull: a few threads take them from a queue, each goes from the network to staging in
//! one pass.

use super::{PullOptions, Resolved};
use crate::blob::{self, HashingReader};
use crate::error::{ImageError, Result};
use crate::index::BlobRecord;
use crate::layer::{Boarding, Staged, flatten};
use crate::progress::{LayerStep, Progress};
use crate::registry::client::Session;
use crate::registry::download::{Download, DownloadEvent};
use crate::registry::manifest::Descriptor;
use crate::store::{Lease, Store, locked};
use naru_types::{Digest, ImageRef};
use std::collections::BTreeSet;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Layers downloaded at a time (dockerd's `max-concurrent-downloads`).
const LAYER_THREADS_MAX: usize = 3;
/// Bytes between two progress messages of one layer.
const PROGRESS_STEP_BYTES: u64 = 512 * 1024;

struct Job<'a> {
    descriptor: &'a Descriptor,
    diff_id: Digest,
}

impl Store {
    /// Fetches what isn't stored yet; the rest is held by `lease`.
    pub(super) fn fetch_layers(
        &self,
        session: &Session<'_>,
        reference: &ImageRef,
        resolved: &Resolved,
        options: &PullOptions<'_>,
        lease: &Lease,
    ) -> Result<Vec<Arc<Staged>>> {
        let was_here = self.index().images.contains_key(&resolved.id);
        let mut seen = BTreeSet::new();
        let mut jobs = Vec::new();
        for (descriptor, diff_id) in resolved.manifest.layers.iter().zip(&resolved.config.rootfs.diff_ids) {
            let is_first = seen.insert(*diff_id);
            let id = descriptor.digest.short();
            if !is_first || lease.hold_inner(diff_id).is_ok() {
                if !was_here {
                    (options.progress)(Progress::layer(&id, LayerStep::AlreadyExists));
                }
            } else {
                (options.progress)(Progress::layer(&id, LayerStep::PullingFsLayer));
                jobs.push(Job { descriptor, diff_id: *diff_id });
            }
        }
        let run = Run {
            store: self,
            session,
            repository: reference.repository(),
            options,
            lease,
            failed: AtomicBool::new(false),
        };
        run.all(&jobs)
    }
}

struct Run<'a> {
    store: &'a Store,
    session: &'a Session<'a>,
    repository: String,
    options: &'a PullOptions<'a>,
    lease: &'a Lease,
    failed: AtomicBool,
}

impl Run<'_> {
    fn all(&self, jobs: &[Job<'_>]) -> Result<Vec<Arc<Staged>>> {
        let next = AtomicUsize::new(0);
        let done: Mutex<Vec<Arc<Staged>>> = Mutex::default();
        let first_error: Mutex<Option<ImageError>> = Mutex::default();
        std::thread::scope(|scope| {
            for _ in 0..jobs.len().min(LAYER_THREADS_MAX) {
                scope.spawn(|| {
                    while !self.failed.load(Ordering::Relaxed)
                        && let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed))
                    {
                        match self.one(job) {
                            Ok(staged) => locked(&done).extend(staged),
                            Err(error) => {
                                self.failed.store(true, Ordering::Relaxed);
                                locked(&first_error).get_or_insert(error);
                            }
                        }
                    }
                });
            }
        });
        match first_error.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)),
        }
    }

    fn tell(&self, job: &Job<'_>, step: LayerStep) {
        (self.options.progress)(Progress::layer(&job.descriptor.digest.short(), step));
    }

    /// `None`: another pull stored the layer meanwhile.
    fn one(&self, job: &Job<'_>) -> Result<Option<Arc<Staged>>> {
        let is_cancelled = || self.failed.load(Ordering::Relaxed) || self.session.check_cancelled().is_err();
        let staged = match self.store.inner.flights.board(job.diff_id, &is_cancelled)? {
            Boarding::Shared(staged) => Some(staged),
            Boarding::Lead(_) if self.lease.hold_inner(&job.diff_id).is_ok() => None,
            Boarding::Lead(departure) => {
                let staged = self.download(job)?;
                staged.set_blob(BlobRecord {
                    digest: job.descriptor.digest,
                    size: job.descriptor.size,
                    media_type: job.descriptor.media_type.clone(),
                    repositories: BTreeSet::from([self.repository.clone()]),
                });
                Some(departure.land(staged))
            }
        };
        self.tell(job, LayerStep::PullComplete);
        Ok(staged)
    }

    fn download(&self, job: &Job<'_>) -> Result<Staged> {
        let total = job.descriptor.size;
        let told = AtomicU64::new(0);
        let progress = |event| match event {
            DownloadEvent::Bytes(current) => {
                if current == total || current >= told.load(Ordering::Relaxed) + PROGRESS_STEP_BYTES {
                    told.store(current, Ordering::Relaxed);
                    self.tell(job, LayerStep::Downloading { current, total });
                }
            }
            DownloadEvent::Retry(wait) => {
                self.tell(job, LayerStep::Retrying { seconds: wait.as_secs().max(1) });
            }
        };
        let download = Download::new(self.session, &job.descriptor.digest, total, &progress);
        let mut compressed = HashingReader::new(Stoppable { inner: download, stop: &self.failed });
        let unpacked =
            blob::decompressed(&mut compressed).and_then(|tar| self.store.stage_tar(tar)).map_err(flatten);
        if let Err(error @ (ImageError::Transport { .. } | ImageError::Cancelled)) = unpacked {
            return Err(error);
        }
        self.tell(job, LayerStep::VerifyingChecksum);
        // What the decompressor did not ask for belongs to the digest too; and when unpacking failed,
        // a wrong digest explains why.
        if let Err(error) = io::copy(&mut compressed, &mut io::sink()) {
            let error = flatten(ImageError::tar_read(error));
            return Err(unpacked.err().unwrap_or(error));
        }
        check(
            "filesystem layer verification failed for digest",
            &job.descriptor.digest,
            compressed.digest(),
        )?;
        let staged = unpacked?;
        self.tell(job, LayerStep::DownloadComplete);
        check("unpacked layer verification failed for digest", &job.diff_id, staged.diff_id)?;
        self.tell(job, LayerStep::Extracting { current: total, total });
        Ok(staged)
    }
}

fn check(what: &str, expected: &Digest, found: Digest) -> Result<()> {
    if *expected == found {
        return Ok(());
    }
    Err(ImageError::DigestMismatch { what: format!("{what} {expected}"), expected: *expected, found })
}

/// Ends a download when another layer of the same pull failed.
struct Stoppable<'a, R> {
    inner: R,
    stop: &'a AtomicBool,
}

impl<R: Read> Read for Stoppable<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other(ImageError::Cancelled));
        }
        self.inner.read(buffer)
    }
}
