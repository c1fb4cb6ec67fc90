//! Garbage collection by reachability, beside running pushes and pulls, from any process.
//!
//! What goes: blobs that no manifest of their repository names, once nobody pushed, mounted or asked for
//! them for a grace period; files without a row; and, when asked, manifests that neither a tag, an index
//! nor (for a referrer) its subject keeps. A push that is still going on has young blobs; a pull has its
//! file open already.

use crate::database::now;
use crate::error::{RegistryError, Result};
use crate::name::{Algorithm, Digest};
use crate::store::Store;
use rusqlite::{Transaction, params};
use std::fs;
use std::time::Duration;

/// What a push may take between its blobs and its manifest.
pub const GRACE_DEFAULT: Duration = Duration::from_secs(60 * 60);
/// Files deleted in one transaction: what a push has to wait for.
const FILES_PER_STEP: usize = 32;

#[derive(Clone, Copy, Debug)]
pub struct GcOptions {
    pub grace: Duration,
    /// Also manifests that no tag reaches.
    pub untagged: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    pub manifests: u64,
    /// Blobs taken out of a repository.
    pub links: u64,
    pub files: u64,
    pub bytes: u64,
}

impl Store {
    pub fn collect_garbage(&self, options: GcOptions) -> Result<Collected> {
        let old = now().saturating_sub_unsigned(options.grace.as_secs());
        let mut collected = self.database.write("collect garbage", |change| {
            let manifests = if options.untagged { drop_untagged(change, old)? } else { 0 };
            let links = change.execute(
                "DELETE FROM links WHERE touched <= ?1 AND NOT EXISTS (
                     SELECT 1 FROM edges
                     WHERE edges.repository = links.repository AND edges.target = links.digest)",
                [old],
            )? as u64;
            Ok(Collected { manifests, links, ..Collected::default() })
        })?;
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let dir = self.blob_dir(algorithm);
            let names = fs::read_dir(&dir).map_err(RegistryError::io("list", &dir))?;
            let names: Vec<String> =
                names.filter_map(|item| item.ok()?.file_name().into_string().ok()).collect();
            for some in names.chunks(FILES_PER_STEP) {
                self.collect_files(algorithm, some, &mut collected)?;
            }
        }
        Ok(collected)
    }

    /// Under the write lock that a push renames its blob under: either its row is seen here, or its file
    /// comes after this.
    fn collect_files(&self, algorithm: Algorithm, names: &[String], collected: &mut Collected) -> Result<()> {
        self.database.write("delete blobs", |change| {
            let mut linked = change.prepare_cached("SELECT 1 FROM links WHERE digest = ?1")?;
            let mut forget = change.prepare_cached("DELETE FROM blobs WHERE digest = ?1")?;
            for name in names {
                let Some(digest) = Digest::parse(&format!("{}:{name}", algorithm.name())) else { continue };
                if linked.exists([digest.to_string()])? {
                    continue;
                }
                let path = self.blob_path(&digest);
                forget.execute([digest.to_string()])?;
                // The links went in an earlier transaction: a crash from here on leaves a file or a row
                // that nothing names, never a name without its file.
                let bytes = fs::metadata(&path).map_or(0, |found| found.len());
                fs::remove_file(&path).map_err(RegistryError::io("delete", &path))?;
                collected.files += 1;
                collected.bytes += bytes;
            }
            Ok(())
        })
    }
}

/// Kept are tagged and young manifests, what indexes among them list, and what refers to any of them.
fn drop_untagged(change: &Transaction<'_>, old: i64) -> rusqlite::Result<u64> {
    let gone = change.execute(
        "WITH RECURSIVE kept (repository, digest) AS (
             SELECT repository, digest FROM tags
             UNION SELECT repository, digest FROM manifests WHERE touched > ?1
             UNION SELECT edges.repository, edges.target FROM kept
                 JOIN manifests ON manifests.repository = kept.repository AND manifests.digest = kept.digest
                 JOIN edges ON edges.manifest = manifests.id
             UNION SELECT manifests.repository, manifests.digest FROM kept
                 JOIN manifests ON manifests.repository = kept.repository AND manifests.subject = kept.digest
         )
         DELETE FROM manifests WHERE (repository, digest) NOT IN (SELECT repository, digest FROM kept)",
        params![old],
    )?;
    Ok(gone as u64)
}
