//! `GET /events`. The head goes out at once, whether there is anything to tell or not: clients wait for it.

use crate::context::ApiContext;
use crate::web::filters::{Filters, name_fits, parse_time};
use crate::web::request::Request;
use crate::web::respond::{self, JSON, Response};
use naru_kernel::clock;
use naru_types::event::{Event, EventType};
use naru_types::{Error, Result, Timestamp};
use naru_wire::event::{Actor, EventMessage};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;

const KNOWN: [&str; 16] = [
    "action",
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
    "builder",
];

pub async fn events(context: Arc<ApiContext>, request: Request) -> Result<Response> {
    let filters = Filters::parse(&request.query, &KNOWN)?;
    let now = clock::now();
    let bound = |name: &str| match request.query.text(name) {
        "" => Ok(None),
        text => parse_time(text, now)
            .map(Some)
            .ok_or_else(|| Error::invalid(format!("invalid value for \"{name}\": {text:?}"))),
    };
    let (since, until) = (bound("since")?, bound("until")?);
    if let (Some(since), Some(until)) = (since, until)
        && until < since
    {
        return Err(Error::invalid("`since` time cannot be after `until` time"));
    }
    // Subscribed before the past is read, so that nothing falls between.
    let mut live = context.engine.subscribe();
    let past = since.map(|since| context.engine.events_since(since)).unwrap_or_default();
    let (sender, response) = respond::stream(JSON);
    tokio::spawn(async move {
        let fits = |event: &Event| until.is_none_or(|until| event.at <= until) && wanted(&filters, event);
        for event in past.iter().filter(|event| fits(event)) {
            if !respond::send_line(&sender, &message(event)).await {
                return;
            }
        }
        let told = past.last().map(|event| event.at);
        let end = async {
            match until {
                Some(until) => tokio::time::sleep(time_left(until)).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(end);
        loop {
            let event = tokio::select! {
                event = live.recv() => event,
                () = &mut end => return,
                () = sender.closed() => return,
            };
            match event {
                Ok(event) if told.is_some_and(|told| event.at <= told) || !fits(&event) => {}
                Ok(event) => {
                    if !respond::send_line(&sender, &message(&event)).await {
                        return;
                    }
                }
                // A reader this slow has lost events already; it goes on with the newer ones, as with dockerd.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    });
    Ok(response)
}

fn time_left(until: Timestamp) -> Duration {
    Duration::from_nanos(u64::try_from(until.0 - clock::now().0).unwrap_or(0))
}

/// moby's `events/filter.go`.
fn wanted(filters: &Filters, event: &Event) -> bool {
    let kind = event.kind.as_str();
    // `health_status: healthy` and `exec_create: sh` are found by their first word too.
    let is_action = |action: &str| {
        event.action == action || event.action.split_once(':').is_some_and(|(first, _)| first == action)
    };
    let named = |filter: &str, of: EventType| {
        filters.any(filter, |wanted| {
            event.kind == of
                && (event.actor_id.starts_with(wanted)
                    || event.attributes.get("name").is_some_and(|name| name_fits(wanted, name)))
        })
    };
    filters.any("type", |wanted| wanted == kind)
        && filters.any("event", is_action)
        && filters.any("action", is_action)
        && filters.any("scope", |wanted| wanted == "local")
        && filters.labels_fit("label", &event.attributes)
        && named("container", EventType::Container)
        && named("network", EventType::Network)
        && named("volume", EventType::Volume)
        && named("daemon", EventType::Daemon)
        && filters.any("image", |wanted| image_fits(event, wanted))
        && ["config", "node", "plugin", "secret", "service", "builder"]
            .iter()
            .all(|absent| !filters.has(absent))
}

/// An image by reference or id, or a container by its image; the tag may be left out.
fn image_fits(event: &Event, wanted: &str) -> bool {
    let name = match event.kind {
        EventType::Image => event.attributes.get("name").unwrap_or(&event.actor_id),
        EventType::Container => match event.attributes.get("image") {
            Some(image) => image,
            None => return false,
        },
        EventType::Builder
        | EventType::Daemon
        | EventType::Network
        | EventType::Volume
        | EventType::Deploy => return false,
    };
    let without_tag = name.rsplit_once(':').map_or(name.as_str(), |(repository, _)| repository);
    name == wanted || without_tag == wanted || event.actor_id == wanted
}

fn message(event: &Event) -> EventMessage {
    let is_legacy = matches!(event.kind, EventType::Container | EventType::Image);
    let is_container = event.kind == EventType::Container;
    EventMessage {
        status: is_legacy.then(|| event.action.clone()),
        id: is_legacy.then(|| event.actor_id.clone()),
        from: is_container.then(|| event.attributes.get("image").cloned()).flatten(),
        kind: event.kind.as_str().into(),
        action: event.action.clone(),
        actor: Actor { id: event.actor_id.clone(), attributes: event.attributes.clone() },
        scope: "local".into(),
        time: event.at.secs(),
        time_nano: event.at.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use naru_wire::url::Query;

    fn event() -> Event {
        Event {
            kind: EventType::Container,
            action: "health_status: healthy".into(),
            actor_id: "14b0".into(),
            attributes: [("image", "busybox:latest"), ("l", "1"), ("name", "gold")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            at: Timestamp(1_795_391_141_881_656_126),
        }
    }

    #[test]
    fn as_recorded_from_dockerd() {
        assert_eq!(
            serde_json::to_string(&message(&event())).unwrap(),
            r#"{"status":"health_status: healthy","id":"14b0","from":"busybox:latest","Type":"container","Action":"health_status: healthy","Actor":{"ID":"14b0","Attributes":{"image":"busybox:latest","l":"1","name":"gold"}},"scope":"local","time":1795391141,"timeNano":1795391141881656126}"#
        );
    }

    #[test]
    fn filters_choose() {
        for (filters, expect) in [
            (r#"{"type":["container"],"event":["health_status"]}"#, true),
            (r#"{"container":["gold"],"label":["l=1"]}"#, true),
            (r#"{"image":["busybox"]}"#, true),
            (r#"{"event":["die"]}"#, false),
            (r#"{"type":["network"]}"#, false),
            (r#"{"service":["x"]}"#, false),
        ] {
            let parsed = Filters::parse(&Query::default().with("filters", filters), &KNOWN).unwrap();
            assert_eq!(wanted(&parsed, &event()), expect, "{filters}");
        }
    }
}
