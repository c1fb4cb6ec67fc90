//! [`Networks`]: the public face. Each method changes the model first, then the kernel, and takes the model back when
//! the kernel refuses.

use crate::devices;
use crate::dns::{Resolver, Zone};
use crate::error::NetError;
use crate::firewall;
use crate::model::{AttachRequest, Attachment, NetConfig, Network, NetworkRequest, PublishedPort};
use crate::pool::Pool;
use crate::state::State;
use naru_types::{ContainerId, Error, NetworkId, Result};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// All networks of one instance. Methods take `&self` and may be called from several threads; they block for
/// milliseconds, so async callers use a blocking thread.
#[derive(Debug)]
pub struct Networks {
    pub(crate) config: NetConfig,
    pub(crate) state: Mutex<State>,
    pub(crate) zone: Zone,
    pub(crate) resolver: Resolver,
    pool: Pool,
}

impl Networks {
    /// Opens the instance. The kernel is not touched before [`Networks::reconcile`], which must be called once, first.
    /// The namespace of the calling thread counts as the host's.
    pub fn open(config: NetConfig) -> Result<Self> {
        let zone = Zone::default();
        let resolver = Resolver::start(zone.clone(), config.resolv_conf.clone())?;
        Ok(Self { config, state: Mutex::default(), zone, resolver, pool: Pool::default() })
    }

    /// Creates a user network (Docker's `network create`).
    pub fn create(&self, request: &NetworkRequest) -> Result<Network> {
        let id = match &request.id {
            Some(id) => id.clone(),
            None => NetworkId::from_bytes(
                naru_kernel::random::bytes()
                    .map_err(|error| Error::internal("cannot draw a network id").with_source(error))?,
            ),
        };
        let mut state = self.lock();
        let taken = devices::host_networks(&state.devices())?;
        let network = state.design(request, id, &taken)?;
        self.establish(&mut state, network)
    }

    /// The default network `bridge` under `id`, created when it is not there yet. Where the configured subnet clashes
    /// with the host's networks (another engine's bridge, a VPN), the next free pool is taken.
    pub fn create_default(&self, id: NetworkId) -> Result<Network> {
        let mut state = self.lock();
        if let Some(slot) = state.networks.values().find(|slot| slot.network.is_default) {
            return Ok(slot.network.clone());
        }
        let taken = devices::host_networks(&state.devices())?;
        let mut request = NetworkRequest {
            name: "bridge".to_owned(),
            subnet: Some(self.config.default_subnet),
            ..NetworkRequest::default()
        };
        let designed = state.design(&request, id.clone(), &taken).or_else(|_| {
            request.subnet = None;
            state.design(&request, id, &taken)
        })?;
        let network = Network { device: self.config.bridge.clone(), is_default: true, ..designed };
        self.establish(&mut state, network)
    }

    /// Removes a network without endpoints.
    pub fn remove(&self, id: &NetworkId) -> Result<()> {
        let mut state = self.lock();
        let network = state.slot(id)?.network.clone();
        if network.is_default {
            return Err(Error::new(
                naru_types::Kind::Forbidden,
                format!("{} is a pre-defined network and cannot be removed", network.name),
            ));
        }
        let users = state
            .containers
            .values()
            .filter(|attached| attached.endpoints.iter().any(|e| e.network == *id))
            .count();
        if users > 0 {
            return Err(Error::new(
                naru_types::Kind::Forbidden,
                format!("error while removing network: network {} has active endpoints", network.name),
            )
            .with_hint("disconnect or remove its containers first"));
        }
        state.networks.remove(id);
        self.zone.remove_network(id);
        self.filter(&state, || firewall::network(&self.config.nft_table, &network, false))?;
        Ok(devices::delete(&network.device)?)
    }

    /// A network namespace with nothing but `lo`, of its own for each caller: what `--network none` gives.
    /// It belongs to the user namespace `userns`, if there is one.
    pub fn lonely_netns(&self, userns: Option<BorrowedFd<'_>>) -> Result<OwnedFd> {
        Ok(userns.map_or_else(|| self.pool.take(), devices::new_netns_in)?)
    }

    pub fn list(&self) -> Vec<Network> {
        self.lock().networks.values().map(|slot| slot.network.clone()).collect()
    }

    /// Makes a network namespace with everything the request says, or nothing at all. An attachment that the container
    /// still has is taken down first.
    pub fn attach(&self, request: &AttachRequest) -> Result<Attachment> {
        self.attach_in(request, None)
    }

    /// As [`Self::attach`], with a namespace that belongs to the user namespace `userns`.
    pub fn attach_in(&self, request: &AttachRequest, userns: Option<BorrowedFd<'_>>) -> Result<Attachment> {
        self.detach(&request.container)?;
        {
            let mut state = self.lock();
            let planned = state.plan(request)?;
            state.containers.insert(request.container.clone(), planned);
        }
        self.build(&request.container, userns).map_err(|error| match self.detach(&request.container) {
            Ok(()) => error,
            Err(undo) => {
                Error::internal(format!("{}; undoing it failed too: {}", error.chain(), undo.chain()))
            }
        })
    }

    /// Takes the container off all its networks: ports, names, resolver sockets, addresses, host veths. Idempotent;
    /// goes on despite errors and reports the first.
    pub fn detach(&self, container: &ContainerId) -> Result<()> {
        self.resolver.unregister(container);
        self.zone.remove_container(container);
        let mut state = self.lock();
        let Some(attached) = state.containers.remove(container) else { return Ok(()) };
        let withdrawn =
            self.filter(&state, || firewall::ports(&self.config.nft_table, &attached.published, false));
        state.release(&attached);
        drop(state);
        let deleted: Vec<_> =
            attached.endpoints.iter().map(|endpoint| devices::delete(&endpoint.host_device)).collect();
        withdrawn.and(deleted.into_iter().collect::<Result<(), NetError>>().map_err(Error::from))
    }

