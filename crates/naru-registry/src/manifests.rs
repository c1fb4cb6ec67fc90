//! Manifests, tags and referrers of a repository.

use crate::database::{Failed, ensure_repository, now, repository_id};
use crate::error::{RegistryError, Result};
use crate::manifest::Manifest;
use crate::name::{Digest, Reference, RepositoryName, Tag};
use crate::store::Store;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde_json::{Value, json};

/// Annotations in one answer about referrers, in bytes; more make another page.
const REFERRERS_ANNOTATION_BYTES_MAX: usize = 2 << 20;
/// Referrers in one answer.
const REFERRERS_PAGE: usize = 500;

pub(crate) struct StoredManifest {
    pub digest: String,
    pub media_type: String,
    pub content: Vec<u8>,
}

/// One page of a list, and whether there are more.
pub(crate) struct Page<T> {
    pub items: Vec<T>,
    pub has_more: bool,
}

impl Store {
    pub(crate) fn manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<Option<StoredManifest>> {
        self.database.read("look for a manifest", |connection| {
            let Some(id) = repository_id(connection, repository.as_str())? else { return Ok(None) };
            let digest = match reference {
                Reference::Digest(digest) => Some(digest.to_string()),
                Reference::Tag(tag) => tagged(connection, id, tag)?,
            };
            let Some(digest) = digest else { return Ok(None) };
            let mut statement = connection.prepare_cached(
                "SELECT media_type, content FROM manifests WHERE repository = ?1 AND digest = ?2",
            )?;
            let found = statement.query_row(params![id, digest], |row| {
                Ok(StoredManifest { digest: digest.clone(), media_type: row.get(0)?, content: row.get(1)? })
            });
            Ok(found.optional()?)
        })
    }

    /// Everything that the manifest needs must be here; on disk when this returns.
    pub(crate) fn put_manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        manifest: &Manifest,
        content: &[u8],
        tags: &[Tag],
    ) -> Result<()> {
        self.database.write("add a manifest", |change| {
            let id = ensure_repository(change, repository.as_str())?;
            check_parts(change, repository, id, manifest)?;
            let key = params![id, digest.to_string()];
            let is_known = change
                .prepare_cached("SELECT 1 FROM manifests WHERE repository = ?1 AND digest = ?2")?
                .exists(key)?;
            if is_known {
                change.execute(
                    "UPDATE manifests SET media_type = ?3, touched = ?4 WHERE repository = ?1 AND digest = ?2",
                    params![id, digest.to_string(), manifest.media_type, now()],
                )?;
            } else {
                self.check_quota_in(change, repository, id, content.len() as u64)?;
                insert(change, id, digest, manifest, content)?;
            }
            for tag in tags {
                change.execute(
                    "INSERT INTO tags (repository, name, digest) VALUES (?1, ?2, ?3)
                     ON CONFLICT DO UPDATE SET digest = excluded.digest",
                    params![id, tag.as_str(), digest.to_string()],
                )?;
            }
            Ok(())
        })
    }

    /// A tag alone, or a manifest with all its tags.
    pub(crate) fn delete_manifest(&self, repository: &RepositoryName, reference: &Reference) -> Result<bool> {
        self.database.write("delete a manifest", |change| {
            let Some(id) = repository_id(change, repository.as_str())? else { return Ok(false) };
            let gone = match reference {
                Reference::Tag(tag) => change.execute(
                    "DELETE FROM tags WHERE repository = ?1 AND name = ?2",
                    params![id, tag.as_str()],
                )?,
                Reference::Digest(digest) => {
                    let key = params![id, digest.to_string()];
                    change.execute("DELETE FROM tags WHERE repository = ?1 AND digest = ?2", key)?;
                    change.execute("DELETE FROM manifests WHERE repository = ?1 AND digest = ?2", key)?
                }
            };
            Ok(gone > 0)
        })
    }

    /// Tags in order, after `last`; `None`: there is no such repository.
    pub(crate) fn tags(
        &self,
        repository: &RepositoryName,
        last: &str,
        count: usize,
    ) -> Result<Option<Page<String>>> {
        self.database.read("list tags", |connection| {
            let Some(id) = repository_id(connection, repository.as_str())? else { return Ok(None) };
            // "lexical (i.e. case-insensitive alphanumeric) order", made unambiguous by the name itself.
            let names = "SELECT name FROM tags
                 WHERE repository = ?1 AND (name COLLATE NOCASE, name) > (?2, ?2)
                 ORDER BY name COLLATE NOCASE, name LIMIT ?3";
            let mut statement = connection.prepare_cached(names)?;
            let found = statement.query_map(params![id, last, count as i64 + 1], |row| row.get(0))?;
            Ok(Some(page(found.collect::<rusqlite::Result<_>>()?, count)))
        })
    }

    /// Names of repositories, in order, after `last`, that `is_shown`.
    pub(crate) fn repositories(
        &self,
        last: &str,
        count: usize,
        is_shown: impl Fn(&str) -> bool,
    ) -> Result<Page<String>> {
        self.database.read("list repositories", |connection| {
            let names = "SELECT name FROM repositories WHERE name > ?1 ORDER BY name";
            let mut statement = connection.prepare_cached(names)?;
            let mut rows = statement.query([last])?;
            let mut items = Vec::new();
            while let Some(row) = rows.next()? {
                let name: String = row.get(0)?;
                if is_shown(&name) {
                    items.push(name);
                }
                if items.len() > count {
                    break;
                }
            }
            Ok(page(items, count))
        })
    }

    /// Descriptors of the manifests whose subject is `subject`, after the digest `last`.
    pub(crate) fn referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        artifact_type: Option<&str>,
        last: &str,
    ) -> Result<Page<(String, Value)>> {
        self.database.read("list referrers", |connection| {
            let id = repository_id(connection, repository.as_str())?.unwrap_or(0);
            let mut statement = connection.prepare_cached(
                "SELECT digest, media_type, size, artifact_type, annotations FROM manifests
                 WHERE repository = ?1 AND subject = ?2 AND digest > ?3
                 AND (?4 IS NULL OR artifact_type = ?4) ORDER BY digest",
            )?;
            let mut rows = statement.query(params![id, subject.to_string(), last, artifact_type])?;
            let (mut items, mut bytes) = (Vec::new(), 0);
            while let Some(row) = rows.next()? {
                let digest: String = row.get(0)?;
                let annotations: Option<String> = row.get(4)?;
                bytes += annotations.as_ref().map_or(0, String::len);
                if items.len() == REFERRERS_PAGE
                    || (!items.is_empty() && bytes > REFERRERS_ANNOTATION_BYTES_MAX)
                {
                    return Ok(Page { items, has_more: true });
                }
                let mut descriptor = json!({
                    "mediaType": row.get::<_, String>(1)?,
                    "digest": digest,
                    "size": row.get::<_, i64>(2)?,
                });
                if let Some(artifact_type) = row.get::<_, Option<String>>(3)? {
                    descriptor["artifactType"] = artifact_type.into();
                }
                if let Some(annotations) = annotations.and_then(|text| serde_json::from_str(&text).ok()) {
                    descriptor["annotations"] = annotations;
                }
                items.push((digest, descriptor));
            }
            Ok(Page { items, has_more: false })
        })
    }
}

