//! Memory and swap. 0 is "not set" everywhere, −1 "unlimited" (runc and Docker agree on both).

use super::or_max;
use crate::cgroup::{Cgroup, CgroupError, files};
use crate::oci::Memory;
use naru_kernel::Errno;
use std::path::Path;

/// Percent; memory.swappiness of v1 takes more since Linux 5.8, the spec does not.
const SWAPPINESS_MAX: i64 = 100;

const NO_SWAP_ACCOUNT: &str = "memory limited without swap: this kernel does not account swap";

pub(super) fn apply(cgroup: &Cgroup, memory: &Memory, warnings: &mut Vec<String>) -> Result<(), CgroupError> {
    if *memory == Memory::default() {
        return Ok(());
    }
    let (directory, v2) = cgroup.controller_directory("memory").ok_or(CgroupError::NoController("memory"))?;
    if set(memory.kernel).is_some() {
        warnings.push("the kernel memory limit is ignored: Linux no longer has it".into());
    }
    if v2 { apply_v2(&directory, memory, warnings) } else { apply_v1(&directory, memory, warnings) }
}

fn apply_v1(directory: &Path, memory: &Memory, warnings: &mut Vec<String>) -> Result<(), CgroupError> {
    let memsw = directory.join("memory.memsw.limit_in_bytes");
    let (limit, mut swap) = (set(memory.limit), set(memory.swap));
    if limit == Some(-1) && swap.is_none() && memsw.exists() {
        // Memory without a limit beneath a limit of memory and swap would be none.
        swap = Some(-1);
    }
    match (limit, swap) {
        (Some(limit), Some(swap)) => {
            both_v1(directory, limit, swap, memory.swap_defaulted, warnings)?;
        }
        (Some(limit), None) => limit_v1(directory, limit)?,
        (None, Some(swap)) => files::write(&memsw, &swap.to_string())?,
        (None, None) => {}
    }
    if let Some(reservation) = set(memory.reservation) {
        files::write(&directory.join("memory.soft_limit_in_bytes"), &reservation.to_string())?;
    }
    if let Some(limit) = set(memory.kernel_tcp) {
        files::write(&directory.join("memory.kmem.tcp.limit_in_bytes"), &limit.to_string())?;
    }
    if memory.disable_oom_killer {
        files::write(&directory.join("memory.oom_control"), "1")?;
    }
    if let Some(swappiness) = memory.swappiness.filter(|value| *value != -1) {
        if !(0..=SWAPPINESS_MAX).contains(&swappiness) {
            let what = format!("memory swappiness {swappiness} (the valid range is 0-{SWAPPINESS_MAX})");
            return Err(CgroupError::Invalid(what));
        }
        files::write(&directory.join("memory.swappiness"), &swappiness.to_string())?;
    }
    if let Some(hierarchical) = memory.use_hierarchy {
        // Since Linux 5.11 it is always 1; writing what it is would only cost a line in the kernel's log.
        let file = directory.join("memory.use_hierarchy");
        if files::read_number(&file) != Some(u64::from(hierarchical)) {
            files::write(&file, if hierarchical { "1" } else { "0" })?;
        }
    }
    Ok(())
}

/// memory+swap may never be below memory, not even for a moment: growing sets it first, shrinking sets it last.
fn both_v1(
    directory: &Path,
    limit: i64,
    swap: i64,
    swap_defaulted: bool,
    warnings: &mut Vec<String>,
) -> Result<(), CgroupError> {
    let memsw = directory.join("memory.memsw.limit_in_bytes");
    let Some(current) = files::read_number(&memsw) else {
        limit_v1(directory, limit)?;
        if swap_defaulted {
            warnings.push(NO_SWAP_ACCOUNT.into());
            return Ok(());
        }
        return Err(CgroupError::kernel("write to", &memsw, Errno::NOENT));
    };
    let set_swap = || files::write(&memsw, &swap.to_string());
    if swap < 0 || swap as u64 > current {
        set_swap()?;
        return limit_v1(directory, limit);
    }
    limit_v1(directory, limit)?;
    set_swap()
}

fn limit_v1(directory: &Path, limit: i64) -> Result<(), CgroupError> {
    let number = |file: &str| files::read_number(&directory.join(file)).unwrap_or(0);
    match files::write(&directory.join("memory.limit_in_bytes"), &limit.to_string()) {
        // More is used than that, and the kernel could not reclaim it.
        Err(CgroupError::Kernel { source: Errno::BUSY, .. }) => Err(CgroupError::Invalid(format!(
            "memory limit {limit} (current usage: {}, peak usage: {})",
            number("memory.usage_in_bytes"),
            number("memory.max_usage_in_bytes")
        ))),
        other => other,
    }
}

