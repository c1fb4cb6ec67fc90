//! Content by digest, and which repository holds it.
//!
//! ```text
//! registry.db                   repositories, manifests, tags, tokens (see `database`)
//! blobs/<algorithm>/<hex>       blobs, the bytes as pushed
//! uploads/<id>                  uploads in progress; emptied when a server starts
//! lock                          held while a server runs
//! ```
//! A blob is synced in `uploads`, and then renamed and entered in one transaction; a crash in between
//! leaves a file that no row names, which the garbage collection deletes.

use crate::database::{self, Database, Failed, ensure_repository, now, repository_id};
use crate::error::{RegistryError, Result};
use crate::name::{Algorithm, Digest, RepositoryName};
use rusqlite::{OptionalExtension, Transaction, params};
use rustix::fs::FlockOperation;
use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

const DIR_MODE: u32 = 0o700;
/// A blob that a client asked about is kept for a grace period from then; its time is written again when
/// it is older than this, in seconds.
const TOUCH_AFTER_SECS: i64 = 60;

pub struct Store {
    root: PathBuf,
    pub(crate) database: Database,
    /// For repositories that have none of their own.
    quota_bytes: Option<u64>,
}

/// Held by the one process that serves a root.
pub struct ServerLock {
    _file: File,
}

impl Store {
    /// Opens or makes the store.
    pub fn open(root: &Path, quota_bytes: Option<u64>) -> Result<Self> {
        let blobs = root.join("blobs");
        let dirs = [blobs.join("sha256"), blobs.join("sha512"), root.join("uploads")];
        for dir in &dirs {
            let made = DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir);
            made.map_err(RegistryError::io("create", dir))?;
        }
        for dir in [&blobs, root] {
            sync_dir(dir)?;
        }
        let database = Database::open(root.join("registry.db"))?;
        Ok(Self { root: root.to_owned(), database, quota_bytes })
    }

    /// For the server: no other may run, and no upload of a former one can be gone on with.
    pub fn lock_for_server(&self) -> Result<ServerLock> {
        let path = self.root.join("lock");
        let file = File::create(&path).map_err(RegistryError::io("create", &path))?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| RegistryError::Served { root: self.root.clone() })?;
        let uploads = self.root.join("uploads");
        for item in fs::read_dir(&uploads).map_err(RegistryError::io("list", &uploads))? {
            let path = item.map_err(RegistryError::io("list", &uploads))?.path();
            fs::remove_file(&path).map_err(RegistryError::io("delete", &path))?;
        }
        Ok(ServerLock { _file: file })
    }

    pub(crate) fn upload_path(&self, id: &str) -> PathBuf {
        self.root.join("uploads").join(id)
    }

    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.blob_dir(digest.algorithm()).join(digest.hex())
    }

    pub(crate) fn blob_dir(&self, algorithm: Algorithm) -> PathBuf {
        self.root.join("blobs").join(algorithm.name())
    }

    /// The blob's size when the repository has it. `keep`: the client is about to build on it.
    pub(crate) fn blob_size(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        keep: bool,
    ) -> Result<Option<u64>> {
        let found = self.database.read("look for a blob", |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT blobs.size, links.touched FROM links
                 JOIN repositories ON repositories.id = links.repository
                 JOIN blobs ON blobs.digest = links.digest
                 WHERE repositories.name = ?1 AND links.digest = ?2",
            )?;
            let found = statement.query_row(params![repository.as_str(), digest.to_string()], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
            });
            Ok(found.optional()?)
        })?;
        let Some((size, touched)) = found else { return Ok(None) };
        if keep && touched < now() - TOUCH_AFTER_SECS && !self.touch(repository, digest)? {
            return Ok(None);
        }
        Ok(Some(size as u64))
    }

    /// False when the garbage collection was quicker.
    fn touch(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool> {
        self.database.write("keep a blob", |change| {
            let touched = change.execute(
                "UPDATE links SET touched = ?3 WHERE digest = ?2
                 AND repository = (SELECT id FROM repositories WHERE name = ?1)",
                params![repository.as_str(), digest.to_string(), now()],
            )?;
            Ok(touched > 0)
        })
    }

    pub(crate) fn open_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<(File, u64)>> {
        let Some(size) = self.blob_size(repository, digest, false)? else { return Ok(None) };
        let path = self.blob_path(digest);
        let file = File::open(&path).map_err(RegistryError::io("open", &path))?;
        Ok(Some((file, size)))
    }

    /// Takes over a synced file whose digest was checked; on disk when this returns.
    pub(crate) fn add_blob(
        &self,
        repository: &RepositoryName,
        staged: &Path,
        digest: &Digest,
        size: u64,
    ) -> Result<()> {
        let path = self.blob_path(digest);
        let dir = self.blob_dir(digest.algorithm());
        self.database.write("add a blob", |change| {
            let id = ensure_repository(change, repository.as_str())?;
            if !is_linked(change, id, digest)? {
                self.check_quota_in(change, repository, id, size)?;
            }
            // Also when the blob is there: these bytes were hashed just now, the others may have rotted.
            fs::rename(staged, &path).map_err(RegistryError::io("rename to", &path))?;
            sync_dir(&dir)?;
            change.execute(
                "INSERT INTO blobs (digest, size) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
                params![digest.to_string(), size as i64],
            )?;
            link(change, id, digest)?;
            Ok(())
        })
    }

    /// Gives `to` a blob of `from`; false when `from` lacks it.
    pub(crate) fn mount_blob(
        &self,
        from: &RepositoryName,
        to: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool> {
        self.database.write("mount a blob", |change| {
            let Some(source) = repository_id(change, from.as_str())? else { return Ok(false) };
            if !is_linked(change, source, digest)? {
                return Ok(false);
            }
            let target = ensure_repository(change, to.as_str())?;
            if !is_linked(change, target, digest)? {
                let size: i64 = change.query_row(
                    "SELECT size FROM blobs WHERE digest = ?1",
                    [digest.to_string()],
                    |row| row.get(0),
                )?;
                self.check_quota_in(change, to, target, size as u64)?;
            }
            link(change, target, digest)?;
            Ok(true)
        })
    }

    /// Takes the blob out of the repository; the file goes with the garbage collection.
    pub(crate) fn delete_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool> {
        self.database.write("delete a blob", |change| {
            let Some(id) = repository_id(change, repository.as_str())? else { return Ok(false) };
            if !is_linked(change, id, digest)? {
                return Ok(false);
            }
            let key = params![id, digest.to_string()];
            let uses: i64 = change.query_row(
                "SELECT count(*) FROM edges WHERE repository = ?1 AND target = ?2",
                key,
                |row| row.get(0),
            )?;
            if uses > 0 {
                let (repository, digest) = (repository.clone(), digest.clone());
                return Err(RegistryError::InUse { repository, digest }.into());
            }
            Ok(change.execute("DELETE FROM links WHERE repository = ?1 AND digest = ?2", key)? > 0)
        })
    }

    /// An early answer for an upload in progress; what counts is the check when it is added.
    pub(crate) fn check_quota(&self, repository: &RepositoryName, wanted_bytes: u64) -> Result<()> {
        self.database.read("read the quota", |connection| {
            let id = repository_id(connection, repository.as_str())?.unwrap_or(0);
            self.check_quota_in(connection, repository, id, wanted_bytes)
        })
    }

    pub(crate) fn check_quota_in(
        &self,
        connection: &rusqlite::Connection,
        repository: &RepositoryName,
        id: i64,
        wanted_bytes: u64,
    ) -> std::result::Result<(), Failed> {
        let own: Option<i64> = connection
            .query_row("SELECT quota_bytes FROM repositories WHERE id = ?1", [id], |row| row.get(0))
            .optional()?
            .flatten();
        let Some(quota_bytes) = own.map(|bytes| bytes as u64).or(self.quota_bytes) else { return Ok(()) };
        let used_bytes = used_bytes(connection, id)?;
        if used_bytes.saturating_add(wanted_bytes) <= quota_bytes {
            return Ok(());
        }
        Err(RegistryError::Quota { repository: repository.clone(), quota_bytes, used_bytes, wanted_bytes }
            .into())
    }

    /// A quota of the repository's own, or none.
    pub fn set_quota(&self, repository: &RepositoryName, quota_bytes: Option<u64>) -> Result<()> {
        self.database.write("set a quota", |change| {
            let id = ensure_repository(change, repository.as_str())?;
            let bytes = quota_bytes.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
            change.execute("UPDATE repositories SET quota_bytes = ?2 WHERE id = ?1", params![id, bytes])?;
            Ok(())
        })
    }
}

/// Bytes of the blobs and manifests that a repository holds, each counted once.
pub(crate) fn used_bytes(connection: &rusqlite::Connection, repository: i64) -> rusqlite::Result<u64> {
    let mut statement = connection.prepare_cached(
        "SELECT (SELECT coalesce(sum(blobs.size), 0) FROM links JOIN blobs ON blobs.digest = links.digest
                 WHERE links.repository = ?1)
              + (SELECT coalesce(sum(size), 0) FROM manifests WHERE repository = ?1)",
    )?;
    statement.query_row([repository], |row| row.get::<_, i64>(0)).map(|bytes| bytes as u64)
}

pub(crate) fn is_linked(
    connection: &rusqlite::Connection,
    repository: i64,
    digest: &Digest,
) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM links WHERE repository = ?1 AND digest = ?2")?
        .exists(params![repository, digest.to_string()])
}

fn link(change: &Transaction<'_>, repository: i64, digest: &Digest) -> rusqlite::Result<()> {
    change.execute(
        "INSERT INTO links (repository, digest, touched) VALUES (?1, ?2, ?3)
         ON CONFLICT DO UPDATE SET touched = excluded.touched",
        params![repository, digest.to_string(), database::now()],
    )?;
    Ok(())
}

pub(crate) fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(RegistryError::io("sync", dir))
}
