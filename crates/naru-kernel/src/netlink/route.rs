//! rtnetlink(7): devices, addresses, routes. Only what a container's network needs.

use super::Socket;
use super::message::{Message, attribute, text, u32_ne};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;
const NLM_F_CREATE_EXCL: u16 = 0x600;
const NLM_F_CREATE_REPLACE: u16 = 0x500;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_PROTINFO: u16 = 12;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_BR_FORWARD_DELAY: u16 = 1;
const IFLA_BR_STP_STATE: u16 = 5;
const IFLA_BRPORT_STATE: u16 = 1;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_ISOLATED: u16 = 33;
const BR_STATE_FORWARDING: u8 = 3;
const VETH_INFO_PEER: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const AF_UNSPEC: u8 = 0;
const AF_INET: u8 = 2;
const AF_BRIDGE: u8 = 7;
const IFF_UP: u32 = 1;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_BOOT: u8 = 3;
const RTN_UNICAST: u8 = 1;
/// RTMGRP_LINK of <linux/rtnetlink.h>: device events.
const GROUP_LINK: u32 = 1;
/// Index of `lo` in every network namespace.
pub const LOOPBACK_INDEX: u32 = 1;

/// A network device as RTM_GETLINK tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    pub kind: String,
    pub alias: String,
    pub master: Option<u32>,
    pub up: bool,
    /// A bridge port that passes traffic (BR_STATE_FORWARDING).
    pub forwarding: bool,
}

/// An address of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    pub index: u32,
    pub addr: Ipv4Addr,
    pub prefix_len: u8,
}

/// A route of the main table, local and broadcast ones left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    pub destination: Ipv4Addr,
    pub prefix_len: u8,
    pub index: Option<u32>,
}

/// A veth pair: one end on a bridge here, the other in another namespace.
#[derive(Debug)]
pub struct Veth<'a> {
    pub host_name: &'a str,
    pub bridge_index: u32,
    pub mtu: Option<u32>,
    pub peer_name: &'a str,
    pub peer_mac: [u8; 6],
    pub peer_netns: BorrowedFd<'a>,
}

/// An rtnetlink conversation with the namespace that the opening thread was in.
#[derive(Debug)]
pub struct RouteSocket {
    socket: Socket,
}

impl RouteSocket {
    pub fn open() -> io::Result<Self> {
        Ok(Self { socket: Socket::route(0)? })
    }

    pub fn links(&mut self) -> io::Result<Vec<Link>> {
        let request = Message::new(RTM_GETLINK, 0, &link_header(AF_UNSPEC, 0, 0, 0));
        self.socket
            .dump(&request, |kind, payload| (kind == RTM_NEWLINK).then(|| read_link(payload)).flatten())
    }

    /// The device of that name, if there is one.
    pub fn link(&mut self, name: &str) -> io::Result<Option<Link>> {
        let request =
            Message::new(RTM_GETLINK, 0, &link_header(AF_UNSPEC, 0, 0, 0)).attr_str(IFLA_IFNAME, name);
        match self.socket.get(request, |_, payload| read_link(payload)) {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            other => other,
        }
    }

    /// A bridge with STP off, down and without address.
    pub fn create_bridge(&mut self, name: &str, mtu: Option<u32>) -> io::Result<()> {
        let mut message = Message::new(RTM_NEWLINK, NLM_F_CREATE_EXCL, &link_header(AF_UNSPEC, 0, 0, 0))
            .attr_str(IFLA_IFNAME, name)
            .nest(IFLA_LINKINFO, |info| {
                info.attr_str(IFLA_INFO_KIND, "bridge").nest(IFLA_INFO_DATA, |data| {
                    data.attr_u32(IFLA_BR_FORWARD_DELAY, 0).attr_u32(IFLA_BR_STP_STATE, 0)
                })
            });
        if let Some(mtu) = mtu {
            message = message.attr_u32(IFLA_MTU, mtu);
        }
        self.socket.request(message)
    }

