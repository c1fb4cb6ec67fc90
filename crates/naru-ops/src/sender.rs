//! The thread that empties the outbox, oldest first, one message at a time.
//!
//! It is a thread because the HTTP client and SQLite block. A message that was taken but whose mark was lost
//! (the daemon died in between) is sent again; its number in the footer tells people that it is the same.

use crate::db::Db;
use crate::discord::{Poster, Verdict};
use crate::error::OpsError;
use crate::outbox::{self, Due};
use crate::webhook::WebhookUrl;
use naru_types::Timestamp;
use std::hash::{BuildHasher, Hasher};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// First wait after a failure, in milliseconds; it doubles.
const BACKOFF_MS_MIN: u64 = 500;
/// Longest wait after a failure, in milliseconds: five minutes.
const BACKOFF_MS_MAX: u64 = 300_000;
/// After a failure nothing else is sent for so long at most, in milliseconds; then other rows have their turn.
const PAUSE_AFTER_FAILURE_MS_MAX: u64 = 5_000;
/// Added to every wait that a receiver asks for, at most, in milliseconds: clocks differ.
const JITTER_MS_MAX: u64 = 200;
/// Longest sleep, in seconds, so that old rows are expired on a quiet day too.
const SLEEP_SECS_MAX: u64 = 600;
/// Sleep after a database error, in seconds.
const DATABASE_ERROR_SECS: u64 = 10;

/// What the sender and the face share.
pub(crate) struct Desk {
    pub db: Arc<Db>,
    pub host_name: String,
    state: Mutex<State>,
    bell: Condvar,
}

#[derive(Default)]
struct State {
    webhook: Option<WebhookUrl>,
    /// The receiver said that this address is of no use; nothing is sent to it again.
    gone: bool,
    rung: bool,
    stopping: bool,
}

