//! Limits, ulimits and devices.

use naru_types::spec::{Device, Resources, Ulimit};
use naru_types::{Error, Result};
use naru_wire::host_config::{self, HostConfig};

pub fn resources(host: &HostConfig) -> Result<Resources> {
    let unsigned = |field: &str, value: i64| {
        u64::try_from(value)
            .map_err(|_| Error::invalid(format!("invalid {field}: {value} must not be negative")))
    };
    if host.nano_cpus != 0 && (host.cpu_period != 0 || host.cpu_quota != 0) {
        return Err(Error::invalid("Conflicting options: Nano CPUs and CPU Period cannot both be set"));
    }
    Ok(Resources {
        memory: host.memory,
        memory_swap: host.memory_swap,
        memory_reservation: host.memory_reservation,
        oom_kill_disable: host.oom_kill_disable.unwrap_or(false),
        nano_cpus: host.nano_cpus,
        cpu_shares: unsigned("CPU shares", host.cpu_shares)?,
        cpu_quota: host.cpu_quota,
        cpu_period: unsigned("CPU period", host.cpu_period)?,
        cpuset_cpus: host.cpuset_cpus.clone(),
        cpuset_mems: host.cpuset_mems.clone(),
        pids: host.pids_limit,
        blkio_weight: host.blkio_weight,
    })
}

pub fn ulimits(host: &HostConfig) -> Vec<Ulimit> {
    let convert = |limit: &host_config::Ulimit| Ulimit {
        name: limit.name.to_ascii_lowercase(),
        soft: limit.soft,
        hard: limit.hard,
    };
    host.ulimits.iter().map(convert).collect()
}

pub fn devices(host: &HostConfig) -> Vec<Device> {
    let or = |text: &str, default: &str| if text.is_empty() { default.to_owned() } else { text.to_owned() };
    let convert = |device: &host_config::DeviceMapping| Device {
        host: device.path_on_host.clone().into(),
        container: or(&device.path_in_container, &device.path_on_host),
        permissions: or(&device.cgroup_permissions, "rwm"),
    };
    host.devices.iter().map(convert).collect()
}
