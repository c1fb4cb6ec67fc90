//! Limits as properties of a unit (org.freedesktop.systemd1(5)), converted as runc does.
//!
//! systemd writes the same files that [`super::super::limits`] writes afterwards; what it is told here is what it would
//! otherwise put back at its next reload. A limit without a property is in the files only.

use super::wire::{Property, Value};
use crate::cgroup::{CgroupError, devices, limits};
use crate::oci::{Cpu, Resources};

/// Microseconds: the kernel's default CPU period.
const CPU_PERIOD_US: u64 = 100_000;
const SECOND_US: u64 = 1_000_000;
/// systemd keeps a quota in whole percents of a CPU.
const PERCENT_US: u64 = SECOND_US / 100;
/// CPUs and memory nodes that a mask may have.
const MASK_BITS_MAX: usize = 1 << 16;

/// With the CPU quota as systemd will round it, so that both write the same.
pub(in crate::cgroup) fn rounded(resources: &Resources) -> Resources {
    let mut rounded = resources.clone();
    if let Some(quota) = rounded.cpu.quota.filter(|quota| *quota > 0) {
        let period = rounded.cpu.period.filter(|period| *period != 0).unwrap_or(CPU_PERIOD_US);
        let per_second = quota_per_second(quota as u64, period);
        rounded.cpu.quota =
            Some((u128::from(per_second) * u128::from(period) / u128::from(SECOND_US)) as i64);
    }
    rounded
}

pub(super) fn of(resources: &Resources, v2: bool) -> Result<Vec<Property>, CgroupError> {
    let mut found = Vec::new();
    if let Some(list) = devices::for_systemd(&resources.devices)? {
        found.push(("DevicePolicy".into(), Value::Text("strict".into())));
        // An empty list first: a list is appended to the one before.
        found.push(("DeviceAllow".into(), Value::Pairs(Vec::new())));
        found.push(("DeviceAllow".into(), Value::Pairs(list)));
    }
    let mut number = |name: &'static str, value: u64| found.push((name.into(), Value::U64(value)));
    let given = |value: Option<i64>| value.filter(|value| *value != 0).map(infinite);
    let memory = &resources.memory;
    if let Some(limit) = given(memory.limit) {
        number(if v2 { "MemoryMax" } else { "MemoryLimit" }, limit);
    }
    if let Some(weight) = resources.block_io.weight.filter(|weight| *weight != 0) {
        if v2 {
            number("IOWeight", limits::io_weight(weight));
        } else {
            number("BlockIOWeight", weight.into());
        }
    }
    if let Some(shares) = resources.cpu.shares.filter(|shares| *shares != 0 && resources.cpu.idle != Some(1))
    {
        if v2 {
            number("CPUWeight", limits::cpu_weight(shares));
        } else {
            number("CPUShares", shares);
        }
    }
    if let Some(limit) = given(resources.pids.limit) {
        number("TasksMax", limit);
    }
    if v2 {
        if let Some(low) = given(memory.reservation) {
            number("MemoryLow", low);
        }
        if let Some(swap) = limits::swap_alone(memory)? {
            number("MemorySwapMax", infinite(swap));
        }
        if resources.cpu.idle == Some(1) {
            // systemd's word for cpu.idle.
            number("CPUWeight", 0);
        }
    }
    cpu_time(&resources.cpu, &mut found);
    for (name, text) in [("AllowedCPUs", &resources.cpu.cpus), ("AllowedMemoryNodes", &resources.cpu.mems)] {
        if !text.is_empty() {
            found.push((name.into(), Value::Bytes(mask(text)?)));
        }
    }
    for (file, value) in resources.unified.iter().filter(|_| v2) {
        unified(file, value.trim(), &mut found)?;
    }
    Ok(found)
}

