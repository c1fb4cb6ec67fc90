//! A [`ContainerSpec`] as the `HostConfig` and `Config` of inspect: what was asked for, told back.

use crate::convert::{mounts, ports};
use naru_types::spec::{ContainerSpec, NamespaceMode, NetworkMode, RestartPolicy, UserNamespace};
use naru_wire::create::{Config, Empty};
use naru_wire::host_config::{self, HostConfig, LogConfig};

/// Docker's default size of /dev/shm in bytes, shown where none was asked for.
const SHM_BYTES: i64 = 64 << 20;

pub fn network_mode(mode: &NetworkMode) -> String {
    match mode {
        NetworkMode::Bridge => "bridge".into(),
        NetworkMode::Host => "host".into(),
        NetworkMode::None => "none".into(),
        NetworkMode::Container(container) => format!("container:{container}"),
        NetworkMode::Network(name) => name.clone(),
    }
}

fn namespace(mode: &NamespaceMode, private: &str) -> String {
    match mode {
        NamespaceMode::Private => private.into(),
        NamespaceMode::Host => "host".into(),
        NamespaceMode::Container(container) => format!("container:{container}"),
    }
}

fn restart(policy: RestartPolicy) -> host_config::RestartPolicy {
    let (name, retries) = match policy {
        RestartPolicy::No => ("no", 0),
        RestartPolicy::Always => ("always", 0),
        RestartPolicy::UnlessStopped => ("unless-stopped", 0),
        RestartPolicy::OnFailure { max_retries } => ("on-failure", i64::from(max_retries)),
    };
    host_config::RestartPolicy { name: name.into(), maximum_retry_count: retries }
}

/// `None` for an empty list: Go writes `null` for what was not given.
fn given<T: Clone>(list: &[T]) -> Option<Vec<T>> {
    (!list.is_empty()).then(|| list.to_vec())
}

fn capabilities(list: &[String]) -> Option<Vec<String>> {
    let shown = |name: &String| if name == "ALL" { name.clone() } else { format!("CAP_{name}") };
    (!list.is_empty()).then(|| list.iter().map(shown).collect())
}

pub fn host_config(spec: &ContainerSpec) -> HostConfig {
    let shown = mounts::shown(spec);
    let (network, security, namespaces) = (&spec.network, &spec.security, &spec.namespaces);
    let (rows, cols) = spec.stdio.console_size.unwrap_or_default();
    let mut host = HostConfig {
        binds: given(&shown.binds),
        mounts: shown.mounts,
        tmpfs: shown.tmpfs,
        log_config: LogConfig { kind: spec.log.driver.clone(), config: spec.log.options.clone() },
        network_mode: network_mode(&network.mode),
        port_bindings: Some(ports::asked_map(&network.published)),
        restart_policy: restart(spec.restart),
        auto_remove: spec.auto_remove,
        console_size: [rows, cols],
        annotations: spec.annotations.clone(),
        cap_add: capabilities(&security.cap_add),
        cap_drop: capabilities(&security.cap_drop),
        cgroupns_mode: namespace(&namespaces.cgroup, "private"),
        dns: network.dns.iter().map(ToString::to_string).collect(),
        dns_options: network.dns_options.clone(),
        dns_search: network.dns_search.clone(),
        extra_hosts: given(&network.extra_hosts),
        group_add: given(&spec.process.group_add),
        ipc_mode: namespace(&namespaces.ipc, "private"),
        links: given(&network.links),
        volumes_from: given(&spec.volumes_from),
        oom_score_adj: spec.oom_score_adj,
        pid_mode: namespace(&namespaces.pid, ""),
        privileged: security.privileged,
        publish_all_ports: network.publish_all,
        readonly_rootfs: security.read_only_rootfs,
        security_opt: given(&security.security_opt),
        userns_mode: match security.userns {
            UserNamespace::Own { .. } => "auto".into(),
            UserNamespace::Host => "host".into(),
            UserNamespace::Default => String::new(),
        },
        uts_mode: namespace(&namespaces.uts, ""),
        shm_size: spec.shm_size.unwrap_or(SHM_BYTES),
        sysctls: spec.sysctls.clone(),
        runtime: if spec.runtime.is_empty() { "naru".into() } else { spec.runtime.clone() },
        cgroup_parent: spec.cgroup_parent.clone().unwrap_or_default(),
        masked_paths: security
            .masked_paths
            .clone()
            .or_else(|| default_paths(security.privileged, &MASKED_PATHS)),
        readonly_paths: security
            .readonly_paths
            .clone()
            .or_else(|| default_paths(security.privileged, &READONLY_PATHS)),
        init: spec.init.then_some(true),
        ..HostConfig::default()
    };
    fill_resources(&mut host, spec);
    host
}