fn apply_v2(directory: &Path, memory: &Memory, warnings: &mut Vec<String>) -> Result<(), CgroupError> {
    not_in_v2(memory, warnings)?;
    check_usage(directory, memory)?;
    if let Some(alone) = swap_alone(memory)? {
        match files::write(&directory.join("memory.swap.max"), &or_max(alone)) {
            // Without swap there is none to limit.
            Err(CgroupError::Kernel { source: Errno::NOENT, .. }) if alone <= 0 => {}
            Err(CgroupError::Kernel { source: Errno::NOENT, .. }) if memory.swap_defaulted => {
                warnings.push(NO_SWAP_ACCOUNT.into());
            }
            other => other?,
        }
    }
    if let Some(limit) = set(memory.limit) {
        files::write(&directory.join("memory.max"), &or_max(limit))?;
    }
    if let Some(reservation) = set(memory.reservation) {
        files::write(&directory.join("memory.low"), &or_max(reservation))?;
    }
    Ok(())
}

fn not_in_v2(memory: &Memory, warnings: &mut Vec<String>) -> Result<(), CgroupError> {
    if set(memory.kernel_tcp).is_some() {
        warnings.push("the kernel TCP memory limit is ignored: cgroup v2 does not have it".into());
    }
    if memory.disable_oom_killer {
        warnings.push("oom-kill-disable has no effect: cgroup v2 does not have it".into());
    }
    if memory.swappiness.is_some_and(|value| value != -1) {
        return Err(CgroupError::NotInV2("memory swappiness"));
    }
    if memory.use_hierarchy == Some(false) {
        return Err(CgroupError::NotInV2("memory that is not hierarchical"));
    }
    Ok(())
}

/// v2 limits swap alone; the spec's number is memory plus swap. `None`: leave it.
pub(in crate::cgroup) fn swap_alone(memory: &Memory) -> Result<Option<i64>, CgroupError> {
    let (limit, swap) = (memory.limit.unwrap_or(0), memory.swap.unwrap_or(0));
    let invalid = |why: &str| Err(CgroupError::Invalid(format!("swap limit {swap}: {why}")));
    match (limit, swap) {
        // "Memory without a limit" meant both in v1.
        (-1, 0) => Ok(Some(-1)),
        (_, 0) => Ok(None),
        (_, -1) => Ok(Some(-1)),
        (-1, swap) => Ok(Some(swap)),
        (0, _) => invalid("unable to set swap limit without memory limit"),
        (limit, _) if limit < 0 || swap < 0 => invalid("only -1 may be negative"),
        (limit, swap) if swap < limit => invalid("memory+swap limit should be >= memory limit"),
        (limit, swap) => Ok(Some(swap - limit)),
    }
}

/// checkBeforeUpdate. What cannot be read is not held against anybody: the group may be about to be made.
pub(super) fn check_usage(directory: &Path, memory: &Memory) -> Result<(), CgroupError> {
    let Some(usage) =
        files::read_number(&directory.join("memory.current")).filter(|_| memory.check_before_update)
    else {
        return Ok(());
    };
    for (name, value) in [("memory+swap", memory.swap), ("memory", memory.limit)] {
        if let Some(limit) = value.filter(|value| *value > 0 && *value as u64 <= usage) {
            return Err(CgroupError::Invalid(format!("{name} limit {limit}: it is <= usage {usage}")));
        }
    }
    Ok(())
}

fn set(value: Option<i64>) -> Option<i64> {
    value.filter(|value| *value != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swap_of_v2_as_runc_converts_it() {
        let convert = |swap, limit| {
            swap_alone(&Memory { limit: Some(limit), swap: Some(swap), ..Memory::default() }).ok().flatten()
        };
        // (memory+swap, memory, swap alone)
        for (swap, limit, expected) in [
            (0, 0, None),
            (0, -1, Some(-1)),
            (-1, 0, Some(-1)),
            (-1, -1, Some(-1)),
            (-1, 1000, Some(-1)),
            (1000, -1, Some(1000)),
            (1000, 500, Some(500)),
            (1000, 1000, Some(0)),
            (0, 1000, None),
            (500, 1000, None),
            (1000, 0, None),
            (1000, -2, None),
        ] {
            assert_eq!(convert(swap, limit), expected, "{swap} {limit}");
        }
        let below = Memory { limit: Some(1000), swap: Some(500), ..Memory::default() };
        assert!(
            swap_alone(&below)
                .unwrap_err()
                .to_string()
                .contains("memory+swap limit should be >= memory limit")
        );
    }
}
