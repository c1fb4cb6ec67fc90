//! Bridges and veth pairs: the host's half and the container's half of a network.

use crate::cidr::Ipv4Net;
use crate::error::{Context as _, NetError};
use crate::model::{Endpoint, Network};
use naru_kernel::netlink::route::{Address, LOOPBACK_INDEX, LinkEvents, RouteSocket, Veth};
use naru_kernel::ns;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long a bridge port may take to forward before the attachment counts as failed.
const FORWARDING_TIMEOUT_MS: u64 = 5_000;
/// Longest single wait for a device event, in ms; the state is looked at again after it.
const EVENT_WAIT_MS: u32 = 100;

/// The alias by which this instance knows its bridges.
pub(crate) fn alias(table: &str) -> String {
    format!("naru:{table}")
}

/// Creates the bridge, or repairs what is missing of it.
pub(crate) fn ensure_bridge(network: &Network, table: &str) -> Result<(), NetError> {
    let device = &network.device;
    let mut route = RouteSocket::open().step("open rtnetlink for", device)?;
    let created = match route.create_bridge(device, network.mtu) {
        Ok(()) => true,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => false,
        Err(error) => return Err(error).step("create the bridge", device),
    };
    let outcome = setup_bridge(&mut route, network, table, created);
    if outcome.is_err() && created {
        let _ = route.delete_link(device);
    }
    outcome
}

fn setup_bridge(
    route: &mut RouteSocket,
    network: &Network,
    table: &str,
    created: bool,
) -> Result<(), NetError> {
    let device = &network.device;
    let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
    let link =
        route.link(device).and_then(|link| link.ok_or_else(missing)).step("find the bridge", device)?;
    if !created && (link.kind != "bridge" || link.alias != alias(table)) {
        let foreign =
            std::io::Error::new(std::io::ErrorKind::AlreadyExists, "a device of that name belongs to others");
        return Err(foreign).step("use the bridge", device);
    }
    route.set_alias(link.index, &alias(table)).step("mark the bridge", device)?;
    let (addr, prefix_len) = (network.gateway, network.subnet.prefix_len());
    route
        .add_address(Address { index: link.index, addr, prefix_len })
        .step("give an address to the bridge", device)?;
    refuse_router_advertisements(device)?;
    route.set_up(link.index).step("set up the bridge", device)?;
    // Published ports answer on 127.0.0.1 too: its packets leave and return through the bridge.
    sysctl(&format!("net/ipv4/conf/{device}/route_localnet"), "1")
}

/// Deletes a device; one that is gone already is fine.
pub(crate) fn delete(device: &str) -> Result<(), NetError> {
    RouteSocket::open()
        .and_then(|mut route| route.delete_link(device))
        .step("delete the device", device)
        .map(|_| ())
}

/// Networks the host has routes or addresses in, but for the devices `ours`.
pub(crate) fn host_networks(ours: &[String]) -> Result<Vec<Ipv4Net>, NetError> {
    let mut route = RouteSocket::open().step("open rtnetlink for", "routes")?;
    let links = route.links().step("list", "devices")?;
    let skip: Vec<u32> =
        links.iter().filter(|link| ours.contains(&link.name)).map(|link| link.index).collect();
    let routes = route.routes().step("list", "routes")?;
    let addresses = route.addresses().step("list", "addresses")?;
    let routed = routes
        .iter()
        .filter(|route| route.prefix_len > 0 && !route.index.is_some_and(|index| skip.contains(&index)))
        .filter_map(|route| Ipv4Net::containing(route.destination, route.prefix_len));
    let addressed = addresses
        .iter()
        .filter(|address| !skip.contains(&address.index))
        .filter_map(|address| Ipv4Net::containing(address.addr, address.prefix_len));
    Ok(routed.chain(addressed).collect())
}

/// Devices of this instance: bridges and veths with our alias, and the ports on those bridges.
pub(crate) fn ours(table: &str) -> Result<(Vec<String>, Vec<String>), NetError> {
    let links = RouteSocket::open().and_then(|mut route| route.links()).step("list", "devices")?;
    let bridges: Vec<_> =
        links.iter().filter(|link| link.kind == "bridge" && link.alias == alias(table)).collect();
    let ports = links
        .iter()
        .filter(|link| link.kind == "veth")
        .filter(|link| {
            link.alias == alias(table) || bridges.iter().any(|bridge| link.master == Some(bridge.index))
        })
        .map(|link| link.name.clone())
        .collect();
    Ok((bridges.iter().map(|link| link.name.clone()).collect(), ports))
}

