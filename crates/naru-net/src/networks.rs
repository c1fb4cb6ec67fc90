//! [`Networks`]: the public face.

use crate::model::{
    AttachRequest, Attachment, Endpoint, EndpointRequest, NetConfig, Network, NetworkRequest, PublishedPort, Wanted,
};
use naru_types::{ContainerId, Error, NetworkId, Result};
use std::os::fd::BorrowedFd;

/// All networks of one instance. Methods take `&self` and may be called from several threads; they block for
/// milliseconds, so async callers use a blocking thread.
#[derive(Debug)]
pub struct Networks {
    config: NetConfig,
}

impl Networks {
    /// Opens the instance. The kernel is not touched before [`Networks::reconcile`], which must be called once, first.
    pub fn open(config: NetConfig) -> Result<Self> {
        Ok(Self { config })
    }

    /// Makes the host agree with `wanted`: missing bridges, the table, port leases, resolver sockets; deletes this
    /// instance's strays. Returns warnings for people (forwarding switched on, a host firewall in the way, a port lost).
    pub fn reconcile(&self, wanted: Wanted) -> Result<Vec<String>> {
        Err(pending(&wanted))
    }

    /// Creates a user network (Docker's `network create`).
    pub fn create(&self, request: &NetworkRequest) -> Result<Network> {
        Err(pending(request))
    }

    /// The default network `bridge` under `id`, created when it is not there yet.
    pub fn create_default(&self, id: NetworkId) -> Result<Network> {
        Err(pending(&id))
    }

    /// Removes a network without endpoints.
    pub fn remove(&self, id: &NetworkId) -> Result<()> {
        Err(pending(id))
    }

    pub fn list(&self) -> Vec<Network> {
        Vec::new()
    }

    /// Makes a network namespace with everything the request says, or nothing at all.
    pub fn attach(&self, request: &AttachRequest) -> Result<Attachment> {
        Err(pending(request))
    }

    /// Takes the container off all its networks: ports, names, resolver sockets, addresses, host veths. Idempotent.
    pub fn detach(&self, container: &ContainerId) -> Result<()> {
        Err(pending(container))
    }

    /// Puts a running container on one more network. `netns` is its `/proc/<pid>/ns/net`.
    pub fn connect(&self, container: &ContainerId, netns: BorrowedFd<'_>, endpoint: &EndpointRequest) -> Result<Endpoint> {
        Err(pending(&(container, netns, endpoint)))
    }

    /// Takes a running container off one network. Returns the ports that are still published.
    pub fn disconnect(&self, container: &ContainerId, netns: BorrowedFd<'_>, network: &NetworkId) -> Result<Vec<PublishedPort>> {
        Err(pending(&(container, netns, network)))
    }

    /// New resolver names of a running container on all its networks (`rename`): `old` is replaced by `new`.
    pub fn rename(&self, container: &ContainerId, old: &str, new: &str) -> Result<()> {
        Err(pending(&(container, old, new)))
    }

    /// Reasons on this host why published ports or outward traffic may not work, in sentences.
    pub fn host_warnings(&self) -> Vec<String> {
        Vec::new()
    }

    /// Removes every bridge, veth and the table of this instance. For a graceful end when nothing runs, and for tests.
    pub fn teardown(&self) -> Result<()> {
        Err(pending(&self.config))
    }
}

fn pending(what: &dyn std::fmt::Debug) -> Error {
    Error::not_implemented(format!("networks are being built: {what:?}"))
}
