//! What a caller asks of [`crate::spawn`] and [`crate::exec`], and what it gets back.
//!
//! Both calls are synchronous: they return when the program inside the container has been executed, or could not be.

use crate::oci;
use crate::rootfs::Rootfs;
use std::os::fd::{BorrowedFd, OwnedFd};

/// Start a container's first process.
#[derive(Debug)]
pub struct SpawnRequest<'a> {
    pub spec: &'a oci::Spec,
    pub rootfs: &'a Rootfs,
    /// Made and configured by [`crate::cgroup::Cgroup::create`]; `None` leaves the child where the caller is.
    pub cgroup: Option<&'a crate::cgroup::Cgroup>,
    pub netns: NetNs,
    pub stdio: Stdio,
    pub options: SpawnOptions<'a>,
}

/// What most starts do not ask for.
#[derive(Debug, Default)]
pub struct SpawnOptions<'a> {
    /// Run naru's init as pid 1, which reaps and forwards signals (`--init`).
    pub init: bool,
    /// Where pivot_root(2) is refused (a root on the initial ramfs): MS_MOVE and chroot(2) instead.
    pub no_pivot: bool,
    /// The program keeps the caller's session keyring.
    pub no_new_keyring: bool,
    /// Installed as descriptors 3 and following, in this order. LISTEN_FDS is the caller's to set.
    pub preserve_fds: Vec<OwnedFd>,
    /// A listening SOCK_SEQPACKET socket: the child stops before its last steps, and [`crate::gate::open`] on a
    /// connection to it makes it go on.
    pub gate: Option<OwnedFd>,
    /// The hooks to run and the state to tell them; the spec's own list is not looked at.
    pub hooks: Option<&'a crate::hooks::HookInput<'a>>,
}

/// Start a further process in a running container.
#[derive(Debug)]
pub struct ExecRequest<'a> {
    /// The container's spec: seccomp and capability limits come from it.
    pub spec: &'a oci::Spec,
    /// What to run. `None` capabilities: those of the container.
    pub process: &'a oci::Process,
    /// The container's first process, by pidfd and by number (its number is verified against the pidfd).
    pub init_pidfd: BorrowedFd<'a>,
    pub init_pid: i32,
    pub cgroup: Option<&'a crate::cgroup::Cgroup>,
    pub stdio: Stdio,
    /// All capabilities (`exec --privileged`); the seccomp filter stays.
    pub privileged: bool,
    /// Installed as descriptors 3 and following.
    pub preserve_fds: Vec<OwnedFd>,
    /// What a seccomp agent (`listenerPath`) is told of the container.
    pub state: Option<&'a oci::State>,
}

impl NetNs {
    /// What the spec says: a new namespace, one to join, or, without an entry, the caller's.
    pub fn of_spec(spec: &oci::Spec) -> Result<Self, SpawnError> {
        let Some(namespace) = spec.namespace(oci::NamespaceKind::Network) else { return Ok(Self::Host) };
        let Some(path) = &namespace.path else { return Ok(Self::New) };
        let error = crate::errors::StartError::new(crate::errors::Context::Init);
        let open = naru_kernel::ns::open(path);
        open.map(Self::Fd).map_err(|cause| error.io(&format!("open namespace {path}"), &cause))
    }
}

#[derive(Debug)]
pub enum NetNs {
    /// A new, empty one (only loopback, which is brought up).
    New,
    /// The caller's.
    Host,
    /// This one.
    Fd(OwnedFd),
}

/// The three standard descriptors of the program; they are moved into the call and closed on this side.
#[derive(Debug)]
pub enum Stdio {
    Pipes {
        stdin: OwnedFd,
        stdout: OwnedFd,
        stderr: OwnedFd,
    },
    /// A terminal in the container's own devpts; its master comes back.
    Pty {
        rows: u16,
        cols: u16,
    },
}

/// A process that has executed its program.
#[derive(Debug)]
pub struct Spawned {
    /// In the caller's pid namespace; a child of the caller, which must reap it.
    pub pid: i32,
    pub pidfd: OwnedFd,
    pub pty_master: Option<OwnedFd>,
    /// What was asked for and could not be had, in sentences (a clamped ulimit, for example).
    pub warnings: Vec<String>,
}

/// Why a process could not be started. Nothing is left behind: the child is reaped, its mounts are gone with it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct SpawnError {
    /// The step that failed, e.g. `mount /proc`.
    pub step: String,
    /// 0 when no system call failed.
    pub errno: i32,
    /// In Docker's words where clients look for them.
    pub message: String,
    /// 127: executable not found; 126: cannot be executed; 128: anything else.
    pub exit_code: i32,
}
