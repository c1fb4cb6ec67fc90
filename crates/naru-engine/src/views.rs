//! Pictures of containers: what a cell holds is copied under its lock, what needs the table is looked up afterwards.

use crate::container::{Cell, Container};
use crate::engine::Engine;
use crate::machine::State;
use crate::view::{ContainerSize, ContainerView, EndpointView, MountPoint, StateView};
use naru_runtime::apparmor;
use naru_types::spec::{ContainerSpec, Mount, MountSource, NetworkMode, NetworkSpec};
use naru_types::{Error, Result, Timestamp};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Depth at which counting a container's bytes gives up on a directory tree.
const SIZE_DEPTH_MAX: u32 = 1024;

impl Engine {
    pub fn inspect(&self, r: &str) -> Result<ContainerView> {
        let container = self.find(r)?;
        Ok(self.view(&container))
    }

    /// Newest first, as `docker ps -a`.
    pub fn list(&self) -> Vec<ContainerView> {
        let mut views: Vec<_> = self.containers().iter().map(|container| self.view(container)).collect();
        views.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
        views
    }

    /// Counts the files of the container's own layer.
    pub async fn container_size(&self, r: &str) -> Result<ContainerSize> {
        let container = self.find(r)?;
        self.blocking(move |engine| {
            let rw = tree_bytes(&container.paths.upper(), 0);
            let image = engine.store.get_by_id(&container.image_id).map_or(0, |image| image.size);
            Ok(ContainerSize { rw, root_fs: rw + image })
        })
        .await
    }

    fn view(&self, container: &Container) -> ContainerView {
        let paths = &container.paths;
        let cell = container.cell();
        let running = cell.state.run().is_some();
        let mut view = ContainerView {
            id: container.id.clone(),
            name: cell.name.clone(),
            spec: cell.spec.clone(),
            image_id: container.image_id,
            created: container.created,
            state: state_view(&cell),
            endpoints: cell.facts.endpoints.clone(),
            ports: if running { cell.facts.ports.clone() } else { Vec::new() },
            mounts: Vec::new(),
            apparmor_profile: apparmor_shown(&cell.spec),
            log_path: paths.log(),
            hostname_path: paths.hostname(),
            hosts_path: paths.hosts(),
            resolv_conf_path: paths.resolv_conf(),
            upper_dir: paths.upper(),
            work_dir: paths.work(),
            lower_dirs: paths.lower.clone(),
            restart_count: cell.state.restart_count(),
            exec_ids: cell.execs.iter().cloned().collect(),
        };
        drop(cell);
        if view.endpoints.is_empty() {
            view.endpoints = self.future_endpoints(&view.spec.network);
        }
        view.mounts = view.spec.mounts.iter().map(|mount| self.mount_point(mount)).collect();
        view
    }

    /// What a container that does not run would be attached to.
    fn future_endpoints(&self, network: &NetworkSpec) -> BTreeMap<String, EndpointView> {
        let primary = match &network.mode {
            NetworkMode::Bridge => Some("bridge"),
            NetworkMode::Host => Some("host"),
            NetworkMode::None => Some("none"),
            NetworkMode::Container(_) => None,
            NetworkMode::Network(name) => Some(name.as_str()),
        };
        primary
            .into_iter()
            .chain(network.endpoints.keys().map(String::as_str))
            .filter_map(|name| {
                let row = self.find_network(name).ok()?;
                let aliases =
                    network.endpoints.get(name).map(|endpoint| endpoint.aliases.clone()).unwrap_or_default();
                Some((row.name, EndpointView::detached(row.id, aliases)))
            })
            .collect()
    }

    fn mount_point(&self, mount: &Mount) -> MountPoint {
        let mode = if mount.read_only { "ro" } else { "" };
        let point = |kind, name: &str, source: PathBuf, driver: &str, propagation: &str| MountPoint {
            kind,
            name: name.to_owned(),
            source,
            destination: mount.target.clone(),
            driver: driver.to_owned(),
            mode: mode.to_owned(),
            rw: !mount.read_only,
            propagation: propagation.to_owned(),
        };
        match &mount.source {
            MountSource::Bind { path, propagation, .. } => {
                point("bind", "", path.clone(), "", propagation.as_str())
            }
            MountSource::Volume { name, .. } => point("volume", name, self.volume_data(name), "local", ""),
            MountSource::Tmpfs { .. } => point("tmpfs", "", PathBuf::new(), "", ""),
        }
    }
}

