//! What Docker refuses at create, in its words (moby `daemon/daemon_unix.go`, `verifyPlatformContainerResources`,
//! `daemon/container.go`, `volume/mounts`).

use crate::merge::clean;
use naru_runtime::cgroup::Layout;
use naru_types::image::Healthcheck;
use naru_types::spec::{ContainerSpec, MountSource, NamespaceMode, NetworkMode, Resources, RestartPolicy};
use naru_types::{Error, Result};
use std::collections::BTreeSet;

/// Docker's smallest memory limit.
const MEMORY_BYTES_MIN: i64 = 6 << 20;
/// Limits of the kernel's CFS bandwidth control, microseconds.
const CPU_PERIOD_US: std::ops::RangeInclusive<u64> = 1_000..=1_000_000;
const CPU_QUOTA_US_MIN: i64 = 1_000;
const NANOS_PER_CPU: i64 = 1_000_000_000;
const NANO_CPUS_MIN: i64 = NANOS_PER_CPU / 100;
const SWAPPINESS: std::ops::RangeInclusive<i64> = 0..=100;
const BLKIO_WEIGHT: std::ops::RangeInclusive<u16> = 10..=1000;
const OOM_SCORE_ADJ: std::ops::RangeInclusive<i32> = -1000..=1000;
const HEALTH_NANOS_MIN: i64 = 1_000_000;
const HOSTNAME_LEN_MAX: usize = 63;

/// Checks the merged description; returns warnings.
pub fn spec(spec: &ContainerSpec, cpus: usize) -> Result<Vec<String>> {
    if spec.process.args().is_empty() {
        return Err(Error::invalid("no command specified")
            .with_hint("give a command after the image name, or set CMD in its Dockerfile"));
    }
    let dir = &spec.process.working_dir;
    if !dir.is_empty() && !dir.starts_with('/') {
        return Err(Error::invalid(format!(
            "the working directory '{dir}' is invalid, it needs to be an absolute path"
        )));
    }
    if spec.auto_remove && spec.restart != RestartPolicy::No {
        return Err(Error::invalid("can't create 'AutoRemove' container with restart policy"));
    }
    if spec.hostname.len() > HOSTNAME_LEN_MAX {
        return Err(Error::invalid(format!("invalid hostname format: {}", spec.hostname)));
    }
    if spec.shm_size.is_some_and(|size| size < 0) {
        return Err(Error::invalid("SHM size can not be less than 0"));
    }
    if !OOM_SCORE_ADJ.contains(&spec.oom_score_adj) {
        return Err(Error::invalid(format!(
            "Invalid value {}, range for oom score adj is [-1000, 1000]",
            spec.oom_score_adj
        )));
    }
    if let Some(health) = &spec.healthcheck {
        healthcheck(health)?;
    }
    modes(spec)?;
    mounts(spec)?;
    let mut warnings = resources(&spec.resources, cpus)?;
    warnings.extend(not_delegated(&spec.resources));
    if spec.network.mode == NetworkMode::Host && !spec.network.published.is_empty() {
        warnings.push("Published ports are discarded when using host network mode".into());
    }
    Ok(warnings)
}

/// What an ordinary user's daemon cannot limit: said when the container is made, as nobody hears what a start says.
fn not_delegated(limits: &Resources) -> Vec<String> {
    let asked = [
        ("memory", limits.memory != 0 || limits.memory_reservation != 0),
        ("cpu", limits.nano_cpus != 0 || limits.cpu_shares != 0 || limits.cpu_quota != 0),
        ("cpuset", !limits.cpuset_cpus.is_empty() || !limits.cpuset_mems.is_empty()),
        ("pids", limits.pids.is_some_and(|most| most > 0)),
        ("blkio", limits.blkio_weight != 0 || limits.block_devices().next().is_some()),
    ];
    let Ok(layout) = Layout::detect() else { return Vec::new() };
    if !layout.delegated {
        return Vec::new();
    }
    let missing = asked.iter().filter(|(controller, is_asked)| *is_asked && !layout.has(controller));
    missing
        .map(|(controller, _)| {
            format!(
                "rootless: the {controller} limit is ignored, the controller is not delegated to this user"
            )
        })
        .collect()
}