impl Desk {
    pub fn new(db: Arc<Db>, host_name: String, webhook: Option<WebhookUrl>) -> Self {
        let state = State { webhook, ..State::default() };
        Self { db, host_name, state: Mutex::new(state), bell: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The fields are independent of each other; a panic cannot leave them half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn webhook(&self) -> Option<WebhookUrl> {
        self.state().webhook.clone()
    }

    pub fn has_webhook(&self) -> bool {
        self.state().webhook.is_some()
    }

    pub fn set_webhook(&self, url: Option<WebhookUrl>) {
        let mut state = self.state();
        (state.webhook, state.gone) = (url, false);
        drop(state);
        self.ring();
    }

    /// There may be something to send.
    pub fn ring(&self) {
        self.state().rung = true;
        self.bell.notify_all();
    }

    pub fn stop(&self) {
        self.state().stopping = true;
        self.bell.notify_all();
    }

    /// Sleeps, until `for_at_most` is over or something happens. `until_new`: a ring ends the sleep too.
    /// `false`: the end.
    fn sleep(&self, for_at_most: Duration, until_new: bool) -> bool {
        let awake = |state: &mut State| !(state.stopping || until_new && state.rung);
        let slept = self.bell.wait_timeout_while(self.state(), for_at_most, awake);
        let (mut state, _) = slept.unwrap_or_else(PoisonError::into_inner);
        state.rung &= !until_new;
        !state.stopping
    }
}

pub(crate) fn start(desk: Arc<Desk>) -> Result<std::thread::JoinHandle<()>, OpsError> {
    let thread = std::thread::Builder::new().name("alert-sender".into());
    thread
        .spawn(move || send_for_ever(&desk))
        .map_err(|source| OpsError::Thread { name: "alert sender", source })
}

fn send_for_ever(desk: &Desk) {
    let poster = Poster::new();
    loop {
        let go_on = match step(desk, &poster) {
            Ok(Next::Now) => desk.sleep(Duration::ZERO, false),
            Ok(Next::Pause(pause)) => desk.sleep(pause, false),
            Ok(Next::Wait(wait)) => desk.sleep(wait.min(Duration::from_secs(SLEEP_SECS_MAX)), true),
            // A full or broken disk: nothing is lost by waiting.
            Err(_) => desk.sleep(Duration::from_secs(DATABASE_ERROR_SECS), false),
        };
        if !go_on {
            return;
        }
    }
}

enum Next {
    Now,
    /// Nothing may be sent before it is over.
    Pause(Duration),
    /// Nothing is due; a new row ends the wait.
    Wait(Duration),
}

fn step(desk: &Desk, poster: &Poster) -> Result<Next, OpsError> {
    let now = now();
    outbox::expire(&desk.db, now)?;
    let (webhook, gone) = {
        let state = desk.state();
        (state.webhook.clone(), state.gone)
    };
    let Some(webhook) = webhook.filter(|_| !gone) else { return Ok(Next::Wait(Duration::MAX)) };
    let Some(due) = outbox::due(&desk.db, now)? else {
        let until =
            outbox::next_at(&desk.db)?.map_or(i64::MAX, |at| at.0.saturating_sub(now.0).max(1_000_000));
        return Ok(Next::Wait(Duration::from_nanos(until as u64)));
    };
    let verdict = poster.post(&webhook, &due.embed.message(&footer(desk, &due)));
    settle(desk, &due, verdict)
}

fn settle(desk: &Desk, due: &Due, verdict: Verdict) -> Result<Next, OpsError> {
    let later = |wait: Duration| Timestamp(now().0.saturating_add(wait.as_nanos() as i64));
    match verdict {
        Verdict::Taken { pause } => {
            outbox::mark_sent(&desk.db, due.id, now())?;
            Ok(if pause.is_zero() { Next::Now } else { Next::Pause(pause + jitter(JITTER_MS_MAX)) })
        }
        Verdict::Wait { pause } => {
            let pause = pause + jitter(JITTER_MS_MAX);
            // Kept in the row too, so that a restarted daemon waits as well. Being limited is no failure.
            outbox::postpone(&desk.db, due.id, later(pause), "rate limited", false)?;
            Ok(Next::Pause(pause))
        }
        Verdict::Retry { error } => {
            let wait = backoff(due.attempts);
            outbox::postpone(&desk.db, due.id, later(wait), &error, true)?;
            Ok(Next::Pause(wait.min(Duration::from_millis(PAUSE_AFTER_FAILURE_MS_MAX))))
        }
        Verdict::Refused { error, webhook_gone } => {
            outbox::mark_failed(&desk.db, due.id, &error)?;
            if webhook_gone {
                desk.state().gone = true;
            }
            Ok(Next::Now)
        }
    }
}

fn footer(desk: &Desk, due: &Due) -> String {
    let seen = if due.seen > 1 { format!(", seen {} times", due.seen) } else { String::new() };
    format!("naru on {} (alert {}{seen})", desk.host_name, due.id)
}

/// Doubles from failure to failure; half of it is chance, so that many senders do not come back as one.
fn backoff(attempts: u32) -> Duration {
    let full = BACKOFF_MS_MIN.saturating_mul(1 << attempts.min(20)).min(BACKOFF_MS_MAX);
    Duration::from_millis(full / 2) + jitter(full / 2)
}

fn jitter(max_ms: u64) -> Duration {
    // The standard library seeds each of these at random, which is all the chance that is needed here.
    let chance = std::collections::hash_map::RandomState::new().build_hasher().finish();
    Duration::from_millis(chance % (max_ms + 1))
}

pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_parts(since.as_secs() as i64, since.subsec_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_grows_and_is_bounded() {
        for (attempts, max) in [(0, 500), (1, 1000), (5, 16_000), (60, BACKOFF_MS_MAX)] {
            let wait = backoff(attempts).as_millis() as u64;
            assert!(wait >= max / 2 && wait <= max, "{attempts}: {wait}");
        }
    }
}
