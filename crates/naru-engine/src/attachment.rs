//! The network side of a start: the namespace, the ports, and the three files that go with them.

use crate::container::Container;
use crate::engine::Engine;
use crate::networks::{endpoint_view, open_netns, primary};
use crate::view::PublishedPort;
use naru_net::{AttachRequest, files};
use naru_types::spec::{ContainerSpec, EndpointSpec, NetworkMode, PortBinding};
use naru_types::{Error, Result};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where the host's name servers are said.
const HOST_RESOLV_CONF: &str = "/etc/resolv.conf";

/// What the start goes on with.
pub struct NetworkSetup {
    /// `None`: the host's.
    pub netns: Option<OwnedFd>,
    pub hostname: PathBuf,
    pub hosts: PathBuf,
    pub resolv_conf: PathBuf,
}

impl Engine {
    /// Attaches and publishes, and writes hostname, hosts and resolv.conf. What fails is undone by `detach_networks`.
    pub(crate) fn attach_networks(
        &self,
        container: &Arc<Container>,
        userns: Option<BorrowedFd<'_>>,
    ) -> Result<NetworkSetup> {
        let spec = container.cell().spec.clone();
        if let NetworkMode::Container(other) = &spec.network.mode {
            return self.join_network(other);
        }
        let requests = self.endpoint_requests(container, &spec)?;
        let mut own = Vec::new();
        let mut gateway = None;
        let (mut netns, mut embedded) = (None, false);
        if !requests.is_empty() {
            let aliases: Vec<_> = requests.iter().map(|(_, _, aliases)| aliases.clone()).collect();
            let names: Vec<_> = requests.iter().map(|(name, _, _)| name.clone()).collect();
            let made = self.nets.attach_in(
                &AttachRequest {
                    container: container.id.clone(),
                    endpoints: requests.into_iter().map(|(_, request, _)| request).collect(),
                    published: published(&spec),
                    dns: spec.network.dns.clone(),
                },
                userns,
            )?;
            own = made.endpoints.iter().map(|endpoint| endpoint.ipv4).collect();
            gateway = made.endpoints.iter().find_map(|endpoint| endpoint.gateway);
            embedded = made.embedded_dns;
            netns = Some(made.netns);
            let views = made
                .endpoints
                .iter()
                .zip(aliases)
                .map(|(endpoint, aliases)| endpoint_view(endpoint, aliases));
            let mut cell = container.cell();
            cell.facts.endpoints = names.into_iter().zip(views).collect();
            cell.facts.ports = made.ports.iter().map(port_view).collect();
            cell.facts.net = made.endpoints;
            cell.facts.net_ports = made.ports;
        }
        if spec.network.mode == NetworkMode::None {
            netns = Some(self.nets.lonely_netns(userns)?);
        }
        let texts = Texts { own, gateway: gateway.or_else(|| self.bridge_gateway()), embedded };
        Self::write_files(container, &spec, &texts)?;
        let paths = &container.paths;
        Ok(NetworkSetup {
            netns,
            hostname: paths.hostname(),
            hosts: paths.hosts(),
            resolv_conf: paths.resolv_conf(),
        })
    }

    /// Another container's namespace and its files.
    fn join_network(&self, other: &str) -> Result<NetworkSetup> {
        let other = self.find(other)?;
        let Some(pid) = other.pid() else {
            return Err(Error::conflict(format!(
                "cannot join network namespace of a non running container: {}",
                other.name()
            )));
        };
        let paths = &other.paths;
        Ok(NetworkSetup {
            netns: Some(open_netns(pid)?),
            hostname: paths.hostname(),
            hosts: paths.hosts(),
            resolv_conf: paths.resolv_conf(),
        })
    }

