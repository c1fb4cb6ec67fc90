//! The one lowering: `ContainerSpec` and the engine's facts to an OCI `config.json`, with Docker's defaults.
//!
//! Pure: whatever needs the host (paths, device numbers, addresses) comes in by [`LowerInput`]. The defaults are those
//! of moby's daemon/oci_linux.go and daemon/pkg/oci, read in 2026.

mod capabilities;
mod mounts;
mod profile;
mod resources;

use crate::oci::{self, Namespace, NamespaceKind};
use naru_types::spec::{ContainerSpec, NamespaceMode, NetworkMode, Propagation, Seccomp, UserNamespace};
use naru_types::{Error, Result};
use std::collections::BTreeMap;
use std::path::PathBuf;

pub use profile::{SeccompHost, default_seccomp};
pub use resources::device_rule;

/// Facts that the engine found out.
#[derive(Clone, Debug, Default)]
pub struct LowerInput {
    /// The container's full id.
    pub id: String,
    /// For `root.path`; informational, as the keeper is given the layers.
    pub rootfs_path: PathBuf,
    /// `<parent>/<id>`, below the root of each hierarchy.
    pub cgroup_path: String,
    /// Limits are set through cgroup v2 (`Layout::is_v2_only`).
    pub cgroup_v2: bool,
    /// What can be given at all: the keeper's permitted capabilities.
    pub host_caps: u64,
    /// As shown inside; empty with the host's UTS namespace.
    pub hostname: String,
    /// Files that the engine wrote, mounted over the image's.
    pub hostname_path: Option<PathBuf>,
    pub hosts_path: Option<PathBuf>,
    pub resolv_conf_path: Option<PathBuf>,
    /// Binds and volumes with their sources on the host, in the order of `ContainerSpec::mounts`; tmpfs mounts are
    /// read from the spec itself.
    pub binds: Vec<ResolvedBind>,
    /// /dev/shm of the container whose IPC namespace is shared, or the host's.
    pub shm_path: Option<PathBuf>,
    /// Namespace files of other containers (`/proc/<pid>/ns/ipc`), for the `Container` modes.
    pub pid_namespace: Option<String>,
    pub ipc_namespace: Option<String>,
    pub uts_namespace: Option<String>,
    pub cgroup_namespace: Option<String>,
    pub network_namespace: Option<String>,
    /// `ContainerSpec::devices`, or for a privileged container every device of the host: see [`crate::devices`].
    pub devices: Vec<ResolvedDevice>,
    /// Major and minor number of every block device that the limits name.
    pub block_devices: BTreeMap<PathBuf, (i64, i64)>,
    /// For a container that names none; `None` where AppArmor is off ([`crate::apparmor::default_profile`]).
    pub apparmor_profile: Option<String>,
    /// The first id on the host of the container's own user namespace.
    pub userns_first: Option<u32>,
    /// The highest group that can be named on this host (`naru_kernel::ns::highest_group`); `None`: no limit of its own.
    pub group_max: Option<u32>,
    /// For rules of a seccomp profile that depend on the machine; the default is this one's architecture, any kernel.
    pub seccomp_host: SeccompHost,
}

/// A bind mount or volume with its place on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedBind {
    pub source: PathBuf,
    pub target: String,
    pub read_only: bool,
    pub propagation: Propagation,
}

/// A device node to make, and what may be done with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedDevice {
    pub device: oci::Device,
    /// Any of `rwm`.
    pub access: String,
}

/// Paths that hide host facts; moby daemon/pkg/oci/defaults.go.
const MASKED_PATHS: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

const READONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Lowers `container`.
pub fn lower(container: &ContainerSpec, input: &LowerInput) -> Result<oci::Spec> {
    let capabilities = capabilities::of(&container.security, input.host_caps)?;
    let security = &container.security;
    let list = |own: &Option<Vec<String>>, default: &[&str]| match own {
        Some(paths) => paths.clone(),
        None if security.privileged => Vec::new(),
        None => default.iter().map(|path| (*path).to_owned()).collect(),
    };
    let linux = oci::Linux {
        sysctl: sysctls(container, input),
        resources: resources::of(container, input),
        cgroups_path: format!("/{}", input.cgroup_path.trim_start_matches('/')),
        namespaces: namespaces(container, input)?,
        uid_mappings: id_mappings(input),
        gid_mappings: id_mappings(input),
        devices: input.devices.iter().map(|resolved| resolved.device.clone()).collect(),
        seccomp: seccomp(container, &capabilities, input)?,
        rootfs_propagation: rootfs_propagation(&input.binds).to_owned(),
        masked_paths: list(&security.masked_paths, &MASKED_PATHS),
        readonly_paths: list(&security.readonly_paths, &READONLY_PATHS),
        ..oci::Linux::default()
    };
    Ok(oci::Spec {
        version: oci::VERSION.into(),
        process: process(container, input, capabilities)?,
        root: oci::Root {
            path: input.rootfs_path.to_string_lossy().into_owned(),
            readonly: security.read_only_rootfs,
        },
        hostname: input.hostname.clone(),
        domainname: container.domainname.clone(),
        mounts: mounts::of(container, input)?,
        annotations: container.annotations.clone(),
        linux,
        hooks: oci::Hooks::default(),
    })
}

fn process(container: &ContainerSpec, input: &LowerInput, capabilities: Vec<String>) -> Result<oci::Process> {
    let args = container.process.args();
    if args.first().is_none_or(String::is_empty) {
        return Err(Error::invalid("no command specified").with_hint("name a command after the image"));
    }
    let rlimits = container.ulimits.iter().map(|limit| {
        let kind = format!("RLIMIT_{}", limit.name.to_ascii_uppercase());
        if naru_kernel::rlimit::number(&kind).is_none() {
            return Err(Error::invalid(format!("invalid ulimit type: {}", limit.name)));
        }
        let value = |number: i64| if number < 0 { u64::MAX } else { number as u64 };
        Ok(oci::Rlimit { kind, soft: value(limit.soft), hard: value(limit.hard) })
    });
    Ok(oci::Process {
        terminal: container.stdio.tty,
        console_size: container.stdio.console_size.map(|(height, width)| oci::ConsoleSize { height, width }),
        user: oci::User {
            username: if container.process.user.is_empty() {
                "0".into()
            } else {
                container.process.user.clone()
            },
            naru_groups: container.process.group_add.clone(),
            ..oci::User::default()
        },
        args,
        env: environment(container, input),
        cwd: if container.process.working_dir.is_empty() {
            "/".into()
        } else {
            container.process.working_dir.clone()
        },
        rlimits: rlimits.collect::<Result<_>>()?,
        no_new_privileges: container.security.no_new_privileges,
        apparmor_profile: apparmor_profile(container, input),
        // Always said: otherwise a container would inherit the keeper's own score.
        oom_score_adj: Some(container.oom_score_adj),
        // Inheritable and ambient stay empty (CVE-2022-29162).
        capabilities: Some(oci::Capabilities {
            bounding: capabilities.clone(),
            effective: capabilities.clone(),
            permitted: capabilities,
            ..oci::Capabilities::default()
        }),
        ..oci::Process::default()
    })
}

/// What is asked for by name; else the default, which a privileged container is free of.
fn apparmor_profile(container: &ContainerSpec, input: &LowerInput) -> String {
    match (&container.security.apparmor, &input.apparmor_profile) {
        (Some(profile), _) => profile.clone(),
        (None, Some(_)) if container.security.privileged => crate::apparmor::UNCONFINED.into(),
        (None, default) => default.clone().unwrap_or_default(),
    }
}

