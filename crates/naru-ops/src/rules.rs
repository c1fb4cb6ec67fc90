//! Which events deserve an alert. Pure: events and the time in, findings out.
//!
//! Every container is watched but those that are one-off (`--rm`, `compose run`) and those with the label
//! `naru.alert=false`. A death that a user asked for is none of our business. Three deaths within a minute
//! are a restart loop: one alert, then silence until the container has been stable for a minute, then one
//! word that it is. What was reported as bad is always reported as good again.

use naru_types::Timestamp;
use naru_types::event::{Event, EventType};
use naru_types::signal::Signal;
use std::collections::{HashMap, VecDeque};

/// Deaths within [`LOOP_SECS`] that make a restart loop.
const LOOP_DEATHS: usize = 3;
const LOOP_SECS: i64 = 60;
/// A container that was asked to end has so long to do it, in seconds; a later death is its own.
const ASKED_SECS_MAX: i64 = 600;
/// An `oom` that no death follows within so many seconds hit a child process; the container goes on.
const OOM_ALONE_SECS: i64 = 5;
/// Containers in memory; beyond it the one that was quiet longest is forgotten.
const CONTAINERS_MAX: usize = 10_000;
const NANOS_PER_SEC: i64 = 1_000_000_000;
/// Signals whose default action does not end a process (signal(7)), and SIGHUP, which means "reload" to
/// most servers.
const HARMLESS_SIGNALS: [u8; 12] = [0, 1, 10, 12, 17, 18, 19, 20, 21, 22, 23, 28];

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    Died {
        exit_code: i64,
    },
    /// `None`: a process in it was killed and the container goes on.
    Oom {
        exit_code: Option<i64>,
    },
    RestartLoop {
        exit_code: i64,
    },
    Stable,
    Unhealthy,
    Healthy,
}

/// A finding and the container it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub finding: Finding,
    pub id: String,
    pub name: String,
    pub image: String,
    pub project: String,
    pub service: String,
    pub at: Timestamp,
}

/// What events do not say, from the container's description.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Facts {
    pub auto_remove: bool,
    pub stop_signal: Option<Signal>,
}

#[derive(Default)]
pub(crate) struct Rules {
    containers: HashMap<String, Watched>,
}

#[derive(Default)]
struct Watched {
    facts: Facts,
    name: String,
    image: String,
    project: String,
    service: String,
    asked_at: Option<Timestamp>,
    oom_at: Option<Timestamp>,
    deaths: VecDeque<Timestamp>,
    looping: bool,
    unhealthy: bool,
    running: bool,
    last_seen: Timestamp,
}

impl Rules {
    pub fn learn(&mut self, id: &str, facts: Facts) {
        self.containers.entry(id.to_owned()).or_default().facts = facts;
    }

    /// For one that was started before the watching began.
    pub fn set_running(&mut self, id: &str) {
        self.containers.entry(id.to_owned()).or_default().running = true;
    }

    pub fn knows(&self, id: &str) -> bool {
        self.containers.contains_key(id)
    }

    pub fn on_event(&mut self, event: &Event) -> Option<Found> {
        if event.kind != EventType::Container {
            return None;
        }
        if event.action == "destroy" {
            self.containers.remove(&event.actor_id);
            return None;
        }
        if self.containers.len() >= CONTAINERS_MAX && !self.knows(&event.actor_id) {
            self.forget_quietest();
        }
        let watched = self.containers.entry(event.actor_id.clone()).or_default();
        watched.take_names(event);
        let finding = watched.on_action(event)?;
        (!is_muted(event, watched)).then(|| watched.found(&event.actor_id, finding, event.at))
    }

