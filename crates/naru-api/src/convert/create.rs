//! The one conversion of `POST /containers/create` into a [`ContainerSpec`].
//!
//! What naru cannot do is refused by name (`refuse`), never dropped.

use crate::convert::{endpoint, log, mounts, ports, refuse, resources, security};
use naru_types::signal::Signal;
use naru_types::spec::{ContainerSpec, NetworkMode, NetworkSpec, PortProto, Process, RestartPolicy, Stdio};
use naru_types::{Error, Result};
use naru_wire::create::{Config, CreateRequest};
use naru_wire::host_config::{self, HostConfig};

pub fn spec(request: CreateRequest) -> Result<ContainerSpec> {
    let CreateRequest { config, host_config: host, networking } = request;
    if config.image.is_empty() {
        return Err(Error::invalid("no image specified").with_hint("name one in \"Image\""));
    }
    refuse::unsupported(&config, &host)?;
    let stop_signal =
        Some(config.stop_signal.as_str()).filter(|text| !text.is_empty()).map(signal).transpose()?;
    Ok(ContainerSpec {
        image: config.image.clone(),
        hostname: config.hostname.clone(),
        domainname: config.domainname.clone(),
        process: process(&config, &host)?,
        labels: config.labels.clone(),
        annotations: host.annotations.clone(),
        stdio: stdio(&config, &host),
        stop_signal,
        stop_timeout_secs: config.stop_timeout,
        healthcheck: config.healthcheck.clone(),
        restart: restart(&host.restart_policy)?,
        auto_remove: host.auto_remove,
        resources: resources::resources(&host)?,
        mounts: mounts::mounts(&config, &host)?,
        volumes_from: host.volumes_from.clone().unwrap_or_default(),
        inherited: Vec::new(),
        network: network(&config, &host, networking)?,
        security: security::security(&host)?,
        namespaces: security::namespaces(&host)?,
        shm_size: (host.shm_size != 0).then_some(host.shm_size),
        sysctls: host.sysctls.clone(),
        ulimits: resources::ulimits(&host),
        devices: resources::devices(&host),
        oom_score_adj: host.oom_score_adj,
        init: host.init.unwrap_or(false),
        log: log::log_spec(&host.log_config)?,
        cgroup_parent: Some(host.cgroup_parent.clone()).filter(|parent| !parent.is_empty()),
        runtime: host.runtime.clone(),
    })
}

pub fn signal(text: &str) -> Result<Signal> {
    Signal::parse(text).ok_or_else(|| Error::invalid(format!("invalid signal: {text}")))
}

fn process(config: &Config, host: &HostConfig) -> Result<Process> {
    let env = config.env.clone().unwrap_or_default();
    if let Some(bad) =
        env.iter().find(|entry| entry.is_empty() || entry.starts_with('=') || entry.contains('\0'))
    {
        return Err(Error::invalid(format!("invalid environment variable: {bad}")));
    }
    Ok(Process {
        entrypoint: config.entrypoint.clone(),
        cmd: config.cmd.clone(),
        env,
        working_dir: config.working_dir.clone(),
        user: config.user.clone(),
        group_add: host.group_add.clone().unwrap_or_default(),
    })
}

fn stdio(config: &Config, host: &HostConfig) -> Stdio {
    let [rows, cols] = host.console_size;
    Stdio {
        tty: config.tty,
        open_stdin: config.open_stdin,
        stdin_once: config.stdin_once,
        attach_stdin: config.attach_stdin,
        attach_stdout: config.attach_stdout,
        attach_stderr: config.attach_stderr,
        console_size: (rows > 0 && cols > 0).then_some((rows, cols)),
    }
}

/// Docker's texts (moby `container.ValidateRestartPolicy`).
pub fn restart(policy: &host_config::RestartPolicy) -> Result<RestartPolicy> {
    let retries = policy.maximum_retry_count;
    let no_retries = |parsed| {
        if retries == 0 {
            return Ok(parsed);
        }
        Err(Error::invalid("invalid restart policy: maximum retry count can only be used with 'on-failure'"))
    };
    match policy.name.as_str() {
        "" | "no" => no_retries(RestartPolicy::No),
        "always" => no_retries(RestartPolicy::Always),
        "unless-stopped" => no_retries(RestartPolicy::UnlessStopped),
        "on-failure" => match u32::try_from(retries) {
            Ok(max_retries) => Ok(RestartPolicy::OnFailure { max_retries }),
            Err(_) => Err(Error::invalid("invalid restart policy: maximum retry count cannot be negative")),
        },
        other => Err(Error::invalid(format!(
            "invalid restart policy: unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        ))),
    }
}

fn network(
    config: &Config,
    host: &HostConfig,
    networking: naru_wire::create::NetworkingConfig,
) -> Result<NetworkSpec> {
    let mode = if config.network_disabled { NetworkMode::None } else { network_mode(&host.network_mode)? };
    let mut endpoints = std::collections::BTreeMap::new();
    for (name, wish) in networking.endpoints_config {
        let name = if name == "default" { "bridge".to_owned() } else { name };
        // Nothing can be asked of the host's network or of none; clients send empty entries for them.
        if matches!(name.as_str(), "host" | "none") {
            continue;
        }
        endpoints.insert(name, endpoint::spec(wish.unwrap_or_default())?);
    }
    let mut exposed = Vec::new();
    for text in config.exposed_ports.keys() {
        exposed.extend(ports::parse_exposed(text)?);
    }
    let published = ports::bindings(host.port_bindings.as_ref())?;
    for port in published.iter().map(|binding| binding.container) {
        if !exposed.contains(&port) {
            exposed.push(port);
        }
    }
    exposed.sort_by_key(PortProto::to_string);
    Ok(NetworkSpec {
        mode,
        endpoints,
        exposed,
        published,
        publish_all: host.publish_all_ports,
        dns: parse_dns(&host.dns)?,
        dns_search: host.dns_search.clone(),
        dns_options: host.dns_options.clone(),
        extra_hosts: host.extra_hosts.clone().unwrap_or_default(),
        links: host.links.clone().unwrap_or_default(),
        mac_address: Some(config.mac_address.clone()).filter(|mac| !mac.is_empty()),
    })
}

fn network_mode(text: &str) -> Result<NetworkMode> {
    Ok(match text {
        "" | "default" | "bridge" => NetworkMode::Bridge,
        "host" => NetworkMode::Host,
        "none" => NetworkMode::None,
        _ => match text.strip_prefix("container:") {
            Some("") => {
                return Err(Error::invalid(
                    "invalid network mode: invalid container format container:<name|id>",
                ));
            }
            Some(container) => NetworkMode::Container(container.to_owned()),
            None => NetworkMode::Network(text.to_owned()),
        },
    })
}

fn parse_dns(list: &[String]) -> Result<Vec<std::net::IpAddr>> {
    let parse = |text: &String| {
        text.parse().map_err(|_| Error::invalid(format!("invalid DNS server address: {text:?}")))
    };
    list.iter().map(parse).collect()
}
