//! What the verbs of images take.

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// List images
    #[command(visible_alias = "list")]
    Ls(ImagesFlags),
    /// Detailed information on images
    Inspect(ImageInspectFlags),
    /// Show how an image was made, newest step first
    History(HistoryFlags),
    /// Download an image from a registry
    Pull(PullFlags),
    /// Upload an image to a registry
    Push(PushFlags),
    /// Create a tag that refers to an image
    Tag { source: String, target: String },
    /// Remove one or more images
    Rm(RmiFlags),
    /// Save images to a tar archive or the directory of an OCI layout
    Save(SaveFlags),
    /// Load images from a tar archive or the directory of an OCI layout
    Load(LoadFlags),
    /// Make an image from a root file system in a tar archive
    Import(ImportFlags),
    /// Hash what is stored again and compare it with what it should be
    Verify(VerifyFlags),
    /// Delete images that nobody uses, by the configured policy or the limits given here
    Gc(ImageGcFlags),
    /// Make a base image from the signed packages of a distribution, without a registry
    Bootstrap(BootstrapFlags),
    /// Show what is in an image: sizes, waste, packages, advice; or write its bill of materials
    Analyze(AnalyzeFlags),
    /// Copy an image from a registry to a registry, all its platforms, without unpacking it
    Copy(ImageCopyFlags),
    /// List what refers to an image in its registry: signatures, SBOMs, attestations
    Referrers(ReferrersFlags),
}

#[derive(Debug, Args)]
pub struct AnalyzeFlags {
    /// What to show: a summary, all that was found, or the packages as a bill of materials
    #[arg(long, default_value = "table", value_parser = ["table", "json", "spdx-json", "cyclonedx-json"])]
    pub format: String,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<String>,
    pub image: String,
}

#[derive(Debug, Subcommand)]
pub enum ManifestCommand {
    /// Show the manifest or manifest list that a name points to in its registry
    Inspect(ManifestFlags),
}

#[derive(Debug, Args)]
pub struct ImageInspectFlags {
    /// `json`, or a template such as '{{.Id}}'
    #[arg(short, long)]
    pub format: Option<String>,
    #[arg(required = true)]
    pub images: Vec<String>,
}

#[derive(Debug, Args)]
pub struct HistoryFlags {
    /// Only ids
    #[arg(short, long)]
    pub quiet: bool,
    /// Don't cut ids and commands
    #[arg(long = "no-trunc")]
    pub no_trunc: bool,
    /// `json`, or a template
    #[arg(long)]
    pub format: Option<String>,
    pub image: String,
}

#[derive(Debug, Args)]
pub struct ImageCopyFlags {
    /// Copy only this platform, such as linux/arm64 (default: all that the source has)
    #[arg(long)]
    pub platform: Option<String>,
    /// Copy what refers to the image as well: signatures, SBOMs, attestations
    #[arg(long)]
    pub referrers: bool,
    /// Print the copy's name and digest only
    #[arg(short, long)]
    pub quiet: bool,
    /// REGISTRY/NAME[:TAG][@DIGEST]
    pub source: String,
    /// REGISTRY/NAME[:TAG]
    pub target: String,
}

#[derive(Debug, Args)]
pub struct ReferrersFlags {
    /// Only artifacts of this type, such as application/spdx+json
    #[arg(long = "artifact-type", value_name = "TYPE")]
    pub artifact_type: Option<String>,
    /// `json`, or a template
    #[arg(long)]
    pub format: Option<String>,
    pub image: String,
}

#[derive(Debug, Args)]
pub struct ManifestFlags {
    /// Print it byte for byte, as its digest is of
    #[arg(long)]
    pub raw: bool,
    pub image: String,
}

#[derive(Debug, Args)]
pub struct VerifyFlags {
    /// Fetch damaged parts again from the registry that they came from
    #[arg(long)]
    pub repair: bool,
    /// Tell of damaged images only
    #[arg(short, long)]
    pub quiet: bool,
    /// Default: all images, and the layers of the build cache
    pub images: Vec<String>,
}

