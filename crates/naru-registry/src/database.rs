//! The registry's SQLite database: what exists, in which repository, and who may touch it. Several
//! processes may have it open (the server, `naru registry gc`); a change of content and the change of its
//! file happen under SQLite's one write lock, so that they can't cross.

use crate::error::{RegistryError, Result};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Longest wait for another process's change.
const BUSY_MAX: Duration = Duration::from_secs(30);
/// Connections that are kept open between requests.
const IDLE_CONNECTIONS_MAX: usize = 16;
const SCHEMA_VERSION: i64 = 1;
const SCHEMA: &str = "
    CREATE TABLE repositories (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        quota_bytes INTEGER
    ) STRICT;
    CREATE TABLE blobs (
        digest TEXT PRIMARY KEY,
        size INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE links (
        repository INTEGER NOT NULL REFERENCES repositories,
        digest TEXT NOT NULL REFERENCES blobs,
        touched INTEGER NOT NULL,
        PRIMARY KEY (repository, digest)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX links_by_digest ON links (digest);
    CREATE TABLE manifests (
        id INTEGER PRIMARY KEY,
        repository INTEGER NOT NULL REFERENCES repositories,
        digest TEXT NOT NULL,
        media_type TEXT NOT NULL,
        size INTEGER NOT NULL,
        touched INTEGER NOT NULL,
        subject TEXT,
        artifact_type TEXT,
        annotations TEXT,
        content BLOB NOT NULL,
        UNIQUE (repository, digest)
    ) STRICT;
    CREATE INDEX manifests_by_subject ON manifests (repository, subject, digest);
    CREATE TABLE edges (
        manifest INTEGER NOT NULL REFERENCES manifests ON DELETE CASCADE,
        repository INTEGER NOT NULL,
        target TEXT NOT NULL,
        PRIMARY KEY (manifest, target)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX edges_by_target ON edges (repository, target);
    CREATE TABLE tags (
        repository INTEGER NOT NULL REFERENCES repositories,
        name TEXT NOT NULL,
        digest TEXT NOT NULL,
        PRIMARY KEY (repository, name)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX tags_by_digest ON tags (repository, digest);
    CREATE TABLE tokens (
        id TEXT PRIMARY KEY,
        hash BLOB NOT NULL,
        pattern TEXT NOT NULL,
        allows TEXT NOT NULL,
        created INTEGER NOT NULL
    ) STRICT;
";

/// What ends a transaction: SQLite, or a finding of ours.
pub(crate) enum Failed {
    Sql(rusqlite::Error),
    Own(RegistryError),
}

impl From<rusqlite::Error> for Failed {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<RegistryError> for Failed {
    fn from(error: RegistryError) -> Self {
        Self::Own(error)
    }
}

impl Failed {
    fn at(self, step: &'static str) -> RegistryError {
        match self {
            Self::Sql(source) => RegistryError::Database { step, source },
            Self::Own(error) => error,
        }
    }
}

pub(crate) struct Database {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    /// Writers of one process queue here, fairly; SQLite's own wait is a poll.
    writing: Mutex<()>,
}

impl Database {
    pub fn open(path: PathBuf) -> Result<Self> {
        let database = Self { path, idle: Mutex::default(), writing: Mutex::default() };
        database.write("make the tables", |change| {
            let found: i64 = change.query_row("PRAGMA user_version", [], |row| row.get(0))?;
            match found {
                0 => {
                    change.execute_batch(SCHEMA)?;
                    change.pragma_update(None, "user_version", SCHEMA_VERSION)?;
                    Ok(())
                }
                SCHEMA_VERSION => Ok(()),
                _ => Err(RegistryError::Version { found, known: SCHEMA_VERSION }.into()),
            }
        })?;
        Ok(database)
    }

    pub fn read<T>(
        &self,
        step: &'static str,
        look: impl FnOnce(&Connection) -> std::result::Result<T, Failed>,
    ) -> Result<T> {
        let connection = self.connection()?;
        let found = look(&connection).map_err(|failed| failed.at(step));
        self.give_back(connection);
        found
    }

    /// On disk when this returns (`synchronous=FULL`).
    pub fn write<T>(
        &self,
        step: &'static str,
        change: impl FnOnce(&Transaction<'_>) -> std::result::Result<T, Failed>,
    ) -> Result<T> {
        let _writing = locked(&self.writing);
        let mut connection = self.connection()?;
        let done = Self::in_transaction(&mut connection, change).map_err(|failed| failed.at(step));
        self.give_back(connection);
        done
    }

    fn in_transaction<T>(
        connection: &mut Connection,
        change: impl FnOnce(&Transaction<'_>) -> std::result::Result<T, Failed>,
    ) -> std::result::Result<T, Failed> {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let value = change(&transaction)?;
        transaction.commit()?;
        Ok(value)
    }

    fn connection(&self) -> Result<Connection> {
        if let Some(connection) = locked(&self.idle).pop() {
            return Ok(connection);
        }
        let failed = RegistryError::database("open a connection");
        Self::connect(&self.path).map_err(failed)
    }

    fn connect(path: &Path) -> rusqlite::Result<Connection> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(BUSY_MAX)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        Ok(connection)
    }

    fn give_back(&self, connection: Connection) {
        let mut idle = locked(&self.idle);
        if idle.len() < IDLE_CONNECTIONS_MAX {
            idle.push(connection);
        }
    }
}

pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn repository_id(connection: &Connection, name: &str) -> rusqlite::Result<Option<i64>> {
    let mut statement = connection.prepare_cached("SELECT id FROM repositories WHERE name = ?1")?;
    statement.query_row([name], |row| row.get(0)).optional()
}

pub(crate) fn ensure_repository(change: &Transaction<'_>, name: &str) -> rusqlite::Result<i64> {
    if let Some(id) = repository_id(change, name)? {
        return Ok(id);
    }
    change.execute("INSERT INTO repositories (name) VALUES (?1)", [name])?;
    Ok(change.last_insert_rowid())
}

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec
}
