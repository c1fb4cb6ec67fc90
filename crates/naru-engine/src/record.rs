//! The rows of the state database, as types. Fields are only ever added, with a default.

use crate::machine::State;
use crate::view::{EndpointView, HealthView, IpamView, PublishedPort};
use naru_types::spec::ContainerSpec;
use naru_types::{ContainerId, Digest, NetworkId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
pub struct ContainerRow {
    pub id: ContainerId,
    pub name: String,
    pub created: Timestamp,
    pub image_id: Digest,
    /// Image defaults merged in.
    pub spec: ContainerSpec,
    pub state: State,
    pub facts: RunFacts,
}

/// What the platform gave to the present run, or the latest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunFacts {
    pub endpoints: BTreeMap<String, EndpointView>,
    pub ports: Vec<PublishedPort>,
    /// The same as `naru-net` said it, to be handed back to it after a daemon start.
    pub net: Vec<naru_net::Endpoint>,
    pub net_ports: Vec<naru_net::PublishedPort>,
    pub health: Option<HealthView>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkRow {
    pub id: NetworkId,
    pub name: String,
    pub driver: String,
    #[serde(default)]
    pub attachable: bool,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    #[serde(default)]
    pub ipam: Vec<IpamView>,
    #[serde(default)]
    pub ipam_options: Option<BTreeMap<String, String>>,
    /// `None` for `host` and `none`.
    #[serde(default)]
    pub net: Option<naru_net::Network>,
    pub created: Timestamp,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct VolumeRow {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub options: BTreeMap<String, String>,
    pub created: Timestamp,
    pub anonymous: bool,
}
