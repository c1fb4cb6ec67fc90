//! The durable outbox: an alert is a row here before anybody tries to send it.
//!
//! A row is `pending` until a webhook took it (`sent`) or refused it for good (`failed`); without a webhook it
//! is kept for the record only (`no_webhook`). The number of rows and their age are bounded.

use crate::db::Db;
use crate::embed::Embed;
use crate::error::OpsError;
use crate::views::{AlertState, AlertView};
use naru_types::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

/// Alerts that wait; beyond it the oldest is given up.
pub(crate) const PENDING_MAX: i64 = 500;
/// Alerts that are done and kept for `recent`.
const DONE_MAX: i64 = 2000;
/// How long an alert is tried, in seconds: a day.
pub(crate) const AGE_SECS_MAX: i64 = 86_400;
/// The same thing is not said twice within so many seconds.
const DEDUP_SECS: i64 = 60;
const NANOS_PER_SEC: i64 = 1_000_000_000;

/// What is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Alert {
    pub embed: Embed,
    /// Equal for alerts that say the same.
    pub dedup: String,
}

/// A row that is due.
#[derive(Debug)]
pub(crate) struct Due {
    pub id: i64,
    pub embed: Embed,
    pub seen: i64,
    pub attempts: u32,
}

/// Commits the alert, or counts it on its twin. Returns whether there is something new to send.
pub(crate) fn push(db: &Db, alert: &Alert, has_webhook: bool) -> Result<bool, OpsError> {
    let mut connection = db.lock();
    let work = |connection: &mut Connection| {
        let transaction = connection.transaction()?;
        let fresh = push_in(&transaction, alert, has_webhook)?;
        transaction.commit()?;
        Ok(fresh)
    };
    work(&mut connection).map_err(OpsError::database("keep an alert"))
}

/// The same inside a caller's transaction.
pub(crate) fn push_in(connection: &Connection, alert: &Alert, has_webhook: bool) -> rusqlite::Result<bool> {
    let at = alert.embed.at;
    let counted = connection.execute(
        "UPDATE outbox SET seen = seen + 1 WHERE id =
         (SELECT id FROM outbox WHERE dedup = ?1 AND at > ?2 ORDER BY id DESC LIMIT 1)",
        params![alert.dedup, at.0 - DEDUP_SECS * NANOS_PER_SEC],
    )?;
    if counted > 0 {
        return Ok(false);
    }
    let embed =
        serde_json::to_string(&alert.embed).map_err(|e| rusqlite::Error::ToSqlConversionFailure(e.into()))?;
    let state = if has_webhook { "pending" } else { "no_webhook" };
    connection.execute(
        "INSERT INTO outbox (at, title, dedup, embed, state) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![at.0, alert.embed.title, alert.dedup, embed, state],
    )?;
    connection.execute(
        "UPDATE outbox SET state = 'failed', error = 'given up: too many alerts wait' WHERE state = 'pending' AND id <=
         (SELECT id FROM outbox WHERE state = 'pending' ORDER BY id DESC LIMIT 1 OFFSET ?1)",
        [PENDING_MAX],
    )?;
    connection.execute(
        "DELETE FROM outbox WHERE state <> 'pending' AND id <=
         (SELECT id FROM outbox WHERE state <> 'pending' ORDER BY id DESC LIMIT 1 OFFSET ?1)",
        [DONE_MAX],
    )?;
    Ok(has_webhook)
}

/// Gives up what is too old.
pub(crate) fn expire(db: &Db, now: Timestamp) -> Result<(), OpsError> {
    db.lock()
        .execute(
            "UPDATE outbox SET state = 'failed', error = 'given up after a day; last: ' || coalesce(error, 'not tried')
             WHERE state = 'pending' AND at < ?1",
            [now.0 - AGE_SECS_MAX * NANOS_PER_SEC],
        )
        .map(drop)
        .map_err(OpsError::database("expire alerts"))
}

/// The oldest row whose time has come.
pub(crate) fn due(db: &Db, now: Timestamp) -> Result<Option<Due>, OpsError> {
    let read = |row: &Row<'_>| {
        let embed: String = row.get(1)?;
        let embed = serde_json::from_str(&embed).map_err(|e| {
            rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Text, e.into())
        })?;
        Ok(Due { id: row.get(0)?, embed, seen: row.get(2)?, attempts: row.get(3)? })
    };
    db.lock()
        .query_row(
            "SELECT id, embed, seen, attempts FROM outbox WHERE state = 'pending' AND next_at <= ?1 ORDER BY id LIMIT 1",
            [now.0],
            read,
        )
        .optional()
        .map_err(OpsError::database("read the outbox"))
}

/// When the next row is due; `None` when nothing waits.
pub(crate) fn next_at(db: &Db) -> Result<Option<Timestamp>, OpsError> {
    db.lock()
        .query_row("SELECT min(next_at) FROM outbox WHERE state = 'pending'", [], |row| row.get(0))
        .map(|at: Option<i64>| at.map(Timestamp))
        .map_err(OpsError::database("read the outbox"))
}

