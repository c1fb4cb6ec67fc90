//! `Resources` to the spec's, with Docker's arithmetic, and Docker's device list.

use super::LowerInput;
use crate::oci::{self, DeviceRule};
use naru_types::spec::ContainerSpec;

/// Microseconds; the period that `--cpus` is counted in.
const NANO_CPU_PERIOD_US: i64 = 100_000;

/// 1e-9 CPUs per CPU.
const NANO: i64 = 1_000_000_000;

pub(super) fn of(container: &ContainerSpec, input: &LowerInput) -> oci::Resources {
    let asked = &container.resources;
    let (quota, period) = if asked.nano_cpus > 0 {
        (Some(asked.nano_cpus / (NANO / NANO_CPU_PERIOD_US)), Some(NANO_CPU_PERIOD_US as u64))
    } else {
        (
            Some(asked.cpu_quota).filter(|quota| *quota != 0),
            Some(asked.cpu_period).filter(|period| *period != 0),
        )
    };
    let set = |value: i64| Some(value).filter(|value| *value != 0);
    oci::Resources {
        devices: device_rules(container, input),
        memory: oci::Memory {
            limit: set(asked.memory),
            reservation: set(asked.memory_reservation),
            // Docker: without --memory-swap a container may swap as much as it has memory.
            swap: set(asked.memory_swap).or_else(|| set(asked.memory.saturating_mul(2))),
            swap_defaulted: asked.memory != 0 && asked.memory_swap == 0,
            disable_oom_killer: asked.oom_kill_disable,
            ..oci::Memory::default()
        },
        cpu: oci::Cpu {
            shares: Some(asked.cpu_shares).filter(|shares| *shares != 0),
            quota,
            period,
            cpus: asked.cpuset_cpus.clone(),
            mems: asked.cpuset_mems.clone(),
            ..oci::Cpu::default()
        },
        pids: oci::Pids { limit: asked.pids.map(|limit| if limit <= 0 { -1 } else { limit }) },
        block_io: oci::BlockIo {
            weight: Some(asked.blkio_weight).filter(|weight| *weight != 0),
            weight_discardable: asked.blkio_weight != 0,
            ..oci::BlockIo::default()
        },
        ..oci::Resources::default()
    }
}

/// Everything denied; making any node allowed (it is worth nothing without the right to open it); then the nodes that
/// every container has, then the user's.
fn device_rules(container: &ContainerSpec, input: &LowerInput) -> Vec<DeviceRule> {
    if container.security.privileged {
        return vec![rule(true, "a", None, None, "rwm")];
    }
    let mut rules = vec![
        rule(false, "a", None, None, "rwm"),
        rule(true, "c", None, None, "m"),
        rule(true, "b", None, None, "m"),
    ];
    // null, zero, full, random, urandom, tty, console, ptmx, pts.
    for (major, minor) in [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)] {
        rules.push(rule(true, "c", Some(major), Some(minor), "rwm"));
    }
    rules.push(rule(true, "c", Some(136), None, "rwm"));
    for resolved in &input.devices {
        let device = &resolved.device;
        let kind = if device.kind == "b" { "b" } else { "c" };
        rules.push(rule(true, kind, Some(device.major), Some(device.minor), &resolved.access));
    }
    rules
}

fn rule(allow: bool, kind: &str, major: Option<i64>, minor: Option<i64>, access: &str) -> DeviceRule {
    DeviceRule { allow, kind: kind.into(), major, minor, access: access.into() }
}
