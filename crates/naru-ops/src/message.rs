//! From what was found to what people read.

use crate::embed::{Colour, Embed};
use crate::outbox::Alert;
use crate::rules::{Finding, Found};
use naru_types::Timestamp;
use naru_types::event::Event;

/// Log lines under an alert.
pub(crate) const LOG_LINES: u64 = 10;
/// Digits of a container id that are shown.
const SHORT_ID_LEN: usize = 12;

pub(crate) fn of_container(found: &Found, log: &[String]) -> Alert {
    let who = if found.service.is_empty() { &found.name } else { &found.service };
    let (colour, what, exit) = match &found.finding {
        Finding::Died { exit_code } => (Colour::Red, "died".to_owned(), exit_text(*exit_code)),
        Finding::Oom { exit_code: Some(code) } => {
            (Colour::Red, "ran out of memory".to_owned(), exit_text(*code))
        }
        Finding::Oom { exit_code: None } => {
            (Colour::Orange, "lost a process to the memory limit".to_owned(), String::new())
        }
        Finding::RestartLoop { exit_code } => {
            (Colour::Red, "restarts in a loop".to_owned(), exit_text(*exit_code))
        }
        Finding::Stable => (Colour::Green, "is stable again".to_owned(), String::new()),
        Finding::Unhealthy => (Colour::Orange, "is unhealthy".to_owned(), String::new()),
        Finding::Healthy => (Colour::Green, "is healthy again".to_owned(), String::new()),
    };
    let oom = matches!(found.finding, Finding::Oom { .. });
    let short = found.id.get(..SHORT_ID_LEN).unwrap_or(&found.id);
    let fields = [
        ("service", found.service.as_str()),
        ("project", found.project.as_str()),
        ("container", found.name.as_str()),
        ("id", short),
        ("image", found.image.as_str()),
        ("exit", exit.as_str()),
        ("OOM", if oom { "yes, the memory limit was reached" } else { "" }),
    ];
    // Good news needs no log.
    let log = if colour == Colour::Green { &[] } else { log };
    let embed = Embed::new(&format!("{who} {what}"), colour, found.at, &fields, log);
    Alert { embed, dedup: format!("{} {:?}", found.id, found.finding) }
}

fn exit_text(code: i64) -> String {
    match code {
        129..=192 => format!("{code} (signal {})", code - 128),
        255 => "255 (or unknown)".into(),
        code => code.to_string(),
    }
}

/// `None` for an action that is not one of ours.
pub(crate) fn of_build(event: &Event) -> Option<Alert> {
    let of = |key: &str| event.attributes.get(key).map(String::as_str).unwrap_or_default();
    let colour = match event.action.as_str() {
        "started" => Colour::Blue,
        "succeeded" => Colour::Green,
        "failed" => Colour::Red,
        _ => return None,
    };
    let took =
        of("duration_ms").parse::<u64>().map(|ms| format!("{:.1} s", ms as f64 / 1e3)).unwrap_or_default();
    let title = format!("Build of {} {}", of("name"), event.action);
    let error: Vec<String> = of("error").lines().map(str::to_owned).collect();
    let embed = Embed::new(&title, colour, event.at, &[("image", of("name")), ("took", &took)], &error);
    Some(Alert { embed, dedup: format!("build {} {}", event.actor_id, event.action) })
}

pub(crate) fn of_proxy_failure(error: &str, hint: &str, at: Timestamp) -> Alert {
    let embed =
        Embed::new("The proxy does not serve", Colour::Red, at, &[("hint", hint)], &[error.to_owned()]);
    Alert { embed, dedup: format!("proxy {error}") }
}

pub(crate) fn of_test(at: Timestamp) -> Alert {
    let fields = [("test", "Alerts from this server arrive here.")];
    Alert {
        embed: Embed::new("Test message from naru", Colour::Blue, at, &fields, &[]),
        dedup: "test".into(),
    }
}
