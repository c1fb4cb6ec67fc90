//! A [`ContainerView`] as one row of `docker ps`.

use crate::convert::{host, inspect, ports, time};
use naru_engine::{ContainerSize, ContainerView, HealthStatus, StateView, Status};
use naru_types::Timestamp;
use naru_wire::inspect::{ContainerSummary, SummaryHostConfig, SummaryNetworks};

pub fn container(view: &ContainerView, size: Option<ContainerSize>, now: Timestamp) -> ContainerSummary {
    ContainerSummary {
        id: view.id.to_string(),
        names: vec![format!("/{}", view.name)],
        image: view.spec.image.clone(),
        image_id: view.image_id.to_string(),
        command: command(&view.spec.process.args()),
        created: view.created.secs(),
        // One that doesn't run has no ports, not even exposed ones.
        ports: if view.state.pid == 0 {
            Vec::new()
        } else {
            ports::summary(&view.spec.network.exposed, &view.ports)
        },
        size_rw: size.map_or(0, |size| size.rw as i64),
        size_root_fs: size.map_or(0, |size| size.root_fs as i64),
        labels: view.spec.labels.clone(),
        state: view.state.status.as_str().into(),
        status: status(&view.state, now),
        host_config: SummaryHostConfig {
            network_mode: host::network_mode(&view.spec.network.mode),
            annotations: view.spec.annotations.clone(),
        },
        network_settings: SummaryNetworks { networks: inspect::networks(view, true) },
        mounts: view.mounts.iter().map(inspect::mount).collect(),
    }
}

/// Arguments with spaces are quoted, as moby's `container/view.go` does.
fn command(args: &[String]) -> String {
    let quoted = args
        .iter()
        .enumerate()
        .map(|(index, arg)| if index > 0 && arg.contains(' ') { format!("'{arg}'") } else { arg.clone() });
    quoted.collect::<Vec<_>>().join(" ")
}

/// moby's `State.String`.
fn status(state: &StateView, now: Timestamp) -> String {
    let since = |from: Timestamp| time::human(now.secs() - from.secs());
    match state.status {
        Status::Created => "Created".into(),
        Status::Running => format!("Up {}{}", since(state.started_at), health(state)),
        Status::Paused => format!("Up {} (Paused)", since(state.started_at)),
        Status::Restarting => format!("Restarting ({}) {} ago", state.exit_code, since(state.finished_at)),
        Status::Removing => "Removal In Progress".into(),
        Status::Exited => format!("Exited ({}) {} ago", state.exit_code, since(state.finished_at)),
        Status::Dead => "Dead".into(),
    }
}

fn health(state: &StateView) -> &'static str {
    match state.health.as_ref().map(|health| health.status) {
        None => "",
        Some(HealthStatus::Starting) => " (health: starting)",
        Some(HealthStatus::Healthy) => " (healthy)",
        Some(HealthStatus::Unhealthy) => " (unhealthy)",
    }
}
