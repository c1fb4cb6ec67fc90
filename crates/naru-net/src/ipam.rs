//! Addresses: which subnet a new network gets, and which address a new endpoint gets.
//!
//! An address that was released is not given out again before the others had their turn (the cursor goes on), so that
//! a peer's stale ARP or DNS entry does not hit a stranger.

use crate::cidr::Ipv4Net;
use crate::error;
use crate::model::Network;
use naru_types::{Error, Result};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// Prefix length of networks out of 172.18.0.0–172.31.0.0, and out of 192.168.0.0/16 (Docker's default pools).
const LARGE_POOL_PREFIX: u8 = 16;
const SMALL_POOL_PREFIX: u8 = 20;

/// The first built-in subnet that overlaps none of `taken`.
pub(crate) fn choose_subnet(taken: &[Ipv4Net]) -> Result<Ipv4Net> {
    let large = (18..=31)
        .filter_map(|second| Ipv4Net::containing(Ipv4Addr::new(172, second, 0, 0), LARGE_POOL_PREFIX));
    let small = (0..16)
        .filter_map(|third| Ipv4Net::containing(Ipv4Addr::new(192, 168, third * 16, 0), SMALL_POOL_PREFIX));
    large
        .chain(small)
        .find(|pool| !taken.iter().any(|other| other.overlaps(*pool)))
        .ok_or_else(error::pools_exhausted)
}

/// Checks a subnet with its gateway and range; returns the gateway.
pub(crate) fn check_subnet(
    subnet: Ipv4Net,
    gateway: Option<Ipv4Addr>,
    range: Option<Ipv4Net>,
) -> Result<Ipv4Addr> {
    let special = subnet.base().is_loopback() || subnet.base().is_multicast() || subnet.prefix_len() < 8;
    if special || subnet.prefix_len() > 30 {
        return Err(Error::invalid(format!(
            "invalid subnet {subnet}: a bridge network needs a unicast /8 to /30"
        )));
    }
    if let Some(range) = range.filter(|range| !subnet.contains_net(*range)) {
        return Err(Error::invalid(format!(
            "invalid network config: allocated ip range {range} is not part of the subnet {subnet}"
        )));
    }
    let gateway = gateway.or_else(|| subnet.nth(1)).unwrap_or(subnet.base());
    if !subnet.contains(gateway) || gateway == subnet.base() || gateway == subnet.broadcast() {
        return Err(Error::invalid(format!("no matching subnet for gateway {gateway}")));
    }
    Ok(gateway)
}

/// The addresses of one network.
#[derive(Debug)]
pub(crate) struct Ipam {
    subnet: Ipv4Net,
    range: Ipv4Net,
    /// Gateway, network, broadcast and `--aux-address`.
    fixed: BTreeSet<Ipv4Addr>,
    used: BTreeSet<Ipv4Addr>,
    cursor: u64,
}

impl Ipam {
    pub(crate) fn new(network: &Network) -> Self {
        let mut fixed = BTreeSet::from([network.gateway, network.subnet.base(), network.subnet.broadcast()]);
        fixed.extend(&network.reserved);
        let range = network.ip_range.unwrap_or(network.subnet);
        Self { subnet: network.subnet, range, fixed, used: BTreeSet::new(), cursor: 0 }
    }

    pub(crate) fn allocate(&mut self, wanted: Option<Ipv4Addr>) -> Result<Ipv4Addr> {
        match wanted {
            Some(addr) => self.take(addr),
            None => self.next(),
        }
    }

    fn take(&mut self, addr: Ipv4Addr) -> Result<Ipv4Addr> {
        if !self.subnet.contains(addr) {
            return Err(Error::invalid(format!(
                "no configured subnet or ip-range contain the IP address {addr} (subnet {})",
                self.subnet
            )));
        }
        if self.fixed.contains(&addr) || !self.used.insert(addr) {
            return Err(Error::new(naru_types::Kind::Forbidden, "Address already in use")
                .with_hint(format!("{addr} is taken; choose another --ip or leave it out")));
        }
        Ok(addr)
    }