    /// A running container has a new name: the resolver answers `new` instead of `old`.
    pub fn rename(&self, container: &ContainerId, old: &str, new: &str) -> Result<()> {
        let mut state = self.lock();
        let Some(attached) = state.containers.get_mut(container) else { return Ok(()) };
        for name in attached.endpoints.iter_mut().flat_map(|endpoint| &mut endpoint.names) {
            if name == old {
                new.clone_into(name);
            }
        }
        self.zone.set_container(container, &attached.endpoints);
        Ok(())
    }

    /// Removes every bridge, veth and the table of this instance. For a graceful end when nothing runs, and for tests.
    pub fn teardown(&self) -> Result<()> {
        let containers: Vec<ContainerId> = self.lock().containers.keys().cloned().collect();
        let mut outcomes: Vec<Result<()>> =
            containers.iter().map(|container| self.detach(container)).collect();
        let mut state = self.lock();
        state.networks.clear();
        let (bridges, ports) = devices::ours(&self.config.nft_table)?;
        outcomes.extend(ports.iter().chain(&bridges).map(|device| Ok(devices::delete(device)?)));
        outcomes.push(firewall::delete(&self.config.nft_table).map_err(Error::from));
        outcomes.into_iter().collect()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while holding it; if it did, the model is still the best knowledge there is.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a change of our table. When the table is gone (`nft flush ruleset`, a firewall reload), it is rebuilt from
    /// the model, which has the change already.
    pub(crate) fn filter(&self, state: &State, change: impl FnOnce() -> Result<(), NetError>) -> Result<()> {
        match change() {
            Err(NetError::Step { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                Ok(self.rebuild(state)?)
            }
            other => Ok(other?),
        }
    }

    pub(crate) fn rebuild(&self, state: &State) -> Result<(), NetError> {
        let networks = state.networks.values().map(|slot| &slot.network);
        firewall::rebuild(&self.config.nft_table, networks, &state.all_targets(), state.guard)
    }

    /// Bridge, rules and model of a designed network, or nothing of it.
    fn establish(&self, state: &mut State, network: Network) -> Result<Network> {
        devices::ensure_bridge(&network, &self.config.nft_table)?;
        state.insert(network.clone());
        if !network.is_default {
            self.zone.set_network(&network);
        }
        if let Err(error) = self.filter(state, || firewall::network(&self.config.nft_table, &network, true)) {
            state.networks.remove(&network.id);
            self.zone.remove_network(&network.id);
            // The first error is the one that matters; a bridge left over is swept by the next reconcile.
            let _ = devices::delete(&network.device);
            return Err(error);
        }
        Ok(network)
    }

    fn build(&self, container: &ContainerId, userns: Option<BorrowedFd<'_>>) -> Result<Attachment> {
        let (endpoints, networks, primary) = {
            let mut state = self.lock();
            let attached = state.containers.get(container).ok_or_else(|| gone(container))?;
            let (endpoints, primary) = (attached.endpoints.clone(), attached.primary().cloned());
            let networks = endpoints
                .iter()
                .map(|e| Ok(state.slot(&e.network)?.network.clone()))
                .collect::<Result<Vec<_>>>()?;
            (endpoints, networks, primary)
        };
        let netns = self.lonely_netns(userns)?;
        let hairpin = devices::bridge_netfilter();
        for (endpoint, network) in endpoints.iter().zip(&networks) {
            let route_default =
                primary.as_ref().is_some_and(|primary| primary.endpoint_id == endpoint.endpoint_id);
            devices::plug(&self.config.nft_table, netns.as_fd(), network, endpoint, route_default, hairpin)?;
        }
        endpoints.iter().try_for_each(devices::wait_forwarding)?;
        let embedded_dns =
            self.serve_names(container, netns.as_fd()).map(|()| networks.iter().any(|n| !n.is_default))?;
        let ports = self.publish(container)?;
        Ok(Attachment { netns, endpoints, ports, embedded_dns })
    }

    fn publish(&self, container: &ContainerId) -> Result<Vec<PublishedPort>> {
        let mut state = self.lock();
        let attached = state.containers.get_mut(container).ok_or_else(|| gone(container))?;
        let targets = attached.targets();
        attached.published.clone_from(&targets);
        let ports = attached.ports();
        let outcome = self.filter(&state, || firewall::ports(&self.config.nft_table, &targets, true));
        if outcome.is_err()
            && let Some(attached) = state.containers.get_mut(container)
        {
            attached.published.clear();
        }
        outcome.map(|()| ports)
    }

    /// Tells the resolver the container's names and opens its sockets inside, where there is a user network.
    pub(crate) fn serve_names(&self, container: &ContainerId, netns: BorrowedFd<'_>) -> Result<()> {
        let mut state = self.lock();
        let Some(attached) = state.containers.get(container) else { return Ok(()) };
        let (endpoints, dns) = (attached.endpoints.clone(), attached.dns.clone());
        let mut user = Vec::new();
        for endpoint in endpoints {
            if !state.slot(&endpoint.network)?.network.is_default {
                user.push(endpoint);
            }
        }
        let external = state.containers.get(container).is_some_and(|attached| attached.primary().is_some());
        drop(state);
        self.zone.set_container(container, &user);
        if user.is_empty() {
            return Ok(());
        }
        Ok(self.resolver.register(container, netns, &user, external, &dns)?)
    }
}

fn gone(container: &ContainerId) -> Error {
    Error::conflict(format!("container {container} was detached while it was being attached"))
}
