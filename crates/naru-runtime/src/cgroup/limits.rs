//! Limits: OCI resources to control files of v1 and v2.
//!
//! A limit that was asked for and cannot be set is an error. The one exception is Docker's *default* swap limit (twice
//! the memory), which a kernel without swap accounting turns into a warning.

use super::{Cgroup, CgroupError, devices, files};
use crate::oci;
use naru_kernel::Errno;
use std::path::Path;

/// Microseconds: the kernel's and Docker's default CPU period.
const CPU_PERIOD_US: u64 = 100_000;

pub(super) fn apply(cgroup: &Cgroup, resources: &oci::Resources) -> Result<Vec<String>, CgroupError> {
    let mut warnings = Vec::new();
    memory(cgroup, &resources.memory, &mut warnings)?;
    cpu(cgroup, &resources.cpu)?;
    cpuset(cgroup, &resources.cpu)?;
    pids(cgroup, &resources.pids)?;
    block_io(cgroup, &resources.block_io, &mut warnings)?;
    devices::apply(cgroup, &resources.devices, &mut warnings)?;
    for (file, value) in &resources.unified {
        let directory = cgroup.v2_directory().ok_or(CgroupError::NoController("unified"))?;
        if file.contains('/') {
            return Err(CgroupError::InvalidPath(file.clone()));
        }
        files::write(&directory.join(file), value)?;
    }
    Ok(warnings)
}

fn memory(cgroup: &Cgroup, memory: &oci::Memory, warnings: &mut Vec<String>) -> Result<(), CgroupError> {
    if *memory == oci::Memory::default() {
        return Ok(());
    }
    let (directory, v2) = cgroup.controller_directory("memory").ok_or(CgroupError::NoController("memory"))?;
    if v2 {
        return memory_v2(&directory, memory, warnings);
    }
    if let (Some(limit), Some(swap)) = (memory.limit, memory.swap) {
        memory_and_swap_v1(&directory, limit, swap, memory.swap_defaulted, warnings)?;
    } else if let Some(limit) = memory.limit {
        files::write(&directory.join("memory.limit_in_bytes"), &limit.to_string())?;
    } else if let Some(swap) = memory.swap {
        files::write(&directory.join("memory.memsw.limit_in_bytes"), &swap.to_string())?;
    }
    if let Some(reservation) = memory.reservation {
        files::write(&directory.join("memory.soft_limit_in_bytes"), &reservation.to_string())?;
    }
    if memory.disable_oom_killer {
        files::write(&directory.join("memory.oom_control"), "1")?;
    }
    Ok(())
}

/// memory+swap may never be below memory, not even for a moment: growing sets it first, shrinking sets it last.
fn memory_and_swap_v1(
    directory: &Path,
    limit: i64,
    swap: i64,
    swap_defaulted: bool,
    warnings: &mut Vec<String>,
) -> Result<(), CgroupError> {
    let memsw = directory.join("memory.memsw.limit_in_bytes");
    let memory = directory.join("memory.limit_in_bytes");
    let Some(current) = files::read_number(&memsw) else {
        files::write(&memory, &limit.to_string())?;
        if swap_defaulted {
            warnings.push("memory limited without swap: this kernel does not account swap".into());
            return Ok(());
        }
        return Err(CgroupError::kernel("write to", &memsw, Errno::NOENT));
    };
    let grows = swap < 0 || swap as u64 > current;
    let (first, second) =
        if grows { ((&memsw, swap), (&memory, limit)) } else { ((&memory, limit), (&memsw, swap)) };
    files::write(first.0, &first.1.to_string())?;
    files::write(second.0, &second.1.to_string())
}

fn memory_v2(directory: &Path, memory: &oci::Memory, warnings: &mut Vec<String>) -> Result<(), CgroupError> {
    if let Some(swap) = memory.swap {
        // v2 limits swap alone; the spec's number is memory plus swap.
        let alone = if swap < 0 { -1 } else { (swap - memory.limit.unwrap_or(0)).max(0) };
        match files::write(&directory.join("memory.swap.max"), &or_max(alone)) {
            Err(CgroupError::Kernel { source: Errno::NOENT, .. }) if memory.swap_defaulted => {
                warnings.push("memory limited without swap: this kernel does not account swap".into());
            }
            other => other?,
        }
    }
    if let Some(limit) = memory.limit {
        files::write(&directory.join("memory.max"), &or_max(limit))?;
    }
    if let Some(reservation) = memory.reservation {
        files::write(&directory.join("memory.low"), &or_max(reservation))?;
    }
    if memory.disable_oom_killer {
        warnings.push("oom-kill-disable has no effect: cgroup v2 does not have it".into());
    }
    Ok(())
}

