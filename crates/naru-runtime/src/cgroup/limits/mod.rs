//! Limits: OCI resources to control files of v1 and v2.
//!
//! A limit that was asked for and cannot be set is an error that names it. Warnings are left for what Docker itself
//! only warns of: its *default* swap limit (twice the memory) and a block I/O weight on a kernel without a scheduler for
//! it; and for what every kernel of today ignores (kernel memory). The conversions are runc's, so that a container has
//! the same share under both.
//!
//! Not here: which group ([`super::Cgroup`]), and the device list ([`super::devices`]).

mod block_io;
mod cpu;
mod memory;
mod others;

use super::{Cgroup, CgroupError, devices};
use crate::oci;

pub(super) use block_io::io_weight;
pub(super) use cpu::weight_of_shares as cpu_weight;
pub(super) use memory::swap_alone;

pub(super) fn apply(cgroup: &Cgroup, resources: &oci::Resources) -> Result<Vec<String>, CgroupError> {
    let mut told = Vec::new();
    let warnings = &mut told;
    let delegated = cgroup.layout.delegated;
    // Nobody who is not root has all controllers: what is missing is said, and the container runs.
    let optional = |result: Result<(), CgroupError>, what: &str, warnings: &mut Vec<String>| match result {
        Err(error) if delegated => {
            warnings.push(format!("{what} ignored: {error}; it was not delegated to this user"));
            Ok(())
        }
        other => other,
    };
    let done = memory::apply(cgroup, &resources.memory, warnings);
    optional(done, "memory limits", warnings)?;
    let done = cpu::apply(cgroup, &resources.cpu, warnings);
    optional(done, "cpu limits", warnings)?;
    optional(cpu::apply_set(cgroup, &resources.cpu), "cpuset", warnings)?;
    optional(others::pids(cgroup, &resources.pids), "pids limit", warnings)?;
    let done = block_io::apply(cgroup, &resources.block_io, warnings);
    optional(done, "block I/O limits", warnings)?;
    optional(others::hugepages(cgroup, &resources.hugepage_limits), "hugepage limits", warnings)?;
    optional(others::network(cgroup, &resources.network), "network priorities", warnings)?;
    optional(others::rdma(cgroup, &resources.rdma), "rdma limits", warnings)?;
    // Who is not root can make no device node, and gets only what was bound in.
    if !delegated {
        devices::apply(cgroup, &resources.devices, warnings)?;
    }
    // Last, so that it wins over what was converted from the v1 words.
    optional(others::unified(cgroup, &resources.unified), "unified settings", warnings)?;
    Ok(told)
}

/// What is refused by the present state of the group, before anybody has changed it.
pub(super) fn check(cgroup: &Cgroup, resources: &oci::Resources) -> Result<(), CgroupError> {
    match cgroup.controller_directory("memory") {
        Some((directory, true)) => memory::check_usage(&directory, &resources.memory),
        _ => Ok(()),
    }
}

/// `-1` is `max`.
fn or_max(value: i64) -> String {
    if value < 0 { "max".into() } else { value.to_string() }
}