    fn next(&mut self) -> Result<Ipv4Addr> {
        let size = self.range.size();
        // At most `taken` places can be skipped, so a full look is bounded by what is in use.
        let looks = size.min((self.used.len() + self.fixed.len()) as u64 + 1);
        for _ in 0..looks {
            let addr = self.range.nth(self.cursor % size);
            self.cursor = (self.cursor + 1) % size;
            if let Some(addr) = addr.filter(|addr| !self.fixed.contains(addr))
                && self.used.insert(addr)
            {
                return Ok(addr);
            }
        }
        Err(error::no_address_left(self.range))
    }

    pub(crate) fn release(&mut self, addr: Ipv4Addr) {
        self.used.remove(&addr);
    }

    /// Marks an address that a running container has; later allocations start behind it.
    pub(crate) fn adopt(&mut self, addr: Ipv4Addr) {
        self.used.insert(addr);
        if self.range.contains(addr) {
            let index = u64::from(u32::from(addr) - u32::from(self.range.base()));
            self.cursor = self.cursor.max((index + 1) % self.range.size());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use naru_types::NetworkId;

    fn ipam(subnet: &str, range: Option<&str>) -> Ipam {
        let subnet = Ipv4Net::parse(subnet).unwrap();
        let gateway = subnet.nth(1).unwrap();
        Ipam::new(&Network {
            id: NetworkId::from_bytes([1; 32]),
            name: "n".into(),
            device: "br-0".into(),
            subnet,
            gateway,
            ip_range: range.map(|text| Ipv4Net::parse(text).unwrap()),
            reserved: Vec::new(),
            internal: false,
            is_default: false,
            icc: true,
            masquerade: true,
            mtu: None,
            host_binding: None,
            iface_prefix: None,
        })
    }

    #[test]
    fn released_addresses_come_back_last() {
        let mut ipam = ipam("10.0.0.0/29", None);
        let first = ipam.allocate(None).unwrap();
        assert_eq!(first, Ipv4Addr::new(10, 0, 0, 2));
        ipam.release(first);
        let rest: Vec<_> = (0..5).map(|_| ipam.allocate(None).unwrap().octets()[3]).collect();
        assert_eq!(rest, [3, 4, 5, 6, 2]);
        assert_eq!(
            ipam.allocate(None).unwrap_err().message(),
            "no available IPv4 addresses on this network's address pools: 10.0.0.0/29"
        );
    }

    #[test]
    fn static_addresses_and_ranges() {
        let mut ipam = ipam("10.0.0.0/24", Some("10.0.0.128/30"));
        assert_eq!(ipam.allocate(Some(Ipv4Addr::new(10, 0, 0, 9))).unwrap().octets()[3], 9);
        assert!(ipam.allocate(Some(Ipv4Addr::new(10, 0, 0, 9))).is_err(), "twice");
        assert!(ipam.allocate(Some(Ipv4Addr::new(10, 0, 0, 1))).is_err(), "gateway");
        assert!(ipam.allocate(Some(Ipv4Addr::new(10, 0, 1, 1))).is_err(), "outside");
        ipam.adopt(Ipv4Addr::new(10, 0, 0, 130));
        let got: Vec<_> = (0..3).map(|_| ipam.allocate(None).unwrap().octets()[3]).collect();
        assert_eq!(got, [131, 128, 129]);
        assert!(ipam.allocate(None).is_err());
    }

    #[test]
    fn subnets() {
        let net = |text| Ipv4Net::parse(text).unwrap();
        assert_eq!(choose_subnet(&[]).unwrap(), net("172.18.0.0/16"));
        assert_eq!(
            choose_subnet(&[net("172.16.0.0/12"), net("192.168.1.0/24")]).unwrap(),
            net("192.168.16.0/20")
        );
        assert!(choose_subnet(&[net("172.16.0.0/12"), net("192.168.0.0/16")]).is_err());
        assert_eq!(check_subnet(net("10.1.0.0/24"), None, None).unwrap().to_string(), "10.1.0.1");
        assert!(check_subnet(net("10.1.0.0/31"), None, None).is_err());
        assert!(check_subnet(net("127.0.0.0/8"), None, None).is_err());
        assert!(check_subnet(net("10.1.0.0/24"), Some(Ipv4Addr::new(10, 2, 0, 1)), None).is_err());
        assert!(check_subnet(net("10.1.0.0/24"), None, Some(net("10.2.0.0/24"))).is_err());
    }
}
