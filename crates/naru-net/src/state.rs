//! What is known: networks with their addresses, containers with their endpoints and ports. No kernel here.

use crate::cidr::Ipv4Net;
use crate::error;
use crate::firewall::Target;
use crate::ipam::{self, Ipam};
use crate::model::{AttachRequest, Endpoint, EndpointRequest, Mac, Network, NetworkRequest, PublishedPort};
use crate::options;
use crate::ports::{self, PortLease};
use naru_types::id::hex;
use naru_types::{ContainerId, Error, NetworkId, Result};
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};

/// Most endpoints of one container.
const ENDPOINTS_MAX: usize = 64;
/// How interfaces are called where the network has no `com.docker.network.container_iface_prefix`.
const IFACE_PREFIX: &str = "eth";

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) networks: BTreeMap<NetworkId, Slot>,
    pub(crate) containers: HashMap<ContainerId, Attached>,
    /// Forwarding was off before us.
    pub(crate) guard: bool,
}

#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) network: Network,
    pub(crate) ipam: Ipam,
}

#[derive(Debug, Default)]
pub(crate) struct Attached {
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) leases: Vec<PortLease>,
    /// What the firewall leads here.
    pub(crate) published: Vec<Target>,
    pub(crate) dns: Vec<IpAddr>,
}

impl Attached {
    /// The endpoint that the default route and published ports use: the first with a way outwards.
    pub(crate) fn primary(&self) -> Option<&Endpoint> {
        self.endpoints.iter().find(|endpoint| endpoint.gateway.is_some())
    }

    pub(crate) fn ports(&self) -> Vec<PublishedPort> {
        self.leases.iter().map(|lease| lease.port).collect()
    }

    /// What the firewall should lead here.
    pub(crate) fn targets(&self) -> Vec<Target> {
        let primary = self.primary().map(|endpoint| endpoint.ipv4);
        primary.into_iter().flat_map(|addr| self.leases.iter().map(move |lease| (lease.port, addr))).collect()
    }
}

impl State {
    pub(crate) fn insert(&mut self, network: Network) {
        let ipam = Ipam::new(&network);
        self.networks.insert(network.id.clone(), Slot { network, ipam });
    }

    pub(crate) fn devices(&self) -> Vec<String> {
        self.networks.values().map(|slot| slot.network.device.clone()).collect()
    }

    pub(crate) fn slot(&mut self, id: &NetworkId) -> Result<&mut Slot> {
        self.networks.get_mut(id).ok_or_else(|| Error::not_found(format!("network {id} not found")))
    }

    /// Everything published, for a rebuild.
    pub(crate) fn all_targets(&self) -> Vec<Target> {
        self.containers.values().flat_map(|attached| attached.published.iter().copied()).collect()
    }

    /// Gives the endpoint an address and names; nothing is made yet.
    /// The interface takes the first number of its prefix that is not among `names`.
    pub(crate) fn plan_endpoint(&mut self, request: &EndpointRequest, names: &[String]) -> Result<Endpoint> {
        let endpoint_id = naru_kernel::random::bytes::<32>()
            .map(|bytes| hex(&bytes))
            .map_err(|error| Error::internal("cannot draw an endpoint id").with_source(error))?;
        let slot = self.slot(&request.network)?;
        let ipv4 = slot.ipam.allocate(request.ipv4)?;
        Ok(Endpoint {
            network: slot.network.id.clone(),
            host_device: format!("nv{}", &endpoint_id[..12]),
            endpoint_id,
            interface: free_name(slot.network.iface_prefix.as_deref().unwrap_or(IFACE_PREFIX), names),
            mac: request.mac.unwrap_or_else(|| Mac::for_address(ipv4)),
            ipv4,
            prefix_len: slot.network.subnet.prefix_len(),
            gateway: (!slot.network.internal).then_some(slot.network.gateway),
            names: request.names.clone(),
            links: request.links.clone(),
        })
    }

    /// Addresses and ports for a whole container, or none of them.
    pub(crate) fn plan(&mut self, request: &AttachRequest) -> Result<Attached> {
        if request.endpoints.len() > ENDPOINTS_MAX {
            return Err(Error::invalid(format!("a container may be on at most {ENDPOINTS_MAX} networks")));
        }
        let mut attached = Attached { dns: request.dns.clone(), ..Attached::default() };
        let outcome = self.plan_into(request, &mut attached);
        match outcome {
            Ok(()) => Ok(attached),
            Err(error) => {
                self.release(&attached);
                Err(error)
            }
        }
    }

