//! Limits, ulimits and devices.

use naru_types::spec::{Device, DeviceRate, DeviceWeight, Resources, Ulimit};
use naru_types::{Error, Result};
use naru_wire::host_config::{self, HostConfig, ThrottleDevice, WeightDevice};

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
        blkio_weight_device: host.blkio_weight_device.iter().map(weight).collect(),
        blkio_read_bps: rates(&host.blkio_device_read_bps),
        blkio_write_bps: rates(&host.blkio_device_write_bps),
        blkio_read_iops: rates(&host.blkio_device_read_iops),
        blkio_write_iops: rates(&host.blkio_device_write_iops),
        cpu_realtime_period: unsigned("CPU real-time period", host.cpu_realtime_period)?,
        cpu_realtime_runtime: host.cpu_realtime_runtime,
        memory_swappiness: host.memory_swappiness.filter(|value| *value != -1),
        device_rules: host.device_cgroup_rules.clone().unwrap_or_default(),
    })
}

/// As inspect shows them.
pub fn show_blkio(host: &mut HostConfig, limits: &Resources) {
    let weight = |device: &DeviceWeight| WeightDevice {
        path: device.path.display().to_string(),
        weight: device.weight,
    };
    let rates = |list: &[DeviceRate]| {
        let rate = |device: &DeviceRate| ThrottleDevice {
            path: device.path.display().to_string(),
            rate: device.rate,
        };
        list.iter().map(rate).collect()
    };
    host.blkio_weight = limits.blkio_weight;
    host.blkio_weight_device = limits.blkio_weight_device.iter().map(weight).collect();
    host.blkio_device_read_bps = rates(&limits.blkio_read_bps);
    host.blkio_device_write_bps = rates(&limits.blkio_write_bps);
    host.blkio_device_read_iops = rates(&limits.blkio_read_iops);
    host.blkio_device_write_iops = rates(&limits.blkio_write_iops);
}

fn weight(device: &WeightDevice) -> DeviceWeight {
    DeviceWeight { path: device.path.clone().into(), weight: device.weight }
}

fn rates(list: &[ThrottleDevice]) -> Vec<DeviceRate> {
    list.iter().map(|device| DeviceRate { path: device.path.clone().into(), rate: device.rate }).collect()
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