    /// The pair in one message; the host end comes up, the peer must be set up inside its namespace.
    pub fn create_veth(&mut self, veth: &Veth<'_>) -> io::Result<()> {
        let mtu = |message: Message| match veth.mtu {
            Some(mtu) => message.attr_u32(IFLA_MTU, mtu),
            None => message,
        };
        let message =
            Message::new(RTM_NEWLINK, NLM_F_CREATE_EXCL, &link_header(AF_UNSPEC, 0, IFF_UP, IFF_UP))
                .attr_str(IFLA_IFNAME, veth.host_name)
                .attr_u32(IFLA_MASTER, veth.bridge_index);
        let message = mtu(message).nest(IFLA_LINKINFO, |info| {
            info.attr_str(IFLA_INFO_KIND, "veth").nest(IFLA_INFO_DATA, |data| {
                data.nest(VETH_INFO_PEER, |peer| {
                    let peer = peer
                        .raw(&link_header(AF_UNSPEC, 0, 0, 0))
                        .attr_str(IFLA_IFNAME, veth.peer_name)
                        .attr(IFLA_ADDRESS, &veth.peer_mac)
                        .attr_u32(IFLA_NET_NS_FD, veth.peer_netns.as_raw_fd() as u32);
                    mtu(peer)
                })
            })
        });
        self.socket.request(message)
    }

    /// A veth pair whose ends are both wherever `peer_netns` says and here, on no bridge (a plain cable).
    pub fn create_cable(
        &mut self,
        name: &str,
        peer_name: &str,
        peer_netns: BorrowedFd<'_>,
    ) -> io::Result<()> {
        let message =
            Message::new(RTM_NEWLINK, NLM_F_CREATE_EXCL, &link_header(AF_UNSPEC, 0, IFF_UP, IFF_UP))
                .attr_str(IFLA_IFNAME, name)
                .nest(IFLA_LINKINFO, |info| {
                    info.attr_str(IFLA_INFO_KIND, "veth").nest(IFLA_INFO_DATA, |data| {
                        data.nest(VETH_INFO_PEER, |peer| {
                            peer.raw(&link_header(AF_UNSPEC, 0, 0, 0))
                                .attr_str(IFLA_IFNAME, peer_name)
                                .attr_u32(IFLA_NET_NS_FD, peer_netns.as_raw_fd() as u32)
                        })
                    })
                });
        self.socket.request(message)
    }

    /// Gives a device its alias (`ip link … alias`), by which its owner is known.
    pub fn set_alias(&mut self, index: u32, alias: &str) -> io::Result<()> {
        let message = Message::new(RTM_SETLINK, 0, &link_header(AF_UNSPEC, index, 0, 0));
        self.socket.request(message.attr(IFLA_IFALIAS, alias.as_bytes()))
    }

    pub fn set_up(&mut self, index: u32) -> io::Result<()> {
        self.socket.request(Message::new(RTM_NEWLINK, 0, &link_header(AF_UNSPEC, index, IFF_UP, IFF_UP)))
    }

    /// Makes a device a port of a bridge.
    pub fn set_master(&mut self, index: u32, bridge_index: u32) -> io::Result<()> {
        let message = Message::new(RTM_SETLINK, 0, &link_header(AF_UNSPEC, index, 0, 0));
        self.socket.request(message.attr_u32(IFLA_MASTER, bridge_index))
    }

    /// Lets a bridge port send a frame back where it came from (needed for hairpin NAT under br_netfilter).
    pub fn set_hairpin(&mut self, index: u32, on: bool) -> io::Result<()> {
        let message = Message::new(RTM_SETLINK, 0, &link_header(AF_BRIDGE, index, 0, 0));
        self.socket.request(message.nest(IFLA_PROTINFO, |port| port.attr(IFLA_BRPORT_MODE, &[u8::from(on)])))
    }

    /// Keeps a bridge port from all other isolated ports of its bridge (Linux 4.18).
    pub fn set_isolated(&mut self, index: u32, on: bool) -> io::Result<()> {
        let message = Message::new(RTM_SETLINK, 0, &link_header(AF_BRIDGE, index, 0, 0));
        self.socket
            .request(message.nest(IFLA_PROTINFO, |port| port.attr(IFLA_BRPORT_ISOLATED, &[u8::from(on)])))
    }

