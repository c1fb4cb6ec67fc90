//! A running container joins and leaves networks.

use crate::devices;
use crate::firewall;
use crate::model::{Endpoint, EndpointRequest, Network, PublishedPort};
use crate::networks::Networks;
use crate::state::Attached;
use naru_types::{ContainerId, Error, NetworkId, Result};
use std::os::fd::BorrowedFd;

impl Networks {
    /// Puts a running container on one more network. `netns` is its `/proc/<pid>/ns/net`.
    pub fn connect(
        &self,
        container: &ContainerId,
        netns: BorrowedFd<'_>,
        request: &EndpointRequest,
    ) -> Result<Endpoint> {
        let existing = devices::interfaces(netns)?;
        let (network, endpoint, first_route) = self.plan_connect(container, request, &existing)?;
        let done = devices::plug(
            &self.config.nft_table,
            netns,
            &network,
            &endpoint,
            first_route,
            devices::bridge_netfilter(),
        )
        .and_then(|()| devices::wait_forwarding(&endpoint))
        .map_err(Error::from)
        .and_then(|()| self.serve_names(container, netns));
        if let Err(error) = done {
            return Err(match self.unplug(container, &request.network) {
                Ok(()) => error,
                Err(undo) => {
                    Error::internal(format!("{}; undoing it failed too: {}", error.chain(), undo.chain()))
                }
            });
        }
        Ok(endpoint)
    }

    /// Takes a running container off one network. Returns the ports that are still published.
    pub fn disconnect(
        &self,
        container: &ContainerId,
        netns: BorrowedFd<'_>,
        network: &NetworkId,
    ) -> Result<Vec<PublishedPort>> {
        self.unplug(container, network)?;
        let mut state = self.lock();
        let Some(attached) = state.containers.get_mut(container) else { return Ok(Vec::new()) };
        let (old, new) = (std::mem::take(&mut attached.published), attached.targets());
        if new.is_empty() {
            attached.leases.clear();
        }
        attached.published.clone_from(&new);
        let (ports, primary) = (attached.ports(), attached.primary().cloned());
        if old != new {
            let table = &self.config.nft_table;
            self.filter(&state, || {
                firewall::ports(table, &old, false).and_then(|()| firewall::ports(table, &new, true))
            })?;
        }
        drop(state);
        devices::set_default_route(netns, primary.as_ref())?;
        self.serve_names(container, netns)?;
        Ok(ports)
    }

    fn plan_connect(
        &self,
        container: &ContainerId,
        request: &EndpointRequest,
        existing: &[String],
    ) -> Result<(Network, Endpoint, bool)> {
        let mut state = self.lock();
        let name = state.slot(&request.network)?.network.name.clone();
        let attached = state.containers.entry(container.clone()).or_default();
        if attached.endpoints.iter().any(|endpoint| endpoint.network == request.network) {
            return Err(Error::new(
                naru_types::Kind::Forbidden,
                format!(
                    "endpoint with name {} already exists in network {name}",
                    request.names.first().map_or("", String::as_str)
                ),
            ));
        }
        let first_route = attached.primary().is_none();
        let endpoint = state.plan_endpoint(request, existing)?;
        let network = state.slot(&request.network)?.network.clone();
        let attached = state.containers.entry(container.clone()).or_default();
        attached.endpoints.push(endpoint.clone());
        Ok((network, endpoint, first_route))
    }

    /// Takes the endpoint out of the model and deletes its veth.
    fn unplug(&self, container: &ContainerId, network: &NetworkId) -> Result<()> {
        let mut state = self.lock();
        let attached: Option<&mut Attached> = state.containers.get_mut(container);
        let place = attached.and_then(|attached| {
            let index = attached.endpoints.iter().position(|endpoint| endpoint.network == *network)?;
            Some(attached.endpoints.remove(index))
        });
        let endpoint = place.ok_or_else(|| {
            Error::new(
                naru_types::Kind::Forbidden,
                format!("container {container} is not connected to network {network}"),
            )
        })?;
        let remaining =
            state.containers.get(container).map(|attached| attached.endpoints.clone()).unwrap_or_default();
        self.zone.set_container(container, &remaining);
        if let Ok(slot) = state.slot(network) {
            slot.ipam.release(endpoint.ipv4);
        }
        drop(state);
        Ok(devices::delete(&endpoint.host_device)?)
    }
}
