//! CPU time and CPU sets.

use super::or_max;
use crate::cgroup::{Cgroup, CgroupError, files};
use crate::oci::Cpu;
use naru_kernel::Errno;
use std::path::Path;

/// Microseconds: the kernel's and Docker's default CPU period.
const CPU_PERIOD_US: u64 = 100_000;

/// cpu.shares of v1 (kernel/sched/sched.h, MIN_SHARES and MAX_SHARES) and cpu.weight of v2.
const SHARES_MIN: u64 = 2;
const SHARES_MAX: u64 = 262_144;
const WEIGHT_MAX: u64 = 10_000;

pub(super) fn apply(cgroup: &Cgroup, cpu: &Cpu, warnings: &mut Vec<String>) -> Result<(), CgroupError> {
    let sets = Cpu { cpus: cpu.cpus.clone(), mems: cpu.mems.clone(), ..Cpu::default() };
    if *cpu == sets {
        return Ok(());
    }
    let (directory, v2) = cgroup.controller_directory("cpu").ok_or(CgroupError::NoController("cpu"))?;
    if v2 { apply_v2(&directory, cpu) } else { apply_v1(&directory, cpu, warnings) }
}

pub(super) fn apply_set(cgroup: &Cgroup, cpu: &Cpu) -> Result<(), CgroupError> {
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

fn apply_v2(directory: &Path, cpu: &Cpu) -> Result<(), CgroupError> {
    if cpu.realtime_runtime.is_some_and(|value| value != 0)
        || cpu.realtime_period.is_some_and(|value| value != 0)
    {
        return Err(CgroupError::NotInV2("CPU real-time scheduling"));
    }
    if let Some(idle) = cpu.idle {
        files::write(&directory.join("cpu.idle"), &idle.to_string())?;
    }
    // An idle group has no weight: the kernel refuses one.
    if let Some(shares) = set(cpu.shares).filter(|_| cpu.idle != Some(1)) {
        files::write(&directory.join("cpu.weight"), &weight_of_shares(shares).to_string())?;
    }
    let max = (set(cpu.quota).is_some() || set(cpu.period).is_some()).then(|| {
        let period = set(cpu.period).unwrap_or(CPU_PERIOD_US);
        ("cpu.max", format!("{} {period}", or_max(cpu.quota.filter(|quota| *quota > 0).unwrap_or(-1))))
    });
    in_either_order(directory, cpu.burst.map(|burst| ("cpu.max.burst", burst.to_string())), max)
}

fn apply_v1(directory: &Path, cpu: &Cpu, warnings: &mut Vec<String>) -> Result<(), CgroupError> {
    if let Some(shares) = set(cpu.shares) {
        let file = directory.join("cpu.shares");
        files::write(&file, &shares.to_string())?;
        // The kernel clamps without a word.
        match files::read_number(&file) {
            Some(got) if got < shares => {
                return Err(CgroupError::Invalid(format!(
                    "CPU shares {shares}: the maximum allowed is {got}"
                )));
            }
            Some(got) if got > shares => {
                return Err(CgroupError::Invalid(format!(
                    "CPU shares {shares}: the minimum allowed is {got}"
                )));
            }
            _ => {}
        }
    }
    let quota = set(cpu.quota).map(|quota| ("cpu.cfs_quota_us", quota.to_string()));
    let period = set(cpu.period).map(|period| ("cpu.cfs_period_us", period.to_string()));
    in_either_order(directory, period, quota)?;
    if let Some(burst) = cpu.burst {
        match files::write(&directory.join("cpu.cfs_burst_us"), &burst.to_string()) {
            Err(CgroupError::Kernel { source: Errno::NOENT, .. }) => {
                warnings.push("CPU burst ignored: this kernel does not have it".into());
            }
            other => other?,
        }
    }
    if let Some(idle) = cpu.idle {
        files::write(&directory.join("cpu.idle"), &idle.to_string())?;
    }
    let period = set(cpu.realtime_period).map(|period| ("cpu.rt_period_us", period.to_string()));
    let runtime = set(cpu.realtime_runtime).map(|runtime| ("cpu.rt_runtime_us", runtime.to_string()));
    in_either_order(directory, period, runtime)
}

/// Two values that the kernel checks against each other (and the parent's) on each write: a live change that is refused
/// one way round is tried the other.
fn in_either_order(
    directory: &Path,
    first: Option<(&str, String)>,
    second: Option<(&str, String)>,
) -> Result<(), CgroupError> {
    let write = |what: &Option<(&str, String)>| match what {
        Some((file, value)) => files::write(&directory.join(file), value),
        None => Ok(()),
    };
    match write(&first) {
        Err(CgroupError::Kernel { source: Errno::INVAL, .. }) if second.is_some() => {
            write(&second)?;
            write(&first)
        }
        other => {
            other?;
            write(&second)
        }
    }
}

fn set<T: PartialEq + Default>(value: Option<T>) -> Option<T> {
    value.filter(|value| *value != T::default())
}

/// cpu.shares 2..=262144 to cpu.weight 1..=10000, so that the minimum, the default (1024 → 100) and the maximum meet:
/// the quadratic in log2 that runc and crun use since 2025. The straight line of before made 1024 a weight of 39, less
/// than half of what every other group of the host has.
pub(in crate::cgroup) fn weight_of_shares(shares: u64) -> u64 {
    if shares <= SHARES_MIN {
        return 1;
    }
    if shares >= SHARES_MAX {
        return WEIGHT_MAX;
    }
    let log = (shares as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    10f64.powf(exponent).ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_to_weight_as_runc() {
        for (shares, weight) in
            [(0, 1), (1, 1), (2, 1), (1024, 100), (262_143, 10_000), (262_144, 10_000), (262_145, 10_000)]
        {
            assert_eq!(weight_of_shares(shares), weight, "{shares}");
        }
        let weights: Vec<u64> = (2..5000).map(weight_of_shares).collect();
        assert!(weights.is_sorted());
    }
}
