//! Networks by name: created, listed, removed, and containers put on and off them.
//!
//! `naru-net` owns the kernel side; the rows here are the durable copy that is handed back to it at start.

use crate::container::Container;
use crate::engine::Engine;
use crate::machine::State;
use crate::options::NetworkCreate;
use crate::record::NetworkRow;
use crate::view::{EndpointView, IpamView, NetworkEndpointView, NetworkView};
use naru_net::{EndpointRequest, Ipv4Net, Mac, NetworkRequest};
use naru_types::spec::{EndpointSpec, NetworkMode};
use naru_types::{Error, Kind, NetworkId, Result};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::sync::Arc;

/// The networks that always exist, with their drivers.
pub const PREDEFINED: [(&str, &str); 3] = [("bridge", "bridge"), ("host", "host"), ("none", "null")];

impl Engine {
    pub async fn network_create(&self, options: NetworkCreate) -> Result<NetworkId> {
        self.blocking(move |engine| engine.make_network(options)).await
    }

    pub fn networks(&self) -> Vec<NetworkView> {
        let rows: Vec<_> = self.table().networks.values().cloned().collect();
        let mut views: Vec<_> = rows.into_iter().map(|row| self.network_view(row)).collect();
        views.sort_by(|a, b| a.created.cmp(&b.created).then_with(|| a.name.cmp(&b.name)));
        views
    }

    pub fn network(&self, name_or_id: &str) -> Result<NetworkView> {
        Ok(self.network_view(self.find_network(name_or_id)?))
    }

    pub async fn network_remove(&self, r: &str) -> Result<()> {
        let row = self.find_network(r)?;
        if PREDEFINED.iter().any(|(name, _)| *name == row.name) {
            return Err(Error::new(
                Kind::Forbidden,
                format!("{} is a pre-defined network and cannot be removed", row.name),
            ));
        }
        self.blocking(move |engine| {
            let active: Vec<_> = engine
                .members(&row)
                .into_values()
                .map(|member| {
                    format!("name:\"{}\" id:\"{}\"", member.name, short(&member.endpoint.endpoint_id))
                })
                .collect();
            if !active.is_empty() {
                return Err(Error::new(
                    Kind::Forbidden,
                    format!(
                        "error while removing network: network {} has active endpoints ({})",
                        row.name,
                        active.join(", ")
                    ),
                )
                .with_hint(format!(
                    "stop these containers, or naru network disconnect {} <container>",
                    row.name
                )));
            }
            engine.nets.remove(&row.id)?;
            engine.db.delete_network(&row.id)?;
            engine.table().networks.remove(&row.id);
            engine.emit_network(&row, "destroy", &[]);
            Ok(())
        })
        .await
    }

    pub async fn network_connect(&self, net: &str, container: &str, endpoint: EndpointSpec) -> Result<()> {
        let (row, container) = (self.find_network(net)?, self.find(container)?);
        self.blocking(move |engine| engine.connect(&row, &container, endpoint)).await
    }

    /// `force`: a container that does not exist is no error.
    pub async fn network_disconnect(&self, net: &str, container: &str, force: bool) -> Result<()> {
        let row = self.find_network(net)?;
        let container = match self.find(container) {
            Err(error) if force && error.kind() == Kind::NotFound => return Ok(()),
            found => found?,
        };
        self.blocking(move |engine| engine.disconnect(&row, &container)).await
    }

    pub(crate) fn find_network(&self, r: &str) -> Result<NetworkRow> {
        let table = self.table();
        let named = table.networks.values().find(|row| row.name == r || row.id.as_str() == r);
        if let Some(row) = named {
            return Ok(row.clone());
        }
        // Docker's clients call the network `bridge` by the name of the mode that stands for it.
        if r == "default" {
            return table.networks.values().find(|row| row.name == "bridge").cloned().ok_or_else(|| none(r));
        }
        let mut matches =
            table.networks.values().filter(|row| !r.is_empty() && row.id.as_str().starts_with(r));
        match (matches.next(), matches.next()) {
            (Some(row), None) => Ok(row.clone()),
            (Some(_), Some(_)) => {
                Err(Error::invalid(format!("network {r} is ambiguous (2 matches found based on ID prefix)")))
            }
            (None, _) => Err(none(r)),
        }
    }

