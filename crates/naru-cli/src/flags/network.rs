//! `network …` and `volume …`.

use super::ListFlags;
use clap::{Args, Subcommand};

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
