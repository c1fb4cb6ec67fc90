//! Real packets between real namespaces: who reaches whom, and by which address.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::*;
use naru_net::{EndpointRequest, NetworkRequest};
use naru_types::spec::{PortBinding, PortProto, Proto};
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::os::fd::AsFd;

#[test]
fn same_network_talks_and_networks_are_apart() {
    with_host(|host| {
        let (front, back) = (host.user_network(1, "front"), host.user_network(2, "back"));
        let a = host.run(1, vec![on(&front, &["a"])], vec![]);
        let b = host.run(2, vec![on(&front, &["b"])], vec![]);
        let c = host.run(3, vec![on(&back, &["c"])], vec![]);
        for (netns, name) in [(&a.netns, "a"), (&b.netns, "b"), (&c.netns, "c")] {
            serve_tcp(netns, 80, name);
        }
        let (ip_a, ip_b, ip_c) = (a.endpoints[0].ipv4, b.endpoints[0].ipv4, c.endpoints[0].ipv4);
        assert_eq!(fetch(&a.netns, ip_b, 80, TIMEOUT), Some(format!("b {ip_a}")));
        assert_eq!(fetch(&b.netns, ip_a, 80, TIMEOUT), Some(format!("a {ip_b}")));
        assert_eq!(fetch(&a.netns, ip_c, 80, BLOCKED), None, "isolation");
        assert_eq!(fetch(&c.netns, ip_a, 80, BLOCKED), None, "isolation");
        assert_eq!(fetch(&host.outside, ip_a, 80, BLOCKED), None, "no way in but by a published port");
        assert_eq!(fetch_here(ip_a, 80, TIMEOUT).unwrap(), format!("a {}", front.gateway));
        host.networks.teardown().unwrap();
    });
}

#[test]
fn outward_traffic_takes_the_hosts_address_and_internal_has_no_way() {
    with_host(|host| {
        serve_tcp(&host.outside, 80, "wan");
        let a = host.run(1, vec![on(&host.bridge, &["a"])], vec![]);
        assert_eq!(fetch(&a.netns, OUTSIDE, 80, TIMEOUT), Some(format!("wan {HOST}")));
        let request = NetworkRequest { name: "inner".into(), internal: true, ..NetworkRequest::default() };
        let inner = host.networks.create(&request).unwrap();
        let b = host.run(2, vec![on(&inner, &["b"])], vec![tcp_port(80, 8080)]);
        assert_eq!(b.ports, [], "nothing is published from an internal network");
        assert_eq!(fetch(&b.netns, OUTSIDE, 80, BLOCKED), None);
        let c = host.run(3, vec![on(&inner, &["c"])], vec![]);
        serve_tcp(&c.netns, 80, "c");
        assert!(fetch(&b.netns, c.endpoints[0].ipv4, 80, TIMEOUT).is_some());
        host.networks.teardown().unwrap();
    });
}

#[test]
fn a_published_port_answers_from_everywhere() {
    with_host(|host| {
        let net = host.user_network(1, "front");
        let a = host.run(1, vec![on(&host.bridge, &["a"])], vec![tcp_port(80, 8080)]);
        serve_tcp(&a.netns, 80, "a");
        let neighbour = host.run(2, vec![on(&host.bridge, &["b"])], vec![]);
        let stranger = host.run(3, vec![on(&net, &["c"])], vec![]);
        let gateway = host.bridge.gateway;
        assert_eq!(
            fetch(&host.outside, HOST, 8080, TIMEOUT),
            Some(format!("a {OUTSIDE}")),
            "with its real address"
        );
        assert_eq!(fetch_here(Ipv4Addr::LOCALHOST, 8080, TIMEOUT), Some(format!("a {gateway}")));
        assert!(fetch_here(HOST, 8080, TIMEOUT).is_some());
        assert_eq!(fetch(&neighbour.netns, HOST, 8080, TIMEOUT), Some(format!("a {gateway}")), "hairpin");
        assert_eq!(fetch(&a.netns, HOST, 8080, TIMEOUT), Some(format!("a {gateway}")), "hairpin to itself");
        assert!(fetch(&neighbour.netns, gateway, 8080, TIMEOUT).is_some());
        assert!(
            fetch(&stranger.netns, HOST, 8080, TIMEOUT).is_some(),
            "from another network by the host's address"
        );
        host.networks.detach(&container_id(1)).unwrap();
        assert_eq!(fetch(&host.outside, HOST, 8080, BLOCKED), None);
        assert_eq!(fetch_here(Ipv4Addr::LOCALHOST, 8080, BLOCKED), None);
        host.networks.teardown().unwrap();
    });
}