/// Limits, at create and at update.
pub fn resources(limits: &Resources, cpus: usize) -> Result<Vec<String>> {
    let refuse = |text: &str| Err(Error::invalid(text));
    let mut warnings = Vec::new();
    if limits.memory != 0 && limits.memory < MEMORY_BYTES_MIN {
        return refuse("Minimum memory limit allowed is 6MB");
    }
    if limits.memory > 0 && limits.memory_swap > 0 && limits.memory_swap < limits.memory {
        return refuse("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    if limits.memory == 0 && limits.memory_swap > 0 {
        return refuse("You should always set the Memory limit when using Memoryswap limit, see usage");
    }
    if limits.memory_reservation > 0 && limits.memory_reservation < MEMORY_BYTES_MIN {
        return refuse("Minimum memory reservation allowed is 6MB");
    }
    if limits.memory > 0 && limits.memory < limits.memory_reservation {
        return refuse("Minimum memory limit can not be less than memory reservation limit, see usage");
    }
    if limits.nano_cpus > 0 && limits.cpu_period > 0 {
        return refuse("Conflicting options: Nano CPUs and CPU Period cannot both be set.");
    }
    if limits.nano_cpus > 0 && limits.cpu_quota > 0 {
        return refuse("Conflicting options: Nano CPUs and CPU Quota cannot both be set.");
    }
    if limits.nano_cpus != 0 && !(NANO_CPUS_MIN..=cpus as i64 * NANOS_PER_CPU).contains(&limits.nano_cpus) {
        return refuse(&format!(
            "Range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
        ));
    }
    if limits.cpu_period > 0 && !CPU_PERIOD_US.contains(&limits.cpu_period) {
        return refuse(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        );
    }
    if limits.cpu_quota > 0 && limits.cpu_quota < CPU_QUOTA_US_MIN {
        return refuse("CPU cfs quota can not be less than 1ms (i.e. 1000)");
    }
    cpuset(&limits.cpuset_cpus, cpus)?;
    if limits.blkio_weight > 0 && !BLKIO_WEIGHT.contains(&limits.blkio_weight) {
        return refuse("Range of blkio weight is from 10 to 1000");
    }
    more_resources(limits)?;
    if limits.oom_kill_disable && limits.memory == 0 {
        warnings.push("OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.".into());
    }
    Ok(warnings)
}

fn more_resources(limits: &Resources) -> Result<()> {
    let refuse = |text: &str| Err(Error::invalid(text));
    if limits.blkio_weight_device.iter().any(|device| !BLKIO_WEIGHT.contains(&device.weight)) {
        return refuse("Range of blkio weight is from 10 to 1000");
    }
    if let Some(swappiness) = limits.memory_swappiness.filter(|value| !SWAPPINESS.contains(value)) {
        return refuse(&format!("Invalid value: {swappiness}, valid memory swappiness range is 0-100"));
    }
    if limits.cpu_realtime_period != 0
        && limits.cpu_realtime_runtime > i64::try_from(limits.cpu_realtime_period).unwrap_or(i64::MAX)
    {
        return refuse("cpu real-time runtime cannot be higher than cpu real-time period");
    }
    if (limits.cpu_realtime_period != 0 || limits.cpu_realtime_runtime != 0) && !has_realtime() {
        return refuse("kernel does not support CPU real-time scheduler");
    }
    match limits.device_rules.iter().find(|rule| naru_runtime::lower::device_rule(rule).is_none()) {
        Some(rule) => refuse(&format!("invalid device cgroup rule format: '{rule}'")),
        None => Ok(()),
    }
}

/// CONFIG_RT_GROUP_SCHED, and the cpu controller in v1.
fn has_realtime() -> bool {
    let Ok(layout) = Layout::detect() else { return false };
    layout.v1_with("cpu").is_some_and(|hierarchy| hierarchy.mount.join("cpu.rt_runtime_us").exists())
}

/// `0-2,5`: every number has to be a processor of this host.
fn cpuset(text: &str, cpus: usize) -> Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    let malformed = || Error::invalid(format!("Invalid value {text} for cpuset cpus"));
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.trim().parse().map_err(|_| malformed())?;
        let last: usize = last.trim().parse().map_err(|_| malformed())?;
        if first > last {
            return Err(malformed());
        }
        if last >= cpus {
            let available = if cpus > 1 { format!("0-{}", cpus - 1) } else { "0".into() };
            return Err(Error::invalid(format!(
                "Requested CPUs are not available - requested {text}, available: {available}"
            )));
        }
    }
    Ok(())
}

fn healthcheck(health: &Healthcheck) -> Result<()> {
    for (name, nanos) in [
        ("Interval", health.interval),
        ("Timeout", health.timeout),
        ("StartPeriod", health.start_period),
        ("StartInterval", health.start_interval),
    ] {
        if nanos != 0 && nanos < HEALTH_NANOS_MIN {
            return Err(Error::invalid(format!("{name} in Healthcheck cannot be less than 1ms")));
        }
    }
    if health.retries < 0 {
        return Err(Error::invalid("Retries in Healthcheck cannot be negative"));
    }
    match health.test.first().map(String::as_str) {
        None | Some("NONE" | "CMD" | "CMD-SHELL") => Ok(()),
        Some(kind) => Err(Error::invalid(format!("Unknown healthcheck type \"{kind}\""))
            .with_hint("the first word is NONE, CMD or CMD-SHELL")),
    }
}

