//! The embedded resolver as an application inside a container meets it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::*;
use naru_kernel::ns;
use naru_net::{AttachRequest, NetworkRequest};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};

#[test]
fn names_aliases_and_turns() {
    with_host(|host| {
        let net = host.user_network(1, "front");
        let one = host.run(1, vec![on(&net, &["web1", "web"])], vec![]);
        let two = host.run(2, vec![on(&net, &["web2", "web"])], vec![]);
        let (ip1, ip2) = (one.endpoints[0].ipv4, two.endpoints[0].ipv4);
        assert!(one.embedded_dns);
        assert_eq!(resolve(&one.netns, "web2"), (0, vec![ip2]));
        assert_eq!(resolve(&two.netns, "WEB1.front"), (0, vec![ip1]));
        let firsts: std::collections::BTreeSet<Ipv4Addr> =
            (0..4).map(|_| resolve(&one.netns, "web").1[0]).collect();
        assert_eq!(firsts.len(), 2, "each address comes first in its turn");
        assert_eq!(answer(&ask(&one.netns, &question("web", 28)).unwrap(), "web"), (0, vec![]), "AAAA");
        host.networks.rename(&container_id(2), "web2", "fresh").unwrap();
        assert_eq!(resolve(&one.netns, "fresh"), (0, vec![ip2]));
        host.networks.detach(&container_id(2)).unwrap();
        assert_eq!(resolve(&one.netns, "web"), (0, vec![ip1]));
        host.networks.teardown().unwrap();
    });
}

#[test]
fn port_53_is_the_applications() {
    with_host(|host| {
        let net = host.user_network(1, "front");
        let a = host.run(1, vec![on(&net, &["a"])], vec![]);
        let bound = ns::run_in(&a.netns, ns::NEWNET, || {
            (UdpSocket::bind("0.0.0.0:53").is_ok(), TcpListener::bind("0.0.0.0:53").is_ok())
        });
        assert_eq!(bound.unwrap(), (true, true));
        assert_eq!(resolve(&a.netns, "a").1, [a.endpoints[0].ipv4]);
        let plain = host.run(2, vec![on(&host.bridge, &["b"])], vec![]);
        assert!(!plain.embedded_dns, "the default bridge has none");
        host.networks.teardown().unwrap();
    });
}

#[test]
fn questions_over_tcp() {
    with_host(|host| {
        let net = host.user_network(1, "front");
        let a = host.run(1, vec![on(&net, &["a"])], vec![]);
        let reply = ns::run_in(&a.netns, ns::NEWNET, || {
            let mut stream = TcpStream::connect("127.0.0.11:53").unwrap();
            stream.set_read_timeout(Some(TIMEOUT)).unwrap();
            let packet = question("a", 1);
            stream.write_all(&(packet.len() as u16).to_be_bytes()).unwrap();
            stream.write_all(&packet).unwrap();
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut bytes).unwrap();
            bytes
        });
        assert_eq!(answer(&reply.unwrap(), "a"), (0, vec![a.endpoints[0].ipv4]));
        host.networks.teardown().unwrap();
    });
}

#[test]
fn other_names_go_to_the_given_server_and_known_ones_never() {
    with_host(|host| {
        // The upstream is on the private host's loopback: reachable from the host's side only.
        let upstream = UdpSocket::bind("127.0.0.9:53").unwrap();
        let (seen_in, seen) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((length, peer)) = upstream.recv_from(&mut buffer) {
                seen_in.send(buffer[12..length].to_vec()).unwrap();
                let mut reply = buffer[..length].to_vec();
                (reply[2], reply[3], reply[7]) = (0x81, 0x80, 1);
                reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 7]);
                upstream.send_to(&reply, peer).unwrap();
            }
        });
        let net = host.user_network(1, "front");
        let request = AttachRequest {
            dns: vec!["127.0.0.9".parse().unwrap()],
            ..host.request(1, vec![on(&net, &["a"])], vec![])
        };
        let a = host.networks.attach(&request).unwrap();
        assert_eq!(resolve(&a.netns, "example.org"), (0, vec![Ipv4Addr::new(192, 0, 2, 7)]));
        assert_eq!(seen.recv_timeout(TIMEOUT).unwrap()[..8], *b"\x07example");
        for kind in [1, 15, 16, 28, 33, 255] {
            ask(&a.netns, &question("a", kind)).unwrap();
        }
        assert!(seen.try_recv().is_err(), "a known name was asked of others");
        // A server that refuses: the answer is SERVFAIL, and soon.
        let request = AttachRequest {
            dns: vec!["127.0.0.8".parse().unwrap()],
            ..host.request(2, vec![on(&net, &["b"])], vec![])
        };
        let b = host.networks.attach(&request).unwrap();
        assert_eq!(ask(&b.netns, &question("example.org", 1)).unwrap()[3] & 15, 2);
        // An internal network's containers tell nothing to the world.
        let inner = NetworkRequest { name: "inner".into(), internal: true, ..NetworkRequest::default() };
        let inner = host.networks.create(&inner).unwrap();
        let request = AttachRequest {
            dns: vec!["127.0.0.9".parse().unwrap()],
            ..host.request(3, vec![on(&inner, &["c"])], vec![])
        };
        let c = host.networks.attach(&request).unwrap();
        assert_eq!(ask(&c.netns, &question("example.org", 1)).unwrap()[3] & 15, 2);
        assert!(seen.try_recv().is_err());
        host.networks.teardown().unwrap();
    });
}
