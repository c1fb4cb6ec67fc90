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

pub(super) fn apply(cgroup: &Cgroup, resources: &oci::Resources) -> Result<Vec<String>, CgroupError> {
    let mut warnings = Vec::new();
    memory::apply(cgroup, &resources.memory, &mut warnings)?;
    cpu::apply(cgroup, &resources.cpu, &mut warnings)?;
    cpu::apply_set(cgroup, &resources.cpu)?;
    others::pids(cgroup, &resources.pids)?;
    block_io::apply(cgroup, &resources.block_io, &mut warnings)?;
    others::hugepages(cgroup, &resources.hugepage_limits)?;
    others::network(cgroup, &resources.network)?;
    others::rdma(cgroup, &resources.rdma)?;
    devices::apply(cgroup, &resources.devices, &mut warnings)?;
    // Last, so that it wins over what was converted from the v1 words.
    others::unified(cgroup, &resources.unified)?;
    Ok(warnings)
}

/// `-1` is `max`.
fn or_max(value: i64) -> String {
    if value < 0 { "max".into() } else { value.to_string() }
}
