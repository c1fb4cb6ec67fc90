//! What the verbs of containers take.

use clap::Args;

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
