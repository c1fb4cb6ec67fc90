//! What can be typed. One definition: help and completions come from it.

use clap::{Args, Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(
    name = "naru",
    version,
    about = "Containers, builds, deploys and HTTPS on one Linux server",
    disable_help_subcommand = true
)]
pub struct Cli {
    /// Daemon socket to connect to, as unix:///path (default: $DOCKER_HOST, else naru's own)
    #[arg(short = 'H', long = "host", global = true, value_name = "SOCKET")]
    pub host: Option<String>,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create and run a new container from an image
    Run(RunFlags),
    /// Create a new container
    Create(CreateFlags),
    /// Start one or more stopped containers
    Start(StartFlags),
    /// Stop one or more running containers
    Stop(StopFlags),
    /// Restart one or more containers
    Restart(StopFlags),
    /// Kill one or more running containers
    Kill(KillFlags),
    /// Remove one or more containers
    Rm(RmFlags),
    /// Pause all processes within one or more containers
    Pause(Names),
    /// Unpause all processes within one or more containers
    Unpause(Names),
    /// Block until one or more containers stop, then print their exit codes
    Wait(Names),
    /// Rename a container
    Rename { container: String, new_name: String },
    /// Execute a command in a running container
    Exec(ExecFlags),
    /// Attach local standard input, output and error to a running container
    Attach(AttachFlags),
    /// List containers
    #[command(visible_alias = "list")]
    Ps(PsFlags),
    /// Fetch the logs of a container, or of the services of the project here
    Logs(LogsFlags),
    /// Display the running processes of a container
    Top { container: String },
    /// List port mappings of a container
    Port { container: String },
    /// Live resource usage of containers
    Stats(StatsFlags),
    /// Copy files between a container and the local filesystem
    Cp { source: String, destination: String },
    /// Inspect changes to files of a container's filesystem
    Diff { container: String },
    /// Detailed information on containers, images, networks or volumes
    Inspect(InspectFlags),
    /// List images
    Images(ImagesFlags),
    /// Download an image from a registry
    Pull(PullFlags),
    /// Upload an image to a registry
    Push(PushFlags),
    /// Create a tag that refers to an image
    Tag { source: String, target: String },
    /// Remove one or more images
    Rmi(RmiFlags),
    /// Build an image from a Dockerfile
    Build(BuildFlags),
    /// Save images to a tar archive (standard output by default)
    Save(SaveFlags),
    /// Load images from a tar archive (standard input by default)
    Load(LoadFlags),
    /// Make an image from a root file system in a tar archive
    Import(ImportFlags),
    /// Manage networks
    #[command(subcommand)]
    Network(NetworkCommand),
    /// Manage volumes
    #[command(subcommand)]
    Volume(VolumeCommand),
    /// Follow what happens in the daemon
    Events(EventsFlags),
    /// Show the versions of client and daemon
    Version(FormatFlag),
    /// Show system-wide information
    Info(FormatFlag),
    /// Build, create and start the services of a compose file, with their routes
    Up(UpFlags),
    /// Stop and remove the containers and networks of a project
    Down(DownFlags),
    /// Show the HTTPS routes that the proxy serves
    Routes,
    /// Print the certificate of naru's own development CA
    Ca,
    /// Discord alerts: where they go and what was sent
    #[command(subcommand)]
    Alerts(AlertsCommand),
    /// List the latest deploys
    Deploys,
    /// Manage the daemon
    #[command(subcommand)]
    System(SystemCommand),
}

#[derive(Debug, Args)]
pub struct Names {
    #[arg(required = true)]
    pub containers: Vec<String>,
}

#[derive(Debug, Args)]
pub struct FormatFlag {
    /// `json`, or a template such as '{{.Server.Version}}'
    #[arg(short, long)]
    pub format: Option<String>,
}

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

#[derive(Debug, Args)]
pub struct StartFlags {
    /// Attach standard output and error, forward signals
    #[arg(short, long)]
    pub attach: bool,
    /// Attach standard input
    #[arg(short, long)]
    pub interactive: bool,
    #[arg(required = true)]
    pub containers: Vec<String>,
}

