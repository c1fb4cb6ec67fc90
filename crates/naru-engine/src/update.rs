//! `update`: new limits and a new restart policy, live where the container runs.

use crate::engine::Engine;
use crate::options::UpdateOptions;
use crate::validate;
use naru_types::spec::{Resources, RestartPolicy};
use naru_types::{Error, Result};

impl Engine {
    /// All or nothing: the kernel is asked before anything is stored. Returns warnings.
    pub async fn update(&self, r: &str, change: UpdateOptions) -> Result<Vec<String>> {
        let container = self.find(r)?;
        self.blocking(move |engine| {
            let _editing = crate::lock(&container.editing);
            let mut spec = container.cell().spec.clone();
            if let Some(restart) = change.restart {
                if spec.auto_remove && restart != RestartPolicy::No {
                    return Err(Error::invalid(
                        "Restart policy cannot be updated because AutoRemove is enabled for the container",
                    ));
                }
                spec.restart = restart;
            }
            overlay(&mut spec.resources, &change.resources);
            let cpus = std::thread::available_parallelism().map_or(1, usize::from);
            let warnings = validate::resources(&spec.resources, cpus)?;
            if container.pid().is_some() && change.resources != Resources::default() {
                let keeper = engine.keeper()?;
                let lowered = engine.lower_resources(&container, &spec)?;
                keeper.update(&container.id, &lowered).map_err(|error| {
                    crate::keeper_link::client_error(error)
                        .context(format!("Cannot update container {}", container.id))
                })?;
            }
            engine.db.save_spec(&container.id, &spec)?;
            container.cell().spec = spec;
            engine.emit_about(&container, "update", &[]);
            Ok(warnings)
        })
        .await
    }
}

/// A zero or an empty string says nothing.
fn overlay(own: &mut Resources, change: &Resources) {
    if change.nano_cpus != 0 {
        (own.cpu_quota, own.cpu_period) = (0, 0);
    }
    if change.cpu_quota != 0 || change.cpu_period != 0 {
        own.nano_cpus = 0;
    }
    for (mine, theirs) in [
        (&mut own.memory, change.memory),
        (&mut own.memory_swap, change.memory_swap),
        (&mut own.memory_reservation, change.memory_reservation),
        (&mut own.nano_cpus, change.nano_cpus),
        (&mut own.cpu_quota, change.cpu_quota),
    ] {
        if theirs != 0 {
            *mine = theirs;
        }
    }
    for (mine, theirs) in [(&mut own.cpu_shares, change.cpu_shares), (&mut own.cpu_period, change.cpu_period)]
    {
        if theirs != 0 {
            *mine = theirs;
        }
    }
    for (mine, theirs) in
        [(&mut own.cpuset_cpus, &change.cpuset_cpus), (&mut own.cpuset_mems, &change.cpuset_mems)]
    {
        if !theirs.is_empty() {
            mine.clone_from(theirs);
        }
    }
    own.oom_kill_disable |= change.oom_kill_disable;
    if change.cpu_realtime_period != 0 {
        own.cpu_realtime_period = change.cpu_realtime_period;
    }
    if change.cpu_realtime_runtime != 0 {
        own.cpu_realtime_runtime = change.cpu_realtime_runtime;
    }
    if change.blkio_weight != 0 {
        own.blkio_weight = change.blkio_weight;
    }
    own.pids = change.pids.or(own.pids);
}
