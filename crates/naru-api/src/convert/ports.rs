//! Exposed and published ports (`nat.PortMap` in Docker).

use naru_engine::PublishedPort;
use naru_types::spec::{PortBinding, PortProto};
use naru_types::{Error, Result};
use naru_wire::host_config;
use naru_wire::inspect::Port;
use std::collections::BTreeMap;
use std::net::IpAddr;

pub type PortMap = BTreeMap<String, Option<Vec<host_config::PortBinding>>>;

/// `80`, `80/tcp`, or a range `8000-8010/udp`.
pub fn parse_exposed(text: &str) -> Result<Vec<PortProto>> {
    let invalid = || Error::invalid(format!("invalid port specification: {text:?}"));
    let (range, proto) = text.split_once('/').unwrap_or((text, "tcp"));
    let (first, last) = parse_range(range).ok_or_else(invalid)?;
    let parse = |port: u16| PortProto::parse(&format!("{port}/{proto}")).ok_or_else(invalid);
    (first..=last).map(parse).collect()
}

pub fn bindings(map: Option<&PortMap>) -> Result<Vec<PortBinding>> {
    let mut published = Vec::new();
    for (port, list) in map.into_iter().flatten() {
        let container = PortProto::parse(port)
            .ok_or_else(|| Error::invalid(format!("invalid port specification: {port:?}")))?;
        for binding in list.iter().flatten() {
            published.push(PortBinding {
                container,
                host_ip: host_ip(&binding.host_ip)?,
                host_port: host_port(&binding.host_port)?,
            });
        }
    }
    Ok(published)
}

fn host_ip(text: &str) -> Result<Option<IpAddr>> {
    if text.is_empty() {
        return Ok(None);
    }
    let parsed =
        text.parse().map_err(|_| Error::invalid(format!("invalid IP address in port binding: {text}")))?;
    Ok(Some(parsed))
}

fn host_port(text: &str) -> Result<(u16, u16)> {
    if text.is_empty() {
        return Ok((0, 0));
    }
    parse_range(text).ok_or_else(|| Error::invalid(format!("invalid port specification: {text:?}")))
}

fn parse_range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = (first.parse().ok()?, last.parse().ok()?);
    (range.0 <= range.1).then_some(range)
}

/// `HostConfig.PortBindings`: as asked.
pub fn asked_map(published: &[PortBinding]) -> PortMap {
    let mut map = PortMap::new();
    for binding in published {
        let (first, last) = binding.host_port;
        let host_port = match (first, last) {
            (0, 0) => String::new(),
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first}-{last}"),
        };
        let host_ip = binding.host_ip.map(|address| address.to_string()).unwrap_or_default();
        let list = map.entry(binding.container.to_string()).or_default().get_or_insert_default();
        list.push(host_config::PortBinding { host_ip, host_port });
    }
    map
}

/// `NetworkSettings.Ports`: as it is; an exposed port that is not published maps to `null`.
pub fn actual_map(exposed: &[PortProto], published: &[PublishedPort]) -> PortMap {
    let mut map: PortMap = exposed.iter().map(|port| (port.to_string(), None)).collect();
    for port in published {
        let list = map.entry(port.container.to_string()).or_default().get_or_insert_default();
        list.push(host_config::PortBinding {
            host_ip: port.host_ip.to_string(),
            host_port: port.host_port.to_string(),
        });
    }
    map
}

/// The ports of a list entry.
pub fn summary(exposed: &[PortProto], published: &[PublishedPort]) -> Vec<Port> {
    let mut list: Vec<Port> = published
        .iter()
        .map(|port| Port {
            ip: port.host_ip.to_string(),
            private_port: port.container.port,
            public_port: port.host_port,
            kind: port.container.proto.as_str().to_owned(),
        })
        .collect();
    let unpublished = exposed.iter().filter(|port| !published.iter().any(|known| known.container == **port));
    list.extend(unpublished.map(|port| Port {
        private_port: port.port,
        kind: port.proto.as_str().to_owned(),
        ..Port::default()
    }));
    list.sort_by(|a, b| {
        (a.private_port, &a.kind, &a.ip, a.public_port).cmp(&(b.private_port, &b.kind, &b.ip, b.public_port))
    });
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_refusals() {
        assert_eq!(parse_exposed("8000-8002/udp").unwrap().len(), 3);
        for bad in ["x", "0", "80/nope", "9-8", "70000"] {
            assert!(parse_exposed(bad).is_err(), "{bad}");
        }
        let wish = |ip: &str, port: &str| {
            let binding = host_config::PortBinding { host_ip: ip.into(), host_port: port.into() };
            PortMap::from([("80/tcp".to_owned(), Some(vec![binding]))])
        };
        let parsed = bindings(Some(&wish("127.0.0.1", "8000-8010"))).unwrap();
        assert_eq!(parsed[0].host_port, (8000, 8010));
        assert_eq!(asked_map(&parsed), wish("127.0.0.1", "8000-8010"));
        assert!(bindings(Some(&wish("nohost", "80"))).is_err());
        assert!(bindings(Some(&wish("", "99999"))).is_err());
    }
}
