//! What happened, for `events`, the alerts, the router and everybody else who watches.

use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventType {
    Builder,
    Container,
    Daemon,
    Image,
    Network,
    Volume,
    /// naru's own: a project being deployed.
    Deploy,
}

impl EventType {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Builder => "builder",
            Self::Container => "container",
            Self::Daemon => "daemon",
            Self::Image => "image",
            Self::Network => "network",
            Self::Volume => "volume",
            Self::Deploy => "deploy",
        }
    }
}

/// Docker's event message without its wire quirks. `attributes` hold the labels and what the action adds
/// (`exitCode`, `signal`, `oom`, `name`, `image`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub kind: EventType,
    /// Docker's action: `create`, `start`, `die`, `oom`, `health_status: healthy`, `exec_create: sh`, …
    pub action: String,
    /// Container id, image reference or id, network id, volume name.
    pub actor_id: String,
    pub attributes: BTreeMap<String, String>,
    pub at: Timestamp,
}