    /// What becomes true by waiting. Called about once a second.
    pub fn on_tick(&mut self, now: Timestamp) -> Vec<Found> {
        let mut found = Vec::new();
        for (id, watched) in &mut self.containers {
            if watched.oom_at.is_some_and(|at| seconds(at, now) >= OOM_ALONE_SECS) {
                watched.oom_at = None;
                if watched.running && !watched.looping {
                    found.push(watched.found(id, Finding::Oom { exit_code: None }, now));
                }
            }
            let quiet = watched.deaths.back().is_none_or(|last| seconds(*last, now) >= LOOP_SECS);
            if watched.looping && quiet {
                watched.looping = false;
                watched.deaths.clear();
                if watched.running {
                    found.push(watched.found(id, Finding::Stable, now));
                }
            }
        }
        found
    }

    fn forget_quietest(&mut self) {
        let quietest =
            self.containers.iter().min_by_key(|(_, watched)| watched.last_seen).map(|(id, _)| id.clone());
        if let Some(id) = quietest {
            self.containers.remove(&id);
        }
    }
}

impl Watched {
    fn on_action(&mut self, event: &Event) -> Option<Finding> {
        match event.action.as_str() {
            "start" => {
                (self.running, self.asked_at, self.oom_at) = (true, None, None);
                None
            }
            "kill" => {
                let signal =
                    event.attributes.get("signal").and_then(|signal| signal.parse().ok()).map(Signal);
                if signal.is_none_or(|signal| self.ends(signal)) {
                    self.asked_at = Some(event.at);
                }
                None
            }
            "oom" => {
                self.oom_at = Some(event.at);
                None
            }
            "die" => self.on_death(event),
            "health_status: unhealthy" if !std::mem::replace(&mut self.unhealthy, true) => {
                Some(Finding::Unhealthy)
            }
            "health_status: healthy" if std::mem::take(&mut self.unhealthy) => Some(Finding::Healthy),
            _ => None,
        }
    }

    fn ends(&self, signal: Signal) -> bool {
        self.facts.stop_signal == Some(signal) || !HARMLESS_SIGNALS.contains(&signal.0)
    }

    fn on_death(&mut self, event: &Event) -> Option<Finding> {
        self.running = false;
        let oom = self.oom_at.take().is_some();
        if self.asked_at.take().is_some_and(|asked| seconds(asked, event.at) <= ASKED_SECS_MAX) {
            // Asked for: what was wrong before is over.
            (self.looping, self.unhealthy) = (false, false);
            self.deaths.clear();
            return None;
        }
        let exit_code = event.attributes.get("exitCode").and_then(|code| code.parse().ok()).unwrap_or(-1);
        self.deaths.retain(|death| seconds(*death, event.at) < LOOP_SECS);
        self.deaths.push_back(event.at);
        if self.looping {
            return None;
        }
        if self.deaths.len() >= LOOP_DEATHS {
            self.looping = true;
            return Some(Finding::RestartLoop { exit_code });
        }
        match (oom, exit_code) {
            (true, _) => Some(Finding::Oom { exit_code: Some(exit_code) }),
            (false, 0) => None,
            (false, _) => Some(Finding::Died { exit_code }),
        }
    }

    fn take_names(&mut self, event: &Event) {
        let of = |key: &str| event.attributes.get(key).cloned().unwrap_or_default();
        (self.name, self.image) = (of("name"), of("image"));
        (self.project, self.service) = (of("com.docker.compose.project"), of("com.docker.compose.service"));
        self.last_seen = event.at;
    }

    fn found(&self, id: &str, finding: Finding, at: Timestamp) -> Found {
        let (name, image) = (self.name.clone(), self.image.clone());
        let (project, service) = (self.project.clone(), self.service.clone());
        Found { finding, id: id.to_owned(), name, image, project, service, at }
    }
}

fn is_muted(event: &Event, watched: &Watched) -> bool {
    let is =
        |key: &str, value: &str| event.attributes.get(key).is_some_and(|got| got.eq_ignore_ascii_case(value));
    watched.facts.auto_remove || is("naru.alert", "false") || is("com.docker.compose.oneoff", "true")
}