/// moby's CreateDaemonEnvironment: PATH, HOSTNAME and TERM first, replaced by what the container says.
fn environment(container: &ContainerSpec, input: &LowerInput) -> Vec<String> {
    let mut env = vec![format!("PATH={}", crate::compile::process::DEFAULT_PATH)];
    if !input.hostname.is_empty() {
        env.push(format!("HOSTNAME={}", input.hostname));
    }
    if container.stdio.tty {
        env.push("TERM=xterm".into());
    }
    for entry in &container.process.env {
        let key = entry.split('=').next().unwrap_or_default();
        let same = |known: &String| known.split('=').next() == Some(key);
        match (env.iter().position(same), entry.contains('=')) {
            (Some(at), true) => env[at].clone_from(entry),
            // `-e NAME` without a value takes the variable away.
            (Some(at), false) => drop(env.remove(at)),
            (None, true) => env.push(entry.clone()),
            (None, false) => {}
        }
    }
    env
}

fn id_mappings(input: &LowerInput) -> Vec<oci::IdMapping> {
    let map = |host_id| oci::IdMapping { container_id: 0, host_id, size: UserNamespace::SIZE };
    input.userns_first.map(map).into_iter().collect()
}

fn namespaces(container: &ContainerSpec, input: &LowerInput) -> Result<Vec<Namespace>> {
    let mut list = vec![Namespace { kind: NamespaceKind::Mount, path: None }];
    match (&container.network.mode, &input.network_namespace) {
        (NetworkMode::Host, _) => {}
        (_, path) => list.push(Namespace { kind: NamespaceKind::Network, path: path.clone() }),
    }
    if input.userns_first.is_some() {
        list.push(Namespace { kind: NamespaceKind::User, path: None });
    }
    let modes = &container.namespaces;
    for (kind, mode, path) in [
        (NamespaceKind::Uts, &modes.uts, &input.uts_namespace),
        (NamespaceKind::Pid, &modes.pid, &input.pid_namespace),
        (NamespaceKind::Ipc, &modes.ipc, &input.ipc_namespace),
        (NamespaceKind::Cgroup, &modes.cgroup, &input.cgroup_namespace),
    ] {
        match (mode, path) {
            (NamespaceMode::Private, _) => list.push(Namespace { kind, path: None }),
            (NamespaceMode::Host, _) => {}
            (NamespaceMode::Container(_), Some(path)) => {
                list.push(Namespace { kind, path: Some(path.clone()) });
            }
            (NamespaceMode::Container(name), None) => {
                return Err(Error::internal(format!("the namespace of container {name} was not resolved")));
            }
        }
    }
    Ok(list)
}

/// Docker lets unprivileged containers ping and bind low ports in their own network namespace.
fn sysctls(container: &ContainerSpec, input: &LowerInput) -> std::collections::BTreeMap<String, String> {
    let mut sysctls = container.sysctls.clone();
    if !matches!(container.network.mode, NetworkMode::Host | NetworkMode::Container(_)) {
        sysctls.entry("net.ipv4.ip_unprivileged_port_start".into()).or_insert_with(|| "0".into());
        sysctls.entry("net.ipv4.ping_group_range".into()).or_insert_with(|| {
            // A group that has no number in the container's user namespace cannot be named.
            let highest =
                if input.userns_first.is_some() { Some(UserNamespace::SIZE - 1) } else { input.group_max };
            format!("0 {}", highest.unwrap_or(i32::MAX as u32))
        });
    }
    sysctls
}

fn seccomp(
    container: &ContainerSpec,
    capabilities: &[String],
    input: &LowerInput,
) -> Result<Option<oci::Seccomp>> {
    match &container.security.seccomp {
        Seccomp::Unconfined => Ok(None),
        Seccomp::Profile(json) => profile::lower(json, capabilities, &input.seccomp_host).map(Some),
        Seccomp::Default if container.security.privileged => Ok(None),
        Seccomp::Default => default_seccomp(capabilities, &input.seccomp_host).map(Some),
    }
}

fn rootfs_propagation(binds: &[ResolvedBind]) -> &'static str {
    let any = |wanted: &[Propagation]| binds.iter().any(|bind| wanted.contains(&bind.propagation));
    if any(&[Propagation::Shared, Propagation::Rshared]) {
        "shared"
    } else if any(&[Propagation::Slave, Propagation::Rslave]) {
        "rslave"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests;
