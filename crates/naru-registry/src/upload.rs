//! Uploads in progress. They live in the serving process: a blob is only worth something once it is whole,
//! and a client whose server went away starts its blob again.

use crate::database::locked;
use crate::error::{RegistryError, Result};
use crate::name::{Algorithm, Digest, Hasher, RepositoryName};
use crate::store::Store;
use crate::token::random;
use bytes::Bytes;
use naru_types::id::hex;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Uploads at once, in all repositories and in one.
const UPLOADS_MAX: usize = 1024;
const UPLOADS_PER_REPOSITORY_MAX: usize = 128;
/// An upload that nobody wrote to for so long is dropped.
pub(crate) const IDLE_MAX: Duration = Duration::from_secs(60 * 60);
const ID_BYTES: usize = 16;
const REHASH_BYTES: usize = 256 * 1024;

pub(crate) struct Upload {
    pub id: String,
    pub repository: RepositoryName,
    written: AtomicU64,
    touched: Mutex<Instant>,
    /// Taken by the one request that writes.
    pub part: Arc<tokio::sync::Mutex<Option<Part>>>,
}

impl Upload {
    pub fn written_bytes(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }
}

/// The file of an upload; deleted when dropped.
pub(crate) struct Part {
    path: PathBuf,
    file: File,
    hasher: Hasher,
    written: u64,
}

impl Drop for Part {
    fn drop(&mut self) {
        // After a rename there is nothing; what else stays behind is swept at the next start.
        let _ = fs::remove_file(&self.path);
    }
}

impl Part {
    fn create(store: &Store, id: &str, algorithm: Algorithm) -> Result<Self> {
        let path = store.upload_path(id);
        let opened = File::options().read(true).write(true).create_new(true).open(&path);
        let file = opened.map_err(RegistryError::io("create", &path))?;
        Ok(Self { path, file, hasher: Hasher::new(algorithm), written: 0 })
    }

    /// Blocking. Half a chunk on the disk is the end of the upload: the caller drops it on an error.
    pub fn write(&mut self, chunks: &[Bytes]) -> Result<()> {
        for chunk in chunks {
            self.file.write_all(chunk).map_err(RegistryError::io("write", &self.path))?;
            self.hasher.update(chunk);
            self.written += chunk.len() as u64;
        }
        Ok(())
    }

    pub fn written_bytes(&self) -> u64 {
        self.written
    }

    /// Blocking: checks the digest, syncs, and makes it a blob of the repository.
    pub fn finish(mut self, store: &Store, repository: &RepositoryName, digest: &Digest) -> Result<()> {
        let found = if self.hasher.algorithm() == digest.algorithm() {
            std::mem::replace(&mut self.hasher, Hasher::new(Algorithm::Sha256)).finish()
        } else {
            self.rehash(digest.algorithm())?
        };
        if found != *digest {
            return Err(RegistryError::DigestMismatch { expected: digest.clone(), found });
        }
        self.file.sync_all().map_err(RegistryError::io("sync", &self.path))?;
        store.add_blob(repository, &self.path, digest, self.written)
    }

    fn rehash(&mut self, algorithm: Algorithm) -> Result<Digest> {
        let failed = |source| RegistryError::Io { step: "read", path: self.path.clone(), source };
        self.file.rewind().map_err(failed)?;
        let mut hasher = Hasher::new(algorithm);
        let mut buffer = vec![0; REHASH_BYTES];
        loop {
            let got = self.file.read(&mut buffer).map_err(failed)?;
            if got == 0 {
                return Ok(hasher.finish());
            }
            hasher.update(&buffer[..got]);
        }
    }
}

#[derive(Default)]
pub(crate) struct Uploads(Mutex<HashMap<String, Arc<Upload>>>);

impl Uploads {
    /// Blocking. `None`: there are too many.
    pub fn start(
        &self,
        store: &Store,
        repository: &RepositoryName,
        algorithm: Algorithm,
    ) -> Result<Option<Arc<Upload>>> {
        let id = hex(&random::<ID_BYTES>()?);
        let part = Arc::new(tokio::sync::Mutex::new(None));
        let upload = Arc::new(Upload {
            id: id.clone(),
            repository: repository.clone(),
            written: AtomicU64::new(0),
            touched: Mutex::new(Instant::now()),
            part,
        });
        {
            let mut uploads = locked(&self.0);
            let same = uploads.values().filter(|upload| upload.repository == *repository).count();
            if uploads.len() >= UPLOADS_MAX || same >= UPLOADS_PER_REPOSITORY_MAX {
                return Ok(None);
            }
            uploads.insert(id.clone(), Arc::clone(&upload));
        }
        match Part::create(store, &id, algorithm) {
            Ok(part) => {
                // Nobody else knows the id yet.
                if let Ok(mut place) = upload.part.try_lock() {
                    *place = Some(part);
                }
                Ok(Some(upload))
            }
            Err(error) => {
                self.forget(&id);
                Err(error)
            }
        }
    }

    pub fn find(&self, repository: &RepositoryName, id: &str) -> Option<Arc<Upload>> {
        locked(&self.0).get(id).filter(|upload| upload.repository == *repository).cloned()
    }

    pub fn note(&self, upload: &Upload, written: u64) {
        upload.written.store(written, Ordering::Release);
        *locked(&upload.touched) = Instant::now();
    }

    pub fn forget(&self, id: &str) -> Option<Arc<Upload>> {
        locked(&self.0).remove(id)
    }

    /// Drops what nobody went on with; one that is being written to is not idle.
    pub fn expire(&self, idle_max: Duration) {
        let is_fresh = |upload: &Arc<Upload>| {
            upload.part.try_lock().is_err() || locked(&upload.touched).elapsed() < idle_max
        };
        locked(&self.0).retain(|_, upload| is_fresh(upload));
    }
}