    /// Deletes the device of that name; `false` when there is none.
    pub fn delete_link(&mut self, name: &str) -> io::Result<bool> {
        let message =
            Message::new(RTM_DELLINK, 0, &link_header(AF_UNSPEC, 0, 0, 0)).attr_str(IFLA_IFNAME, name);
        match self.socket.request(message) {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(false),
            other => other.map(|()| true),
        }
    }

    /// Adds an address, or confirms it.
    pub fn add_address(&mut self, address: Address) -> io::Result<()> {
        let mut fixed = vec![AF_INET, address.prefix_len, 0, 0];
        fixed.extend(address.index.to_ne_bytes());
        let octets = address.addr.octets();
        let host_bits = u32::MAX.checked_shr(u32::from(address.prefix_len)).unwrap_or(0);
        let broadcast = Ipv4Addr::from(u32::from(address.addr) | host_bits);
        let message = Message::new(RTM_NEWADDR, NLM_F_CREATE_REPLACE, &fixed)
            .attr(IFA_LOCAL, &octets)
            .attr(IFA_ADDRESS, &octets)
            .attr(IFA_BROADCAST, &broadcast.octets());
        self.socket.request(message)
    }

    pub fn addresses(&mut self) -> io::Result<Vec<Address>> {
        let request = Message::new(RTM_GETADDR, 0, &[AF_INET, 0, 0, 0, 0, 0, 0, 0]);
        self.socket.dump(&request, |kind, payload| {
            let (header, rest) = payload.split_first_chunk::<8>()?;
            let addr = attribute(rest, IFA_LOCAL).or_else(|| attribute(rest, IFA_ADDRESS))?;
            (kind == RTM_NEWADDR && header[0] == AF_INET).then_some(Address {
                index: u32_ne(&header[4..])?,
                addr: ipv4(addr)?,
                prefix_len: header[1],
            })
        })
    }

    pub fn routes(&mut self) -> io::Result<Vec<Route>> {
        let mut fixed = [0u8; 12];
        fixed[0] = AF_INET;
        self.socket.dump(&Message::new(RTM_GETROUTE, 0, &fixed), |kind, payload| {
            let (header, rest) = payload.split_first_chunk::<12>()?;
            let wanted = kind == RTM_NEWROUTE && header[0] == AF_INET && header[4] == RT_TABLE_MAIN;
            (wanted && header[7] == RTN_UNICAST).then_some(Route {
                destination: attribute(rest, RTA_DST).and_then(ipv4).unwrap_or(Ipv4Addr::UNSPECIFIED),
                prefix_len: header[1],
                index: attribute(rest, RTA_OIF).and_then(u32_ne),
            })
        })
    }

    /// Sets the default route, replacing one.
    pub fn set_default_route(&mut self, gateway: Ipv4Addr, index: u32) -> io::Result<()> {
        let message = Message::new(RTM_NEWROUTE, NLM_F_CREATE_REPLACE, &default_route_header());
        self.socket.request(message.attr(RTA_GATEWAY, &gateway.octets()).attr_u32(RTA_OIF, index))
    }

    /// Deletes the default route, if there is one.
    pub fn delete_default_route(&mut self) -> io::Result<()> {
        match self.socket.request(Message::new(RTM_DELROUTE, 0, &default_route_header())) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            other => other,
        }
    }
}

/// Wakes when any device of the namespace changes.
#[derive(Debug)]
pub struct LinkEvents {
    socket: Socket,
}

impl LinkEvents {
    pub fn open() -> io::Result<Self> {
        Ok(Self { socket: Socket::route(GROUP_LINK)? })
    }

    /// Waits for an event, at most `timeout_ms`; true if there was one.
    pub fn wait(&mut self, timeout_ms: u32) -> io::Result<bool> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let timeout = Timespec {
            tv_sec: i64::from(timeout_ms / 1000),
            tv_nsec: i64::from(timeout_ms % 1000) * 1_000_000,
        };
        match poll(&mut [PollFd::new(&self.socket.as_fd(), PollFlags::IN)], Some(&timeout)) {
            Ok(0) => Ok(false),
            Ok(_) | Err(rustix::io::Errno::INTR) => {
                // ENOBUFS says that events were lost: that is an event too.
                let _ = self.socket.drain(|_| {});
                Ok(true)
            }
            Err(errno) => Err(errno.into()),
        }
    }
}

