//! `events`: one line each, until the end that was asked for or Ctrl-C.

use crate::client::{Api, Body, filters, moment, query};
use crate::flags::EventsFlags;
use crate::template::Template;
use crate::{Outcome, output};
use naru_types::Timestamp;
use serde_json::Value;

pub fn events(api: &Api, flags: &EventsFlags) -> Outcome {
    let template = flags.format.as_deref().map(Template::parse).transpose()?;
    let since = flags.since.as_deref().map(moment).transpose()?;
    let until = flags.until.as_deref().map(moment).transpose()?;
    let filters = filters(&flags.filter)?;
    let parameters =
        query(&[("since", since.as_deref()), ("until", until.as_deref()), ("filters", filters.as_deref())]);
    let response = api.stream("GET", &format!("/events{parameters}"), Body::Empty)?;
    for event in serde_json::Deserializer::from_reader(response).into_iter::<Value>() {
        let Ok(event) = event else { break };
        match &template {
            Some(template) => output::line(template.render(&event)?),
            None => output::line(describe(&event)),
        }
    }
    Ok(0)
}

/// `2026-… container start <id> (image=nginx, name=web)`
fn describe(event: &Value) -> String {
    let at = Timestamp(event["timeNano"].as_i64().unwrap_or(0)).rfc3339_fixed();
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut attributes: Vec<String> = event
        .pointer("/Actor/Attributes")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    attributes.sort();
    let line = format!("{at} {} {} {}", text("/Type"), text("/Action"), text("/Actor/ID"));
    if attributes.is_empty() { line } else { format!("{line} ({})", attributes.join(", ")) }
}