    /// The primary network first, then the others by name.
    #[allow(clippy::type_complexity)] // name, request and aliases of one endpoint, taken apart by the only caller
    fn endpoint_requests(
        &self,
        container: &Container,
        spec: &ContainerSpec,
    ) -> Result<Vec<(String, naru_net::EndpointRequest, Vec<String>)>> {
        let first = primary(&spec.network.mode);
        if first.is_none() {
            return Ok(Vec::new());
        }
        let mut found: Vec<(String, naru_net::EndpointRequest, Vec<String>)> = Vec::new();
        for name in first.into_iter().chain(spec.network.endpoints.keys().map(String::as_str)) {
            let row = self.find_network(name)?;
            if row.net.is_none() || found.iter().any(|(known, _, _)| *known == row.name) {
                continue;
            }
            let asked = spec.network.endpoints.iter().find(|(key, _)| {
                key.as_str() == name || self.find_network(key).is_ok_and(|other| other.id == row.id)
            });
            let endpoint = asked.map_or_else(EndpointSpec::default, |(_, endpoint)| endpoint.clone());
            let mut request = crate::networks::endpoint_request(&row, container, &endpoint)?;
            if !found.is_empty() && endpoint.mac.is_none() {
                // `--mac-address` is the primary interface's.
                request.mac = None;
            }
            found.push((row.name, request, endpoint.aliases));
        }
        Ok(found)
    }

    /// The address by which containers reach the host when they have no gateway of their own.
    fn bridge_gateway(&self) -> Option<Ipv4Addr> {
        Some(self.find_network("bridge").ok()?.net?.gateway)
    }

    fn write_files(container: &Container, spec: &ContainerSpec, texts: &Texts) -> Result<()> {
        let paths = &container.paths;
        let host_mode = spec.network.mode == NetworkMode::Host;
        let hostname = if spec.hostname.is_empty() {
            rustix::system::uname().nodename().to_string_lossy().into_owned()
        } else {
            spec.hostname.clone()
        };
        write(&paths.hostname(), &files::hostname(&hostname))?;
        let own: &[Ipv4Addr] = if host_mode { &[] } else { &texts.own };
        let hosts = files::hosts(&hostname, &spec.domainname, own, &spec.network.extra_hosts, texts.gateway)?;
        write(&paths.hosts(), &hosts)?;
        let host = std::fs::read_to_string(HOST_RESOLV_CONF).unwrap_or_default();
        let network = &spec.network;
        let given = files::DnsOptions {
            servers: &network.dns,
            search: &network.dns_search,
            options: &network.dns_options,
        };
        let untouched =
            network.dns.is_empty() && network.dns_search.is_empty() && network.dns_options.is_empty();
        let text =
            if host_mode && untouched { host } else { files::resolv_conf(&host, texts.embedded, &given) };
        write(&paths.resolv_conf(), &text)
    }

    /// Idempotent; goes on whatever fails.
    pub(crate) fn detach_networks(&self, container: &Arc<Container>) {
        // Start-up's reconcile removes what stays.
        let _ = self.nets.detach(&container.id);
        let names: Vec<_> = {
            let mut cell = container.cell();
            cell.facts.ports.clear();
            cell.facts.net.clear();
            cell.facts.net_ports.clear();
            std::mem::take(&mut cell.facts.endpoints).into_keys().collect()
        };
        for name in names {
            if let Ok(row) = self.find_network(&name) {
                self.emit_network(&row, "disconnect", &[("container", container.id.as_str())]);
            }
        }
    }
}

struct Texts {
    own: Vec<Ipv4Addr>,
    gateway: Option<Ipv4Addr>,
    embedded: bool,
}

/// The bindings asked for, and with `-P` every exposed port that has none.
fn published(spec: &ContainerSpec) -> Vec<PortBinding> {
    let mut all = spec.network.published.clone();
    if spec.network.publish_all {
        for port in &spec.network.exposed {
            if !all.iter().any(|binding| binding.container == *port) {
                all.push(PortBinding { container: *port, host_ip: None, host_port: (0, 0) });
            }
        }
    }
    all
}

pub fn port_view(port: &naru_net::PublishedPort) -> PublishedPort {
    PublishedPort { container: port.container, host_ip: IpAddr::V4(port.host_ip), host_port: port.host_port }
}

/// In place, not by rename: a running container has the file itself bind-mounted.
fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(|error| {
        Error::internal(format!("cannot write {}: {error}", path.display())).with_source(error)
    })
}
