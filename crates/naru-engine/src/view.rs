//! What the engine shows: typed pictures of containers, networks, volumes and processes.
//!
//! A view is a copy taken at one moment, so a caller can keep it as long as it likes. Docker's JSON
//! shapes (booleans beside a status, Go's file modes) are made of these by `naru-api`, not here.

use naru_types::logrec::Stream;
use naru_types::spec::{ContainerSpec, PortProto};
use naru_types::{ContainerId, Digest, ExecId, NetworkId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use crate::options::ExecSpec;

/// The answer to `create`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    pub id: ContainerId,
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct ContainerView {
    pub id: ContainerId,
    /// Without a leading slash.
    pub name: String,
    /// As it runs: image defaults merged in.
    pub spec: ContainerSpec,
    pub image_id: Digest,
    pub created: Timestamp,
    pub state: StateView,
    /// By network name. A stopped container keeps its entries, without addresses.
    pub endpoints: BTreeMap<String, EndpointView>,
    /// What is published at present; empty while the container does not run.
    pub ports: Vec<PublishedPort>,
    pub mounts: Vec<MountPoint>,
    /// AppArmor's profile, or `unconfined`; empty where AppArmor is off.
    pub apparmor_profile: String,
    pub log_path: PathBuf,
    pub hostname_path: PathBuf,
    pub hosts_path: PathBuf,
    pub resolv_conf_path: PathBuf,
    pub upper_dir: PathBuf,
    pub work_dir: PathBuf,
    /// Top-most first.
    pub lower_dirs: Vec<PathBuf>,
    pub restart_count: u32,
    /// Sessions that run.
    pub exec_ids: Vec<ExecId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Created,
    Running,
    Paused,
    Restarting,
    Removing,
    Exited,
    Dead,
}

impl Status {
    /// Docker's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Removing => "removing",
            Self::Exited => "exited",
            Self::Dead => "dead",
        }
    }
}

#[derive(Clone, Debug)]
pub struct StateView {
    pub status: Status,
    /// Zero when there is no process.
    pub pid: i32,
    pub exit_code: i64,
    /// Nobody saw the process end: `exit_code` is 255 and `error` says why.
    pub exit_unknown: bool,
    pub error: String,
    pub oom_killed: bool,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
    /// `None` without a health check.
    pub health: Option<HealthView>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    Starting,
    Healthy,
    Unhealthy,
}

impl HealthStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthView {
    pub status: HealthStatus,
    pub failing_streak: u32,
    /// The latest probes, oldest first.
    pub log: Vec<HealthResult>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthResult {
    pub start: Timestamp,
    pub end: Timestamp,
    pub exit_code: i64,
    pub output: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointView {
    pub network_id: NetworkId,
    /// Empty while not attached.
    pub endpoint_id: String,
    pub mac: String,
    pub ipv4: Option<Ipv4Addr>,
    pub prefix_len: u8,
    pub gateway: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
    pub ipv6_prefix_len: u8,
    pub ipv6_gateway: Option<Ipv6Addr>,
    /// As asked for.
    pub aliases: Vec<String>,
    /// Every name by which the network's resolver knows the container.
    pub dns_names: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    pub container: PortProto,
    pub host_ip: IpAddr,
    pub host_port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountPoint {
    /// `bind`, `volume` or `tmpfs`.
    pub kind: &'static str,
    /// The volume's name; empty otherwise.
    pub name: String,
    pub source: PathBuf,
    pub destination: String,
    /// `local` for volumes; empty otherwise.
    pub driver: String,
    pub mode: String,
    pub rw: bool,
    pub propagation: String,
}

/// Bytes of the container's own layer and of all layers together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContainerSize {
    pub rw: u64,
    pub root_fs: u64,
}

#[derive(Clone, Debug)]
pub struct ExecView {
    pub id: ExecId,
    pub container_id: ContainerId,
    pub spec: ExecSpec,
    pub running: bool,
    /// `None` until it has ended.
    pub exit_code: Option<i64>,
    /// Zero when there is no process.
    pub pid: i32,
}

/// One record of the container's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    pub stream: Stream,
    /// The line goes on in the next record of the same stream.
    pub partial: bool,
    pub at: Timestamp,
    pub payload: bytes::Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkEndpointView {
    pub name: String,
    pub endpoint: EndpointView,
}

#[derive(Clone, Debug)]
pub struct NetworkView {
    pub id: NetworkId,
    pub name: String,
    /// `bridge`, `host` or `null`.
    pub driver: String,
    /// Always `local`.
    pub scope: &'static str,
    pub internal: bool,
    pub attachable: bool,
    pub labels: BTreeMap<String, String>,
    pub options: BTreeMap<String, String>,
    pub ipam: Vec<IpamView>,
    /// As the client sent it; `None` is shown as null.
    pub ipam_options: Option<BTreeMap<String, String>>,
    pub enable_ipv6: bool,
    pub created: Timestamp,
    pub containers: BTreeMap<ContainerId, NetworkEndpointView>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpamView {
    pub subnet: String,
    pub gateway: String,
    pub ip_range: String,
    /// Addresses that no container gets, by the name of what has them.
    #[serde(default)]
    pub auxiliary: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeView {
    pub name: String,
    /// Always `local`.
    pub driver: String,
    pub mountpoint: PathBuf,
    pub labels: BTreeMap<String, String>,
    pub options: BTreeMap<String, String>,
    pub created: Timestamp,
    pub anonymous: bool,
    /// Containers, running or not, that mount it.
    pub ref_count: usize,
}

/// What a path in a container is, as lstat says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathStat {
    pub name: String,
    pub size: u64,
    /// `st_mode` with its type bits; Go's bit layout is the face's affair.
    pub mode: u32,
    pub mtime: Timestamp,
    /// Empty unless a symbolic link.
    pub link_target: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    Modified,
    Added,
    Deleted,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub kind: ChangeKind,
    /// Absolute, in the container.
    pub path: String,
}

/// The answer to a wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitResult {
    pub exit_code: i64,
    pub error: Option<String>,
}

/// One row of `top`: facts of /proc/<pid>, unformatted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessRow {
    pub uid: u32,
    /// The user's name on the host, or the number.
    pub user: String,
    pub pid: i32,
    pub ppid: i32,
    /// Processor use over the process's life, in whole per cent.
    pub cpu_percent: u32,
    pub started_at: Timestamp,
    /// `?` without a terminal, else as ps prints it (`pts/0`).
    pub tty: String,
    /// User and system time, in seconds.
    pub cpu_secs: u64,
    pub rss_bytes: u64,
    /// The program's name as the kernel has it, at most 15 bytes (proc(5), /proc/pid/comm).
    pub comm: String,
    pub command: String,
}
