//! What can be typed. One definition: help and completions come from it.

mod container;
mod image;
mod network;
mod project;
mod run;

pub use container::*;
pub use image::*;
pub use network::*;
pub use project::*;
pub use run::*;

use clap::{Args, Parser, Subcommand};

/// Roles of the binary with flags of their own, which the command line's parser never sees.
const ROLES: &str = "\
Without the daemon:
  registry    Serve a container registry of naru's own; see naru registry --help
  daemon      Run the engine in the foreground; see naru daemon --help";

#[derive(Debug, Parser)]
#[command(
    name = "naru",
    version,
    about = "Containers, builds, deploys and HTTPS on one Linux server",
    disable_help_subcommand = true,
    after_help = ROLES
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
    /// Log in to a registry (default: Docker Hub)
    Login(LoginFlags),
    /// Log out from a registry (default: Docker Hub)
    Logout { server: Option<String> },
    /// Create a tag that refers to an image
    Tag { source: String, target: String },
    /// Show how an image was made, newest step first
    History(HistoryFlags),
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
    /// Manage the image store
    #[command(subcommand)]
    Image(ImageCommand),
    /// Look at manifests in registries
    #[command(subcommand)]
    Manifest(ManifestCommand),
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