/// `struct ifinfomsg`.
fn link_header(family: u8, index: u32, flags: u32, change: u32) -> Vec<u8> {
    let mut bytes = vec![family, 0, 0, 0];
    for word in [index, flags, change] {
        bytes.extend(word.to_ne_bytes());
    }
    bytes
}

/// `struct rtmsg` of 0.0.0.0/0 in the main table.
fn default_route_header() -> [u8; 12] {
    [AF_INET, 0, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, 0, RTN_UNICAST, 0, 0, 0, 0]
}

fn read_link(payload: &[u8]) -> Option<Link> {
    let (header, rest) = payload.split_first_chunk::<16>()?;
    let info = attribute(rest, IFLA_LINKINFO).unwrap_or_default();
    let string = |bytes: Option<&[u8]>| bytes.map(text).unwrap_or_default();
    let port_state =
        attribute(info, IFLA_INFO_SLAVE_DATA).and_then(|data| attribute(data, IFLA_BRPORT_STATE));
    Some(Link {
        index: u32_ne(&header[4..])?,
        name: string(attribute(rest, IFLA_IFNAME)),
        kind: string(attribute(info, IFLA_INFO_KIND)),
        alias: string(attribute(rest, IFLA_IFALIAS)),
        master: attribute(rest, IFLA_MASTER).and_then(u32_ne),
        up: u32_ne(&header[8..])? & IFF_UP != 0,
        forwarding: port_state.is_some_and(|state| state.first() == Some(&BR_STATE_FORWARDING)),
    })
}

fn ipv4(bytes: &[u8]) -> Option<Ipv4Addr> {
    bytes.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets))
}

/// So that callers need no `as_fd` import to hand a namespace over.
pub fn netns_of(fd: &impl AsFd) -> BorrowedFd<'_> {
    fd.as_fd()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ns;

    #[test]
    fn devices_addresses_and_routes() {
        if !rustix::process::geteuid().is_root() {
            println!("SKIP: needs root");
            return;
        }
        let (outer, inner) = (ns::new_netns().unwrap(), ns::new_netns().unwrap());
        ns::run_in(&outer, ns::NEWNET, || {
            let mut route = RouteSocket::open().unwrap();
            route.create_bridge("br9", None).unwrap();
            assert_eq!(route.create_bridge("br9", None).unwrap_err().raw_os_error(), Some(libc::EEXIST));
            let bridge = route.link("br9").unwrap().unwrap();
            assert_eq!((bridge.kind.as_str(), bridge.up), ("bridge", false));
            route.set_alias(bridge.index, "mine").unwrap();
            let address = Address { index: bridge.index, addr: Ipv4Addr::new(10, 9, 0, 1), prefix_len: 24 };
            route.add_address(address).unwrap();
            route.set_up(bridge.index).unwrap();
            assert_eq!(route.addresses().unwrap(), [address]);
            assert_eq!(route.routes().unwrap()[0].prefix_len, 24);
            let veth = Veth {
                host_name: "v0",
                bridge_index: bridge.index,
                mtu: Some(1400),
                peer_name: "eth0",
                peer_mac: [2, 0, 0, 0, 0, 1],
                peer_netns: netns_of(&inner),
            };
            route.create_veth(&veth).unwrap();
            assert!(route.create_veth(&veth).is_err());
            let links = route.links().unwrap();
            let host = links.iter().find(|link| link.name == "v0").unwrap();
            assert_eq!((host.master, host.kind.as_str()), (Some(bridge.index), "veth"));
            assert_eq!(links.iter().find(|link| link.name == "br9").unwrap().alias, "mine");
            route.set_hairpin(host.index, true).unwrap();
            assert!(route.delete_link("v0").unwrap());
            assert!(!route.delete_link("v0").unwrap());
            assert_eq!(route.link("v0").unwrap(), None);
        })
        .unwrap();
        ns::run_in(&inner, ns::NEWNET, || {
            let mut route = RouteSocket::open().unwrap();
            assert_eq!(route.link("eth0").unwrap(), None, "the peer goes with the pair");
            route.delete_default_route().unwrap();
        })
        .unwrap();
    }
}
