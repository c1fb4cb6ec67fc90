//! The task that reads the engine's events and turns them into alerts.

use crate::message;
use crate::outbox::{self, Alert};
use crate::port::EnginePort;
use crate::rules::{Facts, Found, Rules};
use crate::sender::{Desk, now};
use naru_engine::{ContainerView, Status};
use naru_types::event::{Event, EventType};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;

const TICK_MS: u64 = 500;

/// Ends with the engine's event stream, or when `ending` turns true.
pub(crate) async fn run(
    engine: Arc<dyn EnginePort>,
    mut events: Receiver<Event>,
    desk: Arc<Desk>,
    mut ending: watch::Receiver<bool>,
) {
    let mut rules = Rules::default();
    learn_all(&mut rules, engine.as_ref());
    let mut tick = tokio::time::interval(Duration::from_millis(TICK_MS));
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Ok(event) => take(&mut rules, &event, &engine, &desk).await,
                // Deaths may have been missed; what can be known is learnt again.
                Err(RecvError::Lagged(_)) => learn_all(&mut rules, engine.as_ref()),
                Err(RecvError::Closed) => return,
            },
            _ = tick.tick() => for found in rules.on_tick(now()) {
                tell(found, &engine, &desk);
            },
            () = ended(&mut ending) => return,
        }
    }
}

/// Returns when it is time to end.
pub(crate) async fn ended(ending: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which is an end too.
    let _ = ending.wait_for(|ending| *ending).await;
}

async fn take(rules: &mut Rules, event: &Event, engine: &Arc<dyn EnginePort>, desk: &Arc<Desk>) {
    if event.kind == EventType::Builder
        && let Some(alert) = message::of_build(event)
    {
        keep(desk, alert).await;
    }
    if event.kind != EventType::Container {
        return;
    }
    // Labels and names come with each event; these facts do not, and at its death it may be gone already.
    if matches!(event.action.as_str(), "create" | "start" | "die") && !rules.knows(&event.actor_id) {
        let facts = engine.inspect(&event.actor_id).as_ref().map(facts_of);
        // A container that died and is gone before anybody looked removed itself.
        rules.learn(&event.actor_id, facts.unwrap_or(Facts { auto_remove: true, stop_signal: None }));
    }
    if let Some(found) = rules.on_event(event) {
        tell(found, engine, desk);
    }
}

fn learn_all(rules: &mut Rules, engine: &dyn EnginePort) {
    for view in engine.list() {
        rules.learn(view.id.as_str(), facts_of(&view));
        if view.state.status == Status::Running {
            rules.set_running(view.id.as_str());
        }
    }
}

fn facts_of(view: &ContainerView) -> Facts {
    Facts { auto_remove: view.spec.auto_remove, stop_signal: view.spec.stop_signal }
}

/// The log is read apart, so that a slow disk does not hold up the events behind this one.
fn tell(found: Found, engine: &Arc<dyn EnginePort>, desk: &Arc<Desk>) {
    let log = engine.tail(&found.id, message::LOG_LINES);
    let desk = desk.clone();
    tokio::spawn(async move {
        let log = log.await;
        keep(&desk, message::of_container(&found, &log)).await;
    });
}

/// Commits the alert and wakes the sender. When even the disk fails there is nobody left to tell.
pub(crate) async fn keep(desk: &Arc<Desk>, alert: Alert) {
    let desk = desk.clone();
    let kept = tokio::task::spawn_blocking(move || {
        if outbox::push(&desk.db, &alert, desk.has_webhook()).is_ok_and(|fresh| fresh) {
            desk.ring();
        }
    });
    let _ = kept.await;
}
