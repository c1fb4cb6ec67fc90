//! Fields that change how a container behaves and that naru does not have: setting one is an error that names it.

use naru_types::{Error, Result};
use naru_wire::create::Config;
use naru_wire::host_config::HostConfig;

pub fn unsupported(config: &Config, host: &HostConfig) -> Result<()> {
    let set: [(&str, bool); 7] = [
        ("HostConfig.VolumeDriver", !matches!(host.volume_driver.as_str(), "" | "local")),
        ("HostConfig.Isolation", !matches!(host.isolation.as_str(), "" | "default")),
        ("HostConfig.StorageOpt", !host.storage_opt.is_empty()),
        ("HostConfig.Cgroup", !host.cgroup.is_empty()),
        ("HostConfig.DeviceRequests", host.device_requests.as_ref().is_some_and(|list| !list.is_empty())),
        ("Config.OnBuild", config.on_build.as_ref().is_some_and(|list| !list.is_empty())),
        (
            "HostConfig.CpuCount, CpuPercent, IOMaximumIOps and IOMaximumBandwidth (Windows only)",
            host.cpu_count != 0
                || host.cpu_percent != 0
                || host.io_maximum_iops != 0
                || host.io_maximum_bandwidth != 0,
        ),
    ];
    if let Some((field, _)) = set.iter().find(|(_, is_set)| *is_set) {
        return Err(Error::not_implemented(format!("{field} is not supported by naru"))
            .with_hint("leave it out, or at its default"));
    }
    Ok(())
}
