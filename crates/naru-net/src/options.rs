//! Docker's driver options of bridge networks (`docker network create --opt`).
//!
//! As in dockerd, a key outside `com.docker.network.` is a note of the user: it is recorded and means nothing here. A key
//! within it that this engine does not have is refused instead of ignored, because most of them decide who may reach
//! what: a network that is more open than it was asked to be would show nowhere.

use crate::model::Network;
use naru_types::{Error, Result};

/// Where Docker's own options live.
const DOCKER_PREFIX: &str = "com.docker.network.";
/// Bounds of an MTU: the least IPv4 allows, and what fits an IPv4 packet.
const MTU_RANGE: std::ops::RangeInclusive<u32> = 68..=65535;
/// Longest device name: IFNAMSIZ without its NUL.
const DEVICE_NAME_MAX: usize = 15;
/// Longest prefix of interface names; the number behind it has up to two digits.
const IFACE_PREFIX_MAX: usize = DEVICE_NAME_MAX - 2;

/// Sets what the option says.
pub(crate) fn apply(network: &mut Network, key: &str, value: &str) -> Result<()> {
    let invalid = || Error::invalid(format!("invalid value {value:?} for network option {key}"));
    match key {
        "com.docker.network.bridge.name" => {
            device_name(value, DEVICE_NAME_MAX).ok_or_else(invalid)?.clone_into(&mut network.device);
        }
        "com.docker.network.container_iface_prefix" => {
            let prefix = device_name(value, IFACE_PREFIX_MAX).ok_or_else(invalid)?;
            network.iface_prefix = Some(prefix.to_owned());
        }
        "com.docker.network.bridge.enable_icc" => network.icc = boolean(value).ok_or_else(invalid)?,
        "com.docker.network.bridge.enable_ip_masquerade" => {
            network.masquerade = boolean(value).ok_or_else(invalid)?;
        }
        "com.docker.network.bridge.host_binding_ipv4" => {
            network.host_binding = Some(value.parse().map_err(|_| invalid())?);
        }
        "com.docker.network.driver.mtu" | "com.docker.network.mtu" => {
            let mtu = value.parse().ok().filter(|mtu| MTU_RANGE.contains(mtu)).ok_or_else(invalid)?;
            network.mtu = Some(mtu);
        }
        // What asks for the way it is anyway is fulfilled.
        "com.docker.network.bridge.gateway_mode_ipv4" if matches!(value, "" | "nat") => {}
        "com.docker.network.bridge.default_bridge"
        | "com.docker.network.bridge.inhibit_ipv4"
        | "com.docker.network.enable_ipv6"
            if !boolean(value).ok_or_else(invalid)? => {}
        "com.docker.network.enable_ipv4" if boolean(value).ok_or_else(invalid)? => {}
        _ if key.starts_with(DOCKER_PREFIX) => {
            return Err(Error::not_implemented(format!("network option {key}={value} is not supported"))
                .with_hint(
                "supported: com.docker.network.bridge.{name,enable_icc,enable_ip_masquerade,host_binding_ipv4}, com.docker.network.driver.mtu and com.docker.network.container_iface_prefix",
            ));
        }
        _ => {}
    }
    Ok(())
}

/// The spellings of Go's `strconv.ParseBool`.
fn boolean(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// `text` if a device may be called so. `%d` would make the kernel choose a number, `/` and blanks it refuses.
fn device_name(text: &str, max: usize) -> Option<&str> {
    let fits = (1..=max).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        && text != "."
        && text != "..";
    fits.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use naru_types::{Kind, NetworkId};
    use std::net::Ipv4Addr;

    fn network() -> Network {
        let subnet = crate::cidr::Ipv4Net::parse("10.0.0.0/24").unwrap();
        Network {
            id: NetworkId::from_bytes([1; 32]),
            name: "n".into(),
            device: "br-0".into(),
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
        }
    }

    #[test]
    fn known_options_change_the_network() {
        let mut changed = network();
        for (key, value) in [
            ("com.docker.network.bridge.name", "mybr"),
            ("com.docker.network.bridge.enable_icc", "false"),
            ("com.docker.network.bridge.enable_ip_masquerade", "0"),
            ("com.docker.network.bridge.host_binding_ipv4", "127.0.0.1"),
            ("com.docker.network.driver.mtu", "1400"),
            ("com.docker.network.container_iface_prefix", "lan"),
        ] {
            apply(&mut changed, key, value).unwrap();
        }
        let expected = Network {
            device: "mybr".into(),
            icc: false,
            masquerade: false,
            host_binding: Some(Ipv4Addr::LOCALHOST),
            mtu: Some(1400),
            iface_prefix: Some("lan".into()),
            ..network()
        };
        assert_eq!(changed, expected);
    }

    #[test]
    fn foreign_keys_mean_nothing_and_dockers_own_are_never_ignored() {
        let mut same = network();
        for (key, value) in [
            ("com.example.team", "a"),
            ("parent", "eth0"),
            ("com.docker.network.bridge.gateway_mode_ipv4", "nat"),
            ("com.docker.network.bridge.inhibit_ipv4", "false"),
            ("com.docker.network.enable_ipv4", "true"),
            ("com.docker.network.bridge.default_bridge", "false"),
        ] {
            apply(&mut same, key, value).unwrap();
        }
        assert_eq!(same, network());
        for (key, value) in [
            ("com.docker.network.bridge.gateway_mode_ipv4", "isolated"),
            ("com.docker.network.bridge.trusted_host_interfaces", "eth1"),
            ("com.docker.network.bridge.inhibit_ipv4", "true"),
            ("com.docker.network.bridge.default_bridge", "true"),
            ("com.docker.network.host_ipv4", "10.0.0.9"),
            ("com.docker.network.enable_ipv4", "false"),
        ] {
            let error = apply(&mut network(), key, value).unwrap_err();
            assert_eq!((error.kind(), error.hint().is_some()), (Kind::NotImplemented, true), "{key}");
        }
    }

    #[test]
    fn wrong_values_are_refused() {
        for (key, values) in [
            ("com.docker.network.bridge.name", &["", "a/b", "a b", "..", "sixteen-letters-"][..]),
            ("com.docker.network.container_iface_prefix", &["", "eth%d", "fourteen-chars"]),
            ("com.docker.network.bridge.enable_icc", &["", "yes"]),
            ("com.docker.network.bridge.inhibit_ipv4", &["no"]),
            ("com.docker.network.bridge.host_binding_ipv4", &["", "::1", "localhost"]),
            ("com.docker.network.driver.mtu", &["", "0", "67", "65536", "-1"]),
        ] {
            for value in values {
                let error = apply(&mut network(), key, value).unwrap_err();
                assert_eq!(error.kind(), Kind::InvalidInput, "{key}={value}");
            }
        }
    }
}