/// Makes the pair of `endpoint`, its inner half configured and up. `route_default`: through its gateway.
pub(crate) fn plug(
    table: &str,
    netns: BorrowedFd<'_>,
    network: &Network,
    endpoint: &Endpoint,
    route_default: bool,
    hairpin: bool,
) -> Result<(), NetError> {
    let host = &endpoint.host_device;
    let mut route = RouteSocket::open().step("open rtnetlink for", host)?;
    let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
    let bridge = route.link(&network.device).and_then(|link| link.ok_or_else(missing));
    let bridge = bridge.step("find the bridge", &network.device)?;
    let veth = Veth {
        host_name: host,
        bridge_index: bridge.index,
        mtu: network.mtu,
        peer_name: &endpoint.interface,
        peer_mac: endpoint.mac.0,
        peer_netns: netns,
    };
    route.create_veth(&veth).step("create the veth pair", host)?;
    let link = route.link(host).and_then(|link| link.ok_or_else(missing)).step("find the veth", host)?;
    // By the alias a stray is known even when its bridge is gone.
    route.set_alias(link.index, &alias(table)).step("mark the veth", host)?;
    isolate(&mut route, network, link.index, host)?;
    if hairpin {
        route.set_hairpin(link.index, true).step("set hairpin mode of", host)?;
    }
    ns::run_in(netns, ns::NEWNET, || configure_inside(endpoint, route_default))
        .step("enter the namespace for", &endpoint.interface)?
}

/// Waits until the bridge forwards what the endpoint sends; before that a first packet would be lost, and ARP repeats
/// only after a second.
pub(crate) fn wait_forwarding(endpoint: &Endpoint) -> Result<(), NetError> {
    let device = &endpoint.host_device;
    let deadline = Instant::now() + Duration::from_millis(FORWARDING_TIMEOUT_MS);
    // Subscribed before the first look, so that no change falls in between.
    let mut events = LinkEvents::open().step("watch the port", device)?;
    let mut route = RouteSocket::open().step("open rtnetlink for", device)?;
    loop {
        let link = route.link(device).step("look at the port", device)?;
        if link.is_some_and(|link| link.forwarding) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(NetError::PortNotForwarding {
                device: device.clone(),
                timeout_ms: FORWARDING_TIMEOUT_MS,
            });
        }
        events.wait(EVENT_WAIT_MS).step("wait for the port", device)?;
    }
}

/// A namespace with `lo` up and Docker's sysctls.
pub(crate) fn new_netns() -> Result<OwnedFd, NetError> {
    furnish(ns::new_netns().step("make a", "network namespace")?)
}

/// The same, belonging to a user namespace: who is root there may administer it.
pub(crate) fn new_netns_in(userns: BorrowedFd<'_>) -> Result<OwnedFd, NetError> {
    furnish(ns::new_netns_in(userns).step("make a", "network namespace in a user namespace")?)
}

fn furnish(netns: OwnedFd) -> Result<OwnedFd, NetError> {
    ns::run_in(&netns, ns::NEWNET, || -> Result<(), NetError> {
        let mut route = RouteSocket::open().step("open rtnetlink in the", "new namespace")?;
        route.set_up(LOOPBACK_INDEX).step("set up", "lo")?;
        // As Docker since 20.10: port 80 and ping need no capability inside.
        sysctl("net/ipv4/ip_unprivileged_port_start", "0")?;
        sysctl("net/ipv4/ping_group_range", &format!("0 {}", ns::highest_group()))
    })
    .step("enter the", "new namespace")??;
    Ok(netns)
}

/// Puts the host end back on its bridge; it fell off when the bridge was deleted.
pub(crate) fn replug(network: &Network, endpoint: &Endpoint) -> Result<(), NetError> {
    let host = &endpoint.host_device;
    let mut route = RouteSocket::open().step("open rtnetlink for", host)?;
    let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
    let bridge = route.link(&network.device).and_then(|link| link.ok_or_else(missing));
    let bridge = bridge.step("find the bridge", &network.device)?;
    let link = route.link(host).and_then(|link| link.ok_or_else(missing)).step("find the veth", host)?;
    if link.master != Some(bridge.index) {
        route.set_master(link.index, bridge.index).step("put back on its bridge", host)?;
    }
    isolate(&mut route, network, link.index, host)
}