/// Docker's lists (moby `oci/defaults.go`); a privileged container has none.
const MASKED_PATHS: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

fn default_paths(privileged: bool, list: &[&str]) -> Option<Vec<String>> {
    (!privileged).then(|| list.iter().map(|path| (*path).to_owned()).collect())
}

fn fill_resources(host: &mut HostConfig, spec: &ContainerSpec) {
    let limits = &spec.resources;
    host.memory = limits.memory;
    host.memory_swap = match (limits.memory_swap, limits.memory) {
        (0, memory) if memory > 0 => memory.saturating_mul(2),
        (swap, _) => swap,
    };
    host.memory_reservation = limits.memory_reservation;
    host.oom_kill_disable = Some(limits.oom_kill_disable);
    host.nano_cpus = limits.nano_cpus;
    host.cpu_shares = limits.cpu_shares as i64;
    host.cpu_quota = limits.cpu_quota;
    host.cpu_period = limits.cpu_period as i64;
    host.cpuset_cpus.clone_from(&limits.cpuset_cpus);
    host.cpuset_mems.clone_from(&limits.cpuset_mems);
    host.pids_limit = limits.pids.filter(|limit| *limit > 0);
    super::resources::show_blkio(host, limits);
    host.cpu_realtime_period = limits.cpu_realtime_period as i64;
    host.cpu_realtime_runtime = limits.cpu_realtime_runtime;
    host.memory_swappiness = limits.memory_swappiness;
    host.device_cgroup_rules = (!limits.device_rules.is_empty()).then(|| limits.device_rules.clone());
    let ulimit = |limit: &naru_types::spec::Ulimit| host_config::Ulimit {
        name: limit.name.clone(),
        hard: limit.hard,
        soft: limit.soft,
    };
    host.ulimits = spec.ulimits.iter().map(ulimit).collect();
    let device = |device: &naru_types::spec::Device| host_config::DeviceMapping {
        path_on_host: device.host.display().to_string(),
        path_in_container: device.container.clone(),
        cgroup_permissions: device.permissions.clone(),
    };
    host.devices = spec.devices.iter().map(device).collect();
}

pub fn config(spec: &ContainerSpec) -> Config {
    let process = &spec.process;
    Config {
        hostname: spec.hostname.clone(),
        domainname: spec.domainname.clone(),
        user: process.user.clone(),
        attach_stdin: spec.stdio.attach_stdin,
        attach_stdout: spec.stdio.attach_stdout,
        attach_stderr: spec.stdio.attach_stderr,
        exposed_ports: spec.network.exposed.iter().map(|port| (port.to_string(), Empty {})).collect(),
        tty: spec.stdio.tty,
        open_stdin: spec.stdio.open_stdin,
        stdin_once: spec.stdio.stdin_once,
        env: Some(process.env.clone()),
        cmd: process.cmd.clone(),
        healthcheck: spec.healthcheck.clone(),
        image: spec.image.clone(),
        volumes: anonymous_volumes(spec),
        working_dir: process.working_dir.clone(),
        entrypoint: process.entrypoint.clone(),
        labels: spec.labels.clone(),
        mac_address: spec.network.mac_address.clone().unwrap_or_default(),
        stop_signal: spec.stop_signal.map(|signal| signal.to_string()).unwrap_or_default(),
        stop_timeout: spec.stop_timeout_secs,
        ..Config::default()
    }
}

fn anonymous_volumes(spec: &ContainerSpec) -> Option<std::collections::BTreeMap<String, Empty>> {
    use naru_types::spec::MountSource;
    let anonymous = spec
        .mounts
        .iter()
        .filter(|mount| matches!(mount.source, MountSource::Volume { anonymous: true, .. }));
    let volumes: std::collections::BTreeMap<_, _> =
        anonymous.map(|mount| (mount.target.clone(), Empty {})).collect();
    (!volumes.is_empty()).then_some(volumes)
}
