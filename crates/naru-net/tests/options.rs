//! Driver options as packets meet them, and what a container must not tell the host's bridge.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::*;
use naru_kernel::netlink::route::RouteSocket;
use naru_kernel::ns;
use naru_net::{NetConfig, Network, NetworkRequest, Networks, Wanted, WantedContainer};
use rustix::net::{AddressFamily, SendFlags, SocketAddrV6, SocketType, ipproto};
use std::net::Ipv6Addr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

const ICC: &str = "com.docker.network.bridge.enable_icc";
const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
const PREFIX: &str = "com.docker.network.container_iface_prefix";
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// Hop limit that neighbour discovery demands (RFC 4861, 6.1.2).
const ND_HOP_LIMIT: u8 = 255;
const POLL: Duration = Duration::from_millis(20);

fn network(host: &Host, name: &str, key: &str, value: &str) -> Network {
    let options = [(key.to_owned(), value.to_owned())].into();
    let request = NetworkRequest { name: name.to_owned(), options, ..NetworkRequest::default() };
    host.networks.create(&request).unwrap()
}

/// With br_netfilter the firewall would see bridged packets too; the option must not depend on it.
fn without_bridge_netfilter() {
    let path = "/proc/sys/net/bridge/bridge-nf-call-iptables";
    if std::path::Path::new(path).exists() {
        std::fs::write(path, "0").unwrap();
    }
}

#[test]
fn without_icc_neighbours_meet_only_through_published_ports() {
    with_host(|host| {
        without_bridge_netfilter();
        let net = network(&host, "apart", ICC, "false");
        let a = host.run(1, vec![on(&net, &["a"])], vec![tcp_port(80, 8080)]);
        let b = host.run(2, vec![on(&net, &["b"])], vec![]);
        serve_tcp(&a.netns, 80, "a");
        let ip_a = a.endpoints[0].ipv4;
        assert_eq!(fetch(&b.netns, ip_a, 80, BLOCKED), None, "neighbours");
        assert!(fetch_here(ip_a, 80, TIMEOUT).is_some(), "the host");
        assert!(fetch(&host.outside, HOST, 8080, TIMEOUT).is_some(), "a published port from outside");
        assert!(fetch(&b.netns, net.gateway, 8080, TIMEOUT).is_some(), "a published port from a neighbour");
        // The host end falls off its bridge and is put back by a new daemon.
        let wanted = |number, made: &naru_net::Attachment| WantedContainer {
            id: container_id(number),
            endpoints: made.endpoints.clone(),
            ports: made.ports.clone(),
            dns: vec![],
            netns: made.netns.try_clone().unwrap(),
        };
        let Host { networks, bridge, outside } = host;
        drop(networks);
        RouteSocket::open().unwrap().delete_link(&net.device).unwrap();
        let networks = Networks::open(NetConfig::new("naru0", "naru-test")).unwrap();
        let containers = vec![wanted(1, &a), wanted(2, &b)];
        let warnings =
            networks.reconcile(Wanted { networks: vec![bridge, net.clone()], containers }).unwrap();
        assert_eq!(warnings, Vec::<String>::new());
        assert!(fetch(&outside, HOST, 8080, TIMEOUT).is_some());
        assert_eq!(fetch(&b.netns, ip_a, 80, BLOCKED), None, "neighbours after a restart");
        networks.teardown().unwrap();
    });
}

#[test]
fn without_masquerade_the_containers_own_address_is_seen() {
    with_host(|host| {
        serve_tcp(&host.outside, 80, "wan");
        let net = network(&host, "routed", MASQUERADE, "false");
        let a = host.run(1, vec![on(&net, &["a"])], vec![]);
        assert_eq!(fetch(&a.netns, OUTSIDE, 80, TIMEOUT), Some(format!("wan {}", a.endpoints[0].ipv4)));
        host.networks.teardown().unwrap();
    });
}

#[test]
fn each_interface_prefix_counts_for_itself() {
    with_host(|host| {
        let (lan, lan2) = (network(&host, "lan", PREFIX, "lan"), network(&host, "lan2", PREFIX, "lan"));
        let a = host.run(1, vec![on(&host.bridge, &["a"]), on(&lan, &["a"])], vec![]);
        let names: Vec<_> = a.endpoints.iter().map(|endpoint| endpoint.interface.as_str()).collect();
        assert_eq!(names, ["eth0", "lan0"]);
        let late = host.networks.connect(&container_id(1), a.netns.as_fd(), &on(&lan2, &["a"])).unwrap();
        assert_eq!(late.interface, "lan1");
        let inside: Vec<String> = ns::run_in(&a.netns, ns::NEWNET, devices).unwrap();
        assert!(["eth0", "lan0", "lan1"].iter().all(|name| inside.iter().any(|i| i == name)), "{inside:?}");
        host.networks.teardown().unwrap();
    });
}

/// CVE-2020-13401.
#[test]
fn a_containers_router_advertisement_gives_the_host_no_route() {
    with_host(|host| {
        if !std::path::Path::new("/proc/sys/net/ipv6/conf/naru0").exists() {
            println!("SKIP: the kernel has no IPv6");
            return;
        }
        let a = host.run(1, vec![on(&host.bridge, &["a"])], vec![]);
        let before = received_advertisements();
        ns::run_in(&a.netns, ns::NEWNET, advertise).unwrap();
        let deadline = Instant::now() + TIMEOUT;
        // The second one comes after the first was dealt with.
        while received_advertisements() < before + 2 {
            assert!(Instant::now() < deadline, "the advertisements did not reach the host's bridge");
            std::thread::sleep(POLL);
        }
        let routes = std::fs::read_to_string("/proc/thread-self/net/ipv6_route").unwrap();
        let learnt = |line: &&str| line.starts_with(&"0".repeat(32)) && line.trim_end().ends_with("naru0");
        assert_eq!(routes.lines().find(learnt), None);
        host.networks.teardown().unwrap();
    });
}

/// What root inside a container can do: a link-local address, and two advertisements of a default router.
fn advertise() {
    let conf = "/proc/sys/net/ipv6/conf/eth0";
    for (key, value) in [("accept_dad", "0"), ("disable_ipv6", "0")] {
        std::fs::write(format!("{conf}/{key}"), value).unwrap();
    }
    let index = RouteSocket::open().unwrap().link("eth0").unwrap().unwrap().index;
    let socket = rustix::net::socket(AddressFamily::INET6, SocketType::RAW, Some(ipproto::ICMPV6)).unwrap();
    rustix::net::sockopt::set_ipv6_multicast_hops(&socket, u32::from(ND_HOP_LIMIT)).unwrap();
    // RFC 4861, 4.2: type 134, code 0, checksum (the kernel's part), hop limit 64, flags, lifetime 1800 s, two timers.
    let mut packet = [0u8; 16];
    (packet[0], packet[4]) = (134, 64);
    packet[6..8].copy_from_slice(&1800u16.to_be_bytes());
    let target = SocketAddrV6::new(ALL_NODES, 0, 0, index);
    for _ in 0..2 {
        let deadline = Instant::now() + TIMEOUT;
        // Refused until the link-local address is there.
        while rustix::net::sendto(&socket, &packet, SendFlags::empty(), &target).is_err() {
            assert!(Instant::now() < deadline, "no link-local address");
            std::thread::sleep(POLL);
        }
    }
}

fn received_advertisements() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/net/snmp6").unwrap();
    let line = text.lines().find(|line| line.starts_with("Icmp6InRouterAdvertisements"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
}