#[derive(Debug, Args)]
pub struct StopFlags {
    /// Signal to send first
    #[arg(short, long)]
    pub signal: Option<String>,
    /// Seconds to wait before killing
    #[arg(short = 't', long = "timeout", visible_alias = "time", allow_hyphen_values = true)]
    pub timeout: Option<i64>,
    #[arg(required = true)]
    pub containers: Vec<String>,
}

#[derive(Debug, Args)]
pub struct KillFlags {
    /// Signal to send
    #[arg(short, long, default_value = "KILL")]
    pub signal: String,
    #[arg(required = true)]
    pub containers: Vec<String>,
}

#[derive(Debug, Args)]
pub struct RmFlags {
    /// Kill a running container first
    #[arg(short, long)]
    pub force: bool,
    /// Remove its anonymous volumes too
    #[arg(short, long)]
    pub volumes: bool,
    #[arg(required = true)]
    pub containers: Vec<String>,
}

#[derive(Debug, Args)]
pub struct ExecFlags {
    /// Run in the background
    #[arg(short, long)]
    pub detach: bool,
    /// Keep standard input open
    #[arg(short, long)]
    pub interactive: bool,
    /// Allocate a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Set an environment variable
    #[arg(short, long = "env")]
    pub env: Vec<String>,
    /// User name or id, with an optional group
    #[arg(short, long)]
    pub user: Option<String>,
    /// Working directory
    #[arg(short, long)]
    pub workdir: Option<String>,
    /// All capabilities
    #[arg(long)]
    pub privileged: bool,
    pub container: String,
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

#[derive(Debug, Args)]
pub struct AttachFlags {
    /// Don't attach standard input
    #[arg(long = "no-stdin")]
    pub no_stdin: bool,
    pub container: String,
}

#[derive(Debug, Args)]
pub struct PsFlags {
    /// Stopped containers too
    #[arg(short, long)]
    pub all: bool,
    /// Only ids
    #[arg(short, long)]
    pub quiet: bool,
    /// Filter, such as status=running or label=key=value
    #[arg(short, long)]
    pub filter: Vec<String>,
    /// The n containers created last, in any state
    #[arg(short = 'n', long, allow_hyphen_values = true)]
    pub last: Option<i64>,
    /// The container created last
    #[arg(short, long)]
    pub latest: bool,
    /// Don't cut ids and commands
    #[arg(long = "no-trunc")]
    pub no_trunc: bool,
    /// `json`, or a template such as '{{.Names}}'
    #[arg(long)]
    pub format: Option<String>,
}

#[derive(Debug, Args)]
pub struct LogsFlags {
    /// Follow the output
    #[arg(short, long)]
    pub follow: bool,
    /// Show the time of each line
    #[arg(short, long)]
    pub timestamps: bool,
    /// Lines from the end, or `all`
    #[arg(short = 'n', long, default_value = "all")]
    pub tail: String,
    /// Since a time (2026-01-02T13:23:37Z) or for a duration (42m)
    #[arg(long)]
    pub since: Option<String>,
    /// Until a time or a duration ago
    #[arg(long)]
    pub until: Option<String>,
    /// Compose file of the project, when a service is meant
    #[arg(long = "file")]
    pub file: Option<String>,
    /// A container, or services of the project here (none: all of them)
    pub names: Vec<String>,
}

#[derive(Debug, Args)]
pub struct StatsFlags {
    /// Print once and end
    #[arg(long = "no-stream")]
    pub no_stream: bool,
    pub containers: Vec<String>,
}

#[derive(Debug, Args)]
pub struct InspectFlags {
    /// Only objects of this type: container, image, network, volume
    #[arg(long = "type", value_parser = ["container", "image", "network", "volume"])]
    pub kind: Option<String>,
    /// `json`, or a template such as '{{.State.Status}}'
    #[arg(short, long)]
    pub format: Option<String>,
    #[arg(required = true)]
    pub names: Vec<String>,
}

#[derive(Debug, Args)]
pub struct ImagesFlags {
    /// Untagged images too
    #[arg(short, long)]
    pub all: bool,
    /// Only ids
    #[arg(short, long)]
    pub quiet: bool,
    /// Show digests
    #[arg(long)]
    pub digests: bool,
    /// Don't cut ids
    #[arg(long = "no-trunc")]
    pub no_trunc: bool,
    /// Filter, such as dangling=true
    #[arg(short, long)]
    pub filter: Vec<String>,
    /// `json`, or a template
    #[arg(long)]
    pub format: Option<String>,
    /// Only this repository
    pub repository: Option<String>,
}

#[derive(Debug, Args)]
pub struct PullFlags {
    /// Print the image's name only
    #[arg(short, long)]
    pub quiet: bool,
    /// Platform, such as linux/amd64
    #[arg(long)]
    pub platform: Option<String>,
    pub image: String,
}

#[derive(Debug, Args)]
pub struct PushFlags {
    /// Print the image's name only
    #[arg(short, long)]
    pub quiet: bool,
    pub image: String,
}

#[derive(Debug, Args)]
pub struct RmiFlags {
    /// Remove although containers use it
    #[arg(short, long)]
    pub force: bool,
    #[arg(required = true)]
    pub images: Vec<String>,
}

#[derive(Debug, Args)]
pub struct BuildFlags {
    /// Name and tag of the result
    #[arg(short, long)]
    pub tag: Vec<String>,
    /// Dockerfile, default PATH/Dockerfile
    #[arg(short, long)]
    pub file: Option<String>,
    /// Set a build argument
    #[arg(long = "build-arg")]
    pub build_arg: Vec<String>,
    /// Build this stage
    #[arg(long)]
    pub target: Option<String>,
    /// Set a label on the image
    #[arg(long)]
    pub label: Vec<String>,
    /// Don't use the cache
    #[arg(long = "no-cache")]
    pub no_cache: bool,
    /// Always ask the registry for a newer base image
    #[arg(long)]
    pub pull: bool,
    /// Print the image's id only
    #[arg(short, long)]
    pub quiet: bool,
    /// Write the image's id to a file
    #[arg(long)]
    pub iidfile: Option<String>,
    /// Network of RUN: default or none or host
    #[arg(long)]
    pub network: Option<String>,
    /// Directory of the context
    pub path: String,
}

#[derive(Debug, Args)]
pub struct SaveFlags {
    /// Write to a file
    #[arg(short, long)]
    pub output: Option<String>,
    #[arg(required = true)]
    pub images: Vec<String>,
}

#[derive(Debug, Args)]
pub struct LoadFlags {
    /// Read from a file
    #[arg(short, long)]
    pub input: Option<String>,
    /// Print less
    #[arg(short, long)]
    pub quiet: bool,
}

#[derive(Debug, Args)]
pub struct ImportFlags {
    /// Dockerfile instruction for the image's configuration
    #[arg(short, long)]
    pub change: Vec<String>,
    /// Message for the history
    #[arg(short, long)]
    pub message: Option<String>,
    /// A tar file, or - for standard input
    pub source: String,
    /// Name of the image
    pub reference: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum NetworkCommand {
    /// Create a network
    Create(NetworkCreateFlags),
    /// List networks
    #[command(visible_alias = "list")]
    Ls(ListFlags),
    /// Remove networks
    #[command(visible_alias = "remove")]
    Rm {
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Show networks in full
    Inspect {
        #[arg(short, long)]
        format: Option<String>,
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Connect a container to a network
    Connect {
        #[arg(long)]
        alias: Vec<String>,
        #[arg(long)]
        ip: Option<String>,
        network: String,
        container: String,
    },
    /// Disconnect a container from a network
    Disconnect {
        #[arg(short, long)]
        force: bool,
        network: String,
        container: String,
    },
    /// Remove networks that no container uses
    Prune {
        #[arg(short, long)]
        force: bool,
    },
}

#[derive(Debug, Args)]
pub struct NetworkCreateFlags {
    /// Driver
    #[arg(short, long, default_value = "bridge")]
    pub driver: String,
    /// Subnet, such as 10.1.0.0/24
    #[arg(long)]
    pub subnet: Option<String>,
    /// Gateway address
    #[arg(long)]
    pub gateway: Option<String>,
    /// Range that addresses are taken from
    #[arg(long = "ip-range")]
    pub ip_range: Option<String>,
    /// No way out of the network
    #[arg(long)]
    pub internal: bool,
    /// Set a label
    #[arg(long)]
    pub label: Vec<String>,
    /// Driver option
    #[arg(short, long)]
    pub opt: Vec<String>,
    pub name: String,
}

#[derive(Debug, Args)]
pub struct ListFlags {
    /// Only ids or names
    #[arg(short, long)]
    pub quiet: bool,
    /// Filter, such as name=x or label=key
    #[arg(short, long)]
    pub filter: Vec<String>,
    /// Don't cut ids
    #[arg(long = "no-trunc")]
    pub no_trunc: bool,
    /// `json`, or a template
    #[arg(long)]
    pub format: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum VolumeCommand {
    /// Create a volume
    Create {
        #[arg(long)]
        label: Vec<String>,
        #[arg(short, long)]
        opt: Vec<String>,
        #[arg(short, long, default_value = "local")]
        driver: String,
        name: Option<String>,
    },
    /// List volumes
    #[command(visible_alias = "list")]
    Ls(ListFlags),
    /// Remove volumes
    #[command(visible_alias = "remove")]
    Rm {
        #[arg(short, long)]
        force: bool,
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Show volumes in full
    Inspect {
        #[arg(short, long)]
        format: Option<String>,
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Remove anonymous volumes that no container uses
    Prune {
        #[arg(short, long)]
        force: bool,
        #[arg(short, long)]
        all: bool,
    },
}

#[derive(Debug, Args)]
pub struct EventsFlags {
    /// Since a time or a duration ago
    #[arg(long)]
    pub since: Option<String>,
    /// Until a time or a duration ago
    #[arg(long)]
    pub until: Option<String>,
    /// Filter, such as type=container
    #[arg(short, long)]
    pub filter: Vec<String>,
    /// `json`, or a template
    #[arg(long)]
    pub format: Option<String>,
}

#[derive(Debug, Args)]
pub struct ProjectFlags {
    /// Compose file
    #[arg(short, long)]
    pub file: Option<String>,
    /// Name of the project
    #[arg(short, long = "project-name")]
    pub project_name: Option<String>,
    /// Activate a profile
    #[arg(long)]
    pub profile: Vec<String>,
}

#[derive(Debug, Args)]
pub struct UpFlags {
    #[command(flatten)]
    pub project: ProjectFlags,
    /// Build images even when they exist
    #[arg(long)]
    pub build: bool,
    /// Seconds to wait for a dependency to become healthy
    #[arg(long = "wait-timeout", default_value_t = 120)]
    pub wait_timeout: u64,
    /// Only these services and what they depend on
    pub services: Vec<String>,
}

#[derive(Debug, Args)]
pub struct DownFlags {
    #[command(flatten)]
    pub project: ProjectFlags,
    /// Remove the project's named volumes too
    #[arg(short, long)]
    pub volumes: bool,
    /// Seconds to wait before killing
    #[arg(short, long, allow_hyphen_values = true)]
    pub timeout: Option<i64>,
}

#[derive(Debug, Subcommand)]
pub enum AlertsCommand {
    /// Send alerts to this Discord webhook (read from standard input when `-`)
    Webhook { url: String },
    /// Send a test message
    Test,
    /// List the latest alerts and whether they arrived
    Ls,
}

#[derive(Debug, Subcommand)]
pub enum SystemCommand {
    /// Start the daemon in the background if it isn't running
    Start,
    /// End the daemon; containers go on
    Stop,
    /// Show disk usage
    Df,
}
