//! A [`ContainerView`] as `docker inspect` shows it.

use crate::convert::{endpoint, host, ports};
use naru_engine::{ContainerSize, ContainerView, HealthView, MountPoint, StateView, Status};
use naru_types::spec::ContainerSpec;
use naru_wire::inspect::{self, ContainerJson, GraphDriver, Health, HealthResult, NetworkSettings, State};
use std::collections::BTreeMap;

/// The storage driver's name. It is overlayfs as dockerd's overlay2 has it, and clients know that name.
pub const STORAGE_DRIVER: &str = "overlay2";

pub fn container(view: &ContainerView, size: Option<ContainerSize>) -> ContainerJson {
    let args = view.spec.process.args();
    let path_text = |path: &std::path::Path| path.display().to_string();
    ContainerJson {
        id: view.id.to_string(),
        created: view.created.to_string(),
        path: args.first().cloned().unwrap_or_default(),
        args: args.get(1..).unwrap_or_default().to_vec(),
        state: state(&view.state),
        image: view.image_id.to_string(),
        resolv_conf_path: path_text(&view.resolv_conf_path),
        hostname_path: path_text(&view.hostname_path),
        hosts_path: path_text(&view.hosts_path),
        log_path: path_text(&view.log_path),
        name: format!("/{}", view.name),
        restart_count: view.restart_count,
        app_armor_profile: view.apparmor_profile.clone(),
        driver: STORAGE_DRIVER.into(),
        platform: "linux".into(),
        exec_ids: (!view.exec_ids.is_empty())
            .then(|| view.exec_ids.iter().map(ToString::to_string).collect()),
        host_config: host::host_config(&view.spec),
        graph_driver: graph_driver(view),
        size_rw: size.map(|size| size.rw as i64),
        size_root_fs: size.map(|size| size.root_fs as i64),
        mounts: view.mounts.iter().map(mount).collect(),
        config: host::config(&view.spec),
        network_settings: network_settings(view),
        ..ContainerJson::default()
    }
}

/// Docker's booleans beside the one status that there is.
fn state(state: &StateView) -> State {
    State {
        status: state.status.as_str().into(),
        running: matches!(state.status, Status::Running | Status::Paused | Status::Restarting),
        paused: state.status == Status::Paused,
        restarting: state.status == Status::Restarting,
        oom_killed: state.oom_killed,
        dead: state.status == Status::Dead,
        pid: state.pid,
        exit_code: state.exit_code,
        error: state.error.clone(),
        started_at: state.started_at.to_string(),
        finished_at: state.finished_at.to_string(),
        health: state.health.as_ref().map(health),
    }
}

fn health(view: &HealthView) -> Health {
    let result = |result: &naru_engine::HealthResult| HealthResult {
        start: result.start.to_string(),
        end: result.end.to_string(),
        exit_code: result.exit_code,
        output: result.output.clone(),
    };
    Health {
        status: view.status.as_str().into(),
        failing_streak: view.failing_streak,
        log: view.log.iter().map(result).collect(),
    }
}

/// Without `MergedDir`: the merged tree is mounted in the container's own mount namespace only.
fn graph_driver(view: &ContainerView) -> GraphDriver {
    let lower: Vec<String> = view.lower_dirs.iter().map(|dir| dir.display().to_string()).collect();
    let data = BTreeMap::from([
        ("ID".to_owned(), view.id.to_string()),
        ("LowerDir".to_owned(), lower.join(":")),
        ("UpperDir".to_owned(), view.upper_dir.display().to_string()),
        ("WorkDir".to_owned(), view.work_dir.display().to_string()),
    ]);
    GraphDriver { data: Some(data), name: STORAGE_DRIVER.into() }
}

pub fn mount(mount: &MountPoint) -> inspect::MountPoint {
    inspect::MountPoint {
        kind: mount.kind.into(),
        name: mount.name.clone(),
        source: mount.source.display().to_string(),
        destination: mount.destination.clone(),
        driver: mount.driver.clone(),
        mode: mount.mode.clone(),
        rw: mount.rw,
        propagation: mount.propagation.clone(),
    }
}

pub fn networks(view: &ContainerView, in_list: bool) -> BTreeMap<String, inspect::EndpointSettings> {
    let wish = |name: &String, spec: &ContainerSpec| spec.network.endpoints.get(name).cloned();
    let settings = view.endpoints.iter().map(|(name, found)| {
        (name.clone(), endpoint::settings(found, wish(name, &view.spec).as_ref(), in_list))
    });
    settings.collect()
}

/// The fields beside `Networks` repeat the default bridge's endpoint, as dockerd has it up to API 1.51.
fn network_settings(view: &ContainerView) -> NetworkSettings {
    let networks = networks(view, false);
    let bridge = networks.get("bridge").cloned().unwrap_or_default();
    let running = view.state.pid != 0;
    NetworkSettings {
        sandbox_id: if running { view.id.to_string() } else { String::new() },
        sandbox_key: if running { format!("/proc/{}/ns/net", view.state.pid) } else { String::new() },
        ports: if running {
            ports::actual_map(&view.spec.network.exposed, &view.ports)
        } else {
            BTreeMap::new()
        },
        endpoint_id: bridge.endpoint_id,
        gateway: bridge.gateway,
        global_ipv6_address: bridge.global_ipv6_address,
        global_ipv6_prefix_len: bridge.global_ipv6_prefix_len,
        ip_address: bridge.ip_address,
        ip_prefix_len: bridge.ip_prefix_len,
        ipv6_gateway: bridge.ipv6_gateway,
        mac_address: bridge.mac_address,
        networks,
        ..NetworkSettings::default()
    }
}