#[derive(Debug, Args)]
pub struct ImageGcFlags {
    /// Only say what would be deleted
    #[arg(long = "dry-run")]
    pub dry_run: bool,
    /// Unpacked bytes of all layers that may stay, such as 20g
    #[arg(long = "keep-bytes", value_name = "SIZE")]
    pub keep_bytes: Option<String>,
    /// How long ago an image may have been pulled, made or named, such as 720h
    #[arg(long = "max-age", value_name = "DURATION")]
    pub max_age: Option<String>,
    /// Images of one repository that may stay
    #[arg(long = "per-repository", value_name = "NUMBER")]
    pub per_repository: Option<usize>,
    /// How full the disk may be, such as 85%
    #[arg(long, value_name = "PERCENT")]
    pub disk: Option<String>,
}

#[derive(Debug, Args)]
pub struct BootstrapFlags {
    /// Print the image's id only
    #[arg(short, long)]
    pub quiet: bool,
    /// Name of the image (default: BASE)
    #[arg(short, long, value_name = "NAME")]
    pub tag: Option<String>,
    /// The mirror: the address of the directory that holds `dists` (default: the host's apt sources)
    #[arg(long, value_name = "URL")]
    pub mirror: Option<String>,
    /// Packages beside the minimal ones
    #[arg(long, value_name = "PACKAGE", value_delimiter = ',')]
    pub include: Vec<String>,
    /// The archive as it was then, such as 20250520T000000Z
    #[arg(long, value_name = "TIME")]
    pub snapshot: Option<String>,
    /// OpenPGP keys that the archive must be signed by (default: the distribution's, as this host has them)
    #[arg(long, value_name = "FILE")]
    pub keyring: Option<String>,
    /// DISTRIBUTION:SUITE, such as debian:bookworm; or busybox[:SUITE]
    pub base: String,
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
pub struct LoginFlags {
    #[arg(short, long)]
    pub username: Option<String>,
    /// Password or token; other users of the machine may see it here
    #[arg(short, long, conflicts_with = "password_stdin")]
    pub password: Option<Password>,
    /// Take the password from standard input
    #[arg(long = "password-stdin", requires = "username")]
    pub password_stdin: bool,
    pub server: Option<String>,
}

/// Never printed.
#[derive(Clone)]
pub struct Password(pub String);

impl std::str::FromStr for Password {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("****")
    }
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
    /// Let the Dockerfile use what it could not by itself: network.host
    #[arg(long, value_parser = ["network.host"])]
    pub allow: Vec<String>,
    /// Lend RUN a secret: id=NAME[,src=FILE|,env=VARIABLE]
    #[arg(long)]
    pub secret: Vec<String>,
    /// Lend RUN an SSH agent: default, or NAME=SOCKET
    #[arg(long)]
    pub ssh: Vec<String>,
    /// What a name in the Dockerfile means: NAME=DIRECTORY or NAME=docker-image://IMAGE
    #[arg(long = "build-context")]
    pub build_context: Vec<String>,
    /// A line of /etc/hosts for RUN: NAME:ADDRESS
    #[arg(long = "add-host")]
    pub add_host: Vec<String>,
    /// Size of /dev/shm in RUN
    #[arg(long = "shm-size")]
    pub shm_size: Option<String>,
    /// Build nothing; look for what is hardly meant
    #[arg(long)]
    pub check: bool,
    /// Directory of the context
    pub path: String,
}

#[derive(Debug, Args)]
pub struct SaveFlags {
    /// Write to a file, or into an empty directory (PATH/ makes one)
    #[arg(short, long)]
    pub output: Option<String>,
    /// What it is: docker is a docker-archive and an OCI layout at once, oci a plain OCI layout
    #[arg(long, default_value = "docker")]
    pub format: ArchiveFormat,
    #[arg(required = true)]
    pub images: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ArchiveFormat {
    Docker,
    Oci,
}

#[derive(Debug, Args)]
pub struct LoadFlags {
    /// Read from a file, or from the directory of an OCI layout
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
