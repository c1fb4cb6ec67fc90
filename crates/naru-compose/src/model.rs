//! What a compose file comes to.

use naru_types::spec::ContainerSpec;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;

#[derive(Clone, Debug, PartialEq)]
pub struct Project {
    pub name: String,
    /// Absolute; relative paths of the file are relative to it.
    pub working_dir: PathBuf,
    pub config_files: Vec<PathBuf>,
    /// Each after those it depends on; services whose profile isn't active are left out.
    pub services: Vec<Service>,
    /// Those that a service uses.
    pub networks: Vec<Network>,
    pub volumes: Vec<Volume>,
    /// Nothing that stops anything: variables that aren't set, keys that are obsolete.
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    pub name: String,
    /// `container_name`, or `<project>-<service>-1`.
    pub container_name: String,
    /// Complete but for what the image adds: labels of Compose and of naru's routes included.
    pub spec: ContainerSpec,
    pub build: Option<Build>,
    pub pull_policy: PullPolicy,
    pub depends_on: Vec<Dependency>,
    pub route: Option<Route>,
    pub profiles: Vec<String>,
    /// sha256 in hex over the description; another value means that the container must be made anew. It
    /// is the label `com.docker.compose.config-hash` too.
    pub config_hash: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Build {
    /// Absolute directory.
    pub context: PathBuf,
    /// Relative to the context.
    pub dockerfile: String,
    pub dockerfile_inline: Option<String>,
    pub args: BTreeMap<String, String>,
    pub target: Option<String>,
    pub labels: BTreeMap<String, String>,
    /// More names for the image than the service's own.
    pub tags: Vec<String>,
    pub no_cache: bool,
    pub pull: bool,
    /// `default`, `none` or `host`.
    pub network: Option<String>,
    pub extra_hosts: Vec<String>,
    /// Bytes.
    pub shm_size: Option<i64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PullPolicy {
    Always,
    Never,
    /// Only when the image isn't here.
    #[default]
    Missing,
    Build,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependency {
    pub service: String,
    pub condition: Condition,
    /// Restart this service when that one is restarted by hand.
    pub restart: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    #[default]
    Started,
    Healthy,
    CompletedSuccessfully,
}

/// `x-naru: route:` — where the proxy leads to this service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub host: String,
    /// Begins with a slash.
    pub path: String,
    /// The port in the container.
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// The key in the file.
    pub key: String,
    /// What it is called: `<project>_<key>` unless named.
    pub name: String,
    /// It must exist already and is never removed.
    pub external: bool,
    pub internal: bool,
    pub labels: BTreeMap<String, String>,
    pub options: BTreeMap<String, String>,
    pub ipam: Vec<Ipam>,
}

/// Addresses of a network, as written: the network layer checks that they fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ipam {
    pub subnet: Option<String>,
    pub ip_range: Option<String>,
    pub gateway: Option<Ipv4Addr>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    pub key: String,
    pub name: String,
    pub external: bool,
    pub labels: BTreeMap<String, String>,
}
