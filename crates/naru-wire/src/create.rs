//! `POST /containers/create`: what a client may ask of a container.
//!
//! The same [`Config`] shows in inspect answers, so it is written as well as read.

use crate::host_config::HostConfig;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

pub use naru_types::image::{Empty, Healthcheck};

/// The body: a [`Config`] with two more keys beside its own.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CreateRequest {
    pub config: Config,
    pub host_config: HostConfig,
    pub networking: NetworkingConfig,
}

impl CreateRequest {
    pub fn from_slice(bytes: &[u8]) -> Result<Self, crate::fold::FoldError> {
        // serde's `flatten` would lose the folding of keys, so the body is read twice.
        let config = crate::fold::from_slice(bytes)?;
        let beside: Beside = crate::fold::from_slice(bytes)?;
        Ok(Self { config, host_config: beside.host_config, networking: beside.networking_config })
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Beside {
    host_config: HostConfig,
    networking_config: NetworkingConfig,
}

/// Docker's `container.Config`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Config {
    pub hostname: String,
    pub domainname: String,
    pub user: String,
    pub attach_stdin: bool,
    pub attach_stdout: bool,
    pub attach_stderr: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, Empty>,
    pub tty: bool,
    pub open_stdin: bool,
    pub stdin_once: bool,
    pub env: Option<Vec<String>>,
    #[serde(deserialize_with = "text_or_list")]
    pub cmd: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub args_escaped: bool,
    pub image: String,
    pub volumes: Option<BTreeMap<String, Empty>>,
    pub working_dir: String,
    #[serde(deserialize_with = "text_or_list")]
    pub entrypoint: Option<Vec<String>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub network_disabled: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mac_address: String,
    pub on_build: Option<Vec<String>>,
    pub labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
}

/// Docker's `network.NetworkingConfig`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct NetworkingConfig {
    /// By network name or id; a `null` value means an endpoint without wishes.
    pub endpoints_config: BTreeMap<String, Option<EndpointConfig>>,
}

/// What may be asked of an endpoint, in create and in `POST /networks/{id}/connect`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct EndpointConfig {
    #[serde(rename = "IPAMConfig")]
    pub ipam_config: Option<EndpointIpam>,
    pub links: Vec<String>,
    pub aliases: Vec<String>,
    pub mac_address: String,
    pub driver_opts: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct EndpointIpam {
    #[serde(rename = "IPv4Address")]
    pub ipv4_address: String,
    #[serde(rename = "IPv6Address")]
    pub ipv6_address: String,
    #[serde(rename = "LinkLocalIPs")]
    pub link_local_ips: Vec<String>,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateResponse {
    pub id: String,
    pub warnings: Vec<String>,
}

/// The answer to `POST /containers/{id}/update`, whose body is a [`HostConfig`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UpdateResponse {
    pub warnings: Option<Vec<String>>,
}

/// Docker's `strslice`: a lone string stands for a list of one.
fn text_or_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum TextOrList {
        Text(String),
        List(Vec<String>),
    }
    Ok(Option::<TextOrList>::deserialize(deserializer)?.map(|value| match value {
        TextOrList::Text(text) => vec![text],
        TextOrList::List(list) => list,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_as_clients_send_it() {
        let text = br#"{"image":"busybox","Cmd":"sh","Entrypoint":["a"],"Env":null,"HostConfig":{"Binds":null,"memory":7,
            "PortBindings":{"80/tcp":[{"HostPort":"8080"}],"81/tcp":null}},"NetworkingConfig":{"EndpointsConfig":{"n":null,"m":{"aliases":["x"]}}}}"#;
        let request = CreateRequest::from_slice(text).unwrap();
        assert_eq!(request.config.image, "busybox");
        assert_eq!(request.config.cmd, Some(vec!["sh".to_owned()]));
        assert_eq!(request.host_config.memory, 7);
        assert_eq!(request.host_config.port_bindings.as_ref().map(BTreeMap::len), Some(2));
        let endpoints = &request.networking.endpoints_config;
        assert_eq!(endpoints["n"], None);
        assert_eq!(endpoints["m"].as_ref().unwrap().aliases, ["x"]);
    }
}
