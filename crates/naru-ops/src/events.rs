//! The events that ops adds to the engine's stream or understands there, beside Docker's own.
//!
//! | type | action | attributes |
//! |---|---|---|
//! | builder | `started`, `succeeded`, `failed` | `name` (the tag, or what is built), `error`, `duration_ms` |
//! | deploy | `started`, `succeeded`, `failed` | `name` (the project), `services`, `error`, `duration_ms` |

use crate::deploys::word;
use crate::views::{DeployState, DeployView};
use naru_types::Timestamp;
use naru_types::event::{Event, EventType};
use std::collections::BTreeMap;

/// How a build stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuildStep<'a> {
    Started,
    Succeeded { duration_ms: u64 },
    Failed { duration_ms: u64, error: &'a str },
}

/// What whoever runs builds emits through the engine; it becomes an alert. `id` is the same for all steps of
/// one build.
pub fn build(id: &str, name: &str, step: BuildStep<'_>, at: Timestamp) -> Event {
    let mut attributes = BTreeMap::from([("name".to_owned(), name.to_owned())]);
    let action = match step {
        BuildStep::Started => "started",
        BuildStep::Succeeded { duration_ms } => {
            attributes.insert("duration_ms".into(), duration_ms.to_string());
            "succeeded"
        }
        BuildStep::Failed { duration_ms, error } => {
            attributes.insert("duration_ms".into(), duration_ms.to_string());
            attributes.insert("error".into(), error.to_owned());
            "failed"
        }
    };
    Event { kind: EventType::Builder, action: action.into(), actor_id: id.into(), attributes, at }
}

pub(crate) fn deploy(view: &DeployView) -> Event {
    let mut attributes = BTreeMap::from([
        ("name".to_owned(), view.project.clone()),
        ("services".to_owned(), view.services.join(",")),
    ]);
    let mut at = view.finished_at;
    match &view.state {
        DeployState::Running => at = view.started_at,
        DeployState::Succeeded => {}
        DeployState::Failed { error } => drop(attributes.insert("error".into(), error.clone())),
    }
    if view.state != DeployState::Running {
        let ms = (view.finished_at.0 - view.started_at.0) / 1_000_000;
        attributes.insert("duration_ms".into(), ms.to_string());
    }
    let (action, actor_id) = (word(&view.state).to_owned(), view.id.0.to_string());
    Event { kind: EventType::Deploy, action, actor_id, attributes, at }
}