    fn make_network(&self, options: NetworkCreate) -> Result<NetworkId> {
        // Docker takes any text with something to see in it.
        if options.name.trim().is_empty() || options.name.chars().any(char::is_control) {
            return Err(Error::invalid(format!("invalid network name: {:?}", options.name)));
        }
        match options.driver.as_deref().unwrap_or("bridge") {
            "" | "default" | "bridge" => {}
            "host" | "null" => {
                let driver = options.driver.unwrap_or_default();
                return Err(Error::new(
                    Kind::Forbidden,
                    format!("only one instance of \"{driver}\" network is allowed"),
                ));
            }
            driver => {
                return Err(Error::not_found(format!(
                    "could not find plugin {driver} in v1 plugin registry: plugin \"{driver}\" not found"
                ))
                .with_hint("naru has the drivers bridge, host and null"));
            }
        }
        if self.table().networks.values().any(|row| row.name == options.name) {
            return Err(Error::conflict(format!("network with name {} already exists", options.name)));
        }
        let id = NetworkId::from_bytes(crate::ids::random_32());
        let request = request(&options, id.clone())?;
        let net = self.nets.create(&request)?;
        let row = NetworkRow {
            id: id.clone(),
            name: options.name,
            driver: "bridge".into(),
            attachable: options.attachable,
            labels: options.labels,
            options: options.options,
            ipam: vec![IpamView {
                subnet: net.subnet.to_string(),
                gateway: net.gateway.to_string(),
                ip_range: net.ip_range.map(|range| range.to_string()).unwrap_or_default(),
                auxiliary: options.ipam.into_iter().next().map(|pool| pool.auxiliary).unwrap_or_default(),
            }],
            ipam_options: options.ipam_options,
            created: crate::ids::now(),
            net: Some(net),
        };
        if let Err(error) = self.db.save_network(&row) {
            // What was made for nothing is unmade; the first error is the one to tell.
            let _ = self.nets.remove(&id);
            return Err(error.into());
        }
        self.table().networks.insert(id.clone(), row.clone());
        self.emit_network(&row, "create", &[]);
        Ok(id)
    }

    fn network_view(&self, row: NetworkRow) -> NetworkView {
        NetworkView {
            containers: self.members(&row),
            id: row.id,
            name: row.name,
            driver: row.driver,
            scope: "local",
            internal: row.net.as_ref().is_some_and(|net| net.internal),
            attachable: row.attachable,
            labels: row.labels,
            options: row.options,
            ipam: row.ipam,
            ipam_options: row.ipam_options,
            enable_ipv6: false,
            created: row.created,
        }
    }

    /// The running containers on it.
    fn members(&self, row: &NetworkRow) -> BTreeMap<naru_types::ContainerId, NetworkEndpointView> {
        self.containers()
            .iter()
            .filter_map(|container| {
                let cell = container.cell();
                let endpoint = cell.facts.endpoints.get(&row.name).filter(|e| !e.endpoint_id.is_empty())?;
                let member = NetworkEndpointView { name: cell.name.clone(), endpoint: endpoint.clone() };
                Some((container.id.clone(), member))
            })
            .collect()
    }

