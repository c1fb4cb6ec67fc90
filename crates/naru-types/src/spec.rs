//! `ContainerSpec`: the one description of a container inside naru.
//!
//! Docker's JSON, a compose service and CLI flags each have one conversion into it; it has one lowering
//! to an OCI `config.json` (`naru_runtime::lower`). It is stored as JSON in the state database, so a
//! field is only ever added with `#[serde(default)]`.

use crate::image::Healthcheck;
use crate::signal::Signal;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

/// Everything that was asked for, image defaults already merged in. What was *given* by the platform at run time
/// (addresses, pids) is state, not spec.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerSpec {
    /// The image as the user wrote it.
    pub image: String,
    pub hostname: String,
    pub domainname: String,
    pub process: Process,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub stdio: Stdio,
    pub stop_signal: Option<Signal>,
    /// Seconds between the stop signal and SIGKILL; `None` is Docker's 10; negative waits for ever.
    pub stop_timeout_secs: Option<i64>,
    pub healthcheck: Option<Healthcheck>,
    pub restart: RestartPolicy,
    pub auto_remove: bool,
    pub resources: Resources,
    pub mounts: Vec<Mount>,
    /// `container[:ro]`, as asked. Their mounts are in `mounts` from the create on.
    pub volumes_from: Vec<String>,
    /// Targets in `mounts` that came by `volumes_from`.
    pub inherited: Vec<String>,
    pub network: NetworkSpec,
    pub security: Security,
    pub namespaces: Namespaces,
    /// Size of /dev/shm in bytes; `None` is Docker's 64 MiB.
    pub shm_size: Option<i64>,
    pub sysctls: BTreeMap<String, String>,
    pub ulimits: Vec<Ulimit>,
    pub devices: Vec<Device>,
    pub oom_score_adj: i32,
    /// Run a tiny init as pid 1 that reaps and forwards signals (`--init`).
    pub init: bool,
    pub log: LogSpec,
    /// Where the container's cgroup goes, below the daemon's own; `None` is the default parent.
    pub cgroup_parent: Option<String>,
    /// An OCI runtime of `daemon.json`, by its name there; empty: naru's own.
    pub runtime: String,
}

/// What is executed. `entrypoint` and `cmd` are kept apart because `docker inspect` shows them apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Process {
    pub entrypoint: Option<Vec<String>>,
    pub cmd: Option<Vec<String>>,
    /// `KEY=value`, image's first.
    pub env: Vec<String>,
    pub working_dir: String,
    /// `user[:group]`, by name or number, resolved in the container's own /etc/passwd at start.
    pub user: String,
    pub group_add: Vec<String>,
}

impl Process {
    /// Entrypoint and command joined: the argument vector.
    pub fn args(&self) -> Vec<String> {
        self.entrypoint.iter().flatten().chain(self.cmd.iter().flatten()).cloned().collect()
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stdio {
    pub tty: bool,
    pub open_stdin: bool,
    /// Close stdin when the first attached client goes away.
    pub stdin_once: bool,
    pub attach_stdin: bool,
    pub attach_stdout: bool,
    pub attach_stderr: bool,
    /// Rows and columns to start with.
    pub console_size: Option<(u16, u16)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    #[default]
    No,
    Always,
    UnlessStopped,
    /// On a non-zero exit, at most `max_retries` times; zero means without limit.
    OnFailure {
        max_retries: u32,
    },
}

/// Limits. Zero means "not set", as in Docker, but for `memory_swap` (−1: unlimited) and `pids` (see there).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Bytes.
    pub memory: i64,
    /// Memory plus swap, bytes; −1 unlimited; 0: twice `memory`, as Docker.
    pub memory_swap: i64,
    /// Soft limit, bytes.
    pub memory_reservation: i64,
    pub oom_kill_disable: bool,
    /// 1e-9 CPUs; excludes `cpu_quota`.
    pub nano_cpus: i64,
    pub cpu_shares: u64,
    /// Microseconds per `cpu_period`.
    pub cpu_quota: i64,
    /// Microseconds.
    pub cpu_period: u64,
    pub cpuset_cpus: String,
    pub cpuset_mems: String,
    /// `None` or ≤ 0: unlimited.
    pub pids: Option<i64>,
    /// 10..=1000; 0: not set.
    pub blkio_weight: u16,
    pub blkio_weight_device: Vec<DeviceWeight>,
    /// Bytes per second.
    pub blkio_read_bps: Vec<DeviceRate>,
    pub blkio_write_bps: Vec<DeviceRate>,
    /// Operations per second.
    pub blkio_read_iops: Vec<DeviceRate>,
    pub blkio_write_iops: Vec<DeviceRate>,
    /// Microseconds, as `cpu_realtime_runtime`; cgroup v1 only.
    pub cpu_realtime_period: u64,
    pub cpu_realtime_runtime: i64,
    /// 0..=100; `None` and −1: the kernel's own. cgroup v1 only.
    pub memory_swappiness: Option<i64>,
    /// Lines of the device list, such as `c 13:* rmw`.
    pub device_rules: Vec<String>,
}

/// A block device on the host, by its node, and its share of the I/O.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceWeight {
    pub path: PathBuf,
    /// 10..=1000.
    pub weight: u16,
}

