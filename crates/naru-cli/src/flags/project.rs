//! What naru adds to Docker: projects, alerts, the daemon itself.

use clap::{Args, Subcommand};

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
