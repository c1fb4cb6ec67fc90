//! Which addresses serve a repository, in which order, and how they are spoken to: dockerd's
//! `registry-mirrors` and `insecure-registries`, containerd's `hosts.toml` and Docker's certificates.
//!
//! For a registry named `host[:port]`, each of the configured directories is looked into for
//! `host[:port]/`, in containerd's spelling `host_port_/` too, and `_default/`; the first `hosts.toml` found
//! counts, certificates of all that fit the host add up.

use super::hosts::{self, Hosts};
use super::tls::{Tls, is_absent};
use crate::error::{ImageError, Result};
use crate::store::StoreConfig;
use naru_types::ImageRef;
use naru_types::reference::DEFAULT_DOMAIN;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs};
use std::path::PathBuf;

/// Where docker.io's registry really is.
const DOCKER_HUB: &str = "registry-1.docker.io";
const API: &str = "/v2";
const HOSTS_FILE: &str = "hosts.toml";
/// Longest `hosts.toml`, in bytes.
const HOSTS_BYTES_MAX: u64 = 1 << 20;

/// What a host is asked for (containerd, docs/hosts.md).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    pub pull: bool,
    /// Turning a tag into a digest: what it says is believed.
    pub resolve: bool,
    pub push: bool,
}

impl Capabilities {
    pub const ALL: Self = Self { pull: true, resolve: true, push: true };
    const MIRROR: Self = Self { pull: true, resolve: true, push: false };
}

/// An address to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `scheme://host[:port]`
    pub base: String,
    /// What comes between it and a repository's name: `/v2`.
    pub api: String,
    pub tls: Tls,
    /// Another party than the registry that the user named: it gets no credentials.
    pub is_mirror: bool,
    pub capabilities: Capabilities,
    pub headers: Vec<(String, String)>,
    /// Whose content a mirror of several registries is asked for (`?ns=`).
    pub namespace: Option<String>,
}

impl Endpoint {
    /// Whether an error at opening a session here is the registry's last word: it answered, so the same host without
    /// TLS would only hide what it said.
    pub fn has_spoken(&self, error: &ImageError) -> bool {
        !self.is_mirror && !matches!(error, ImageError::Transport { .. })
    }
}

/// In the order in which they are tried: the hosts of `hosts.toml`, dockerd's mirrors (docker.io only), then
/// the registry; an insecure one first with TLS, then without, as dockerd does.
pub fn endpoints(reference: &ImageRef, config: &StoreConfig) -> Result<Vec<Endpoint>> {
    let domain = reference.domain();
    let hosts = read_hosts(domain, config)?;
    let mut found = Vec::new();
    let mut registry = own_endpoints(domain, config)?;
    if let Some(Hosts { mirrors, server, root }) = hosts {
        found.extend(mirrors);
        match server {
            Some(server) => registry = vec![server],
            None => {
                for endpoint in &mut registry {
                    endpoint.tls.join(&root.tls);
                    endpoint.headers.clone_from(&root.headers);
                    endpoint.capabilities = root.capabilities.unwrap_or(Capabilities::ALL);
                }
            }
        }
    }
    if domain == DEFAULT_DOMAIN {
        for mirror in &config.registry_mirrors {
            let (scheme, host) = mirror_parts(mirror)?;
            let mut endpoint = endpoint_at(scheme, host, tls_of(host, config)?);
            endpoint.is_mirror = true;
            endpoint.capabilities = Capabilities::MIRROR;
            found.push(endpoint);
        }
    }
    found.extend(registry);
    Ok(found)
}

/// The registry itself, without mirrors; `domain` as references write it.
pub fn of_registry(domain: &str, config: &StoreConfig) -> Result<Vec<Endpoint>> {
    let hosts = read_hosts(domain, config)?;
    let mut found = own_endpoints(domain, config)?;
    match hosts {
        Some(Hosts { server: Some(server), .. }) => found = vec![server],
        Some(Hosts { root, .. }) => found.iter_mut().for_each(|endpoint| endpoint.tls.join(&root.tls)),
        None => {}
    }
    Ok(found)
}