    /// Gives the addresses back; the leases go when `attached` is dropped.
    pub(crate) fn release(&mut self, attached: &Attached) {
        for endpoint in &attached.endpoints {
            if let Some(slot) = self.networks.get_mut(&endpoint.network) {
                slot.ipam.release(endpoint.ipv4);
            }
        }
    }

    fn plan_into(&mut self, request: &AttachRequest, attached: &mut Attached) -> Result<()> {
        for endpoint in &request.endpoints {
            if attached.endpoints.iter().any(|other| other.network == endpoint.network) {
                return Err(Error::invalid(format!("network {} is named twice", endpoint.network)));
            }
            let names: Vec<String> =
                attached.endpoints.iter().map(|endpoint| endpoint.interface.clone()).collect();
            attached.endpoints.push(self.plan_endpoint(endpoint, &names)?);
        }
        // Without a way outwards nothing is published, as in Docker.
        let Some(primary) = attached.primary().cloned() else { return Ok(()) };
        let host_binding = self.slot(&primary.network)?.network.host_binding.unwrap_or(Ipv4Addr::UNSPECIFIED);
        for binding in &request.published {
            let mine = attached.ports();
            let held = |port: &PublishedPort| {
                let clash = |other: &PublishedPort| {
                    other.container.proto == port.container.proto
                        && other.host_port == port.host_port
                        && (other.host_ip == port.host_ip
                            || other.host_ip.is_unspecified()
                            || port.host_ip.is_unspecified())
                };
                mine.iter().any(clash)
                    || self
                        .containers
                        .values()
                        .any(|other| other.leases.iter().any(|lease| clash(&lease.port)))
            };
            attached.leases.push(ports::reserve(binding, host_binding, primary.ipv4, &held)?);
        }
        Ok(())
    }

    /// The network that `request` describes, checked against the others and the host's `taken` subnets.
    pub(crate) fn design(
        &self,
        request: &NetworkRequest,
        id: NetworkId,
        taken: &[Ipv4Net],
    ) -> Result<Network> {
        if request.ipv6 {
            return Err(error::ipv6_unsupported());
        }
        let mut all: Vec<Ipv4Net> = self.networks.values().map(|slot| slot.network.subnet).collect();
        all.extend(taken);
        let subnet = match request.subnet {
            Some(subnet) if all.iter().any(|other| other.overlaps(subnet)) => {
                return Err(error::pool_overlap());
            }
            Some(subnet) => subnet,
            None if request.gateway.is_some() || request.ip_range.is_some() => {
                return Err(Error::invalid(
                    "invalid network config: a gateway or an ip range needs a subnet",
                ));
            }
            None => ipam::choose_subnet(&all)?,
        };
        let gateway = ipam::check_subnet(subnet, request.gateway, request.ip_range)?;
        if let Some(stray) = request.reserved.iter().find(|addr| !subnet.contains(**addr)) {
            return Err(Error::invalid(format!("no matching subnet for aux-address {stray}")));
        }
        let mut network = Network {
            device: format!("br-{}", id.short()),
            id,
            name: request.name.clone(),
            subnet,
            gateway,
            ip_range: request.ip_range,
            reserved: request.reserved.clone(),
            internal: request.internal,
            is_default: false,
            icc: true,
            masquerade: true,
            mtu: None,
            host_binding: None,
            iface_prefix: None,
        };
        for (key, value) in &request.options {
            options::apply(&mut network, key, value)?;
        }
        if self.networks.values().any(|slot| slot.network.device == network.device) {
            return Err(Error::conflict(format!(
                "the bridge name {} is used by another network",
                network.device
            )));
        }
        Ok(network)
    }
}

/// `eth0`, `eth1`, …: each prefix counts for itself, as in Docker.
fn free_name(prefix: &str, names: &[String]) -> String {
    let mut candidates = (0..names.len()).map(|number| format!("{prefix}{number}"));
    candidates.find(|name| !names.contains(name)).unwrap_or_else(|| format!("{prefix}{}", names.len()))
}
