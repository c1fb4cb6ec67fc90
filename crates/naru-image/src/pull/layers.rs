//! The layers of a pull: a few threads take them from a queue and watch each on its way from the network
//! to staging, which it makes in one pass and for all the pulls that want it ([`crate::flight`]).

use super::{PullOptions, Resolved};
use crate::blob::{self, HashingReader};
use crate::error::{ImageError, Result};
use crate::flight::{Pilot, Watch};
use crate::index::BlobRecord;
use crate::layer::{Staged, flatten};
use crate::progress::{LayerStep, Progress};
use crate::registry::client::{Caller, Peer, Session};
use crate::registry::download::Download;
use crate::registry::manifest::Descriptor;
use crate::registry::patience::Delay;
use crate::store::{Lease, Store, locked};
use naru_types::{Digest, ImageRef};
use std::collections::BTreeSet;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Layers downloaded at a time (dockerd's `max-concurrent-downloads`).
const LAYER_THREADS_MAX: usize = 3;
/// Bytes between two progress messages of one layer.
const PROGRESS_STEP_BYTES: u64 = 512 * 1024;

struct Job<'a> {
    descriptor: &'a Descriptor,
    diff_id: Digest,
}

/// A layer in staging, which other pulls find here until this is dropped: after the commit.
pub(super) struct Fetched<'a> {
    pub staged: Arc<Staged>,
    _watch: Watch<'a, Staged>,
}

impl Store {
    /// Fetches what isn't stored yet; all of it is held by `lease`.
    pub(super) fn fetch_layers(
        &self,
        session: &Session<'_>,
        reference: &ImageRef,
        resolved: &Resolved<'_>,
        options: &PullOptions<'_>,
        lease: &Lease,
    ) -> Result<Vec<Fetched<'_>>> {
        let was_here = self.index().images.contains_key(&resolved.id);
        let mut seen = BTreeSet::new();
        let mut jobs = Vec::new();
        for (descriptor, diff_id) in resolved.manifest.layers.iter().zip(&resolved.config.rootfs.diff_ids) {
            let is_first = seen.insert(*diff_id);
            let id = descriptor.digest.short();
            if !is_first || lease.reserve(diff_id) {
                if !was_here {
                    (options.progress)(Progress::layer(&id, LayerStep::AlreadyExists));
                }
            } else {
                (options.progress)(Progress::layer(&id, LayerStep::PullingFsLayer));
                jobs.push(Job { descriptor, diff_id: *diff_id });
            }
        }
        let repository = reference.repository();
        let run = Run { store: self, session, repository, options, failed: AtomicBool::new(false) };
        run.all(&jobs)
    }
}

struct Run<'s, 'a> {
    store: &'s Store,
    session: &'a Session<'a>,
    repository: String,
    options: &'a PullOptions<'a>,
    failed: AtomicBool,
}

impl<'s> Run<'s, '_> {
    fn all(&self, jobs: &[Job<'_>]) -> Result<Vec<Fetched<'s>>> {
        let next = AtomicUsize::new(0);
        let done: Mutex<Vec<Fetched<'s>>> = Mutex::default();
        let first_error: Mutex<Option<ImageError>> = Mutex::default();
        std::thread::scope(|scope| {
            for _ in 0..jobs.len().min(LAYER_THREADS_MAX) {
                scope.spawn(|| {
                    while !self.failed.load(Ordering::Relaxed)
                        && let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed))
                    {
                        match self.one(job) {
                            Ok(fetched) => locked(&done).extend(fetched),
                            Err(error) => {
                                self.failed.store(true, Ordering::Relaxed);
                                locked(&first_error).get_or_insert(error);
                            }
                        }
                    }
                });
            }
        });
        match first_error.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(done.into_inner().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    /// `None`: another pull stored the layer meanwhile.
    fn one(&self, job: &Job<'_>) -> Result<Option<Fetched<'s>>> {
        let tell = |step| (self.options.progress)(Progress::layer(&job.descriptor.digest.short(), step));
        let is_cancelled = || self.failed.load(Ordering::Relaxed) || self.session.check_cancelled().is_err();
        let is_stored = || self.store.has_whole(&job.diff_id);
        let fetched = loop {
            let fetch = self.fetch(job);
            let work = move |pilot: &Pilot<Staged>| fetch.run(pilot);
            let flights = &self.store.inner.flights;
            let Some(watch) = flights.board(job.diff_id, &self.session.peer, &is_stored, work)? else {
                break None;
            };
            if let Some(staged) = watch.follow(&self.session.peer, &tell, &is_cancelled)? {
                break Some(Fetched { staged, _watch: watch });
            }
        };
        tell(LayerStep::PullComplete);
        Ok(fetched)
    }

    fn fetch(&self, job: &Job<'_>) -> Fetch {
        Fetch {
            store: self.store.clone(),
            peer: Arc::clone(&self.session.peer),
            diff_id: job.diff_id,
            blob: BlobRecord {
                digest: job.descriptor.digest,
                size: job.descriptor.size,
                media_type: job.descriptor.media_type.clone(),
                repositories: BTreeSet::from([self.repository.clone()]),
            },
        }
    }
}

/// All that the download of one layer needs, whichever pull it was that began it.
struct Fetch {
    store: Store,
    peer: Arc<Peer>,
    diff_id: Digest,
    blob: BlobRecord,
}

impl Fetch {
    fn run(self, pilot: &Pilot<Staged>) -> Result<Staged> {
        let (digest, total) = (self.blob.digest, self.blob.size);
        let told = AtomicU64::new(0);
        let progress = |current| {
            if current == total || current >= told.load(Ordering::Relaxed) + PROGRESS_STEP_BYTES {
                told.store(current, Ordering::Relaxed);
                pilot.tell(LayerStep::Downloading { current, total });
            }
        };
        let on_delay = |delay: Delay| pilot.tell(delay.into());
        let session = Session::with(&self.peer, Caller { cancel: pilot.stop(), on_delay: &on_delay });
        let download = Download::new(&session, &digest, total, &progress);
        let mut compressed = HashingReader::new(Stoppable { inner: download, stop: pilot.stop() });
        let unpacked =
            blob::decompressed(&mut compressed).and_then(|tar| self.store.stage_tar(tar)).map_err(flatten);
        if let Err(error @ (ImageError::Transport { .. } | ImageError::Cancelled)) = unpacked {
            return Err(error);
        }
        pilot.tell(LayerStep::VerifyingChecksum);
        // What the decompressor did not ask for belongs to the digest too; and when unpacking failed,
        // a wrong digest explains why.
        if let Err(error) = io::copy(&mut compressed, &mut io::sink()) {
            let error = flatten(ImageError::tar_read(error));
            return Err(unpacked.err().unwrap_or(error));
        }
        check("filesystem layer verification failed for digest", &digest, compressed.digest())?;
        let staged = unpacked?;
        pilot.tell(LayerStep::DownloadComplete);
        check("unpacked layer verification failed for digest", &self.diff_id, staged.diff_id)?;
        pilot.tell(LayerStep::Extracting { current: total, total });
        staged.set_blob(self.blob);
        Ok(staged)
    }
}

fn check(what: &str, expected: &Digest, found: Digest) -> Result<()> {
    if *expected == found {
        return Ok(());
    }
    Err(ImageError::DigestMismatch { what: format!("{what} {expected}"), expected: *expected, found })
}

/// Ends a download that nobody watches any more.
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
