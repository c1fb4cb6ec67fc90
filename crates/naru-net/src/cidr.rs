//! An IPv4 network in CIDR form: what subnets, pools and ranges are written as.

use naru_types::{Error, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::net::Ipv4Addr;

/// An IPv4 prefix whose host bits are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ipv4Net {
    base: u32,
    prefix_len: u8,
}

impl Ipv4Net {
    /// The network that `addr/prefix_len` lies in; `None` for a prefix longer than 32.
    pub fn containing(addr: Ipv4Addr, prefix_len: u8) -> Option<Self> {
        (prefix_len <= 32).then(|| Self { base: u32::from(addr) & mask(prefix_len), prefix_len })
    }

    /// Parses `a.b.c.d/len`. Host bits are cut off, as Docker does.
    pub fn parse(text: &str) -> Result<Self> {
        let invalid = || Error::invalid(format!("invalid CIDR address: {text}"));
        let (addr, len) = text.split_once('/').ok_or_else(invalid)?;
        let addr: Ipv4Addr = addr.parse().map_err(|_| match addr.parse::<std::net::Ipv6Addr>() {
            Ok(_) => crate::error::ipv6_unsupported(),
            Err(_) => invalid(),
        })?;
        Self::containing(addr, len.parse().map_err(|_| invalid())?).ok_or_else(invalid)
    }

    pub fn base(self) -> Ipv4Addr {
        self.base.into()
    }

    pub fn prefix_len(self) -> u8 {
        self.prefix_len
    }

    pub fn broadcast(self) -> Ipv4Addr {
        (self.base | !mask(self.prefix_len)).into()
    }

    /// Number of addresses, network and broadcast address included.
    pub fn size(self) -> u64 {
        1 << (32 - u32::from(self.prefix_len))
    }

    pub fn contains(self, addr: Ipv4Addr) -> bool {
        u32::from(addr) & mask(self.prefix_len) == self.base
    }

    pub fn contains_net(self, other: Self) -> bool {
        self.prefix_len <= other.prefix_len && self.contains(other.base())
    }

    pub fn overlaps(self, other: Self) -> bool {
        self.contains_net(other) || other.contains_net(self)
    }

    /// The address `index` places after the base, if it is still inside.
    pub fn nth(self, index: u64) -> Option<Ipv4Addr> {
        (index < self.size()).then(|| Ipv4Addr::from(self.base + index as u32))
    }
}

fn mask(prefix_len: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix_len)).unwrap_or(0)
}

impl fmt::Display for Ipv4Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base(), self.prefix_len)
    }
}

impl Serialize for Ipv4Net {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Ipv4Net {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Ipv4Net {
        Ipv4Net::parse(text).unwrap()
    }

    #[test]
    fn parses_and_prints() {
        assert_eq!(net("172.17.3.4/16").to_string(), "172.17.0.0/16");
        assert_eq!(net("0.0.0.0/0").size(), 1 << 32);
        assert_eq!(net("10.0.0.1/32").broadcast().to_string(), "10.0.0.1");
        for bad in ["", "10.0.0.0", "10.0.0.0/33", "10.0.0/8", "x/8", "10.0.0.0/-1", "fd00::/8"] {
            assert!(Ipv4Net::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn overlap_is_symmetric() {
        for (a, b, expect) in [
            ("10.0.0.0/8", "10.1.0.0/16", true),
            ("10.0.0.0/9", "10.128.0.0/9", false),
            ("0.0.0.0/0", "192.168.0.0/24", true),
        ] {
            assert_eq!(net(a).overlaps(net(b)), expect);
            assert_eq!(net(b).overlaps(net(a)), expect);
        }
        assert_eq!(net("10.0.0.0/30").nth(3).map(|a| a.to_string()).as_deref(), Some("10.0.0.3"));
        assert_eq!(net("10.0.0.0/30").nth(4), None);
    }
}