pub(crate) fn mark_sent(db: &Db, id: i64, now: Timestamp) -> Result<(), OpsError> {
    db.lock()
        .execute(
            "UPDATE outbox SET state = 'sent', sent_at = ?2, error = NULL WHERE id = ?1",
            params![id, now.0],
        )
        .map(drop)
        .map_err(OpsError::database("mark an alert as sent"))
}

pub(crate) fn mark_failed(db: &Db, id: i64, error: &str) -> Result<(), OpsError> {
    db.lock()
        .execute("UPDATE outbox SET state = 'failed', error = ?2 WHERE id = ?1", params![id, error])
        .map(drop)
        .map_err(OpsError::database("mark an alert as failed"))
}

/// Not before `next_at`. `counts`: whether this was an attempt that failed.
pub(crate) fn postpone(
    db: &Db,
    id: i64,
    next_at: Timestamp,
    error: &str,
    counts: bool,
) -> Result<(), OpsError> {
    db.lock()
        .execute(
            "UPDATE outbox SET next_at = ?2, error = ?3, attempts = attempts + ?4 WHERE id = ?1",
            params![id, next_at.0, error, i64::from(counts)],
        )
        .map(drop)
        .map_err(OpsError::database("postpone an alert"))
}

/// Newest first.
pub(crate) fn recent(db: &Db, limit: usize) -> Result<Vec<AlertView>, OpsError> {
    let connection = db.lock();
    let read = || {
        let mut query = connection.prepare_cached(
            "SELECT id, title, at, seen, state, attempts, error, sent_at FROM outbox ORDER BY id DESC LIMIT ?1",
        )?;
        let rows = query.query_map([i64::try_from(limit).unwrap_or(i64::MAX)], view)?;
        rows.collect::<rusqlite::Result<Vec<_>>>()
    };
    read().map_err(OpsError::database("list alerts"))
}

fn view(row: &Row<'_>) -> rusqlite::Result<AlertView> {
    let error: Option<String> = row.get(6)?;
    let state = match row.get::<_, String>(4)?.as_str() {
        "pending" => AlertState::Pending { attempts: row.get(5)?, last_error: error },
        "sent" => AlertState::Sent { at: Timestamp(row.get(7)?) },
        "no_webhook" => AlertState::NoWebhook,
        _ => AlertState::Failed { error: error.unwrap_or_default() },
    };
    let (id, title, seen) = (row.get(0)?, row.get(1)?, row.get(3)?);
    Ok(AlertView { id, title, at: Timestamp(row.get(2)?), seen, state })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embed::Colour;

    fn alert(dedup: &str, at_secs: i64) -> Alert {
        let at = Timestamp::from_parts(at_secs, 0);
        Alert { embed: Embed::new(dedup, Colour::Red, at, &[], &[]), dedup: dedup.into() }
    }

    #[test]
    fn twins_are_counted_and_rows_survive_a_reopen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ops.db");
        let db = Db::open(&path).unwrap();
        assert!(push(&db, &alert("a", 1000), true).unwrap());
        assert!(!push(&db, &alert("a", 1030), true).unwrap(), "the same within a minute");
        assert!(push(&db, &alert("a", 1100), true).unwrap(), "the same later");
        drop(db);
        let db = Db::open(&path).unwrap();
        let row = due(&db, Timestamp::from_parts(2000, 0)).unwrap().unwrap();
        assert_eq!((row.id, row.seen), (1, 2));
        mark_sent(&db, 1, Timestamp::from_parts(2000, 0)).unwrap();
        assert_eq!(due(&db, Timestamp::from_parts(2000, 0)).unwrap().unwrap().id, 2);
        postpone(&db, 2, Timestamp::from_parts(3000, 0), "busy", true).unwrap();
        assert!(due(&db, Timestamp::from_parts(2000, 0)).unwrap().is_none());
        expire(&db, Timestamp::from_parts(1101 + AGE_SECS_MAX, 0)).unwrap();
        let states: Vec<_> = recent(&db, 9).unwrap().into_iter().map(|row| row.state).collect();
        assert!(matches!(&states[0], AlertState::Failed { error } if error.contains("busy")), "{states:?}");
    }

    #[test]
    fn it_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(&dir.path().join("ops.db")).unwrap();
        for number in 0..PENDING_MAX + 20 {
            push(&db, &alert(&format!("n{number}"), 1000), true).unwrap();
        }
        let count = |state: &str| -> i64 {
            let sql = "SELECT count(*) FROM outbox WHERE state = ?1";
            db.lock().query_row(sql, [state], |row| row.get(0)).unwrap()
        };
        assert_eq!((count("pending"), count("failed")), (PENDING_MAX, 20));
        assert_eq!(due(&db, Timestamp(i64::MAX)).unwrap().unwrap().id, 21);
    }
}