#[test]
fn a_binding_to_an_address_is_respected() {
    with_host(|host| {
        let bound = |ip: Ipv4Addr, port| PortBinding { host_ip: Some(IpAddr::V4(ip)), ..tcp_port(80, port) };
        let ports = vec![bound(Ipv4Addr::LOCALHOST, 8081), bound(HOST, 8082)];
        let a = host.run(1, vec![on(&host.bridge, &["a"])], ports);
        serve_tcp(&a.netns, 80, "a");
        assert!(fetch_here(Ipv4Addr::LOCALHOST, 8081, TIMEOUT).is_some());
        assert_eq!(fetch(&host.outside, HOST, 8081, BLOCKED), None);
        assert!(fetch(&host.outside, HOST, 8082, TIMEOUT).is_some());
        assert_eq!(fetch_here(Ipv4Addr::LOCALHOST, 8082, BLOCKED), None);
        host.networks.teardown().unwrap();
    });
}

#[test]
fn the_hosts_loopback_stays_closed_to_containers_and_neighbours() {
    with_host(|host| {
        let own = naru_kernel::ns::open_own("net").unwrap();
        serve_tcp(&own, 9000, "host-loopback");
        let a = host.run(1, vec![on(&host.bridge, &["a"])], vec![]);
        for netns in [&a.netns, &host.outside] {
            let reached = naru_kernel::ns::run_in(netns.as_fd(), naru_kernel::ns::NEWNET, || {
                // A hostile neighbour routes 127.0.0.2 to us instead of to itself.
                let dev =
                    if std::path::Path::new("/proc/sys/net/ipv4/conf/wan").exists() { "wan" } else { "eth0" };
                std::fs::write(format!("/proc/sys/net/ipv4/conf/{dev}/route_localnet"), "1").unwrap();
                let _ = std::process::Command::new("ip")
                    .args(["rule", "add", "pref", "0", "to", "127.0.0.2", "lookup", "77"])
                    .output();
                let gateway = if dev == "wan" { HOST } else { Ipv4Addr::new(172, 17, 0, 1) };
                let _ = std::process::Command::new("ip")
                    .args([
                        "route",
                        "add",
                        "127.0.0.2/32",
                        "via",
                        &gateway.to_string(),
                        "dev",
                        dev,
                        "table",
                        "77",
                    ])
                    .output();
                let _ = std::process::Command::new("ip")
                    .args(["rule", "del", "pref", "0", "lookup", "local"])
                    .output();
                let _ = std::process::Command::new("ip")
                    .args(["rule", "add", "pref", "1", "lookup", "local"])
                    .output();
                fetch_here(Ipv4Addr::new(127, 0, 0, 2), 9000, BLOCKED)
            })
            .unwrap();
            assert_eq!(reached, None);
        }
        host.networks.teardown().unwrap();
    });
}

#[test]
fn udp_is_published_too() {
    with_host(|host| {
        let udp = PortBinding {
            container: PortProto { port: 5353, proto: Proto::Udp },
            host_ip: None,
            host_port: (5300, 5300),
        };
        let sctp = PortBinding { container: PortProto { port: 36412, proto: Proto::Sctp }, ..udp.clone() };
        let a = host.run(1, vec![on(&host.bridge, &["a"])], vec![udp, sctp]);
        assert_eq!(a.ports.len(), 2, "one port number, two protocols");
        let server = naru_kernel::ns::run_in(&a.netns, naru_kernel::ns::NEWNET, || {
            UdpSocket::bind("0.0.0.0:5353").unwrap()
        })
        .unwrap();
        let echo = std::thread::spawn(move || {
            let mut buffer = [0; 64];
            for _ in 0..2 {
                let (length, peer) = server.recv_from(&mut buffer).unwrap();
                server.send_to(&buffer[..length], peer).unwrap();
            }
        });
        let exchange = |to: Ipv4Addr| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_read_timeout(Some(TIMEOUT)).unwrap();
            socket.connect((to, 5300)).unwrap();
            socket.send(b"ping").unwrap();
            let mut buffer = [0; 64];
            let length = socket.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"ping");
        };
        exchange(Ipv4Addr::LOCALHOST);
        naru_kernel::ns::run_in(&host.outside, naru_kernel::ns::NEWNET, || exchange(HOST)).unwrap();
        echo.join().unwrap();
        host.networks.teardown().unwrap();
    });
}