/// Moves the default route of a namespace, or removes it.
pub(crate) fn set_default_route(netns: BorrowedFd<'_>, endpoint: Option<&Endpoint>) -> Result<(), NetError> {
    ns::run_in(netns, ns::NEWNET, || -> Result<(), NetError> {
        let mut route = RouteSocket::open().step("open rtnetlink for", "the default route")?;
        match endpoint.and_then(|endpoint| endpoint.gateway.map(|gateway| (endpoint, gateway))) {
            Some((endpoint, gateway)) => {
                let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
                let link = route.link(&endpoint.interface).and_then(|link| link.ok_or_else(missing));
                let link = link.step("find the interface", &endpoint.interface)?;
                route.set_default_route(gateway, link.index).step("set the default route through", gateway)
            }
            None => route.delete_default_route().step("delete", "the default route"),
        }
    })
    .step("enter the namespace for", "the default route")?
}

/// Names of the devices inside a namespace.
pub(crate) fn interfaces(netns: BorrowedFd<'_>) -> Result<Vec<String>, NetError> {
    let links = ns::run_in(netns, ns::NEWNET, || RouteSocket::open().and_then(|mut route| route.links()));
    let links = links.and_then(|inner| inner).step("list the interfaces of", "the container")?;
    Ok(links.into_iter().map(|link| link.name).collect())
}

/// Switches forwarding on; true when it was off.
pub(crate) fn ensure_forwarding() -> Result<bool, NetError> {
    let path = "/proc/sys/net/ipv4/ip_forward";
    let before = std::fs::read_to_string(path).step("read", path)?;
    if before.trim() == "1" {
        return Ok(false);
    }
    sysctl("net/ipv4/ip_forward", "1").map(|()| true)
}

/// Whether bridged packets go through the IP hooks here (the br_netfilter module).
pub(crate) fn bridge_netfilter() -> bool {
    std::fs::read_to_string("/proc/sys/net/bridge/bridge-nf-call-iptables")
        .is_ok_and(|text| text.trim() == "1")
}

/// `enable_icc=false`: what stays within one bridge meets the firewall only where br_netfilter is loaded, so the bridge
/// itself keeps its ports apart (bridge(8), `isolated on`). The host, and published ports through it, stay reachable.
fn isolate(route: &mut RouteSocket, network: &Network, index: u32, host: &str) -> Result<(), NetError> {
    if network.icc {
        return Ok(());
    }
    route.set_isolated(index, true).step("keep apart from its neighbours", host)
}

/// A container with CAP_NET_RAW can send router advertisements even where it has no IPv6 address; a host that is no
/// IPv6 router takes them by default, and its IPv6 traffic would go through the container (CVE-2020-13401).
fn refuse_router_advertisements(device: &str) -> Result<(), NetError> {
    let key = format!("net/ipv6/conf/{device}/accept_ra");
    // A host without IPv6 has no such file.
    if std::path::Path::new("/proc/sys").join(&key).exists() { sysctl(&key, "0") } else { Ok(()) }
}

fn configure_inside(endpoint: &Endpoint, route_default: bool) -> Result<(), NetError> {
    let interface = &endpoint.interface;
    // No IPv6 addresses are given out, so no link-local one shall stay (Docker does the same). A host without IPv6 has no such file.
    let disable = format!("net/ipv6/conf/{interface}/disable_ipv6");
    if std::path::Path::new("/proc/sys").join(&disable).exists() {
        sysctl(&disable, "1")?;
    }
    let mut route = RouteSocket::open().step("open rtnetlink for", interface)?;
    let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
    let link = route.link(interface).and_then(|link| link.ok_or_else(missing)).step("find", interface)?;
    let address = Address { index: link.index, addr: endpoint.ipv4, prefix_len: endpoint.prefix_len };
    route.add_address(address).step("give an address to", interface)?;
    route.set_up(link.index).step("set up", interface)?;
    match endpoint.gateway {
        Some(gateway) if route_default => {
            route.set_default_route(gateway, link.index).step("set the default route through", gateway)
        }
        _ => Ok(()),
    }
}

/// `/proc/sys/net` is that of the calling thread's namespace.
fn sysctl(key: &str, value: &str) -> Result<(), NetError> {
    let path = format!("/proc/sys/{key}");
    std::fs::write(&path, value).step("write", path)
}
