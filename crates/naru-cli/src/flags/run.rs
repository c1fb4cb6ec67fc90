//! What `run` and `create` take.

use clap::Args;

#[derive(Debug, Args)]
pub struct RunFlags {
    /// Run in the background and print the container's id
    #[arg(short, long)]
    pub detach: bool,
    /// Attach to STDIN, STDOUT or STDERR
    #[arg(short = 'a', long = "attach", value_name = "STREAM")]
    pub attach: Vec<String>,
    /// Don't pass received signals on to the process
    #[arg(long = "no-sig-proxy")]
    pub no_sig_proxy: bool,
    #[command(flatten)]
    pub create: CreateFlags,
}

#[derive(Debug, Args)]
pub struct CreateFlags {
    #[command(flatten)]
    pub process: ProcessFlags,
    #[command(flatten)]
    pub limits: LimitFlags,
    #[command(flatten)]
    pub network: NetFlags,
    #[command(flatten)]
    pub storage: StorageFlags,
    #[command(flatten)]
    pub security: SecurityFlags,
    #[command(flatten)]
    pub health: HealthFlags,
    /// The image
    pub image: String,
    /// Command and arguments, in place of the image's
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

#[derive(Debug, Args)]
pub struct ProcessFlags {
    /// Name of the container
    #[arg(long)]
    pub name: Option<String>,
    /// Keep standard input open
    #[arg(short, long)]
    pub interactive: bool,
    /// Allocate a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Remove the container when it ends
    #[arg(long)]
    pub rm: bool,
    /// Set an environment variable (KEY=value, or KEY to take it over)
    #[arg(short, long = "env")]
    pub env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long = "env-file")]
    pub env_file: Vec<String>,
    /// Working directory in the container
    #[arg(short, long)]
    pub workdir: Option<String>,
    /// User name or id, with an optional group: user[:group]
    #[arg(short, long)]
    pub user: Option<String>,
    /// Additional groups
    #[arg(long = "group-add")]
    pub group_add: Vec<String>,
    /// Replace the image's entrypoint
    #[arg(long)]
    pub entrypoint: Option<String>,
    /// Set a label
    #[arg(short, long = "label")]
    pub label: Vec<String>,
    /// Restart policy: no, always, unless-stopped, on-failure[:max-retries]
    #[arg(long, default_value = "no")]
    pub restart: String,
    /// Signal that stops the container
    #[arg(long = "stop-signal")]
    pub stop_signal: Option<String>,
    /// Seconds to wait before the container is killed when stopping
    #[arg(long = "stop-timeout")]
    pub stop_timeout: Option<i64>,
    /// Run an init as pid 1 that forwards signals and reaps
    #[arg(long)]
    pub init: bool,
    /// Write the container's id to a file
    #[arg(long)]
    pub cidfile: Option<String>,
    /// When to pull the image: always, missing, never
    #[arg(long, default_value = "missing", value_parser = ["always", "missing", "never"])]
    pub pull: String,
    /// Log driver: json-file, local, none
    #[arg(long = "log-driver")]
    pub log_driver: Option<String>,
    /// Log driver option
    #[arg(long = "log-opt")]
    pub log_opt: Vec<String>,
}

#[derive(Debug, Args)]
pub struct LimitFlags {
    /// Memory limit, such as 64m
    #[arg(short, long)]
    pub memory: Option<String>,
    /// Memory and swap together; -1 for unlimited swap
    #[arg(long = "memory-swap", allow_hyphen_values = true)]
    pub memory_swap: Option<String>,
    /// Soft memory limit
    #[arg(long = "memory-reservation")]
    pub memory_reservation: Option<String>,
    /// Number of CPUs, such as 0.5
    #[arg(long)]
    pub cpus: Option<String>,
    /// Relative CPU weight
    #[arg(short, long = "cpu-shares")]
    pub cpu_shares: Option<u64>,
    /// CPUs to run on, such as 0-1
    #[arg(long = "cpuset-cpus")]
    pub cpuset_cpus: Option<String>,
    /// Limit of processes and threads; -1 for unlimited
    #[arg(long = "pids-limit", allow_hyphen_values = true)]
    pub pids_limit: Option<i64>,
    /// Block I/O weight, 10 to 1000
    #[arg(long = "blkio-weight")]
    pub blkio_weight: Option<u16>,
    /// Size of /dev/shm
    #[arg(long = "shm-size")]
    pub shm_size: Option<String>,
    /// Resource limit, such as nofile=1024:2048
    #[arg(long)]
    pub ulimit: Vec<String>,
    /// OOM preference, -1000 to 1000
    #[arg(long = "oom-score-adj", allow_hyphen_values = true)]
    pub oom_score_adj: Option<i32>,
}

