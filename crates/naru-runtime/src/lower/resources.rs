//! `Resources` to the spec's, with Docker's arithmetic, and Docker's device list.

use super::LowerInput;
use crate::oci::{self, DeviceRule};
use naru_types::spec::{ContainerSpec, DeviceRate};
use std::path::PathBuf;

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
            swappiness: asked.memory_swappiness.filter(|value| *value != -1),
            ..oci::Memory::default()
        },
        cpu: oci::Cpu {
            shares: Some(asked.cpu_shares).filter(|shares| *shares != 0),
            quota,
            period,
            realtime_period: Some(asked.cpu_realtime_period).filter(|period| *period != 0),
            realtime_runtime: set(asked.cpu_realtime_runtime),
            cpus: asked.cpuset_cpus.clone(),
            mems: asked.cpuset_mems.clone(),
            ..oci::Cpu::default()
        },
        pids: oci::Pids { limit: asked.pids.map(|limit| if limit <= 0 { -1 } else { limit }) },
        block_io: block_io(container, input),
        ..oci::Resources::default()
    }
}

fn block_io(container: &ContainerSpec, input: &LowerInput) -> oci::BlockIo {
    let asked = &container.resources;
    let numbers = |path: &PathBuf| input.block_devices.get(path).copied();
    let rates = |list: &[DeviceRate]| -> Vec<oci::ThrottleDevice> {
        let rate = |device: &DeviceRate| {
            let (major, minor) = numbers(&device.path)?;
            Some(oci::ThrottleDevice { major, minor, rate: device.rate })
        };
        list.iter().filter_map(rate).collect()
    };
    let weights = asked.blkio_weight_device.iter().filter_map(|device| {
        let (major, minor) = numbers(&device.path)?;
        Some(oci::WeightDevice { major, minor, weight: Some(device.weight), leaf_weight: None })
    });
    oci::BlockIo {
        weight: Some(asked.blkio_weight).filter(|weight| *weight != 0),
        weight_discardable: asked.blkio_weight != 0,
        leaf_weight: None,
        weight_device: weights.collect(),
        throttle_read_bps_device: rates(&asked.blkio_read_bps),
        throttle_write_bps_device: rates(&asked.blkio_write_bps),
        throttle_read_iops_device: rates(&asked.blkio_read_iops),
        throttle_write_iops_device: rates(&asked.blkio_write_iops),
    }
}

/// `c 13:* rwm`, in Docker's form: `[acb] MAJOR:MINOR [rwm]{1,3}`, a number or `*` each.
pub fn device_rule(text: &str) -> Option<DeviceRule> {
    let mut words = text.split(' ');
    let (kind, numbers, access) = (words.next()?, words.next()?, words.next()?);
    let number = |word: &str| match word {
        "*" => Some(None),
        digits if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().ok().map(Some)
        }
        _ => None,
    };
    let (major, minor) = numbers.split_once(':')?;
    let (major, minor) = (number(major)?, number(minor)?);
    let good = words.next().is_none()
        && matches!(kind, "a" | "b" | "c")
        && (1..=3).contains(&access.len())
        && access.bytes().all(|letter| b"rwm".contains(&letter));
    good.then(|| rule(true, kind, major, minor, access))
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
    // The engine has refused what is not a rule.
    rules.extend(container.resources.device_rules.iter().filter_map(|text| device_rule(text)));
    rules
}

fn rule(allow: bool, kind: &str, major: Option<i64>, minor: Option<i64>, access: &str) -> DeviceRule {
    DeviceRule { allow, kind: kind.into(), major, minor, access: access.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use naru_types::spec::{DeviceWeight, Resources};

    #[test]
    fn device_rules_in_dockers_form() {
        assert_eq!(device_rule("c 13:* rmw"), Some(rule(true, "c", Some(13), None, "rmw")));
        assert_eq!(device_rule("a *:* rwm"), Some(rule(true, "a", None, None, "rwm")));
        for bad in ["", "c 1:3", "x 1:3 r", "c 1 r", "c 1:-3 r", "c 1:3 rwmr", "c 1:3 x", "c 1:3 r ", "c : r"]
        {
            assert_eq!(device_rule(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn block_devices_go_by_their_numbers() {
        let resources = Resources {
            blkio_weight_device: vec![DeviceWeight { path: "/dev/a".into(), weight: 200 }],
            blkio_read_bps: vec![DeviceRate { path: "/dev/a".into(), rate: 5 }],
            blkio_write_iops: vec![DeviceRate { path: "/dev/b".into(), rate: 6 }],
            memory_swappiness: Some(7),
            cpu_realtime_period: 8,
            cpu_realtime_runtime: 9,
            device_rules: vec!["b 7:* r".into()],
            ..Resources::default()
        };
        let container = ContainerSpec { resources, ..ContainerSpec::default() };
        let block_devices = [("/dev/a".into(), (8, 0)), ("/dev/b".into(), (8, 16))].into();
        let input = LowerInput { block_devices, ..LowerInput::default() };
        let lowered = of(&container, &input);
        let io = lowered.block_io;
        assert_eq!((io.weight_device[0].major, io.weight_device[0].weight), (8, Some(200)));
        assert_eq!((io.throttle_read_bps_device[0].minor, io.throttle_read_bps_device[0].rate), (0, 5));
        assert_eq!((io.throttle_write_iops_device[0].minor, io.throttle_write_iops_device[0].rate), (16, 6));
        assert_eq!(lowered.memory.swappiness, Some(7));
        assert_eq!((lowered.cpu.realtime_period, lowered.cpu.realtime_runtime), (Some(8), Some(9)));
        assert_eq!(lowered.devices.last(), Some(&rule(true, "b", Some(7), None, "r")));
    }
}