fn cpu(cgroup: &Cgroup, cpu: &oci::Cpu) -> Result<(), CgroupError> {
    if cpu.shares.is_none() && cpu.quota.is_none() && cpu.period.is_none() {
        return Ok(());
    }
    let (directory, v2) = cgroup.controller_directory("cpu").ok_or(CgroupError::NoController("cpu"))?;
    if v2 {
        if let Some(shares) = cpu.shares.filter(|shares| *shares != 0) {
            files::write(&directory.join("cpu.weight"), &weight_of_shares(shares).to_string())?;
        }
        if cpu.quota.is_some() || cpu.period.is_some() {
            let period = cpu.period.unwrap_or(CPU_PERIOD_US);
            let value = format!("{} {period}", or_max(cpu.quota.filter(|quota| *quota > 0).unwrap_or(-1)));
            files::write(&directory.join("cpu.max"), &value)?;
        }
        return Ok(());
    }
    if let Some(shares) = cpu.shares.filter(|shares| *shares != 0) {
        files::write(&directory.join("cpu.shares"), &shares.to_string())?;
    }
    cpu_quota_v1(&directory, cpu)
}

/// The kernel checks quota/period against the parent's ratio on each write, so a live change tries the other order
/// when the first one is refused.
fn cpu_quota_v1(directory: &Path, cpu: &oci::Cpu) -> Result<(), CgroupError> {
    let period = cpu.period.filter(|period| *period != 0);
    let quota = cpu.quota.filter(|quota| *quota != 0);
    let set_period = || match period {
        Some(period) => files::write(&directory.join("cpu.cfs_period_us"), &period.to_string()),
        None => Ok(()),
    };
    let set_quota = || match quota {
        Some(quota) => files::write(&directory.join("cpu.cfs_quota_us"), &quota.to_string()),
        None => Ok(()),
    };
    match set_period() {
        Err(CgroupError::Kernel { source: Errno::INVAL, .. }) if quota.is_some() => {
            set_quota()?;
            set_period()
        }
        other => {
            other?;
            set_quota()
        }
    }
}

fn cpuset(cgroup: &Cgroup, cpu: &oci::Cpu) -> Result<(), CgroupError> {
    for (file, value) in [("cpuset.cpus", &cpu.cpus), ("cpuset.mems", &cpu.mems)] {
        if value.is_empty() {
            continue;
        }
        let (directory, _) =
            cgroup.controller_directory("cpuset").ok_or(CgroupError::NoController("cpuset"))?;
        files::write(&directory.join(file), value)?;
    }
    Ok(())
}

fn pids(cgroup: &Cgroup, pids: &oci::Pids) -> Result<(), CgroupError> {
    let Some(limit) = pids.limit.filter(|limit| *limit != 0) else { return Ok(()) };
    let (directory, _) = cgroup.controller_directory("pids").ok_or(CgroupError::NoController("pids"))?;
    files::write(&directory.join("pids.max"), &or_max(limit))
}

fn block_io(cgroup: &Cgroup, block_io: &oci::BlockIo, warnings: &mut Vec<String>) -> Result<(), CgroupError> {
    let Some(weight) = block_io.weight.filter(|weight| *weight != 0) else { return Ok(()) };
    let (directory, v2) = cgroup.controller_directory("blkio").ok_or(CgroupError::NoController("blkio"))?;
    let files_and_values: Vec<(&str, u64)> = if v2 {
        // io.bfq.weight has the same 1..=1000 range; io.weight is 1..=10000.
        vec![
            ("io.bfq.weight", u64::from(weight)),
            ("io.weight", 1 + u64::from(weight).saturating_sub(10) * 9999 / 990),
        ]
    } else {
        vec![("blkio.weight", u64::from(weight)), ("blkio.bfq.weight", u64::from(weight))]
    };
    for (file, value) in files_and_values {
        match files::write(&directory.join(file), &value.to_string()) {
            Err(CgroupError::Kernel { source: Errno::NOENT | Errno::OPNOTSUPP, .. }) => {}
            other => return other,
        }
    }
    // As Docker: "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded."
    warnings.push("block I/O weight discarded: this kernel has no I/O scheduler that takes one".into());
    Ok(())
}

/// `-1` is `max`.
fn or_max(value: i64) -> String {
    if value < 0 { "max".into() } else { value.to_string() }
}

/// cpu.shares 2..=262144 to cpu.weight 1..=10000, as runc and systemd have always mapped it.
fn weight_of_shares(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_to_weight() {
        assert_eq!(weight_of_shares(2), 1);
        assert_eq!(weight_of_shares(1024), 39);
        assert_eq!(weight_of_shares(262_144), 10_000);
        assert_eq!(weight_of_shares(0), 1);
    }
}
