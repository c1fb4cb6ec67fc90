//! What callers say and get: networks, endpoints, published ports. All of it serialisable, because the
//! engine keeps it in its database and hands it back at start ([`crate::Networks::reconcile`]).

use crate::cidr::Ipv4Net;
use naru_types::spec::{PortBinding, PortProto};
use naru_types::{ContainerId, NetworkId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// What one instance of the engine calls its own on the host.
#[derive(Clone, Debug)]
pub struct NetConfig {
    /// Device of the default network, e.g. `naru0`.
    pub bridge: String,
    /// Subnet of the default network; its first address is the gateway.
    pub default_subnet: Ipv4Net,
    /// nftables table (family ip); also the mark by which bridges are known as this instance's.
    pub nft_table: String,
    /// Where the host's name servers are read from, usually `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
}

impl NetConfig {
    /// Docker's usual subnet, and the host's `/etc/resolv.conf`.
    pub fn new(bridge: &str, nft_table: &str) -> Self {
        Self {
            bridge: bridge.to_owned(),
            default_subnet: Ipv4Net::containing(Ipv4Addr::new(172, 17, 0, 0), 16)
                .expect("16 is a valid prefix length"),
            nft_table: nft_table.to_owned(),
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
        }
    }
}

/// `network create` with the bridge driver.
#[derive(Clone, Debug, Default)]
pub struct NetworkRequest {
    /// Drawn by the caller; names the bridge device.
    pub id: Option<NetworkId>,
    pub name: String,
    /// `None`: the next free one of the built-in pools.
    pub subnet: Option<Ipv4Net>,
    /// `None`: the first address of the subnet.
    pub gateway: Option<Ipv4Addr>,
    /// Part of the subnet that addresses are given out from.
    pub ip_range: Option<Ipv4Net>,
    /// Addresses never given out (`--aux-address`).
    pub reserved: Vec<Ipv4Addr>,
    /// No route outwards.
    pub internal: bool,
    pub ipv6: bool,
    /// Docker's driver options; which ones have a meaning, and what becomes of the others, is in `options.rs`.
    pub options: BTreeMap<String, String>,
}

/// A bridge network as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    pub id: NetworkId,
    pub name: String,
    /// The bridge, e.g. `br-0123456789ab`.
    pub device: String,
    pub subnet: Ipv4Net,
    pub gateway: Ipv4Addr,
    pub ip_range: Option<Ipv4Net>,
    #[serde(default)]
    pub reserved: Vec<Ipv4Addr>,
    pub internal: bool,
    /// The network `bridge`: no DNS by name, as in Docker.
    pub is_default: bool,
    /// Containers of this network may talk to each other.
    pub icc: bool,
    /// Traffic outwards takes the host's address.
    pub masquerade: bool,
    pub mtu: Option<u32>,
    /// Address that ports are published on when the binding names none.
    pub host_binding: Option<Ipv4Addr>,
    /// What interfaces inside are called before their number; `None`: `eth`.
    #[serde(default)]
    pub iface_prefix: Option<String>,
}

/// A hardware address, printed `02:42:ac:11:00:02`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Six hex pairs with `:` or `-`; a multicast address is refused.
    pub fn parse(text: &str) -> naru_types::Result<Self> {
        let invalid = || naru_types::Error::invalid(format!("invalid MAC address: {text}"));
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(invalid)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| invalid())?;
        }
        if parts.next().is_some() || bytes[0] & 1 == 1 { Err(invalid()) } else { Ok(Self(bytes)) }
    }

    /// Docker's scheme of old: locally administered, `02:42` and the IPv4 address; unique wherever the address is, and
    /// the same after a restart with the same address, which keeps neighbours' ARP caches right.
    pub fn for_address(addr: Ipv4Addr) -> Self {
        let [a, b, c, d] = addr.octets();
        Self([0x02, 0x42, a, b, c, d])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs: Vec<String> = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        f.write_str(&pairs.join(":"))
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

impl TryFrom<String> for Mac {
    type Error = naru_types::Error;
    fn try_from(text: String) -> naru_types::Result<Self> {
        Self::parse(&text)
    }
}

/// One network that a container shall be on.
#[derive(Clone, Debug)]
pub struct EndpointRequest {
    pub network: NetworkId,
    /// What the resolver knows it by: container name first (PTR answers it), then aliases and the short id.
    pub names: Vec<String>,
    /// A static address.
    pub ipv4: Option<Ipv4Addr>,
    pub mac: Option<Mac>,
    /// `(alias, container name)`: names only this container sees.
    pub links: Vec<(String, String)>,
}

/// A container's place on a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    pub network: NetworkId,
    /// 64 hex digits.
    pub endpoint_id: String,
    /// The veth on the host.
    pub host_device: String,
    /// Inside, e.g. `eth0`.
    pub interface: String,
    pub mac: Mac,
    pub ipv4: Ipv4Addr,
    pub prefix_len: u8,
    /// `None` on an internal network.
    pub gateway: Option<Ipv4Addr>,
    pub names: Vec<String>,
    #[serde(default)]
    pub links: Vec<(String, String)>,
}

/// A port of the host that leads into a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PublishedPort {
    pub container: PortProto,
    /// `0.0.0.0`: every address of the host.
    pub host_ip: Ipv4Addr,
    pub host_port: u16,
}

/// Everything the network side of one container start needs.
#[derive(Clone, Debug)]
pub struct AttachRequest {
    pub container: ContainerId,
    /// In the order of the interfaces; the first one with a way outwards gives the default route. Empty: only `lo`.
    pub endpoints: Vec<EndpointRequest>,
    /// `-P` is resolved by the caller: each exposed port with the host range `0..=0`.
    pub published: Vec<PortBinding>,
    /// `--dns`: upstreams instead of the host's name servers.
    pub dns: Vec<std::net::IpAddr>,
}

/// What [`crate::Networks::attach`] made. Dropping it closes the namespace descriptor only; the endpoints stay until
/// `detach`.
#[derive(Debug)]
pub struct Attachment {
    pub netns: OwnedFd,
    pub endpoints: Vec<Endpoint>,
    pub ports: Vec<PublishedPort>,
    /// Whether `127.0.0.11` answers inside (a user network is among the endpoints).
    pub embedded_dns: bool,
}

/// A running container, as the engine remembers it.
#[derive(Debug)]
pub struct WantedContainer {
    pub id: ContainerId,
    pub endpoints: Vec<Endpoint>,
    pub ports: Vec<PublishedPort>,
    pub dns: Vec<std::net::IpAddr>,
    /// Opened from `/proc/<pid>/ns/net`; consumed to re-open the resolver's sockets.
    pub netns: OwnedFd,
}

/// The whole of what should be there, for [`crate::Networks::reconcile`].
#[derive(Debug, Default)]
pub struct Wanted {
    /// User networks, and the default one if it was created before.
    pub networks: Vec<Network>,
    /// Running ones only: a stopped container has no endpoint.
    pub containers: Vec<WantedContainer>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macs() {
        assert_eq!(Mac::for_address(Ipv4Addr::new(172, 17, 0, 2)).to_string(), "02:42:ac:11:00:02");
        assert_eq!(Mac::parse("02-42-AC-11-00-02").unwrap(), Mac::parse("02:42:ac:11:00:02").unwrap());
        for bad in [
            "",
            "02:42",
            "01:00:00:00:00:00",
            "02:42:ac:11:00:02:03",
            "2:42:ac:11:00:002",
            "xx:42:ac:11:00:02",
        ] {
            assert!(Mac::parse(bad).is_err(), "{bad}");
        }
    }
}
