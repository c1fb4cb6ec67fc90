//! The facts that the one lowering (`naru_runtime::lower`) wants to know, found out on this host.

use crate::attachment::NetworkSetup;
use crate::container::Container;
use crate::engine::Engine;
use naru_runtime::cgroup::Layout;
use naru_runtime::lower::{LowerInput, ResolvedBind, ResolvedDevice, lower};
use naru_runtime::{devices, oci};
use naru_types::spec::{ContainerSpec, MountSource, NamespaceMode, NetworkMode, Propagation, Resources};
use naru_types::{Error, Result};
use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;

impl Engine {
    /// `config.json` of the next run. Blocks.
    pub(crate) fn lower_config(&self, container: &Container, network: &NetworkSetup) -> Result<oci::Spec> {
        let spec = container.cell().spec.clone();
        let host_ipc = spec.namespaces.ipc == NamespaceMode::Host;
        let own_name = spec.namespaces.uts != NamespaceMode::Host && spec.network.mode != NetworkMode::Host;
        let hostname =
            if own_name || !spec.hostname.is_empty() { self.shown_hostname(&spec) } else { String::new() };
        let input = LowerInput {
            id: container.id.to_string(),
            rootfs_path: PathBuf::from("rootfs"),
            cgroup_path: self.cgroup_path(container),
            cgroup_v2: is_v2_only(),
            host_caps: naru_kernel::caps::permitted(),
            hostname: if spec.namespaces.uts == NamespaceMode::Host { String::new() } else { hostname },
            hostname_path: Some(network.hostname.clone()),
            hosts_path: Some(network.hosts.clone()),
            resolv_conf_path: Some(network.resolv_conf.clone()),
            binds: self.binds(&spec),
            shm_path: host_ipc.then(|| PathBuf::from("/dev/shm")),
            pid_namespace: self.joined(&spec.namespaces.pid, "pid")?,
            ipc_namespace: self.joined(&spec.namespaces.ipc, "ipc")?,
            devices: resolve_devices(&spec)?,
            block_devices: block_devices(&spec.resources)?,
            apparmor_profile: apparmor_profile(&spec)?,
            userns_first: spec.security.userns.first(),
            group_max: Some(naru_kernel::ns::highest_group()),
            ..LowerInput::default()
        };
        lower(&spec, &input)
    }

    /// New limits of a running container, device rules as they are; the bundle is brought up to date too, for execs and
    /// for the next keeper.
    pub(crate) fn lower_resources(
        &self,
        container: &Container,
        spec: &ContainerSpec,
    ) -> Result<oci::Resources> {
        let path = container.paths.bundle.join("config.json");
        let failed = |error: &dyn std::fmt::Display| {
            Error::internal(format!("cannot read {}: {error}", path.display()))
        };
        let bytes = std::fs::read(&path).map_err(|error| failed(&error))?;
        let config: oci::Spec = serde_json::from_slice(&bytes).map_err(|error| failed(&error))?;
        let input = LowerInput {
            cgroup_path: self.cgroup_path(container),
            cgroup_v2: is_v2_only(),
            host_caps: naru_kernel::caps::permitted(),
            block_devices: block_devices(&spec.resources)?,
            ..LowerInput::default()
        };
        let mut plain = ContainerSpec { resources: spec.resources.clone(), ..ContainerSpec::default() };
        plain.process.cmd = Some(vec!["-".into()]);
        let mut resources = lower(&plain, &input)?.linux.resources;
        resources.devices = config.linux.resources.devices;
        Ok(resources)
    }

    /// A container in another's network shows that one's name, as in Docker.
    fn shown_hostname(&self, spec: &ContainerSpec) -> String {
        match &spec.network.mode {
            NetworkMode::Container(other) => {
                self.find(other).map(|other| other.cell().spec.hostname.clone()).unwrap_or_default()
            }
            NetworkMode::Bridge | NetworkMode::Host | NetworkMode::None | NetworkMode::Network(_) => {
                spec.hostname.clone()
            }
        }
    }

    fn binds(&self, spec: &ContainerSpec) -> Vec<ResolvedBind> {
        let bind = |source, target: &str, read_only, propagation| ResolvedBind {
            source,
            target: target.to_owned(),
            read_only,
            propagation,
        };
        spec.mounts
            .iter()
            .filter_map(|mount| match &mount.source {
                MountSource::Bind { path, propagation, .. } => {
                    Some(bind(path.clone(), &mount.target, mount.read_only, *propagation))
                }
                MountSource::Volume { name, .. } => {
                    Some(bind(self.volume_data(name), &mount.target, mount.read_only, Propagation::Rprivate))
                }
                MountSource::Tmpfs { .. } => None,
            })
            .collect()
    }

    /// The namespace file of another container, where the mode asks for one.
    fn joined(&self, mode: &NamespaceMode, kind: &str) -> Result<Option<String>> {
        let NamespaceMode::Container(name) = mode else { return Ok(None) };
        let other = self.find(name)?;
        let pid = other.pid().ok_or_else(|| {
            Error::conflict(format!(
                "cannot join {kind} namespace of a non running container: {}",
                other.name()
            ))
        })?;
        Ok(Some(format!("/proc/{pid}/ns/{kind}")))
    }
}

/// A host whose layout cannot be read has no limits to set; the keeper says so when it tries.
fn is_v2_only() -> bool {
    Layout::detect().is_ok_and(|layout| layout.is_v2_only())
}

fn resolve_devices(spec: &ContainerSpec) -> Result<Vec<ResolvedDevice>> {
    let mut all = if spec.security.privileged { devices::all() } else { Vec::new() };
    for device in &spec.devices {
        all.extend(devices::resolve(device)?);
    }
    Ok(all)
}

/// The numbers of the block devices that limits name.
fn block_devices(limits: &Resources) -> Result<BTreeMap<PathBuf, (i64, i64)>> {
    let numbers = |path: &PathBuf| {
        let shown = path.display();
        let stat = std::fs::metadata(path).map_err(|error| {
            // In Go's words, as Docker has it.
            let text = error.to_string();
            let why = text.split(" (os error").next().unwrap_or_default().to_lowercase();
            Error::invalid(format!("stat {shown}: {why}"))
        })?;
        if !stat.file_type().is_block_device() {
            return Err(Error::invalid(format!("{shown} is not a block device")));
        }
        let device = stat.rdev();
        Ok((path.clone(), (i64::from(rustix::fs::major(device)), i64::from(rustix::fs::minor(device)))))
    };
    limits.block_devices().map(numbers).collect()
}

/// The default profile where AppArmor is enabled; not looked for when the container names its own.
pub(crate) fn apparmor_profile(spec: &ContainerSpec) -> Result<Option<String>> {
    if spec.security.apparmor.is_some() {
        return Ok(None);
    }
    let profile = naru_runtime::apparmor::default_profile().map_err(|error| {
        Error::internal("AppArmor is enabled, but containers cannot be confined by it")
            .with_hint("--security-opt apparmor=unconfined starts a container without a profile")
            .with_source(error)
    })?;
    Ok(profile.map(str::to_owned))
}
