//! `GET /info`.

use crate::context::ApiContext;
use crate::convert::inspect::STORAGE_DRIVER;
use crate::convert::log::DRIVER_DEFAULT;
use crate::routes::fixed::{DOCKER_VERSION, NARU_VERSION};
use crate::web::request::Request;
use crate::web::respond::{self, Response};
use naru_engine::{EngineConfig, Status};
use naru_image::Image;
use naru_kernel::{clock, ns};
use naru_types::{Error, Result};
use naru_wire::system::{FirewallBackend, IndexConfig, Info, Plugins, RegistryConfig, Runtime, Swarm};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

pub async fn info(context: Arc<ApiContext>, _request: Request) -> Result<Response> {
    let info = tokio::task::spawn_blocking(move || gather(&context));
    let info = info
        .await
        .map_err(|error| Error::internal("gathering facts about the host failed").with_source(error))??;
    respond::json(&info)
}

fn gather(context: &ApiContext) -> Result<Info> {
    let engine = &context.engine;
    let config = engine.config();
    let containers = engine.list();
    let count =
        |wanted: &[Status]| containers.iter().filter(|view| wanted.contains(&view.state.status)).count();
    let uname = rustix::system::uname();
    let images = engine.images().list()?;
    let mut warnings = rootless_warnings();
    warnings.extend(images.iter().filter_map(damage_warning));
    Ok(Info {
        id: host_id(),
        containers: containers.len(),
        containers_running: count(&[Status::Running, Status::Restarting]),
        containers_paused: count(&[Status::Paused]),
        containers_stopped: count(&[Status::Created, Status::Exited, Status::Dead, Status::Removing]),
        images: images.len(),
        driver: STORAGE_DRIVER.into(),
        driver_status: [("Supports d_type", "true"), ("Native Overlay Diff", "true")]
            .map(|(key, value)| [key.to_owned(), value.to_owned()])
            .to_vec(),
        plugins: Plugins {
            volume: vec!["local".into()],
            network: ["bridge", "host", "null"].map(str::to_owned).to_vec(),
            authorization: None,
            log: ["json-file", "local", "none"].map(str::to_owned).to_vec(),
        },
        memory_limit: true,
        swap_limit: true,
        cpu_cfs_period: true,
        cpu_cfs_quota: true,
        cpu_shares: true,
        cpu_set: true,
        pids_limit: true,
        ipv4_forwarding: read("/proc/sys/net/ipv4/ip_forward") == "1",
        oom_kill_disable: cgroup_version() == "1",
        n_fd: std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count),
        system_time: clock::now().to_string(),
        logging_driver: DRIVER_DEFAULT.into(),
        cgroup_driver: "cgroupfs".into(),
        cgroup_version: cgroup_version().into(),
        kernel_version: uname.release().to_string_lossy().into_owned(),
        operating_system: operating_system(),
        os_type: "linux".into(),
        architecture: uname.machine().to_string_lossy().into_owned(),
        index_server_address: "https://index.docker.io/v1/".into(),
        registry_config: registries(config),
        n_cpu: std::thread::available_parallelism().map_or(1, usize::from),
        mem_total: memory_bytes(),
        docker_root_dir: config.root.display().to_string(),
        name: uname.nodename().to_string_lossy().into_owned(),
        server_version: DOCKER_VERSION.into(),
        runtimes: engine.runtimes().into_iter().map(|(name, runtime)| (name, shown(runtime))).collect(),
        default_runtime: engine.default_runtime().to_owned(),
        swarm: Swarm { local_node_state: "inactive".into(), ..Swarm::default() },
        // Containers go on when the daemon ends; that is not an option of naru.
        live_restore_enabled: true,
        init_binary: "naru".into(),
        security_options: security_options(context.engine.has_apparmor()),
        firewall_backend: FirewallBackend { driver: "nftables".into() },
        labels: vec![format!("naru.version={NARU_VERSION}")],
        warnings: Some(warnings).filter(|warnings| !warnings.is_empty()),
        ..Info::default()
    })
}

/// Naru's own runtime is naru.
fn shown(runtime: Option<naru_engine::Runtime>) -> Runtime {
    match runtime {
        None => Runtime { path: "naru".into(), args: Vec::new() },
        Some(runtime) => Runtime { path: runtime.path.display().to_string(), args: runtime.args },
    }
}

/// In dockerd's order. A container has a control group namespace of its own unless it is told otherwise.
fn security_options(has_apparmor: bool) -> Vec<String> {
    let apparmor = has_apparmor.then_some("name=apparmor");
    let rootless = ns::in_user_namespace().then_some("name=rootless");
    [apparmor, Some("name=seccomp,profile=builtin"), rootless, Some("name=cgroupns")]
        .into_iter()
        .flatten()
        .map(str::to_owned)
        .collect()
}

/// An image whose configuration cannot be read is listed without it; here is said why.
fn damage_warning(image: &Image) -> Option<String> {
    let damage = image.damage.as_ref()?;
    let name = image.repo_tags.first().cloned().unwrap_or_else(|| image.id.to_string());
    Some(format!("WARNING: image {name} is damaged: {damage} (naru image verify --repair)"))
}

/// The limits of rootless mode, in sentences, for `naru info`; none outside of a user namespace.
fn rootless_warnings() -> Vec<String> {
    let Ok(map) = std::fs::read_to_string("/proc/self/uid_map") else { return Vec::new() };
    if !ns::in_user_namespace() {
        return Vec::new();
    }
    let mut warnings = vec![
        "rootless: published ports and routes can be reached only inside the rootless network namespace"
            .to_owned(),
    ];
    if map.lines().count() == 1 {
        warnings.push(
            "rootless: only one user number is mapped, so images whose files have several owners cannot be \
             unpacked; install newuidmap and give the user a range in /etc/subuid and /etc/subgid"
                .to_owned(),
        );
    }
    warnings
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// The host's machine id (machine-id(5)), which is as stable as dockerd's own.
fn host_id() -> String {
    let id = read("/etc/machine-id");
    if id.is_empty() { read("/proc/sys/kernel/random/boot_id") } else { id }
}

fn cgroup_version() -> &'static str {
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() { "2" } else { "1" }
}

fn operating_system() -> String {
    let text = read("/etc/os-release");
    let pretty = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    pretty.map_or_else(|| "Linux".to_owned(), |name| name.trim_matches('"').to_owned())
}

fn memory_bytes() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram.saturating_mul(u64::from(info.mem_unit))
}

fn registries(config: &EngineConfig) -> RegistryConfig {
    let docker_io = IndexConfig {
        mirrors: config.registry_mirrors.clone(),
        name: "docker.io".into(),
        official: true,
        secure: true,
    };
    let mut index_configs = BTreeMap::from([("docker.io".to_owned(), docker_io)]);
    let (cidrs, hosts): (Vec<String>, Vec<String>) =
        config.insecure_registries.iter().cloned().partition(|entry| entry.contains('/'));
    for host in hosts {
        let index = IndexConfig { name: host.clone(), ..IndexConfig::default() };
        index_configs.insert(host, index);
    }
    let mut insecure_registry_cidrs = vec!["::1/128".to_owned(), "127.0.0.0/8".to_owned()];
    insecure_registry_cidrs.extend(cidrs);
    RegistryConfig { index_configs, insecure_registry_cidrs, mirrors: config.registry_mirrors.clone() }
}
