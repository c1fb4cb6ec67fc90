//! Events with Docker's actions and attributes.

use crate::container::Container;
use crate::engine::Engine;
use crate::machine::Happening;
use crate::record::NetworkRow;
use naru_types::event::{Event, EventType};
use std::collections::BTreeMap;

type Attributes<'a> = &'a [(&'a str, &'a str)];

impl Engine {
    pub(crate) fn emit_container(&self, container: &Container, what: Happening) {
        let plain = |action: &str| self.emit_about(container, action, &[]);
        match what {
            Happening::Start => plain("start"),
            Happening::Stop => plain("stop"),
            Happening::Restart => plain("restart"),
            Happening::Pause => plain("pause"),
            Happening::Unpause => plain("unpause"),
            Happening::Oom => plain("oom"),
            Happening::Destroy => plain("destroy"),
            Happening::Kill(signal) => {
                self.emit_about(container, "kill", &[("signal", &signal.0.to_string())]);
            }
            Happening::Die(exit) => {
                let ran_secs = exit.finished_at.0.saturating_sub(exit.started_at.0) / 1_000_000_000;
                let (code, ran) = (exit.code.to_string(), ran_secs.max(0).to_string());
                self.emit_about(container, "die", &[("exitCode", &code), ("execDuration", &ran)]);
            }
        }
    }

    /// A container event: its labels, name and image, and what the action adds.
    pub(crate) fn emit_about(&self, container: &Container, action: &str, more: Attributes<'_>) {
        let mut attributes = {
            let cell = container.cell();
            let mut attributes = cell.spec.labels.clone();
            attributes.insert("name".into(), cell.name.clone());
            attributes.insert("image".into(), cell.spec.image.clone());
            attributes
        };
        extend(&mut attributes, more);
        self.send(EventType::Container, action, container.id.as_str(), attributes);
    }

    pub(crate) fn emit_network(&self, network: &NetworkRow, action: &str, more: Attributes<'_>) {
        let mut attributes = BTreeMap::new();
        extend(&mut attributes, &[("name", &network.name), ("type", &network.driver)]);
        extend(&mut attributes, more);
        self.send(EventType::Network, action, network.id.as_str(), attributes);
    }

    /// Whether the keeper runs another program than before, or could not.
    pub(crate) fn emit_keeper(&self) {
        let Some(upgraded) = &self.keeper.upgraded else { return };
        let action = if upgraded.is_ok() { "keeper_upgrade" } else { "keeper_upgrade_refused" };
        let mut attributes = BTreeMap::new();
        if let Err(reason) = upgraded {
            extend(&mut attributes, &[("reason", reason)]);
        }
        self.send(EventType::Daemon, action, "keeper", attributes);
    }

    pub(crate) fn emit_volume(&self, name: &str, action: &str, more: Attributes<'_>) {
        let mut attributes = BTreeMap::new();
        extend(&mut attributes, &[("driver", "local")]);
        extend(&mut attributes, more);
        self.send(EventType::Volume, action, name, attributes);
    }

    fn send(&self, kind: EventType, action: &str, actor: &str, attributes: BTreeMap<String, String>) {
        let (action, actor_id) = (action.to_owned(), actor.to_owned());
        self.events.emit(Event { kind, action, actor_id, attributes, at: crate::ids::now() });
    }
}

fn extend(attributes: &mut BTreeMap<String, String>, more: Attributes<'_>) {
    attributes.extend(more.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
}
