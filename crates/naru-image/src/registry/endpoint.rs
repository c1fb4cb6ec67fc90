//! Which addresses serve a repository, and which of them may be spoken to without verified TLS.

use crate::error::{ImageError, Result};
use crate::store::StoreConfig;
use naru_types::ImageRef;
use naru_types::reference::DEFAULT_DOMAIN;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where docker.io's registry really is.
const DOCKER_HUB: &str = "registry-1.docker.io";

/// An address to try: `base` is `scheme://host[:port]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub base: String,
    pub verify: bool,
    pub is_mirror: bool,
}

/// In the order in which they are tried: mirrors (docker.io only), then the registry; an insecure one
/// first with TLS, then without, as dockerd does.
pub fn endpoints(reference: &ImageRef, config: &StoreConfig, with_mirrors: bool) -> Result<Vec<Endpoint>> {
    let mut found = Vec::new();
    if with_mirrors && reference.domain() == DEFAULT_DOMAIN {
        for mirror in &config.registry_mirrors {
            let bad = || ImageError::BadRegistry { address: mirror.clone() };
            let (scheme, host) = mirror.trim_end_matches('/').split_once("://").ok_or_else(bad)?;
            if !matches!(scheme, "http" | "https") || host.is_empty() {
                return Err(bad());
            }
            let verify = !is_insecure(host, config);
            found.push(Endpoint { base: format!("{scheme}://{host}"), verify, is_mirror: true });
        }
    }
    found.extend(of_registry(reference.domain(), config));
    Ok(found)
}

/// The registry itself, without mirrors; `domain` as references write it.
pub fn of_registry(domain: &str, config: &StoreConfig) -> Vec<Endpoint> {
    let host = if domain == DEFAULT_DOMAIN { DOCKER_HUB } else { domain };
    let mut found = Vec::new();
    let verify = !is_insecure(host, config);
    found.push(Endpoint { base: format!("https://{host}"), verify, is_mirror: false });
    if !verify {
        found.push(Endpoint { base: format!("http://{host}"), verify, is_mirror: false });
    }
    found
}

fn is_insecure(address: &str, config: &StoreConfig) -> bool {
    let host = host_of(address);
    let ip = host.parse::<IpAddr>().ok();
    if host == "localhost" || ip.is_some_and(|ip| ip.is_loopback()) {
        return true;
    }
    config.insecure_registries.iter().any(|rule| match rule.split_once('/') {
        Some((net, bits)) => ip.is_some_and(|ip| in_network(ip, net, bits)),
        None => rule == address || (!rule.contains(':') && rule == host),
    })
}

/// Without the port; brackets of an IPv6 address removed.
pub fn host_of(address: &str) -> &str {
    if let Some((inner, _)) = address.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return inner;
    }
    address.split_once(':').map_or(address, |(host, _)| host)
}

fn in_network(ip: IpAddr, network: &str, bits: &str) -> bool {
    let Ok(bits) = bits.parse::<u32>() else { return false };
    match (ip, network.parse::<IpAddr>()) {
        (IpAddr::V4(ip), Ok(IpAddr::V4(network))) if bits <= 32 => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            Ipv4Addr::to_bits(ip) & mask == Ipv4Addr::to_bits(network) & mask
        }
        (IpAddr::V6(ip), Ok(IpAddr::V6(network))) if bits <= 128 => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            Ipv6Addr::to_bits(ip) & mask == Ipv6Addr::to_bits(network) & mask
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn insecure_is_loopback_or_listed() {
        let config = StoreConfig {
            insecure_registries: vec!["reg.lan:5000".into(), "10.1.0.0/16".into()],
            ..StoreConfig::default()
        };
        for (address, expect) in [
            ("localhost:5000", true),
            ("127.3.2.1:80", true),
            ("[::1]:5000", true),
            ("reg.lan:5000", true),
            ("reg.lan:5001", false),
            ("10.1.9.9:5000", true),
            ("10.2.0.1", false),
            ("registry-1.docker.io", false),
        ] {
            assert_eq!(is_insecure(address, &config), expect, "{address}");
        }
    }

    #[test]
    fn mirrors_come_first() {
        let config =
            StoreConfig { registry_mirrors: vec!["http://127.0.0.1:5000/".into()], ..Default::default() };
        let reference = ImageRef::parse("busybox").unwrap();
        let bases: Vec<_> =
            endpoints(&reference, &config, true).unwrap().into_iter().map(|e| e.base).collect();
        assert_eq!(bases, ["http://127.0.0.1:5000", "https://registry-1.docker.io"]);
    }
}