#[derive(Debug, Args)]
pub struct NetFlags {
    /// Network to join: bridge, host, none, container:NAME or a network's name
    #[arg(long, visible_alias = "net")]
    pub network: Option<String>,
    /// Further name of the container on its network
    #[arg(long = "network-alias")]
    pub network_alias: Vec<String>,
    /// IPv4 address
    #[arg(long)]
    pub ip: Option<String>,
    /// Publish a port: [[address:]host:]container[/proto]
    #[arg(short, long)]
    pub publish: Vec<String>,
    /// Publish all exposed ports on free ports of the host
    #[arg(short = 'P', long = "publish-all")]
    pub publish_all: bool,
    /// Expose a port
    #[arg(long)]
    pub expose: Vec<String>,
    /// Host name in the container
    #[arg(long)]
    pub hostname: Option<String>,
    /// Domain name in the container
    #[arg(long)]
    pub domainname: Option<String>,
    /// Add a line to /etc/hosts: name:address
    #[arg(long = "add-host")]
    pub add_host: Vec<String>,
    /// DNS server
    #[arg(long)]
    pub dns: Vec<String>,
    /// DNS search domain
    #[arg(long = "dns-search")]
    pub dns_search: Vec<String>,
    /// DNS option
    #[arg(long = "dns-option")]
    pub dns_option: Vec<String>,
    /// MAC address
    #[arg(long = "mac-address")]
    pub mac_address: Option<String>,
}

#[derive(Debug, Args)]
pub struct StorageFlags {
    /// Bind a host path or a volume: source:target[:ro]
    #[arg(short, long)]
    pub volume: Vec<String>,
    /// Mount by key=value pairs: type=bind|volume|tmpfs,source=…,target=…,readonly
    #[arg(long)]
    pub mount: Vec<String>,
    /// Mount a tmpfs: target[:options]
    #[arg(long)]
    pub tmpfs: Vec<String>,
    /// Mount the root file system read-only
    #[arg(long = "read-only")]
    pub read_only: bool,
    /// Add a host device: host[:container[:rwm]]
    #[arg(long)]
    pub device: Vec<String>,
}

#[derive(Debug, Args)]
pub struct SecurityFlags {
    /// All capabilities, all devices, no seccomp
    #[arg(long)]
    pub privileged: bool,
    /// Add a capability
    #[arg(long = "cap-add")]
    pub cap_add: Vec<String>,
    /// Drop a capability
    #[arg(long = "cap-drop")]
    pub cap_drop: Vec<String>,
    /// Security option, such as no-new-privileges or seccomp=unconfined
    #[arg(long = "security-opt")]
    pub security_opt: Vec<String>,
    /// Namespaced kernel parameter, such as net.core.somaxconn=1024
    #[arg(long)]
    pub sysctl: Vec<String>,
    /// PID namespace: host or container:NAME
    #[arg(long)]
    pub pid: Option<String>,
    /// IPC namespace: private, host or container:NAME
    #[arg(long)]
    pub ipc: Option<String>,
    /// UTS namespace: host
    #[arg(long)]
    pub uts: Option<String>,
    /// User namespace: host (the daemon's), or auto (root inside is nobody outside)
    #[arg(long)]
    pub userns: Option<String>,
    /// OCI runtime: naru, or a name from "runtimes" of the daemon's configuration, such as crun
    #[arg(long)]
    pub runtime: Option<String>,
    /// Cgroup namespace: private or host
    #[arg(long = "cgroupns")]
    pub cgroupns: Option<String>,
}

#[derive(Debug, Args)]
pub struct HealthFlags {
    /// Command that checks the container's health
    #[arg(long = "health-cmd")]
    pub health_cmd: Option<String>,
    /// Time between checks, such as 30s
    #[arg(long = "health-interval")]
    pub health_interval: Option<String>,
    /// Longest time of one check
    #[arg(long = "health-timeout")]
    pub health_timeout: Option<String>,
    /// Failures in a row that make it unhealthy
    #[arg(long = "health-retries")]
    pub health_retries: Option<i64>,
    /// Time at the start in which failures don't count
    #[arg(long = "health-start-period")]
    pub health_start_period: Option<String>,
    /// Time between checks during the start period
    #[arg(long = "health-start-interval")]
    pub health_start_interval: Option<String>,
    /// Switch the image's health check off
    #[arg(long = "no-healthcheck")]
    pub no_healthcheck: bool,
}
