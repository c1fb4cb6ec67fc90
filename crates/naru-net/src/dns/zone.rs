//! The names of each user network, and what one container sees of them.

use crate::cidr::Ipv4Net;
use crate::model::{Endpoint, Network};
use naru_types::{ContainerId, NetworkId};
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, PoisonError, RwLock};

/// Shared by the public face, which writes, and the resolver, which reads.
#[derive(Clone, Debug, Default)]
pub(crate) struct Zone {
    inner: Arc<RwLock<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    networks: HashMap<NetworkId, NetworkZone>,
    endpoints: HashMap<ContainerId, Vec<Endpoint>>,
}

#[derive(Debug)]
struct NetworkZone {
    /// Lower case.
    name: String,
    subnet: Ipv4Net,
    names: HashMap<String, Vec<Ipv4Addr>>,
    /// The first name of each address, for PTR.
    pointers: HashMap<Ipv4Addr, String>,
}

/// From where a name is asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    pub(crate) networks: Vec<NetworkId>,
    /// `(alias, container name)`, lower case.
    pub(crate) links: Vec<(String, String)>,
}

impl View {
    pub(crate) fn of(endpoints: &[Endpoint]) -> Self {
        let links = endpoints.iter().flat_map(|endpoint| &endpoint.links);
        Self {
            networks: endpoints.iter().map(|endpoint| endpoint.network.clone()).collect(),
            links: links
                .map(|(alias, name)| (alias.to_ascii_lowercase(), name.to_ascii_lowercase()))
                .collect(),
        }
    }
}

/// What is known about an address.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Pointer {
    Name(String),
    /// In a network of ours, but nobody has it.
    Unused,
    /// Not ours to answer.
    Foreign,
}

impl Zone {
    pub(crate) fn set_network(&self, network: &Network) {
        let zone = NetworkZone {
            name: network.name.to_ascii_lowercase(),
            subnet: network.subnet,
            names: HashMap::new(),
            pointers: HashMap::new(),
        };
        self.change(|inner| inner.networks.insert(network.id.clone(), zone));
    }

    pub(crate) fn remove_network(&self, id: &NetworkId) {
        self.change(|inner| inner.networks.remove(id));
    }

    /// Replaces what the container is known by. Endpoints on networks without names are passed over.
    pub(crate) fn set_container(&self, container: &ContainerId, endpoints: &[Endpoint]) {
        self.change(|inner| {
            inner.forget(container);
            for endpoint in endpoints {
                if let Some(zone) = inner.networks.get_mut(&endpoint.network) {
                    zone.add(endpoint);
                }
            }
            inner.endpoints.insert(container.clone(), endpoints.to_vec());
        });
    }

    pub(crate) fn remove_container(&self, container: &ContainerId) {
        self.change(|inner| inner.forget(container));
    }

    /// The addresses of `name` (lower case) as seen from `view`; empty when nobody has it.
    pub(crate) fn addresses(&self, view: &View, name: &str) -> Vec<Ipv4Addr> {
        let name = view.links.iter().find(|(alias, _)| alias == name).map_or(name, |(_, target)| target);
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        view.networks
            .iter()
            .filter_map(|id| inner.networks.get(id))
            .find_map(|zone| zone.find(name))
            .cloned()
            .unwrap_or_default()
    }

    pub(crate) fn pointer(&self, view: &View, addr: Ipv4Addr) -> Pointer {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let zone = view
            .networks
            .iter()
            .filter_map(|id| inner.networks.get(id))
            .find(|zone| zone.subnet.contains(addr));
        match zone {
            None => Pointer::Foreign,
            Some(zone) => match zone.pointers.get(&addr) {
                Some(name) => Pointer::Name(format!("{name}.{}", zone.name)),
                None => Pointer::Unused,
            },
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Inner) -> T) {
        change(&mut self.inner.write().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Inner {
    fn forget(&mut self, container: &ContainerId) {
        for endpoint in self.endpoints.remove(container).unwrap_or_default() {
            if let Some(zone) = self.networks.get_mut(&endpoint.network) {
                zone.remove(&endpoint);
            }
        }
    }
}

impl NetworkZone {
    /// `web`, or `web.mynet` as Docker also knows it.
    fn find(&self, name: &str) -> Option<&Vec<Ipv4Addr>> {
        let short = || name.strip_suffix(self.name.as_str())?.strip_suffix('.');
        self.names.get(name).or_else(|| self.names.get(short()?))
    }

    fn add(&mut self, endpoint: &Endpoint) {
        for name in &endpoint.names {
            let all = self.names.entry(name.to_ascii_lowercase()).or_default();
            if !all.contains(&endpoint.ipv4) {
                all.push(endpoint.ipv4);
            }
        }
        if let Some(first) = endpoint.names.first() {
            self.pointers.insert(endpoint.ipv4, first.clone());
        }
    }

    fn remove(&mut self, endpoint: &Endpoint) {
        for name in &endpoint.names {
            let name = name.to_ascii_lowercase();
            if let Some(all) = self.names.get_mut(&name) {
                all.retain(|addr| *addr != endpoint.ipv4);
                if all.is_empty() {
                    self.names.remove(&name);
                }
            }
        }
        self.pointers.remove(&endpoint.ipv4);
    }
}
