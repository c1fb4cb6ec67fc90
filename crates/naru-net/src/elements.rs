//! Networks and ports as elements of the firewall's sets: keys are what the rules load into registers, byte for byte.

use crate::firewall::Target;
use crate::model::Network;
use naru_kernel::netlink::nft::{Batch, Element};
use naru_types::spec::Proto;
use std::net::Ipv4Addr;

pub(crate) const IFNAME_BYTES: usize = 16;

pub(crate) fn change_network(batch: &mut Batch, table: &str, network: &Network, add: bool) {
    let mut put = |set: &str, element: Element| {
        if add {
            batch.add_elements(table, set, &[element]);
        } else {
            batch.delete_elements(table, set, &[element]);
        }
    };
    let device = ifname(&network.device);
    let own = element(device.to_vec(), None, None);
    put("bridges", own.clone());
    let at_device = |addr: Ipv4Addr| [&addr.octets()[..], &device].concat();
    let (first, last) = (at_device(network.subnet.base()), at_device(network.subnet.broadcast()));
    put("hairpin", element(first, Some(last), None));
    if network.icc {
        put("same", element([device, device].concat(), None, None));
    }
    if network.internal {
        put("internal", own);
    } else if network.masquerade {
        put("masquerade", own);
    }
}

pub(crate) fn change_ports(batch: &mut Batch, table: &str, ports: &[Target], add: bool) {
    let (any, addressed): (Vec<&Target>, Vec<&Target>) =
        ports.iter().partition(|(port, _)| port.host_ip.is_unspecified());
    for (set, targets) in [("ports_any", any), ("ports_addr", addressed)] {
        let elements: Vec<Element> = targets
            .into_iter()
            .map(|(port, addr)| {
                let proto = port.container.proto;
                let key = if port.host_ip.is_unspecified() {
                    port_key(proto, port.host_port)
                } else {
                    address_key(port.host_ip, proto, port.host_port)
                };
                element(key, None, add.then(|| target_data(*addr, port.container.port)))
            })
            .collect();
        if add {
            batch.add_elements(table, set, &elements);
        } else {
            batch.delete_elements(table, set, &elements);
        }
    }
}

pub(crate) fn element(key: Vec<u8>, key_end: Option<Vec<u8>>, data: Option<Vec<u8>>) -> Element {
    Element { key, key_end, data }
}

/// A device name as a set key: NUL-padded.
pub(crate) fn ifname(name: &str) -> [u8; IFNAME_BYTES] {
    let mut bytes = [0; IFNAME_BYTES];
    for (slot, byte) in bytes.iter_mut().zip(name.bytes().take(IFNAME_BYTES - 1)) {
        *slot = byte;
    }
    bytes
}

/// Protocol and port, each padded to a register.
pub(crate) fn port_key(proto: Proto, port: u16) -> Vec<u8> {
    let number = match proto {
        Proto::Tcp => 6,
        Proto::Udp => 17,
        Proto::Sctp => 132,
    };
    let [high, low] = port.to_be_bytes();
    vec![number, 0, 0, 0, high, low, 0, 0]
}

pub(crate) fn address_key(addr: Ipv4Addr, proto: Proto, port: u16) -> Vec<u8> {
    [&addr.octets()[..], &port_key(proto, port)].concat()
}

pub(crate) fn target_data(addr: Ipv4Addr, port: u16) -> Vec<u8> {
    let [high, low] = port.to_be_bytes();
    [&addr.octets()[..], &[high, low, 0, 0]].concat()
}