    fn connect(&self, row: &NetworkRow, container: &Arc<Container>, endpoint: EndpointSpec) -> Result<()> {
        let _editing = crate::lock(&container.editing);
        let mut spec = container.cell().spec.clone();
        if row.net.is_none() || matches!(spec.network.mode, NetworkMode::Host | NetworkMode::Container(_)) {
            return Err(Error::new(
                Kind::Forbidden,
                "container cannot be disconnected from host network or connected to host network",
            ));
        }
        let primary = primary(&spec.network.mode);
        let is_known = |name: &str| self.find_network(name).is_ok_and(|other| other.id == row.id);
        let mut known = spec.network.endpoints.keys().map(String::as_str).chain(primary);
        if known.any(is_known) {
            return Err(Error::new(
                Kind::Forbidden,
                format!("endpoint with name {} already exists in network {}", container.name(), row.name),
            ));
        }
        if spec.network.mode == NetworkMode::None {
            spec.network.mode = NetworkMode::Network(row.name.clone());
        }
        let live = live_pid(container);
        let mut view = EndpointView::detached(row.id.clone(), endpoint.aliases.clone());
        let mut made = None;
        if let Some(pid) = live {
            let netns = open_netns(pid)?;
            let wanted = endpoint_request(row, container, &endpoint)?;
            let on = self.nets.connect(&container.id, netns.as_fd(), &wanted)?;
            view = endpoint_view(&on, endpoint.aliases.clone());
            made = Some(on);
        }
        spec.network.endpoints.insert(row.name.clone(), endpoint);
        self.db.save_spec(&container.id, &spec)?;
        {
            let mut cell = container.cell();
            cell.spec = spec;
            if let Some(on) = made {
                cell.facts.endpoints.insert(row.name.clone(), view);
                cell.facts.net.push(on);
            }
        }
        self.db.save_facts(&container.id, || container.cell().facts.clone())?;
        self.emit_network(row, "connect", &[("container", container.id.as_str())]);
        Ok(())
    }

    fn disconnect(&self, row: &NetworkRow, container: &Arc<Container>) -> Result<()> {
        let _editing = crate::lock(&container.editing);
        let mut spec = container.cell().spec.clone();
        if spec.network.mode == NetworkMode::Host {
            return Err(Error::new(
                Kind::Forbidden,
                "container cannot be disconnected from host network or connected to host network",
            ));
        }
        let same = |name: &str| self.find_network(name).is_ok_and(|other| other.id == row.id);
        let is_primary = primary(&spec.network.mode).is_some_and(same);
        let before = spec.network.endpoints.len();
        spec.network.endpoints.retain(|name, _| !same(name));
        if !is_primary && before == spec.network.endpoints.len() {
            return Err(Error::new(
                Kind::Forbidden,
                format!("container {} is not connected to network {}", container.id, row.name),
            ));
        }
        if is_primary {
            spec.network.mode = spec
                .network
                .endpoints
                .keys()
                .next()
                .map_or(NetworkMode::None, |name| NetworkMode::Network(name.clone()));
        }
        let mut ports = None;
        if let Some(pid) = live_pid(container) {
            let netns = open_netns(pid)?;
            ports = Some(self.nets.disconnect(&container.id, netns.as_fd(), &row.id)?);
        }
        self.db.save_spec(&container.id, &spec)?;
        {
            let mut cell = container.cell();
            cell.spec = spec;
            cell.facts.endpoints.remove(&row.name);
            cell.facts.net.retain(|endpoint| endpoint.network != row.id);
            if let Some(ports) = ports {
                cell.facts.ports = ports.iter().map(crate::attachment::port_view).collect();
                cell.facts.net_ports = ports;
            }
        }
        self.db.save_facts(&container.id, || container.cell().facts.clone())?;
        self.emit_network(row, "disconnect", &[("container", container.id.as_str())]);
        Ok(())
    }

    pub(crate) fn renamed_on_networks(&self, container: &Arc<Container>, old: &str, new: &str) {
        if container.pid().is_some() {
            // A name that lags behind until the next start is better than a rename undone half way.
            let _ = self.nets.rename(&container.id, old, new);
        }
    }
}

