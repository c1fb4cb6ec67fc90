//! A service's networks, names and addresses.

use crate::error::Result;
use crate::project::Scope;
use crate::read::{At, Table};
use naru_types::spec::{EndpointSpec, NetworkMode, NetworkSpec};

/// Reads all of the service's network but its ports. Gives the service whose network it shares, if any.
pub(crate) fn read(
    table: &Table<'_>,
    scope: &mut Scope<'_>,
    service: &str,
    spec: &mut NetworkSpec,
) -> Result<Option<String>> {
    let mut shared = None;
    match (table.get("network_mode"), table.get("networks")) {
        (Some(mode), Some(_)) => {
            return Err(mode.error("network_mode and networks exclude each other"));
        }
        (Some(mode), None) => (spec.mode, shared) = network_mode(&mode)?,
        (None, networks) => join(networks, scope, service, spec, table)?,
    }
    let addresses = |at: &At<'_>| {
        at.one_or_more()?
            .iter()
            .map(|text| text.parse().map_err(|_| at.error(format!("invalid IP address {text:?}"))))
            .collect::<Result<Vec<_>>>()
    };
    spec.dns = table.read("dns", addresses)?.unwrap_or_default();
    spec.dns_search = table.read("dns_search", At::one_or_more)?.unwrap_or_default();
    spec.dns_options = table.read("dns_opt", At::strings)?.unwrap_or_default();
    spec.extra_hosts = table.read("extra_hosts", extra_hosts)?.unwrap_or_default();
    spec.mac_address = table.string("mac_address")?;
    Ok(shared)
}

fn network_mode(at: &At<'_>) -> Result<(NetworkMode, Option<String>)> {
    Ok(match at.text()? {
        "host" => (NetworkMode::Host, None),
        "none" => (NetworkMode::None, None),
        "bridge" => (NetworkMode::Bridge, None),
        text => match text.split_once(':') {
            // The caller puts the container's name in.
            Some(("service", service)) if !service.is_empty() => {
                (NetworkMode::Container(String::new()), Some(service.to_owned()))
            }
            Some(("container", name)) if !name.is_empty() => (NetworkMode::Container(name.to_owned()), None),
            _ => {
                let hint = "use host, none, bridge, service:NAME or container:NAME; a network of the file goes under networks";
                return Err(at.error(format!("unknown network mode {text:?}")).hint(hint));
            }
        },
    })
}

/// The networks listed, or the project's default one.
fn join(
    networks: Option<At<'_>>,
    scope: &mut Scope<'_>,
    service: &str,
    spec: &mut NetworkSpec,
    table: &Table<'_>,
) -> Result<()> {
    let mut wanted: Vec<(String, EndpointSpec)> = Vec::new();
    match networks {
        None => wanted.push((scope.network(&table.at, "default")?, EndpointSpec::default())),
        Some(at) if at.is_list() => {
            for item in at.items()? {
                wanted.push((scope.network(&item, item.text()?)?, EndpointSpec::default()));
            }
        }
        Some(at) => {
            let mut ranked = Vec::new();
            for (name, entry) in at.entries()? {
                let (priority, endpoint) = endpoint(&entry)?;
                ranked.push((priority, scope.network(&entry, &name)?, endpoint));
            }
            // The highest priority leads; equals keep the file's order.
            ranked.sort_by_key(|(priority, ..)| std::cmp::Reverse(*priority));
            wanted = ranked.into_iter().map(|(_, name, endpoint)| (name, endpoint)).collect();
        }
    }
    let Some((primary, _)) = wanted.first() else {
        spec.mode = NetworkMode::None;
        return Ok(());
    };
    spec.mode = NetworkMode::Network(primary.clone());
    for (name, mut endpoint) in wanted {
        endpoint.aliases.insert(0, service.to_owned());
        spec.endpoints.insert(name, endpoint);
    }
    Ok(())
}

fn endpoint(at: &At<'_>) -> Result<(i64, EndpointSpec)> {
    let refused = [
        ("driver_opts", "set options on the network"),
        ("gw_priority", "use priority"),
        ("interface_name", "interfaces are called eth0, eth1 …"),
        ("link_local_ips", "use ipv4_address"),
    ];
    let table =
        at.table(&["aliases", "ipv4_address", "ipv6_address", "mac_address", "priority"], &refused)?;
    let endpoint = EndpointSpec {
        aliases: table.read("aliases", At::strings)?.unwrap_or_default(),
        ipv4: table
            .read("ipv4_address", |at| at.text()?.parse().map_err(|_| at.error("not an IPv4 address")))?,
        ipv6: table
            .read("ipv6_address", |at| at.text()?.parse().map_err(|_| at.error("not an IPv6 address")))?,
        mac: table.string("mac_address")?,
        ..EndpointSpec::default()
    };
    Ok((table.read("priority", At::number)?.unwrap_or(0), endpoint))
}

/// `host:address`, `host=address` or a mapping, to `host:address`.
pub(crate) fn extra_hosts(at: &At<'_>) -> Result<Vec<String>> {
    if !at.is_list() {
        let line = |(host, at): (String, At<'_>)| Ok(format!("{host}:{}", at.text()?));
        return at.entries()?.into_iter().map(line).collect();
    }
    let line = |item: At<'_>| {
        let text = item.text()?;
        let split = text.split_once('=').or_else(|| text.split_once(':'));
        let (host, address) =
            split.ok_or_else(|| item.error(format!("invalid host {text:?}")).hint("write name:address"))?;
        let address = address.trim_start_matches('[').trim_end_matches(']');
        if address != "host-gateway" && address.parse::<std::net::IpAddr>().is_err() {
            return Err(item.error(format!("invalid IP address {address:?}")));
        }
        Ok(format!("{host}:{address}"))
    };
    at.items()?.into_iter().map(line).collect()
}