/// Whether the configuration can be used; asked once, when the daemon starts.
pub fn check(config: &StoreConfig) -> Result<()> {
    for mirror in &config.registry_mirrors {
        mirror_parts(mirror)?;
    }
    for rule in &config.insecure_registries {
        let bad = |why: &'static str| ImageError::BadSetting {
            setting: "insecure-registries",
            value: rule.clone(),
            why,
        };
        if rule.contains("://") {
            return Err(bad("it is written without https:// or http://"));
        }
        if let Some((net, bits)) = rule.split_once('/') {
            let address =
                net.parse::<IpAddr>().map_err(|_| bad("what has a / is a network such as 10.0.0.0/8"))?;
            let most = if address.is_ipv4() { 32 } else { 128 };
            if !bits.parse::<u32>().is_ok_and(|bits| bits <= most) {
                return Err(bad("what has a / is a network such as 10.0.0.0/8"));
            }
        } else if rule.is_empty() {
            return Err(bad("a registry is host or host:port"));
        }
    }
    Ok(())
}

/// Whether an address is that of the registry which references call `domain`.
pub fn is_same_registry(address: &str, domain: &str) -> bool {
    address == domain || domain == DEFAULT_DOMAIN && matches!(address, DOCKER_HUB | "index.docker.io")
}

fn own_endpoints(domain: &str, config: &StoreConfig) -> Result<Vec<Endpoint>> {
    let host = if domain == DEFAULT_DOMAIN { DOCKER_HUB } else { domain };
    let tls = tls_of(host, config)?;
    let mut found = vec![endpoint_at("https", host, tls.clone())];
    if !tls.verify {
        found.push(endpoint_at("http", host, tls));
    }
    Ok(found)
}

fn endpoint_at(scheme: &str, host: &str, tls: Tls) -> Endpoint {
    Endpoint {
        base: format!("{scheme}://{host}"),
        api: API.to_owned(),
        tls,
        is_mirror: false,
        capabilities: Capabilities::ALL,
        headers: Vec::new(),
        namespace: None,
    }
}

/// moby's `ValidateMirror`.
fn mirror_parts(mirror: &str) -> Result<(&str, &str)> {
    let bad = |why| ImageError::BadSetting { setting: "registry-mirrors", value: mirror.to_owned(), why };
    let (scheme, rest) = mirror
        .split_once("://")
        .ok_or_else(|| bad("no scheme: it must use either 'https://' or 'http://'"))?;
    if !matches!(scheme, "http" | "https") {
        return Err(bad("unsupported scheme: it must use either 'https://' or 'http://'"));
    }
    let host = rest.strip_suffix('/').unwrap_or(rest);
    if host.is_empty() || host.contains(['/', '?', '#']) {
        return Err(bad("it is https://host[:port], without path, query or fragment"));
    }
    if host.contains('@') {
        return Err(bad("username and password are not allowed in it"));
    }
    Ok((scheme, host))
}

/// How `host[:port]` is verified: by what is configured and the certificates in its directories.
fn tls_of(host: &str, config: &StoreConfig) -> Result<Tls> {
    let mut tls = Tls::new(!is_insecure(host, config));
    for dir in &config.certs_dirs {
        for name in directory_names(host) {
            tls.add_directory(&dir.join(name))?;
        }
    }
    Ok(tls)
}

fn read_hosts(domain: &str, config: &StoreConfig) -> Result<Option<Hosts>> {
    for dir in &config.certs_dirs {
        let names = directory_names(domain);
        for name in names.iter().map(String::as_str).chain(["_default"]) {
            let path: PathBuf = dir.join(name).join(HOSTS_FILE);
            let failed = |source| ImageError::Io { step: "read", path: path.clone(), source };
            let size = match fs::metadata(&path) {
                Ok(found) => found.len(),
                Err(error) if is_absent(&error) => continue,
                Err(source) => return Err(failed(source)),
            };
            if size > HOSTS_BYTES_MAX {
                let what = path.display().to_string();
                return Err(ImageError::TooLarge { what, found: size, limit: HOSTS_BYTES_MAX });
            }
            let text = fs::read_to_string(&path).map_err(failed)?;
            return hosts::read(&path, &text, domain).map(Some);
        }
    }
    Ok(None)
}

