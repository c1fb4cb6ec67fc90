//! `ports` and `expose`, in their short and their long form.

use crate::error::Result;
use crate::read::{At, Table};
use naru_types::spec::{NetworkSpec, PortBinding, PortProto, Proto};
use std::net::IpAddr;

/// The most ports that one service may name.
const PORTS_MAX: usize = 4096;

pub(crate) fn read(table: &Table<'_>, network: &mut NetworkSpec) -> Result<()> {
    if let Some(ports) = table.get("ports") {
        for item in ports.items()? {
            let bindings = if item.is_map() { long(&item)? } else { short(&item)? };
            for binding in bindings {
                expose(network, binding.container);
                network.published.push(binding);
            }
            if network.published.len() > PORTS_MAX {
                return Err(item.error("too many ports"));
            }
        }
    }
    if let Some(list) = table.get("expose") {
        for item in list.items()? {
            let text = item.text()?;
            let (range, proto) = protocol(&item, text)?;
            let (first, last) = range_of(&item, range)?;
            (first..=last).for_each(|port| expose(network, PortProto { port, proto }));
        }
    }
    Ok(())
}

fn expose(network: &mut NetworkSpec, port: PortProto) {
    if !network.exposed.contains(&port) {
        network.exposed.push(port);
    }
}

/// `80`, `8080:80`, `127.0.0.1:8080:80/udp`, `[::1]:80:80`, ranges on both sides.
fn short(item: &At<'_>) -> Result<Vec<PortBinding>> {
    let (rest, proto) = protocol(item, item.text()?)?;
    let (front, container) =
        rest.rsplit_once(':').map_or(("", rest), |(front, container)| (front, container));
    let (ip, host) = match front.rsplit_once(':') {
        Some((ip, host)) => (Some(ip), host),
        None => (None, front),
    };
    let host_ip = ip.filter(|ip| !ip.is_empty()).map(|ip| address(item, ip)).transpose()?;
    bindings(item, range_of(item, container)?, (!host.is_empty()).then_some(host), host_ip, proto)
}

fn long(item: &At<'_>) -> Result<Vec<PortBinding>> {
    let table =
        item.table(&["app_protocol", "host_ip", "mode", "name", "protocol", "published", "target"], &[])?;
    let target = table.get("target").ok_or_else(|| item.error("target is missing"))?;
    let proto = match table.get("protocol") {
        None => Proto::Tcp,
        Some(at) => Proto::parse(at.text()?).ok_or_else(|| at.error("must be tcp, udp or sctp"))?,
    };
    if let Some(mode) = table.get("mode")
        && !matches!(mode.text()?, "host" | "ingress")
    {
        return Err(mode.error("must be host or ingress"));
    }
    let host_ip = table.read("host_ip", |at| address(at, at.text()?))?;
    let published = table.string("published")?;
    bindings(item, range_of(&target, target.text()?)?, published.as_deref(), host_ip, proto)
}

fn bindings(
    item: &At<'_>,
    (first, last): (u16, u16),
    host: Option<&str>,
    host_ip: Option<IpAddr>,
    proto: Proto,
) -> Result<Vec<PortBinding>> {
    let one = |port, host_port| PortBinding { container: PortProto { port, proto }, host_ip, host_port };
    let Some(host) = host else { return Ok((first..=last).map(|port| one(port, (0, 0))).collect()) };
    let (low, high) = range_of(item, host)?;
    if first == last {
        return Ok(vec![one(first, (low, high))]);
    }
    if high - low != last - first {
        let error = item.error("the two port ranges have different lengths");
        return Err(error.hint("write as many host ports as container ports, such as 8000-8001:80-81"));
    }
    Ok((first..=last).zip(low..=high).map(|(port, host)| one(port, (host, host))).collect())
}

fn protocol<'t>(item: &At<'_>, text: &'t str) -> Result<(&'t str, Proto)> {
    let Some((rest, proto)) = text.rsplit_once('/') else { return Ok((text, Proto::Tcp)) };
    let proto = Proto::parse(proto)
        .ok_or_else(|| item.error(format!("invalid protocol {proto:?}")).hint("use tcp, udp or sctp"))?;
    Ok((rest, proto))
}

fn range_of(item: &At<'_>, text: &str) -> Result<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port != 0);
    match (port(first), port(last)) {
        (Some(first), Some(last)) if first <= last => Ok((first, last)),
        _ => Err(item
            .error(format!("invalid port {text:?}"))
            .hint("write \"80\", \"8080:80\" or \"127.0.0.1:8080:80/udp\"")),
    }
}

fn address(item: &At<'_>, text: &str) -> Result<IpAddr> {
    let plain = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    plain.parse().map_err(|_| item.error(format!("invalid IP address {text:?}")))
}