impl EndpointView {
    /// An endpoint of a container that does not run.
    pub(crate) fn detached(network_id: naru_types::NetworkId, aliases: Vec<String>) -> Self {
        Self {
            network_id,
            endpoint_id: String::new(),
            mac: String::new(),
            ipv4: None,
            prefix_len: 0,
            gateway: None,
            ipv6: None,
            ipv6_prefix_len: 0,
            ipv6_gateway: None,
            aliases,
            dns_names: Vec::new(),
        }
    }
}

fn state_view(cell: &Cell) -> StateView {
    let state = &cell.state;
    let last = state.last();
    let run = state.run();
    let error = match state {
        State::Dead { reason, .. } => reason.clone(),
        State::Created { .. }
        | State::Starting(_)
        | State::Running { .. }
        | State::Paused { .. }
        | State::Stopping { .. }
        | State::Settling { .. }
        | State::Restarting { .. }
        | State::Exited { .. }
        | State::Removing { .. } => last.map(|last| last.error.clone()).unwrap_or_default(),
    };
    let started = run.map(|run| run.started_at).or_else(|| last.map(|last| last.started_at));
    StateView {
        status: state.status(),
        pid: run.map_or(0, |run| run.pid),
        exit_code: last.map_or(0, |last| last.code),
        exit_unknown: last.is_some_and(|last| last.unknown),
        error,
        oom_killed: run.map_or_else(|| last.is_some_and(|last| last.oom), |run| run.oom),
        started_at: started.unwrap_or(Timestamp::ZERO),
        finished_at: last.map_or(Timestamp::ZERO, |last| last.finished_at),
        health: cell.facts.health.clone(),
    }
}

/// Sizes of all files, in bytes, links not followed, unreadable parts left out.
fn tree_bytes(dir: &Path, depth: u32) -> u64 {
    if depth > SIZE_DEPTH_MAX {
        return 0;
    }
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    entries
        .flatten()
        .filter_map(|entry| Some((entry.metadata().ok()?, entry.path())))
        .map(|(meta, path)| if meta.is_dir() { tree_bytes(&path, depth + 1) } else { meta.size() })
        .sum()
}

impl Engine {
    pub async fn rename(&self, r: &str, new_name: &str) -> Result<()> {
        let container = self.find(r)?;
        let new_name = new_name.trim_start_matches('/').to_owned();
        if new_name.is_empty() {
            return Err(Error::invalid("Neither old nor new names may be empty"));
        }
        crate::create::check_name(&new_name)?;
        self.blocking(move |engine| {
            let old_name = container.name();
            if old_name == new_name {
                return Err(Error::invalid("Renaming a container with the same name as its current name"));
            }
            {
                let mut table = engine.table();
                if let Some(owner) = table.names.get(&new_name) {
                    return Err(crate::create::name_taken(&new_name, owner));
                }
                table.names.insert(new_name.clone(), container.id.clone());
            }
            if let Err(error) = engine.db.rename_container(&container.id, &new_name) {
                engine.table().names.remove(&new_name);
                return Err(error.into());
            }
            engine.table().names.remove(&old_name);
            container.cell().name.clone_from(&new_name);
            engine.renamed_on_networks(&container, &old_name, &new_name);
            engine.emit_about(&container, "rename", &[("oldName", &format!("/{old_name}"))]);
            Ok(())
        })
        .await
    }
}
/// The profile that a container has, or will have at its next start.
fn apparmor_shown(spec: &ContainerSpec) -> String {
    if !apparmor::enabled() {
        return String::new();
    }
    match &spec.security.apparmor {
        Some(profile) => profile.clone(),
        None if spec.security.privileged => apparmor::UNCONFINED.to_owned(),
        None => apparmor::DEFAULT_PROFILE.to_owned(),
    }
}
