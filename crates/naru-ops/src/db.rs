//! `<root>/ops.db`: settings, the outbox and the deploy records. Mode 0600, since the webhook is in it.

use crate::error::OpsError;
use rusqlite::{Connection, OptionalExtension, params};
use std::fs::Permissions;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Longest wait for another connection's lock, in seconds (a backup tool may hold one).
const BUSY_SECS_MAX: u64 = 10;
const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS settings (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS outbox (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at INTEGER NOT NULL,
        title TEXT NOT NULL,
        dedup TEXT NOT NULL,
        embed TEXT NOT NULL,
        seen INTEGER NOT NULL DEFAULT 1,
        state TEXT NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0,
        next_at INTEGER NOT NULL DEFAULT 0,
        sent_at INTEGER NOT NULL DEFAULT 0,
        error TEXT
    ) STRICT;
    CREATE INDEX IF NOT EXISTS outbox_by_state ON outbox (state, next_at);
    CREATE INDEX IF NOT EXISTS outbox_by_dedup ON outbox (dedup, at);
    CREATE TABLE IF NOT EXISTS deploys (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        project TEXT NOT NULL,
        services TEXT NOT NULL,
        state TEXT NOT NULL,
        started_at INTEGER NOT NULL,
        finished_at INTEGER NOT NULL DEFAULT 0,
        error TEXT
    ) STRICT;
";

pub(crate) struct Db {
    connection: Mutex<Connection>,
}

impl Db {
    pub fn open(path: &Path) -> Result<Self, OpsError> {
        let fail = |source| OpsError::Open { path: path.into(), source };
        // SQLite gives its journal the mode of the database, so the file is made before SQLite sees it.
        let made = std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path);
        made.and_then(|file| file.set_permissions(Permissions::from_mode(0o600)))
            .map_err(|e| fail(e.into()))?;
        let connection = Self::prepare(path).map_err(|e| fail(e.into()))?;
        Ok(Self { connection: Mutex::new(connection) })
    }

    fn prepare(path: &Path) -> rusqlite::Result<Connection> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(Duration::from_secs(BUSY_SECS_MAX))?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        // What was committed survives a power cut: an alert is committed before it is sent.
        connection.pragma_update(None, "synchronous", "full")?;
        connection.execute_batch(SCHEMA)?;
        Ok(connection)
    }

    pub fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic while it was held rolled its transaction back.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn setting(&self, key: &str) -> Result<Option<String>, OpsError> {
        self.lock()
            .query_row("SELECT value FROM settings WHERE key = ?1", [key], |row| row.get(0))
            .optional()
            .map_err(OpsError::database("read a setting"))
    }

    pub fn set_setting(&self, key: &str, value: Option<&str>) -> Result<(), OpsError> {
        let connection = self.lock();
        let done = match value {
            Some(value) => connection.execute(
                "INSERT INTO settings (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2",
                params![key, value],
            ),
            None => connection.execute("DELETE FROM settings WHERE key = ?1", [key]),
        };
        done.map(drop).map_err(OpsError::database("write a setting"))
    }
}
