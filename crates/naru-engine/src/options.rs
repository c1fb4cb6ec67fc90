//! What the engine is asked: one options struct per verb that takes more than a reference.

use naru_runtime::external::Runtime;
use naru_types::image::RunConfig;
use naru_types::spec::{Resources, RestartPolicy};
use naru_types::{ImageRef, Timestamp};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Nobody but root passes: below lie files that containers made, set-user-id programs among them (CVE-2021-41091), and
/// their environments. What must be reachable inside a container is bound into it.
pub const ROOT_DIR_MODE: u32 = 0o700;
/// Everybody may pass to the API's socket, which has a mode of its own.
pub const RUN_DIR_MODE: u32 = 0o711;

/// Where an instance lives and what it may touch. Two instances on one host differ in every field but `exe`.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// State that survives a reboot, e.g. `/var/lib/naru`.
    pub root: PathBuf,
    /// State that does not, e.g. `/run/naru`.
    pub run: PathBuf,
    /// Name of the cgroup below which containers get theirs.
    pub cgroup_parent: String,
    /// The binary that runs the keeper: `exe keeper --run <run> --cgroup-parent <name>`.
    pub exe: PathBuf,
    /// Containers that do not say otherwise get a user namespace of their own.
    pub userns_remap: bool,
    /// OCI runtimes beside naru's own, by the name that `--runtime` takes.
    pub runtimes: BTreeMap<String, Runtime>,
    /// Of containers that ask for none. Empty: naru's own.
    pub default_runtime: String,
    pub registry_mirrors: Vec<String>,
    pub insecure_registries: Vec<String>,
    /// Where `<host>/hosts.toml` and certificates of registries are looked for.
    pub certs_dirs: Vec<PathBuf>,
    /// Device of the network named `bridge`.
    pub bridge: String,
    /// Subnet of the network named `bridge`, in CIDR form.
    pub default_subnet: String,
    /// Name of the nftables table that holds every rule of this instance.
    pub nft_table: String,
}

/// `None` leaves a setting as it is.
#[derive(Clone, Debug, Default)]
pub struct UpdateOptions {
    /// Fields that are zero or empty stay as they are, as in Docker.
    pub resources: Resources,
    pub restart: Option<RestartPolicy>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemoveOptions {
    /// Kill it first when it runs.
    pub force: bool,
    /// Its anonymous volumes too.
    pub volumes: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WaitCondition {
    #[default]
    NotRunning,
    NextExit,
    Removed,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttachOptions {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    pub stdout: bool,
    pub stderr: bool,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    /// The last so many lines; `None`: all.
    pub tail: Option<u64>,
    /// Go on until the run ends.
    pub follow: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecSpec {
    pub args: Vec<String>,
    pub env: Vec<String>,
    /// Empty: the container's user.
    pub user: String,
    /// Empty: the container's working directory.
    pub working_dir: String,
    pub tty: bool,
    pub attach_stdin: bool,
    pub attach_stdout: bool,
    pub attach_stderr: bool,
    pub privileged: bool,
    /// Kept for inspect; detaching by keys is the client's and the face's work.
    pub detach_keys: String,
    /// Rows and columns.
    pub console_size: Option<(u16, u16)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExecStart {
    pub detach: bool,
    pub tty: bool,
    /// Rows and columns.
    pub console_size: Option<(u16, u16)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArchivePut {
    /// Refuse to replace a directory by something else, and the reverse.
    pub no_overwrite_dir_non_dir: bool,
    /// Everything gets the container's user as its owner instead of the owners that the archive names, as dockerd
    /// understands `copyUIDGID`. A container without a user, or with one that is unknown, changes nothing.
    pub copy_uid_gid: bool,
}

#[derive(Clone, Debug, Default)]
pub struct CommitOptions {
    /// The name that the new image gets; `None`: none.
    pub reference: Option<ImageRef>,
    pub author: String,
    pub comment: String,
    /// Freeze the container while its layer is read.
    pub pause: bool,
    /// Replaces the container's own configuration where a field is set.
    pub config: Option<RunConfig>,
    /// Dockerfile instructions (`CMD`, `ENTRYPOINT`, `ENV`, `EXPOSE`, `LABEL`, `USER`, `VOLUME`, `WORKDIR`, `STOPSIGNAL`).
    pub changes: Vec<String>,
}

#[derive(Clone, Debug, Default)]
pub struct NetworkCreate {
    pub name: String,
    /// `None` or `bridge`.
    pub driver: Option<String>,
    pub internal: bool,
    pub attachable: bool,
    pub labels: BTreeMap<String, String>,
    pub options: BTreeMap<String, String>,
    pub ipam: Vec<IpamRequest>,
    /// `None` when the client sent none; kept as it came, because it is shown again.
    pub ipam_options: Option<BTreeMap<String, String>>,
    pub enable_ipv6: bool,
}

/// Empty strings: chosen by the engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IpamRequest {
    pub subnet: String,
    pub gateway: String,
    pub ip_range: String,
    /// Addresses that no container gets, by the name of what has them.
    pub auxiliary: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default)]
pub struct VolumeCreate {
    /// `None`: an anonymous volume with a random name.
    pub name: Option<String>,
    /// `None` or `local`.
    pub driver: Option<String>,
    pub options: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
}
