//! The state database: SQLite in WAL mode, every commit synced (`synchronous=FULL`), one writer behind a mutex.
//!
//! A row is an id, a name and JSON; nothing is queried but by key, for everything that runs is in memory.
//! All calls block: they belong on a blocking thread.

use crate::machine::State;
use crate::record::{ContainerRow, NetworkRow, RunFacts, VolumeRow};
use naru_types::spec::ContainerSpec;
use naru_types::{ContainerId, Error, NetworkId};
use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::Permissions;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Raised by every change of the schema that an older naru cannot read.
const SCHEMA_VERSION: i64 = 1;
/// How long a second process that holds the database is waited for.
const BUSY_TIMEOUT_MS: u64 = 5_000;
const PRIVATE_FILE: u32 = 0o600;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS containers (
    id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, created INTEGER NOT NULL, image_id TEXT NOT NULL,
    spec TEXT NOT NULL, state TEXT NOT NULL, facts TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS networks (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, record TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS volumes (name TEXT PRIMARY KEY, record TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
";

const SAVE_VOLUME: &str = "INSERT OR REPLACE INTO volumes (name, record) VALUES (?1,?2)";

#[derive(Debug, thiserror::Error)]
pub enum DbError {
    #[error("{step} in the state database {path}")]
    Sql { step: &'static str, path: PathBuf, source: rusqlite::Error },
    #[error("cannot make the state database {path}")]
    Make { path: PathBuf, source: std::io::Error },
    #[error("{path} has schema {found}, made by a newer naru; this one knows {SCHEMA_VERSION}")]
    TooNew { path: PathBuf, found: i64 },
    #[error("the {what} of {key} in the state database cannot be read")]
    Json { what: &'static str, key: String, source: serde_json::Error },
}

impl From<DbError> for Error {
    fn from(error: DbError) -> Self {
        let hint =
            matches!(error, DbError::TooNew { .. }).then_some("run the newer naru, or set another --root");
        let message = error.to_string();
        let error = Error::internal(message).with_source(error);
        match hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
}

type Result<T> = std::result::Result<T, DbError>;

pub struct Db {
    path: PathBuf,
    connection: Mutex<Connection>,
}

impl Db {
    pub fn open(path: &Path) -> Result<Self> {
        let sql = |step| move |source| DbError::Sql { step, path: path.to_owned(), source };
        // It has the environments of all containers. SQLite gives its journal the mode of the database, so the file is
        // made before SQLite sees it.
        let made = std::fs::OpenOptions::new().append(true).create(true).mode(PRIVATE_FILE).open(path);
        made.and_then(|file| file.set_permissions(Permissions::from_mode(PRIVATE_FILE)))
            .map_err(|source| DbError::Make { path: path.to_owned(), source })?;
        let connection = Connection::open(path).map_err(sql("opening"))?;
        connection
            .busy_timeout(std::time::Duration::from_millis(BUSY_TIMEOUT_MS))
            .map_err(sql("setting the timeout"))?;
        let found: i64 = connection
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .map_err(sql("reading the version"))?;
        if found > SCHEMA_VERSION {
            return Err(DbError::TooNew { path: path.to_owned(), found });
        }
        connection.pragma_update(None, "journal_mode", "WAL").map_err(sql("choosing WAL"))?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(sql("choosing synchronous"))?;
        connection.execute_batch(SCHEMA).map_err(sql("making the tables"))?;
        // Not written again: a daemon has to come up on a full disk, so that something can be removed.
        if found != SCHEMA_VERSION {
            connection
                .pragma_update(None, "user_version", SCHEMA_VERSION)
                .map_err(sql("writing the version"))?;
        }
        Ok(Self { path: path.to_owned(), connection: Mutex::new(connection) })
    }

    /// The container and the anonymous volumes that were made for it: all of them, or none.
    pub fn insert_container(&self, row: &ContainerRow, volumes: &[VolumeRow]) -> Result<()> {
        let (spec, state, facts) = (json(&row.spec), json(&row.state), json(&row.facts));
        self.read("adding a container", |db| {
            let transaction = db.unchecked_transaction()?;
            for volume in volumes {
                transaction.execute(SAVE_VOLUME, params![volume.name, json(volume)])?;
            }
            transaction.execute(
                "INSERT INTO containers (id, name, created, image_id, spec, state, facts) VALUES (?1,?2,?3,?4,?5,?6,?7)",
                params![row.id.as_str(), row.name, row.created.0, row.image_id.to_string(), spec, state, facts],
            )?;
            transaction.commit()
        })
    }

    /// The state has one writer, the container's task. The facts have several, so they are read in here, where one writes at
    /// a time: the last write has the newest.
    pub fn save_state(
        &self,
        id: &ContainerId,
        state: &State,
        facts: impl FnOnce() -> RunFacts,
    ) -> Result<()> {
        let state = json(state);
        self.write("saving a state", |db| {
            db.execute(
                "UPDATE containers SET state=?2, facts=?3 WHERE id=?1",
                params![id.as_str(), state, json(&facts())],
            )
        })
    }

    /// As [`Db::save_state`], for everybody but the container's task: what it has saved of the state meanwhile stays.
    pub fn save_facts(&self, id: &ContainerId, facts: impl FnOnce() -> RunFacts) -> Result<()> {
        self.write("saving facts", |db| {
            db.execute("UPDATE containers SET facts=?2 WHERE id=?1", params![id.as_str(), json(&facts())])
        })
    }

    pub fn save_spec(&self, id: &ContainerId, spec: &ContainerSpec) -> Result<()> {
        let spec = json(spec);
        self.write("saving a description", |db| {
            db.execute("UPDATE containers SET spec=?2 WHERE id=?1", params![id.as_str(), spec])
        })
    }

    pub fn rename_container(&self, id: &ContainerId, name: &str) -> Result<()> {
        self.write("renaming", |db| {
            db.execute("UPDATE containers SET name=?2 WHERE id=?1", params![id.as_str(), name])
        })
    }

    pub fn delete_container(&self, id: &ContainerId) -> Result<()> {
        self.write("removing a container", |db| {
            db.execute("DELETE FROM containers WHERE id=?1", params![id.as_str()])
        })
    }

    pub fn containers(&self) -> Result<Vec<ContainerRow>> {
        let rows = self.read("listing containers", |db| {
            let mut statement = db.prepare(
                "SELECT id, name, created, image_id, spec, state, facts FROM containers ORDER BY created",
            )?;
            let rows = statement.query_map([], |row| {
                let text = |index| row.get::<_, String>(index);
                Ok((text(0)?, text(1)?, row.get::<_, i64>(2)?, text(3)?, text(4)?, text(5)?, text(6)?))
            })?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        })?;
        rows.into_iter()
            .map(|(id, name, created, image_id, spec, state, facts)| {
                Ok(ContainerRow {
                    id: parse("id", &id, &quoted(&id))?,
                    created: naru_types::Timestamp(created),
                    image_id: parse("image", &id, &quoted(&image_id))?,
                    spec: parse("description", &id, &spec)?,
                    state: parse("state", &id, &state)?,
                    facts: parse("facts", &id, &facts)?,
                    name,
                })
            })
            .collect()
    }

    pub fn save_network(&self, row: &NetworkRow) -> Result<()> {
        let record = json(row);
        self.write("saving a network", |db| {
            db.execute(
                "INSERT INTO networks (id, name, record) VALUES (?1,?2,?3)
                 ON CONFLICT (id) DO UPDATE SET name=excluded.name, record=excluded.record",
                params![row.id.as_str(), row.name, record],
            )
        })
    }

    pub fn delete_network(&self, id: &NetworkId) -> Result<()> {
        self.write("removing a network", |db| {
            db.execute("DELETE FROM networks WHERE id=?1", params![id.as_str()])
        })
    }

    pub fn networks(&self) -> Result<Vec<NetworkRow>> {
        self.records("network", "SELECT id, record FROM networks")
    }

    pub fn save_volume(&self, row: &VolumeRow) -> Result<()> {
        let record = json(row);
        self.write("saving a volume", |db| db.execute(SAVE_VOLUME, params![row.name, record]))
    }

    pub fn delete_volume(&self, name: &str) -> Result<()> {
        self.write("removing a volume", |db| db.execute("DELETE FROM volumes WHERE name=?1", params![name]))
    }

    pub fn volumes(&self) -> Result<Vec<VolumeRow>> {
        self.records("volume", "SELECT name, record FROM volumes")
    }

    pub fn meta(&self, key: &str) -> Result<Option<String>> {
        self.read("reading", |db| {
            db.query_row("SELECT value FROM meta WHERE key=?1", params![key], |row| row.get(0)).optional()
        })
    }

    /// Writes only what changes, as [`Db::open`] does.
    pub fn set_meta(&self, key: &str, value: &str) -> Result<()> {
        if self.meta(key)?.as_deref() == Some(value) {
            return Ok(());
        }
        self.write("writing", |db| {
            db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?1,?2)", params![key, value])
        })
    }

    fn records<T: DeserializeOwned>(&self, what: &'static str, query: &str) -> Result<Vec<T>> {
        let rows = self.read("listing", |db| {
            let mut statement = db.prepare(query)?;
            let rows =
                statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        })?;
        rows.iter().map(|(key, record)| parse(what, key, record)).collect()
    }

    fn write(
        &self,
        step: &'static str,
        run: impl FnOnce(&Connection) -> rusqlite::Result<usize>,
    ) -> Result<()> {
        self.read(step, run).map(|_| ())
    }

    fn read<T>(&self, step: &'static str, run: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        let connection = crate::lock(&self.connection);
        run(&connection).map_err(|source| DbError::Sql { step, path: self.path.clone(), source })
    }
}

/// Our own types have string keys and no failing `Serialize`, so `null` stands for what cannot happen.
fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".into())
}

fn quoted(text: &str) -> String {
    json(&text)
}

fn parse<T: DeserializeOwned>(what: &'static str, key: &str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|source| DbError::Json { what, key: key.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> ContainerRow {
        ContainerRow {
            id: ContainerId::parse(&"a".repeat(64)).unwrap(),
            name: "box".into(),
            created: crate::ids::now(),
            image_id: naru_types::Digest::from_sha256([0; 32]),
            spec: ContainerSpec::default(),
            state: State::Created { failure: None },
            facts: RunFacts::default(),
        }
    }

    #[test]
    fn a_container_comes_with_its_volumes_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(&dir.path().join("state.db")).unwrap();
        let volume = |name: &str| VolumeRow { name: name.into(), anonymous: true, ..VolumeRow::default() };
        let row = row();
        db.insert_container(&row, &[volume("one")]).unwrap();
        // The same id again: the second volume must not stay without its container.
        assert!(db.insert_container(&row, &[volume("two")]).is_err());
        assert_eq!(db.volumes().unwrap(), [volume("one")]);
        assert_eq!(db.containers().unwrap().len(), 1);
    }

    #[test]
    fn facts_that_are_saved_late_leave_the_state_alone() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(&dir.path().join("state.db")).unwrap();
        let row = row();
        db.insert_container(&row, &[]).unwrap();
        let state = State::Removing { last: None, volumes: true };
        db.save_state(&row.id, &state, RunFacts::default).unwrap();
        let health = crate::view::HealthView {
            status: crate::view::HealthStatus::Healthy,
            failing_streak: 7,
            log: Vec::new(),
        };
        let facts = RunFacts { health: Some(health), ..RunFacts::default() };
        db.save_facts(&row.id, || facts.clone()).unwrap();
        let saved = db.containers().unwrap().remove(0);
        assert_eq!((saved.state, saved.facts), (state, facts));
    }

    #[test]
    fn a_newer_schema_is_refused_and_rows_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        let db = Db::open(&path).unwrap();
        db.set_meta("boot", "a").unwrap();
        let row = VolumeRow { name: "v".into(), ..VolumeRow::default() };
        db.save_volume(&row).unwrap();
        drop(db);
        let db = Db::open(&path).unwrap();
        assert_eq!(db.meta("boot").unwrap().as_deref(), Some("a"));
        assert_eq!(db.volumes().unwrap(), [row]);
        crate::lock(&db.connection).pragma_update(None, "user_version", 99).unwrap();
        drop(db);
        assert!(matches!(Db::open(&path), Err(DbError::TooNew { found: 99, .. })));
    }
}