/// containerd writes `host:port` as `host_port_` where a colon would not do.
fn directory_names(host: &str) -> Vec<String> {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => vec![format!("{name}_{port}_"), host.to_owned()],
        _ => vec![host.to_owned()],
    }
}

fn is_insecure(address: &str, config: &StoreConfig) -> bool {
    let host = host_of(address);
    let ip = host.parse::<IpAddr>().ok();
    if host == "localhost" || ip.is_some_and(|ip| ip.is_loopback()) {
        return true;
    }
    let (networks, names): (Vec<_>, Vec<_>) =
        config.insecure_registries.iter().partition(|rule| rule.contains('/'));
    if names.iter().any(|rule| *rule == address || (!rule.contains(':') && *rule == host)) {
        return true;
    }
    if networks.is_empty() {
        return false;
    }
    // dockerd looks names up for this (moby, registry/config.go `isCIDRMatch`).
    let addresses: Vec<IpAddr> = match ip {
        Some(ip) => vec![ip],
        None => {
            (host, 0).to_socket_addrs().map(|found| found.map(|at| at.ip()).collect()).unwrap_or_default()
        }
    };
    let networks: Vec<_> = networks.iter().filter_map(|rule| rule.split_once('/')).collect();
    addresses.iter().any(|ip| networks.iter().any(|(net, bits)| in_network(*ip, net, bits)))
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
        ] {
            assert_eq!(is_insecure(address, &config), expect, "{address}");
        }
    }

    #[test]
    fn mirrors_come_first_and_only_for_docker_hub() {
        let config =
            StoreConfig { registry_mirrors: vec!["http://127.0.0.1:5000/".into()], ..Default::default() };
        let bases = |name: &str| -> Vec<String> {
            let reference = ImageRef::parse(name).unwrap();
            endpoints(&reference, &config).unwrap().into_iter().map(|e| e.base).collect()
        };
        assert_eq!(bases("busybox"), ["http://127.0.0.1:5000", "https://registry-1.docker.io"]);
        assert_eq!(bases("reg.lan/busybox"), ["https://reg.lan"]);
        assert_eq!(bases("localhost:5000/x"), ["https://localhost:5000", "http://localhost:5000"]);
    }

    #[test]
    fn settings_that_cannot_be_meant_are_refused() {
        let refused = |mirrors: &[&str], insecure: &[&str]| {
            let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
            let config = StoreConfig {
                registry_mirrors: owned(mirrors),
                insecure_registries: owned(insecure),
                ..StoreConfig::default()
            };
            check(&config).map_err(|error| error.to_string()).err().unwrap_or_default()
        };
        assert_eq!(
            refused(&["https://m.lan/", "http://m.lan:5000"], &["r", "r:5000", "10.0.0.0/8", "fd00::/8"]),
            ""
        );
        assert!(refused(&["m.lan"], &[]).contains("registry-mirrors: \"m.lan\": no scheme"));
        assert!(refused(&["https://m.lan/path"], &[]).contains("without path"));
        assert!(refused(&["https://u:p@m.lan"], &[]).contains("not allowed"));
        assert!(refused(&[], &["https://r"]).contains("without https://"));
        assert!(refused(&[], &["10.0.0.0/99"]).contains("a network such as"));
        assert!(refused(&[], &["r/x"]).contains("a network such as"));
    }

    #[test]
    fn directories() {
        assert_eq!(directory_names("r.lan"), ["r.lan"]);
        assert_eq!(directory_names("r.lan:5000"), ["r.lan_5000_", "r.lan:5000"]);
        assert_eq!(directory_names("[::1]"), ["[::1]"]);
    }
}