/// What cannot be said of a container that lives in somebody else's network or host name.
fn modes(spec: &ContainerSpec) -> Result<()> {
    let refuse = |text: &str| Err(Error::invalid(text));
    if spec.namespaces.uts == NamespaceMode::Host && !spec.hostname.is_empty() {
        return refuse("conflicting options: hostname and the UTS mode");
    }
    if matches!(spec.namespaces.uts, NamespaceMode::Container(_)) {
        return refuse("invalid UTS mode: a container's host name cannot be shared");
    }
    if matches!(spec.namespaces.cgroup, NamespaceMode::Container(_)) {
        return refuse("invalid cgroup namespace mode: it is either private or host");
    }
    if matches!(spec.network.mode, NetworkMode::Container(_)) {
        let network = &spec.network;
        if !spec.hostname.is_empty() {
            return refuse("conflicting options: hostname and the network mode");
        }
        if !network.links.is_empty() {
            return refuse(
                "conflicting options: container type network can't be used with links. This would result in undefined behavior",
            );
        }
        if !network.dns.is_empty() {
            return refuse("conflicting options: dns and the network mode");
        }
        if !network.extra_hosts.is_empty() {
            return refuse("conflicting options: custom host-to-IP mapping and the network mode");
        }
        if network.mac_address.is_some() {
            return refuse("conflicting options: mac-address and the network mode");
        }
        if !network.published.is_empty() || network.publish_all {
            return refuse("conflicting options: port publishing and the container type network mode");
        }
    }
    Ok(())
}

fn mounts(spec: &ContainerSpec) -> Result<()> {
    let mut seen = BTreeSet::new();
    for mount in &spec.mounts {
        let kind = match &mount.source {
            MountSource::Bind { .. } => "bind",
            MountSource::Volume { .. } => "volume",
            MountSource::Tmpfs { .. } => "tmpfs",
        };
        let refuse =
            |why: String| Err(Error::invalid(format!("invalid mount config for type \"{kind}\": {why}")));
        let target = clean(&mount.target);
        if !mount.target.starts_with('/') {
            return refuse(format!("invalid mount path: '{}' mount path must be absolute", mount.target));
        }
        if target == "/" {
            return refuse("invalid specification: destination can't be '/'".into());
        }
        if mount.target.split('/').any(|part| part == "..") {
            return refuse(format!(
                "invalid mount path: '{}' mount path must not contain '..'",
                mount.target
            ));
        }
        if let MountSource::Bind { path, .. } = &mount.source
            && !path.is_absolute()
        {
            return refuse(format!("invalid mount path: '{}' mount path must be absolute", path.display()));
        }
        if !seen.insert(target) {
            return Err(Error::invalid(format!("Duplicate mount point: {target}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, expect: &str) {
        let spec: ContainerSpec = serde_json::from_str(json).unwrap();
        let message = super::spec(&spec, 2).map_or_else(|error| error.message().to_owned(), |w| w.join("; "));
        assert_eq!(message, expect, "{json}");
    }

    #[test]
    fn refusals_are_dockers() {
        check("{}", "no command specified");
        let with = |rest: &str| format!(r#"{{"process":{{"cmd":["x"]}},{rest}}}"#);
        check(&with(r#""hostname":"h""#), "");
        check(&with(r#""resources":{"memory":1024}"#), "Minimum memory limit allowed is 6MB");
        check(
            &with(r#""resources":{"nano_cpus":3000000000}"#),
            "Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available",
        );
        check(
            &with(r#""resources":{"cpuset_cpus":"0-9"}"#),
            "Requested CPUs are not available - requested 0-9, available: 0-1",
        );
        check(
            &with(r#""auto_remove":true,"restart":"always""#),
            "can't create 'AutoRemove' container with restart policy",
        );
        check(
            &with(r#""network":{"mode":{"container":"c"}},"hostname":"h""#),
            "conflicting options: hostname and the network mode",
        );
        let tmpfs =
            r#"{"source":{"tmpfs":{"size":0,"mode":0,"options":[]}},"target":"/t/","read_only":false}"#;
        check(&with(&format!(r#""mounts":[{tmpfs},{tmpfs}]"#)), "Duplicate mount point: /t");
    }
}
