//! Records of deploys. Each step is one transaction with its alert: neither exists without the other.

use crate::db::Db;
use crate::embed::{Colour, Embed};
use crate::error::OpsError;
use crate::outbox::{self, Alert};
use crate::views::{DeployId, DeployState, DeployView};
use naru_types::Timestamp;
use rusqlite::{Connection, Row, params};

/// Records kept.
const DEPLOYS_MAX: i64 = 1000;
/// What a deploy that nobody finished is marked with.
const INTERRUPTED: &str = "daemon restarted";
const COLUMNS: &str = "id, project, services, state, started_at, finished_at, error";

pub(crate) fn start(
    db: &Db,
    project: &str,
    services: &[String],
    now: Timestamp,
    has_webhook: bool,
) -> Result<DeployView, OpsError> {
    let mut connection = db.lock();
    let mut work = || {
        let transaction = connection.transaction()?;
        let list =
            serde_json::to_string(services).map_err(|e| rusqlite::Error::ToSqlConversionFailure(e.into()))?;
        transaction.execute(
            "INSERT INTO deploys (project, services, state, started_at) VALUES (?1, ?2, 'running', ?3)",
            params![project, list, now.0],
        )?;
        let view = read(&transaction, transaction.last_insert_rowid())?;
        transaction.execute("DELETE FROM deploys WHERE id <= ?1", [view.id.0 - DEPLOYS_MAX])?;
        outbox::push_in(&transaction, &alert(&view, now), has_webhook)?;
        transaction.commit()?;
        Ok(view)
    };
    work().map_err(OpsError::database("record a deploy"))
}

pub(crate) fn finish(
    db: &Db,
    id: DeployId,
    outcome: Result<(), &str>,
    now: Timestamp,
    has_webhook: bool,
) -> Result<DeployView, OpsError> {
    let mut connection = db.lock();
    let mut work = || {
        let transaction = connection.transaction()?;
        let state = if outcome.is_ok() { "succeeded" } else { "failed" };
        let changed = transaction.execute(
            "UPDATE deploys SET state = ?2, finished_at = ?3, error = ?4 WHERE id = ?1 AND state = 'running'",
            params![id.0, state, now.0, outcome.err()],
        )?;
        if changed == 0 {
            return Ok(None);
        }
        let view = read(&transaction, id.0)?;
        outbox::push_in(&transaction, &alert(&view, now), has_webhook)?;
        transaction.commit()?;
        Ok(Some(view))
    };
    work().map_err(OpsError::database("record a deploy"))?.ok_or(OpsError::NoSuchDeploy { id: id.0 })
}

/// At the start of the daemon nothing runs; what says so was cut off.
pub(crate) fn fail_interrupted(
    db: &Db,
    now: Timestamp,
    has_webhook: bool,
) -> Result<Vec<DeployView>, OpsError> {
    let running: Vec<i64> = {
        let connection = db.lock();
        let ids = || {
            let mut query =
                connection.prepare("SELECT id FROM deploys WHERE state = 'running' ORDER BY id")?;
            query.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()
        };
        ids().map_err(OpsError::database("list deploys"))?
    };
    running.into_iter().map(|id| finish(db, DeployId(id), Err(INTERRUPTED), now, has_webhook)).collect()
}

/// Newest first.
pub(crate) fn recent(db: &Db, limit: usize) -> Result<Vec<DeployView>, OpsError> {
    let connection = db.lock();
    let rows = || {
        let mut query =
            connection.prepare(&format!("SELECT {COLUMNS} FROM deploys ORDER BY id DESC LIMIT ?1"))?;
        query.query_map([i64::try_from(limit).unwrap_or(i64::MAX)], view)?.collect::<rusqlite::Result<_>>()
    };
    rows().map_err(OpsError::database("list deploys"))
}

fn read(connection: &Connection, id: i64) -> rusqlite::Result<DeployView> {
    connection.query_row(&format!("SELECT {COLUMNS} FROM deploys WHERE id = ?1"), [id], view)
}

fn view(row: &Row<'_>) -> rusqlite::Result<DeployView> {
    let services: String = row.get(2)?;
    let state = match row.get::<_, String>(3)?.as_str() {
        "running" => DeployState::Running,
        "succeeded" => DeployState::Succeeded,
        _ => DeployState::Failed { error: row.get::<_, Option<String>>(6)?.unwrap_or_default() },
    };
    Ok(DeployView {
        id: DeployId(row.get(0)?),
        project: row.get(1)?,
        // Written by `start` above as a list of strings.
        services: serde_json::from_str(&services).unwrap_or_default(),
        state,
        started_at: Timestamp(row.get(4)?),
        finished_at: Timestamp(row.get(5)?),
    })
}

/// The word that events and alerts use.
pub(crate) fn word(state: &DeployState) -> &'static str {
    match state {
        DeployState::Running => "started",
        DeployState::Succeeded => "succeeded",
        DeployState::Failed { .. } => "failed",
    }
}

fn alert(deploy: &DeployView, at: Timestamp) -> Alert {
    let (colour, error) = match &deploy.state {
        DeployState::Running => (Colour::Blue, ""),
        DeployState::Succeeded => (Colour::Green, ""),
        DeployState::Failed { error } => (Colour::Red, error.as_str()),
    };
    let word = word(&deploy.state);
    let services = deploy.services.join(", ");
    let took = match deploy.state {
        DeployState::Running => String::new(),
        DeployState::Succeeded | DeployState::Failed { .. } => {
            format!("{:.1} s", (deploy.finished_at.0 - deploy.started_at.0) as f64 / 1e9)
        }
    };
    let fields =
        [("project", deploy.project.as_str()), ("services", &services), ("took", &took), ("error", error)];
    let title = format!("Deploy of {} {word}", deploy.project);
    Alert {
        embed: Embed::new(&title, colour, at, &fields, &[]),
        dedup: format!("deploy {} {word}", deploy.id.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deploy_that_was_cut_off_is_failed_at_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ops.db");
        let db = Db::open(&path).unwrap();
        let services = ["web".to_owned(), "redis".to_owned()];
        let first = start(&db, "shop", &services, Timestamp(1), true).unwrap();
        let done = start(&db, "shop", &services, Timestamp(2), true).unwrap();
        finish(&db, done.id, Ok(()), Timestamp(3), true).unwrap();
        drop(db);
        let db = Db::open(&path).unwrap();
        let failed = fail_interrupted(&db, Timestamp(4), true).unwrap();
        assert_eq!(failed.len(), 1);
        assert_eq!(failed[0].id, first.id);
        assert_eq!(failed[0].state, DeployState::Failed { error: INTERRUPTED.into() });
        assert!(finish(&db, first.id, Ok(()), Timestamp(5), true).is_err(), "it has ended already");
        let titles: Vec<_> = outbox::recent(&db, 9).unwrap().into_iter().map(|alert| alert.title).collect();
        assert_eq!(
            titles,
            [
                "Deploy of shop failed",
                "Deploy of shop succeeded",
                "Deploy of shop started",
                "Deploy of shop started"
            ]
        );
        assert_eq!(recent(&db, 1).unwrap()[0].services, services);
    }
}