/// Names: the container's own, its aliases, its short id; the default bridge resolves none of them.
pub fn endpoint_request(
    row: &NetworkRow,
    container: &Container,
    endpoint: &EndpointSpec,
) -> Result<EndpointRequest> {
    if let Some(addr) = endpoint.ipv6 {
        return Err(Error::invalid(format!("no configured subnet contains IP address {addr}"))
            .with_hint("networks have IPv4 addresses only; leave --ip6 out"));
    }
    let cell = container.cell();
    let mut names = vec![cell.name.clone()];
    names.extend(endpoint.aliases.iter().cloned());
    names.push(container.id.short().to_owned());
    if !cell.spec.hostname.is_empty() {
        names.push(cell.spec.hostname.clone());
    }
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    let links = endpoint.links.iter().chain(&cell.spec.network.links);
    let links = links
        .map(|link| {
            let (name, alias) = link.split_once(':').unwrap_or((link, link));
            let plain = |text: &str| text.trim_start_matches('/').to_owned();
            (plain(alias), plain(name))
        })
        .collect();
    let mac = endpoint.mac.as_deref().or(cell.spec.network.mac_address.as_deref());
    let mac = mac.filter(|mac| !mac.is_empty()).map(Mac::parse).transpose()?;
    Ok(EndpointRequest { network: row.id.clone(), names, ipv4: endpoint.ipv4, mac, links })
}

fn request(options: &NetworkCreate, id: NetworkId) -> Result<NetworkRequest> {
    if options.enable_ipv6 {
        return Err(Error::not_implemented("IPv6 networks are not supported yet")
            .with_hint("create the network without --ipv6"));
    }
    if options.ipam.len() > 1 {
        return Err(Error::not_implemented("a network has one subnet").with_hint("create a second network"));
    }
    let pool = options.ipam.first().cloned().unwrap_or_default();
    let net = |text: &str| if text.is_empty() { Ok(None) } else { Ipv4Net::parse(text).map(Some) };
    let gateway = match pool.gateway.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|_| Error::invalid(format!("invalid gateway address {text}")))?),
    };
    Ok(NetworkRequest {
        id: Some(id),
        name: options.name.clone(),
        subnet: net(&pool.subnet)?,
        gateway,
        ip_range: net(&pool.ip_range)?,
        reserved: pool.auxiliary.iter().map(reserved).collect::<Result<_>>()?,
        internal: options.internal,
        ipv6: false,
        options: options.options.clone(),
    })
}

/// An address of the subnet that something else has: no container gets it.
fn reserved((name, address): (&String, &String)) -> Result<Ipv4Addr> {
    address.parse().map_err(|_| {
        Error::invalid(format!("invalid auxiliary address {name}={address}"))
            .with_hint("write NAME=ADDRESS with an IPv4 address of the subnet")
    })
}

/// The network that a mode names.
pub fn primary(mode: &NetworkMode) -> Option<&str> {
    match mode {
        NetworkMode::Bridge => Some("bridge"),
        NetworkMode::Network(name) => Some(name),
        NetworkMode::Host | NetworkMode::None | NetworkMode::Container(_) => None,
    }
}

/// The process whose network can be changed now.
fn live_pid(container: &Container) -> Option<i32> {
    match &container.cell().state {
        State::Running { run } | State::Paused { run } => Some(run.pid),
        State::Created { .. }
        | State::Starting(_)
        | State::Stopping { .. }
        | State::Settling { .. }
        | State::Restarting { .. }
        | State::Exited { .. }
        | State::Removing { .. }
        | State::Dead { .. } => None,
    }
}

pub fn open_netns(pid: i32) -> Result<std::os::fd::OwnedFd> {
    let path = format!("/proc/{pid}/ns/net");
    let file = std::fs::File::open(&path)
        .map_err(|error| Error::conflict(format!("cannot open {path}: {error}")).with_source(error))?;
    Ok(file.into())
}

pub fn endpoint_view(endpoint: &naru_net::Endpoint, aliases: Vec<String>) -> EndpointView {
    EndpointView {
        network_id: endpoint.network.clone(),
        endpoint_id: endpoint.endpoint_id.clone(),
        mac: endpoint.mac.to_string(),
        ipv4: Some(endpoint.ipv4),
        prefix_len: endpoint.prefix_len,
        gateway: endpoint.gateway,
        ipv6: None,
        ipv6_prefix_len: 0,
        ipv6_gateway: None,
        aliases,
        dns_names: endpoint.names.clone(),
    }
}

fn none(r: &str) -> Error {
    Error::not_found(format!("network {r} not found"))
}

fn short(id: &str) -> &str {
    id.get(..naru_types::id::SHORT_LEN).unwrap_or(id)
}