fn unified(file: &str, value: &str, found: &mut Vec<Property>) -> Result<(), CgroupError> {
    let name = match file {
        "cpu.weight" => "CPUWeight",
        "memory.high" => "MemoryHigh",
        "memory.low" => "MemoryLow",
        "memory.min" => "MemoryMin",
        "memory.max" => "MemoryMax",
        "memory.swap.max" => "MemorySwapMax",
        "pids.max" => "TasksMax",
        "cpuset.cpus" | "cpuset.mems" => {
            let name = if file == "cpuset.cpus" { "AllowedCPUs" } else { "AllowedMemoryNodes" };
            found.push((name.into(), Value::Bytes(mask(value)?)));
            return Ok(());
        }
        "cpu.idle" => {
            if value == "1" {
                found.push(("CPUWeight".into(), Value::U64(0)));
            }
            return Ok(());
        }
        "cpu.max" => {
            let (quota, period) = value.split_once(' ').unwrap_or((value, ""));
            let quota = if quota == "max" { -1 } else { parse(file, quota)? as i64 };
            let period = if period.is_empty() { CPU_PERIOD_US } else { parse(file, period)? };
            cpu_time(&Cpu { quota: Some(quota), period: Some(period), ..Cpu::default() }, found);
            return Ok(());
        }
        _ => return Ok(()),
    };
    found.push((name.into(), Value::U64(if value == "max" { u64::MAX } else { parse(file, value)? })));
    Ok(())
}

fn parse(file: &str, value: &str) -> Result<u64, CgroupError> {
    value
        .parse()
        .map_err(|_| CgroupError::Invalid(format!("unified resource {file:?}: {value:?} is no number")))
}

fn cpu_time(cpu: &Cpu, found: &mut Vec<Property>) {
    let (quota, period) = (cpu.quota.filter(|n| *n != 0), cpu.period.filter(|n| *n != 0));
    if let Some(period) = period {
        found.push(("CPUQuotaPeriodUSec".into(), Value::U64(period)));
    }
    if quota.is_some() || period.is_some() {
        let limited = quota.filter(|quota| *quota > 0);
        let value =
            limited.map_or(u64::MAX, |quota| quota_per_second(quota as u64, period.unwrap_or(CPU_PERIOD_US)));
        found.push(("CPUQuotaPerSecUSec".into(), Value::U64(value)));
    }
}

fn quota_per_second(quota: u64, period: u64) -> u64 {
    let exact = u128::from(quota) * u128::from(SECOND_US) / u128::from(period.max(1));
    u64::try_from(exact).unwrap_or(u64::MAX - PERCENT_US).div_ceil(PERCENT_US).saturating_mul(PERCENT_US)
}

/// `0-2,5`, as bits, the lowest first.
fn mask(text: &str) -> Result<Vec<u8>, CgroupError> {
    let invalid = || CgroupError::Invalid(format!("CPUs or memory nodes {text:?}: it is a list like 0-2,5"));
    let mut bits = Vec::new();
    for range in text.trim().split(',').filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |word: &str| word.trim().parse::<usize>().ok().filter(|n| *n < MASK_BITS_MAX);
        let (first, last) = number(first).zip(number(last)).ok_or_else(invalid)?;
        if last < first {
            return Err(invalid());
        }
        bits.resize(bits.len().max(last / 8 + 1), 0u8);
        for bit in first..=last {
            if let Some(byte) = bits.get_mut(bit / 8) {
                *byte |= 1 << (bit % 8);
            }
        }
    }
    Ok(bits)
}

/// −1 is no limit.
fn infinite(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks() {
        assert_eq!(mask("0-2,9").unwrap(), [7, 2]);
        assert!(mask("2-1").is_err() && mask("x").is_err() && mask("0-99999999").is_err());
    }

    #[test]
    fn limits_become_properties() {
        let mut resources = Resources::default();
        resources.memory.limit = Some(5);
        resources.memory.swap = Some(-1);
        resources.cpu.quota = Some(12_345);
        resources.pids.limit = Some(-1);
        resources.unified.insert("memory.high".into(), "max".into());
        let found = of(&resources, true).unwrap();
        for (name, value) in [
            ("MemoryMax", 5),
            ("MemorySwapMax", u64::MAX),
            ("CPUQuotaPerSecUSec", 130_000),
            ("TasksMax", u64::MAX),
            ("MemoryHigh", u64::MAX),
        ] {
            assert!(found.contains(&(name.into(), Value::U64(value))), "{name}: {found:?}");
        }
        assert_eq!(rounded(&resources).cpu.quota, Some(13_000));
        resources.unified.insert("memory.max".into(), "much".into());
        assert!(of(&resources, true).is_err());
    }
}