/// A block device on the host, by its node, and how much may be read or written in a second.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceRate {
    pub path: PathBuf,
    pub rate: u64,
}

impl Resources {
    /// The four throttles.
    pub fn blkio_rates(&self) -> [&Vec<DeviceRate>; 4] {
        [&self.blkio_read_bps, &self.blkio_write_bps, &self.blkio_read_iops, &self.blkio_write_iops]
    }

    /// Every block device that is named.
    pub fn block_devices(&self) -> impl Iterator<Item = &PathBuf> {
        let rates = self.blkio_rates().into_iter().flatten().map(|device| &device.path);
        self.blkio_weight_device.iter().map(|device| &device.path).chain(rates)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    pub source: MountSource,
    /// Absolute path in the container.
    pub target: String,
    pub read_only: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MountSource {
    /// A host path. `create`: make a missing directory, as `-v` does and `--mount` does not.
    Bind {
        path: PathBuf,
        propagation: Propagation,
        create: bool,
    },
    /// A named volume, or an anonymous one (random name, removed by `rm -v`). `copy`: an empty volume first takes
    /// over what the image has at the target.
    Volume {
        name: String,
        anonymous: bool,
        copy: bool,
        /// Labels of the volume, where this mount makes it.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        labels: BTreeMap<String, String>,
    },
    Tmpfs {
        size: i64,
        mode: u32,
        options: Vec<String>,
    },
}

impl MountSource {
    pub fn named_volume(name: impl Into<String>, copy: bool) -> Self {
        Self::Volume { name: name.into(), anonymous: false, copy, labels: BTreeMap::new() }
    }

    pub fn anonymous_volume(name: impl Into<String>, copy: bool) -> Self {
        Self::Volume { name: name.into(), anonymous: true, copy, labels: BTreeMap::new() }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Propagation {
    #[default]
    Rprivate,
    Private,
    Rshared,
    Shared,
    Rslave,
    Slave,
}

impl Propagation {
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "" | "rprivate" => Self::Rprivate,
            "private" => Self::Private,
            "rshared" => Self::Rshared,
            "shared" => Self::Shared,
            "rslave" => Self::Rslave,
            "slave" => Self::Slave,
            _ => return None,
        })
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rprivate => "rprivate",
            Self::Private => "private",
            Self::Rshared => "rshared",
            Self::Shared => "shared",
            Self::Rslave => "rslave",
            Self::Slave => "slave",
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkSpec {
    pub mode: NetworkMode,
    /// By network name or id as asked, for user networks (the primary of `mode` included).
    pub endpoints: BTreeMap<String, EndpointSpec>,
    /// Ports the image or the user declares, e.g. `80/tcp`.
    pub exposed: Vec<PortProto>,
    pub published: Vec<PortBinding>,
    /// `-P`: publish every exposed port on a free host port.
    pub publish_all: bool,
    pub dns: Vec<IpAddr>,
    pub dns_search: Vec<String>,
    pub dns_options: Vec<String>,
    /// `name:address` lines for /etc/hosts; the address may be `host-gateway`.
    pub extra_hosts: Vec<String>,
    /// `container[:alias]`, legacy links.
    pub links: Vec<String>,
    pub mac_address: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkMode {
    /// The network named `bridge`.
    #[default]
    Bridge,
    Host,
    None,
    /// The network namespace of another container, by id or name.
    Container(String),
    /// A user-defined network, by name or id.
    Network(String),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointSpec {
    pub aliases: Vec<String>,
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
    pub mac: Option<String>,
    pub links: Vec<String>,
    /// Kept for inspect.
    pub driver_opts: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proto {
    Tcp,
    Udp,
    Sctp,
}

impl Proto {
    pub fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Some(Self::Tcp),
            "udp" => Some(Self::Udp),
            "sctp" => Some(Self::Sctp),
            _ => None,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// A port of the container, printed `80/tcp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortProto {
    pub port: u16,
    pub proto: Proto,
}

impl PortProto {
    /// `80`, `80/tcp`.
    pub fn parse(text: &str) -> Option<Self> {
        let (port, proto) = text.split_once('/').unwrap_or((text, "tcp"));
        let port = port.parse().ok().filter(|port| *port != 0)?;
        Some(Self { port, proto: Proto::parse(proto)? })
    }
}

impl std::fmt::Display for PortProto {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.port, self.proto.as_str())
    }
}

/// One `-p`. Host port range: the engine takes the first free one; `0..=0` means any free port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortBinding {
    pub container: PortProto,
    /// `None`: every address.
    pub host_ip: Option<IpAddr>,
    /// First and last acceptable host port.
    pub host_port: (u16, u16),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Security {
    pub privileged: bool,
    /// Names without `CAP_`, upper case; `ALL` allowed.
    pub cap_add: Vec<String>,
    pub cap_drop: Vec<String>,
    pub no_new_privileges: bool,
    pub seccomp: Seccomp,
    /// A loaded AppArmor profile, or `unconfined`; `None`: the default one where AppArmor is enabled.
    pub apparmor: Option<String>,
    pub read_only_rootfs: bool,
    /// `None`: Docker's default list; `Some(vec![])`: none (systempaths=unconfined).
    pub masked_paths: Option<Vec<String>>,
    pub readonly_paths: Option<Vec<String>>,
    /// As given, for inspect.
    pub security_opt: Vec<String>,
    pub userns: UserNamespace,
}

/// Whether root in the container is root on the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UserNamespace {
    /// As the daemon's `userns-remap` says when the container is made; a container that exists has the daemon's own.
    #[default]
    Default,
    /// The daemon's own: root is root.
    Host,
    /// One of its own, whose ids 0 to [`UserNamespace::SIZE`] − 1 are those from `first` on the host; `None` until the
    /// engine has chosen.
    Own { first: Option<u32> },
}

impl UserNamespace {
    /// Ids of one container: what images use, `nobody` (65534) included.
    pub const SIZE: u32 = 65_536;

    /// The first id on the host.
    pub fn first(self) -> Option<u32> {
        match self {
            Self::Own { first } => first,
            Self::Default | Self::Host => None,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Seccomp {
    #[default]
    Default,
    Unconfined,
    /// A profile in Docker's JSON.
    Profile(String),
}

/// Which namespaces are shared with the host or another container. Private unless said otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Namespaces {
    pub pid: NamespaceMode,
    pub ipc: NamespaceMode,
    pub uts: NamespaceMode,
    pub cgroup: NamespaceMode,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NamespaceMode {
    #[default]
    Private,
    Host,
    /// Another container's, by id or name.
    Container(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// Lower case without `RLIMIT_`, e.g. `nofile`.
    pub name: String,
    /// −1: unlimited.
    pub soft: i64,
    pub hard: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    pub host: PathBuf,
    pub container: String,
    /// Any of `rwm`.
    pub permissions: String,
}

/// The container's own log. Bounded by default, unlike Docker's json-file: a full disk is no default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogSpec {
    /// `false`: `--log-driver none`.
    pub enabled: bool,
    /// Size of one file in bytes at which it is rotated.
    pub file_bytes_max: u64,
    /// Files kept, the active one included.
    pub files_max: u32,
    /// The driver name as asked (`json-file`, `local`), for inspect.
    pub driver: String,
    /// The options as asked, for inspect.
    pub options: BTreeMap<String, String>,
}

impl Default for LogSpec {
    fn default() -> Self {
        Self {
            enabled: true,
            file_bytes_max: 20 << 20,
            files_max: 5,
            driver: "json-file".into(),
            options: BTreeMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_row_still_reads() {
        let spec: ContainerSpec = serde_json::from_str(r#"{"image":"x"}"#).unwrap();
        assert_eq!(spec.log.files_max, 5);
        let round: ContainerSpec = serde_json::from_str(&serde_json::to_string(&spec).unwrap()).unwrap();
        assert_eq!(round, spec);
    }

    #[test]
    fn ports() {
        assert_eq!(PortProto::parse("53/udp").map(|p| p.to_string()).as_deref(), Some("53/udp"));
        assert_eq!(PortProto::parse("80").map(|p| p.to_string()).as_deref(), Some("80/tcp"));
        for bad in ["0", "x", "80/x", "70000", ""] {
            assert_eq!(PortProto::parse(bad), None, "{bad}");
        }
    }
}