#[test]
fn connect_and_disconnect_a_running_container() {
    with_host(|host| {
        let (front, back) = (host.user_network(1, "front"), host.user_network(2, "back"));
        let a = host.run(1, vec![on(&front, &["a"])], vec![tcp_port(80, 8080)]);
        serve_tcp(&a.netns, 80, "a");
        let b = host.run(2, vec![on(&back, &["b"])], vec![]);
        let id = container_id(1);
        let fixed = EndpointRequest { ipv4: back.subnet.nth(99), ..on(&back, &["a", "alias"]) };
        let second = host.networks.connect(&id, a.netns.as_fd(), &fixed).unwrap();
        assert_eq!((second.interface.as_str(), Some(second.ipv4)), ("eth1", back.subnet.nth(99)));
        assert_eq!(resolve(&b.netns, "alias"), (0, vec![second.ipv4]));
        assert!(fetch(&b.netns, second.ipv4, 80, TIMEOUT).is_some());
        assert!(host.networks.connect(&id, a.netns.as_fd(), &fixed).is_err(), "twice");
        assert!(host.networks.remove(&back.id).unwrap_err().message().contains("active endpoints"));
        assert!(fetch(&host.outside, HOST, 8080, TIMEOUT).is_some());
        let ports = host.networks.disconnect(&id, a.netns.as_fd(), &front.id).unwrap();
        assert_eq!(ports.len(), 1);
        assert!(fetch(&host.outside, HOST, 8080, TIMEOUT).is_some(), "the port moved to the other network");
        assert_eq!(host.networks.disconnect(&id, a.netns.as_fd(), &back.id).unwrap(), []);
        assert_eq!(fetch(&host.outside, HOST, 8080, BLOCKED), None);
        host.networks.remove(&front.id).unwrap();
        host.networks.teardown().unwrap();
    });
}

#[test]
fn a_udp_client_that_goes_on_sending_reaches_the_new_container() {
    with_host(|host| {
        let udp = || PortBinding {
            container: PortProto { port: 5353, proto: Proto::Udp },
            host_ip: None,
            host_port: (5300, 5300),
        };
        let client = naru_kernel::ns::run_in(&host.outside, naru_kernel::ns::NEWNET, || {
            UdpSocket::bind("0.0.0.0:0").unwrap()
        })
        .unwrap();
        client.set_read_timeout(Some(TIMEOUT)).unwrap();
        client.connect((HOST, 5300)).unwrap();
        for number in 1..=3 {
            let made = host.run(number, vec![on(&host.bridge, &["a"])], vec![udp()]);
            let server = naru_kernel::ns::run_in(&made.netns, naru_kernel::ns::NEWNET, || {
                UdpSocket::bind("0.0.0.0:5353").unwrap()
            });
            let server = server.unwrap();
            server.set_read_timeout(Some(TIMEOUT)).unwrap();
            client.send(b"ping").unwrap();
            let (_, peer) = server.recv_from(&mut [0; 64]).unwrap();
            server.send_to(b"pong", peer).unwrap();
            client.recv(&mut [0; 64]).unwrap();
            host.networks.detach(&container_id(number)).unwrap();
            // In between, with nobody there: this packet makes an entry without a translation.
            let _ = client.send(b"lost");
            let _ = client.recv(&mut [0; 64]);
        }
        host.networks.teardown().unwrap();
    });
}
