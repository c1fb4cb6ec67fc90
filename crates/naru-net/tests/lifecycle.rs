//! What is made is unmade, what is lost is made again, and what clashes is refused.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::*;
use naru_kernel::netlink::nft::NftSocket;
use naru_kernel::netlink::route::RouteSocket;
use naru_net::{Ipv4Net, NetConfig, NetworkRequest, Networks, Wanted, WantedContainer};
use naru_types::Kind;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsFd;
use std::time::Instant;

const TABLE: &str = "naru-test";

fn elements(set: &str) -> usize {
    NftSocket::open().unwrap().count_elements(TABLE, set).unwrap()
}

#[test]
fn two_hundred_cycles_leave_nothing() {
    with_host(|host| {
        let net = host.user_network(1, "front");
        let before = devices();
        for _ in 0..200 {
            let made =
                host.run(1, vec![on(&net, &["a"]), on(&host.bridge, &["a"])], vec![tcp_port(80, 8080)]);
            assert_eq!(made.endpoints.len(), 2);
            host.networks.detach(&container_id(1)).unwrap();
        }
        assert_eq!(devices(), before);
        assert_eq!((elements("ports_any"), elements("bridges")), (0, 2));
        host.networks.teardown().unwrap();
        assert_eq!(
            devices().iter().filter(|name| name.as_str() != "lo" && name.as_str() != "uplink").count(),
            0
        );
        assert!(!NftSocket::open().unwrap().table_exists(TABLE).unwrap());
    });
}

#[test]
fn twenty_at_once() {
    with_host(|host| {
        let net = host.user_network(1, "front");
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..20)
                .map(|number| {
                    let (host, net) = (&host, &net);
                    scope.spawn(move || host.run(number, vec![on(net, &["x"])], vec![tcp_port(80, 0)]))
                })
                .collect();
            let made: Vec<_> = workers.into_iter().map(|worker| worker.join().unwrap()).collect();
            let addresses: std::collections::BTreeSet<_> =
                made.iter().map(|made| made.endpoints[0].ipv4).collect();
            let ports: std::collections::BTreeSet<_> =
                made.iter().map(|made| made.ports[0].host_port).collect();
            assert_eq!((addresses.len(), ports.len()), (20, 20));
        });
        assert_eq!(elements("ports_any"), 20);
        host.networks.teardown().unwrap();
    });
}

#[test]
fn a_failed_attach_leaves_nothing() {
    with_host(|host| {
        let net = host.user_network(1, "front");
        let before = devices();
        let taken = TcpListener::bind("0.0.0.0:8088").unwrap();
        let request = host.request(1, vec![on(&net, &["a"])], vec![tcp_port(80, 8087), tcp_port(81, 8088)]);
        let error = host.networks.attach(&request).unwrap_err();
        let addr = net.subnet.nth(2).unwrap();
        assert_eq!(
            error.message(),
            format!("failed to bind host port for 0.0.0.0:8088:{addr}:81/tcp: address already in use")
        );
        drop(taken);
        assert!(TcpListener::bind("0.0.0.0:8087").is_ok(), "the first port was let go");
        let first = host.run(1, vec![on(&net, &["a"])], vec![tcp_port(80, 8088)]);
        let clash = host.networks.attach(&host.request(2, vec![on(&net, &["b"])], vec![tcp_port(80, 8088)]));
        assert!(clash.unwrap_err().message().contains("address already in use"));
        assert!(TcpListener::bind("0.0.0.0:8088").is_err(), "held while published");
        drop(first);
        host.networks.detach(&container_id(1)).unwrap();
        assert_eq!(devices(), before);
        host.networks.teardown().unwrap();
    });
}

#[test]
fn a_bridge_deleted_in_between_is_an_error_and_nothing_is_left() {
    with_host(|host| {
        let net = host.user_network(1, "front");
        RouteSocket::open().unwrap().delete_link(&net.device).unwrap();
        let before = devices();
        let error = host
            .networks
            .attach(&host.request(1, vec![on(&net, &["a"])], vec![tcp_port(80, 8080)]))
            .unwrap_err();
        assert!(error.message().contains(&net.device), "{error}");
        assert_eq!((devices(), elements("ports_any")), (before, 0));
        host.networks.teardown().unwrap();
    });
}

#[test]
fn clashing_and_wrong_networks_are_refused() {
    with_host(|host| {
        let create = |subnet: &str| {
            let subnet = Some(Ipv4Net::parse(subnet).unwrap());
            host.networks.create(&NetworkRequest { name: "n".into(), subnet, ..NetworkRequest::default() })
        };
        for taken in ["172.17.0.0/24", "203.0.113.0/25"] {
            let error = create(taken).unwrap_err();
            assert!(
                error.message().contains("Pool overlaps with other one on this address space"),
                "{error}"
            );
        }
        assert_eq!(create("10.99.0.0/24").unwrap().gateway, Ipv4Addr::new(10, 99, 0, 1));
        let six = NetworkRequest { name: "six".into(), ipv6: true, ..NetworkRequest::default() };
        let error = host.networks.create(&six).unwrap_err();
        assert_eq!(error.kind(), Kind::NotImplemented);
        assert!(error.hint().is_some());
        let options = [("com.docker.network.host_ipv4".to_owned(), "10.0.0.9".to_owned())].into();
        assert!(
            host.networks
                .create(&NetworkRequest { name: "o".into(), options, ..NetworkRequest::default() })
                .is_err()
        );
        assert!(host.networks.remove(&host.bridge.id).is_err(), "pre-defined");
        host.networks.teardown().unwrap();
    });
}

