//! From a packet and a point of view to an answer, or to the decision to ask elsewhere. No I/O.

use super::packet::{
    self, CLASS_IN, NOERROR, NXDOMAIN, Query, Record, Reject, SERVFAIL, TYPE_A, TYPE_ANY, TYPE_PTR,
};
use super::zone::{Pointer, View, Zone};
use std::net::Ipv4Addr;

#[derive(Debug)]
pub(crate) enum Decision {
    Answer(Vec<u8>),
    Forward(Query),
    Silence,
}

/// `turn` rotates the answers, so that clients that take the first one spread over all.
pub(crate) fn decide(zone: &Zone, view: &View, bytes: &[u8], turn: usize, udp: bool) -> Decision {
    let query = match packet::parse(bytes) {
        Ok(query) => query,
        Err(Reject::Silence) => return Decision::Silence,
        Err(Reject::Reply(reply)) => return Decision::Answer(reply),
    };
    if query.class != CLASS_IN {
        return Decision::Forward(query);
    }
    if query.kind == TYPE_PTR
        && let Some(addr) = query.reverse_address()
    {
        return match zone.pointer(view, addr) {
            Pointer::Name(name) => Decision::Answer(query.respond(NOERROR, &[Record::Pointer(&name)], udp)),
            Pointer::Unused => Decision::Answer(query.respond(NXDOMAIN, &[], udp)),
            Pointer::Foreign => Decision::Forward(query),
        };
    }
    let mut addresses = query.name.as_deref().map(|name| zone.addresses(view, name)).unwrap_or_default();
    if addresses.is_empty() {
        return Decision::Forward(query);
    }
    let places = turn % addresses.len();
    addresses.rotate_left(places);
    Decision::Answer(respond_addresses(&query, &addresses, udp))
}

/// The answer when nobody could be asked.
pub(crate) fn failure(query: &Query, udp: bool) -> Vec<u8> {
    query.respond(SERVFAIL, &[], udp)
}

/// A known name has only addresses: any other type is an empty NOERROR, so that a client does not give the name up.
fn respond_addresses(query: &Query, addresses: &[Ipv4Addr], udp: bool) -> Vec<u8> {
    let records: Vec<Record<'_>> = match query.kind {
        TYPE_A | TYPE_ANY => addresses.iter().copied().map(Record::Address).collect(),
        _ => Vec::new(),
    };
    query.respond(NOERROR, &records, udp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Endpoint, Mac, Network};
    use naru_types::{ContainerId, NetworkId};

    fn endpoint(network: u8, last: u8, names: &[&str]) -> Endpoint {
        let ipv4 = Ipv4Addr::new(10, 0, network, last);
        Endpoint {
            network: NetworkId::from_bytes([network; 32]),
            endpoint_id: String::new(),
            host_device: String::new(),
            interface: "eth0".into(),
            mac: Mac::for_address(ipv4),
            ipv4,
            prefix_len: 24,
            gateway: None,
            names: names.iter().map(ToString::to_string).collect(),
            links: vec![("store".into(), "DB".into())],
        }
    }

    fn zone() -> Zone {
        let zone = Zone::default();
        for (index, name) in [(1u8, "front"), (2, "back")] {
            let subnet = crate::Ipv4Net::containing(Ipv4Addr::new(10, 0, index, 0), 24).unwrap();
            zone.set_network(&Network {
                id: NetworkId::from_bytes([index; 32]),
                name: name.into(),
                device: String::new(),
                subnet,
                gateway: subnet.nth(1).unwrap(),
                ip_range: None,
                reserved: Vec::new(),
                internal: false,
                is_default: false,
                icc: true,
                masquerade: true,
                mtu: None,
                host_binding: None,
                iface_prefix: None,
            });
        }
        let container = |byte| ContainerId::from_bytes([byte; 32]);
        zone.set_container(&container(1), &[endpoint(1, 2, &["web1", "web"])]);
        zone.set_container(&container(2), &[endpoint(1, 3, &["web2", "Web"]), endpoint(2, 3, &["web2"])]);
        zone.set_container(&container(3), &[endpoint(2, 4, &["db"])]);
        zone
    }

    fn ask(zone: &Zone, view: &View, name: &str, kind: u16, turn: usize) -> Option<(u8, Vec<u8>)> {
        match decide(zone, view, &packet::query(9, name, kind), turn, true) {
            Decision::Answer(bytes) => {
                let last =
                    if bytes[7] > 0 && kind == TYPE_A { packet::addresses(&bytes) } else { Vec::new() };
                Some((bytes[3] & 15, last.iter().map(|addr| addr.octets()[3]).collect()))
            }
            Decision::Forward(_) => None,
            Decision::Silence => panic!("no answer"),
        }
    }

    #[test]
    fn names_as_seen_from_a_network() {
        let zone = zone();
        let front = View::of(&[endpoint(1, 2, &[])]);
        assert_eq!(ask(&zone, &front, "WEB", TYPE_A, 0), Some((0, vec![2, 3])));
        assert_eq!(ask(&zone, &front, "web", TYPE_A, 1), Some((0, vec![3, 2])));
        assert_eq!(ask(&zone, &front, "web1.front", TYPE_A, 0), Some((0, vec![2])));
        assert_eq!(ask(&zone, &front, "web", 28, 0), Some((0, vec![])), "AAAA of a known name");
        assert_eq!(ask(&zone, &front, "db", TYPE_A, 0), None, "not on this network");
        assert_eq!(ask(&zone, &front, "example.org", TYPE_A, 0), None);
        let back = View::of(&[endpoint(2, 3, &[])]);
        assert_eq!(ask(&zone, &back, "db", TYPE_A, 0), Some((0, vec![4])));
        assert_eq!(ask(&zone, &back, "store", TYPE_A, 0), Some((0, vec![4])), "a link");
    }

    #[test]
    fn pointers_and_departure() {
        let zone = zone();
        let front = View::of(&[endpoint(1, 2, &[])]);
        let reverse = |last| {
            ask(&zone, &front, &format!("{last}.1.0.10.in-addr.arpa"), TYPE_PTR, 0).map(|(code, _)| code)
        };
        assert_eq!((reverse(3), reverse(77)), (Some(NOERROR), Some(NXDOMAIN)));
        assert_eq!(ask(&zone, &front, "8.8.8.8.in-addr.arpa", TYPE_PTR, 0), None);
        zone.remove_container(&ContainerId::from_bytes([2; 32]));
        assert_eq!(ask(&zone, &front, "web", TYPE_A, 0), Some((0, vec![2])));
        assert_eq!(reverse(3), Some(NXDOMAIN));
    }
}