fn seconds(from: Timestamp, to: Timestamp) -> i64 {
    (to.0 - from.0) / NANOS_PER_SEC
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(at: i64, action: &str, attributes: &[(&str, &str)]) -> Event {
        let attributes = attributes.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let at = Timestamp::from_parts(at, 0);
        Event { kind: EventType::Container, action: action.into(), actor_id: "c1".into(), attributes, at }
    }

    /// `(second, action, attribute)`; a `tick` is no event.
    fn check(script: &[(i64, &str, &str)], expect: &[Finding]) {
        let mut rules = Rules::default();
        let mut found = Vec::new();
        for (at, action, attribute) in script {
            if *action == "tick" {
                found.extend(rules.on_tick(Timestamp::from_parts(*at, 0)));
            } else {
                let attributes: Vec<_> = attribute.split_once('=').into_iter().collect();
                found.extend(rules.on_event(&event(*at, action, &attributes)));
            }
        }
        let found: Vec<_> = found.into_iter().map(|found| found.finding).collect();
        assert_eq!(found, expect, "{script:?}");
    }

    #[test]
    fn deaths() {
        let died = Finding::Died { exit_code: 1 };
        check(&[(0, "start", ""), (1, "die", "exitCode=1")], std::slice::from_ref(&died));
        check(&[(0, "start", ""), (1, "die", "exitCode=0")], &[]);
        check(
            &[(0, "start", ""), (1, "kill", "signal=15"), (2, "die", "exitCode=143"), (2, "stop", "")],
            &[],
        );
        check(&[(0, "kill", "signal=1"), (1, "die", "exitCode=1")], std::slice::from_ref(&died));
        check(&[(0, "kill", "signal=15"), (601, "die", "exitCode=1")], std::slice::from_ref(&died));
        check(
            &[(0, "kill", "signal=15"), (1, "start", ""), (2, "die", "exitCode=1")],
            std::slice::from_ref(&died),
        );
        check(&[(1, "die", "naru.alert=false")], &[]);
        check(&[(1, "die", "com.docker.compose.oneoff=True")], &[]);
    }

    #[test]
    fn memory() {
        check(
            &[(0, "start", ""), (1, "oom", ""), (1, "die", "exitCode=137")],
            &[Finding::Oom { exit_code: Some(137) }],
        );
        check(
            &[(0, "start", ""), (1, "oom", ""), (2, "tick", ""), (7, "tick", ""), (8, "tick", "")],
            &[Finding::Oom { exit_code: None }],
        );
    }

    #[test]
    fn loops_are_told_once_and_their_end_too() {
        let die = "exitCode=3";
        check(
            &[
                (0, "die", die),
                (1, "start", ""),
                (10, "die", die),
                (11, "start", ""),
                (20, "die", die),
                (21, "start", ""),
                (30, "die", die),
                (31, "start", ""),
                (50, "tick", ""),
                (89, "tick", ""),
                (90, "tick", ""),
                (200, "die", die),
            ],
            &[
                Finding::Died { exit_code: 3 },
                Finding::Died { exit_code: 3 },
                Finding::RestartLoop { exit_code: 3 },
                Finding::Stable,
                Finding::Died { exit_code: 3 },
            ],
        );
    }

    #[test]
    fn health_both_ways() {
        let (bad, good) = ("health_status: unhealthy", "health_status: healthy");
        check(
            &[(0, good, ""), (1, bad, ""), (2, bad, ""), (3, good, ""), (4, good, "")],
            &[Finding::Unhealthy, Finding::Healthy],
        );
    }

    #[test]
    fn one_off_containers_and_their_own_stop_signal() {
        let mut rules = Rules::default();
        rules.learn("c1", Facts { auto_remove: true, stop_signal: None });
        assert_eq!(rules.on_event(&event(1, "die", &[("exitCode", "1")])), None);
        rules.learn("c1", Facts { auto_remove: false, stop_signal: Some(Signal(28)) });
        rules.on_event(&event(2, "kill", &[("signal", "28")]));
        assert_eq!(rules.on_event(&event(3, "die", &[("exitCode", "1")])), None);
    }
}