#[test]
fn a_new_daemon_finds_everything_again() {
    with_host(|host| {
        let net = host.user_network(1, "front");
        let a = host.run(1, vec![on(&net, &["a"])], vec![tcp_port(80, 8080)]);
        serve_tcp(&a.netns, 80, "a");
        let lost = host.run(2, vec![on(&net, &["b"])], vec![tcp_port(80, 8081)]);
        let stray = host.user_network(2, "stray");
        let Host { networks, bridge, outside } = host;
        // The daemon dies; somebody flushes the ruleset and deletes a bridge.
        drop(networks);
        let mut route = RouteSocket::open().unwrap();
        route.delete_link(&net.device).unwrap();
        let mut flush = naru_kernel::netlink::nft::Batch::default();
        flush.delete_table(TABLE);
        NftSocket::open().unwrap().commit(flush).unwrap();
        let networks = Networks::open(NetConfig::new("naru0", TABLE)).unwrap();
        let container = WantedContainer {
            id: container_id(1),
            endpoints: a.endpoints.clone(),
            ports: a.ports.clone(),
            dns: vec![],
            netns: a.netns.try_clone().unwrap(),
        };
        let warnings = networks
            .reconcile(Wanted { networks: vec![bridge, net.clone()], containers: vec![container] })
            .unwrap();
        assert_eq!(warnings, Vec::<String>::new());
        assert!(!devices().contains(&stray.device) && !devices().contains(&lost.endpoints[0].host_device));
        let host = Host { networks, bridge: net.clone(), outside };
        assert!(fetch(&host.outside, HOST, 8080, TIMEOUT).is_some());
        assert!(TcpListener::bind("0.0.0.0:8080").is_err(), "the port is held again");
        assert_eq!(resolve(&a.netns, "a"), (0, vec![a.endpoints[0].ipv4]));
        let next = host.run(3, vec![on(&net, &["c"])], vec![]);
        assert_ne!(next.endpoints[0].ipv4, a.endpoints[0].ipv4);
        assert_eq!(resolve(&a.netns, "c").1, [next.endpoints[0].ipv4]);
        host.networks.teardown().unwrap();
    });
}

#[test]
fn a_flushed_ruleset_heals_with_the_next_change() {
    with_host(|host| {
        let a = host.run(1, vec![on(&host.bridge, &["a"])], vec![tcp_port(80, 8080)]);
        serve_tcp(&a.netns, 80, "a");
        let mut flush = naru_kernel::netlink::nft::Batch::default();
        flush.delete_table(TABLE);
        NftSocket::open().unwrap().commit(flush).unwrap();
        let b = host.run(2, vec![on(&host.bridge, &["b"])], vec![tcp_port(80, 8081)]);
        assert_eq!(elements("ports_any"), 2);
        drop(b);
        assert!(fetch(&host.outside, HOST, 8080, TIMEOUT).is_some());
        host.networks.teardown().unwrap();
    });
}

#[test]
fn a_dropping_host_firewall_is_told() {
    with_host(|host| {
        assert_eq!(host.networks.host_warnings(), Vec::<String>::new());
        let nft = std::process::Command::new("nft")
            .arg("table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }")
            .output();
        if !nft.is_ok_and(|output| output.status.success()) {
            println!("SKIP: no nft(8) here");
            return;
        }
        assert!(host.networks.host_warnings()[0].contains("ip filter FORWARD"));
        host.networks.teardown().unwrap();
    });
}

#[test]
fn the_table_reads_as_meant() {
    with_host(|host| {
        let _a = host.run(1, vec![on(&host.bridge, &["a"])], vec![tcp_port(80, 8080)]);
        let Ok(output) = std::process::Command::new("nft").args(["list", "table", "ip", TABLE]).output()
        else {
            println!("SKIP: no nft(8) here");
            return;
        };
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        println!("{text}");
        for rule in [
            "dnat ip to ip daddr . meta l4proto . th dport map @ports_addr",
            "fib daddr type local dnat ip to meta l4proto . th dport map @ports_any",
            "tcp . 8080 : 172.17.0.2 . 80",
            "ip saddr . oifname @hairpin ct status dnat masquerade",
            "iifname @masquerade oifname != @bridges masquerade",
            "iifname . oifname @same accept",
            "oifname @bridges drop",
            "elements = { \"naru0\" }",
        ] {
            assert!(text.contains(rule), "{rule} is not in\n{text}");
        }
        host.networks.teardown().unwrap();
    });
}

#[test]
fn five_thousand_ports_and_one_more() {
    with_host(|host| {
        let many: Vec<_> = (0..5_000).map(|n| tcp_port(1000 + n, 10_000 + n)).collect();
        let started = Instant::now();
        let a = host.run(1, vec![on(&host.bridge, &["a"])], many);
        println!("attach with 5 000 ports: {:?}", started.elapsed());
        serve_tcp(&a.netns, 1000 + 4_321, "a");
        assert_eq!(elements("ports_any"), 5_000);
        assert!(fetch(&host.outside, HOST, 14_321, TIMEOUT).is_some());
        let empty = Instant::now();
        let _b = host.run(2, vec![on(&host.bridge, &["b"])], vec![]);
        let without = empty.elapsed();
        let one = Instant::now();
        let _c = host.run(3, vec![on(&host.bridge, &["c"])], vec![tcp_port(80, 9_999)]);
        println!("one more container: {without:?} without, {:?} with one more port", one.elapsed());
        let _ = a.netns.as_fd();
        host.networks.teardown().unwrap();
    });
}
