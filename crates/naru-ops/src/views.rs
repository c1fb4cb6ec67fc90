//! What ops shows: copies taken at one moment, ready to be written as JSON by a face.

use naru_proxy::RouteTable;
use naru_types::Timestamp;
use serde::{Deserialize, Serialize};

/// The table as it was last computed, and what became of it.
#[derive(Clone, Debug, Serialize)]
pub struct RoutesView {
    pub table: RouteTable,
    pub proxy: ProxyState,
    /// Labels that could not be followed, one sentence each.
    pub problems: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum ProxyState {
    /// No routes, no process.
    Idle,
    Serving {
        generation: u64,
    },
    /// The table did not reach a proxy; it is tried again.
    Failed {
        error: String,
        hint: Option<String>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeployId(pub i64);

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeployView {
    pub id: DeployId,
    pub project: String,
    pub services: Vec<String>,
    pub state: DeployState,
    pub started_at: Timestamp,
    /// Zero while it runs.
    pub finished_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum DeployState {
    Running,
    Succeeded,
    Failed { error: String },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AlertView {
    pub id: i64,
    pub title: String,
    pub at: Timestamp,
    /// How often the same thing was seen while this alert stood for it; 1 at first.
    pub seen: u64,
    pub state: AlertState,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum AlertState {
    Pending {
        attempts: u32,
        last_error: Option<String>,
    },
    Sent {
        at: Timestamp,
    },
    Failed {
        error: String,
    },
    /// There was no webhook when it was raised.
    NoWebhook,
}