fn tagged(connection: &Connection, repository: i64, tag: &Tag) -> rusqlite::Result<Option<String>> {
    let mut statement =
        connection.prepare_cached("SELECT digest FROM tags WHERE repository = ?1 AND name = ?2")?;
    statement.query_row(params![repository, tag.as_str()], |row| row.get(0)).optional()
}

fn page<T>(mut items: Vec<T>, count: usize) -> Page<T> {
    let has_more = items.len() > count;
    items.truncate(count);
    Page { items, has_more }
}

fn check_parts(
    change: &Transaction<'_>,
    repository: &RepositoryName,
    id: i64,
    manifest: &Manifest,
) -> std::result::Result<(), Failed> {
    let mut blobs = change.prepare_cached(
        "SELECT blobs.size FROM links JOIN blobs ON blobs.digest = links.digest
         WHERE links.repository = ?1 AND links.digest = ?2",
    )?;
    let mut manifests =
        change.prepare_cached("SELECT size FROM manifests WHERE repository = ?1 AND digest = ?2")?;
    for part in &manifest.parts {
        let statement = if part.is_manifest { &mut manifests } else { &mut blobs };
        let found: Option<i64> =
            statement.query_row(params![id, part.digest.to_string()], |row| row.get(0)).optional()?;
        match found {
            None => {
                let (repository, digest) = (repository.clone(), part.digest.clone());
                return Err(RegistryError::Missing { repository, digest }.into());
            }
            Some(found) if found as u64 != part.size => {
                let digest = part.digest.clone();
                return Err(RegistryError::Size { digest, found: found as u64, said: part.size }.into());
            }
            Some(_) => {}
        }
    }
    Ok(())
}

fn insert(
    change: &Transaction<'_>,
    repository: i64,
    digest: &Digest,
    manifest: &Manifest,
    content: &[u8],
) -> std::result::Result<(), Failed> {
    // What was parsed from JSON can be written as JSON.
    let annotations =
        manifest.annotations.as_ref().and_then(|annotations| serde_json::to_string(annotations).ok());
    change.execute(
        "INSERT INTO manifests
         (repository, digest, media_type, size, touched, subject, artifact_type, annotations, content)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            repository,
            digest.to_string(),
            manifest.media_type,
            content.len() as i64,
            now(),
            manifest.subject.as_ref().map(Digest::to_string),
            manifest.artifact_type,
            annotations,
            content,
        ],
    )?;
    let row = change.last_insert_rowid();
    let mut edge = change.prepare_cached(
        "INSERT INTO edges (manifest, repository, target) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
    )?;
    for part in &manifest.parts {
        edge.execute(params![row, repository, part.digest.to_string()])?;
    }
    Ok(())
}
