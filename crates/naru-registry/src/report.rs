//! What `naru registry ls` shows.

use crate::error::Result;
use crate::store::{Store, used_bytes};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryReport {
    pub name: String,
    pub tags: Vec<String>,
    pub manifests: u64,
    /// Blobs and manifests; one that several repositories share counts in each.
    pub size_bytes: u64,
    pub quota_bytes: Option<u64>,
}

impl Store {
    pub fn report(&self) -> Result<Vec<RepositoryReport>> {
        self.database.read("list repositories", |connection| {
            let mut repositories = connection.prepare(
                "SELECT id, name, quota_bytes, (SELECT count(*) FROM manifests WHERE repository = id)
                 FROM repositories ORDER BY name",
            )?;
            let mut tags = connection.prepare("SELECT name FROM tags WHERE repository = ?1 ORDER BY name")?;
            let mut rows = repositories.query([])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let id: i64 = row.get(0)?;
                let names = tags.query_map([id], |row| row.get(0))?;
                found.push(RepositoryReport {
                    name: row.get(1)?,
                    tags: names.collect::<rusqlite::Result<_>>()?,
                    manifests: row.get::<_, i64>(3)? as u64,
                    size_bytes: used_bytes(connection, id)?,
                    quota_bytes: row.get::<_, Option<i64>>(2)?.map(|bytes| bytes as u64),
                });
            }
            Ok(found)
        })
    }
}
