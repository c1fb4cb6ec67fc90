//! A private host: a thread in a network namespace of its own, with networks, containers and a neighbour outside.

#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::unused_self, reason = "methods of Host read as what it does")]

use naru_kernel::netlink::route::{Address, LOOPBACK_INDEX, RouteSocket};
use naru_kernel::ns;
use naru_net::{
    AttachRequest, Attachment, EndpointRequest, NetConfig, Network, NetworkRequest, Networks, Wanted,
};
use naru_types::spec::{PortBinding, PortProto, Proto};
use naru_types::{ContainerId, NetworkId};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

pub const TIMEOUT: Duration = Duration::from_secs(5);
/// For traffic that must not pass: long enough for a local answer, short enough to wait for.
pub const BLOCKED: Duration = Duration::from_millis(400);
pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
pub const HOST: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

pub struct Host {
    pub networks: Networks,
    pub bridge: Network,
    pub outside: OwnedFd,
}

/// Runs `test` on a private host; prints why and returns when that needs rights we lack.
pub fn with_host(test: impl FnOnce(Host) + Send) {
    std::thread::scope(|scope| {
        let outcome = scope
            .spawn(|| {
                if let Err(errno) = ns::unshare(ns::NEWNET) {
                    println!("SKIP: cannot make a network namespace: {errno}");
                    return;
                }
                test(host());
            })
            .join();
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
}

fn host() -> Host {
    let mut route = RouteSocket::open().unwrap();
    route.set_up(LOOPBACK_INDEX).unwrap();
    let outside = ns::new_netns().unwrap();
    route.create_cable("uplink", "wan", outside.as_fd()).unwrap();
    let uplink = route.link("uplink").unwrap().unwrap();
    route.add_address(Address { index: uplink.index, addr: HOST, prefix_len: 24 }).unwrap();
    ns::run_in(&outside, ns::NEWNET, || {
        let mut route = RouteSocket::open().unwrap();
        route.set_up(LOOPBACK_INDEX).unwrap();
        let wan = route.link("wan").unwrap().unwrap();
        route.add_address(Address { index: wan.index, addr: OUTSIDE, prefix_len: 24 }).unwrap();
        route.set_up(wan.index).unwrap();
        // Only a test of isolation needs it: outside tries to reach container addresses through the host.
        route.set_default_route(HOST, wan.index).unwrap();
    })
    .unwrap();
    let networks = Networks::open(NetConfig::new("naru0", "naru-test")).unwrap();
    networks.reconcile(Wanted::default()).unwrap();
    let bridge = networks.create_default(NetworkId::from_bytes([0xb0; 32])).unwrap();
    Host { networks, bridge, outside }
}

pub fn container_id(number: u16) -> ContainerId {
    let mut bytes = [7; 32];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    ContainerId::from_bytes(bytes)
}

pub fn on(network: &Network, names: &[&str]) -> EndpointRequest {
    EndpointRequest {
        network: network.id.clone(),
        names: names.iter().map(ToString::to_string).collect(),
        ipv4: None,
        mac: None,
        links: Vec::new(),
    }
}

pub fn tcp_port(container: u16, host: u16) -> PortBinding {
    PortBinding {
        container: PortProto { port: container, proto: Proto::Tcp },
        host_ip: None,
        host_port: (host, host),
    }
}

impl Host {
    pub fn user_network(&self, number: u8, name: &str) -> Network {
        self.networks
            .create(&NetworkRequest {
                id: Some(NetworkId::from_bytes([number; 32])),
                name: name.to_owned(),
                ..NetworkRequest::default()
            })
            .unwrap()
    }

    pub fn run(
        &self,
        number: u16,
        endpoints: Vec<EndpointRequest>,
        published: Vec<PortBinding>,
    ) -> Attachment {
        self.networks.attach(&self.request(number, endpoints, published)).unwrap()
    }

    pub fn request(
        &self,
        number: u16,
        endpoints: Vec<EndpointRequest>,
        published: Vec<PortBinding>,
    ) -> AttachRequest {
        AttachRequest { container: container_id(number), endpoints, published, dns: Vec::new() }
    }
}

/// Answers every connection with `name` and the client's address, until the process ends or the namespace does.
pub fn serve_tcp(netns: &OwnedFd, port: u16, name: &'static str) {
    let listener = ns::run_in(netns, ns::NEWNET, || TcpListener::bind(("0.0.0.0", port)).unwrap()).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let text = format!("{name} {}", stream.peer_addr().unwrap().ip());
            if text.starts_with("stop") {
                return;
            }
            let _ = stream.write_all(text.as_bytes());
        }
    });
}

/// What the server says to a client in `netns`, or `None`.
pub fn fetch(netns: &OwnedFd, addr: Ipv4Addr, port: u16, timeout: Duration) -> Option<String> {
    ns::run_in(netns, ns::NEWNET, || fetch_here(addr, port, timeout)).unwrap()
}

pub fn fetch_here(addr: Ipv4Addr, port: u16, timeout: Duration) -> Option<String> {
    let mut stream =
        TcpStream::connect_timeout(&SocketAddr::V4(SocketAddrV4::new(addr, port)), timeout).ok()?;
    stream.set_read_timeout(Some(timeout)).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

/// One DNS question to 127.0.0.11 from inside; `None` when nothing answers.
pub fn ask(netns: &OwnedFd, packet: &[u8]) -> Option<Vec<u8>> {
    ns::run_in(netns, ns::NEWNET, || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(TIMEOUT)).unwrap();
        socket.send_to(packet, "127.0.0.11:53").unwrap();
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).ok()?;
        Some(buffer[..length].to_vec())
    })
    .unwrap()
}

pub fn question(name: &str, kind: u8) -> Vec<u8> {
    let mut bytes = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend(label.bytes());
    }
    bytes.extend([0, 0, kind, 0, 1]);
    bytes
}

/// Response code and last octets of the addresses in an answer of our own resolver.
pub fn answer(bytes: &[u8], name: &str) -> (u8, Vec<Ipv4Addr>) {
    let records = &bytes[12 + name.len() + 2 + 4..];
    let count = usize::from(bytes[7]);
    let addr = |record: &[u8]| Ipv4Addr::new(record[12], record[13], record[14], record[15]);
    (bytes[3] & 15, records.chunks(16).take(count).map(addr).collect())
}

pub fn resolve(netns: &OwnedFd, name: &str) -> (u8, Vec<Ipv4Addr>) {
    answer(&ask(netns, &question(name, 1)).unwrap(), name)
}

pub fn devices() -> Vec<String> {
    RouteSocket::open().unwrap().links().unwrap().into_iter().map(|link| link.name).collect()
}
