//! What is asked of one endpoint of a container on a network, both ways.

use naru_engine::EndpointView;
use naru_types::spec::EndpointSpec;
use naru_types::{Error, Result};
use naru_wire::create::EndpointConfig;
use naru_wire::inspect::{EndpointSettings, IpamConfig};

/// Options that mean something to a driver; naru's bridge has none of an endpoint.
const DRIVER_OPTION_PREFIX: &str = "com.docker.network.";

pub fn spec(config: EndpointConfig) -> Result<EndpointSpec> {
    // dockerd's drivers take what they know and leave the rest to be looked at; what they know is under this name.
    if let Some(key) = config.driver_opts.keys().find(|key| key.starts_with(DRIVER_OPTION_PREFIX)) {
        return Err(Error::not_implemented(format!("endpoint driver option {key:?} is not supported"))
            .with_hint("leave it out"));
    }
    let ipam = config.ipam_config.unwrap_or_default();
    if let Some(address) = ipam.link_local_ips.first() {
        return Err(Error::not_implemented(format!("link-local address {address} cannot be chosen"))
            .with_hint("leave LinkLocalIPs out"));
    }
    Ok(EndpointSpec {
        aliases: config.aliases,
        ipv4: address("IPv4", &ipam.ipv4_address)?,
        ipv6: address("IPv6", &ipam.ipv6_address)?,
        mac: Some(config.mac_address).filter(|mac| !mac.is_empty()),
        links: config.links,
        driver_opts: config.driver_opts,
    })
}

fn address<T: std::str::FromStr>(family: &str, text: &str) -> Result<Option<T>> {
    if text.is_empty() {
        return Ok(None);
    }
    let parsed = text.parse().map_err(|_| Error::invalid(format!("invalid {family} address: {text}")))?;
    Ok(Some(parsed))
}

/// As inspect shows it. A list (`docker ps`) shows neither aliases nor names.
pub fn settings(view: &EndpointView, wish: Option<&EndpointSpec>, in_list: bool) -> EndpointSettings {
    let text = |address: Option<String>| address.unwrap_or_default();
    let names = |list: &[String]| (!in_list && !list.is_empty()).then(|| list.to_vec());
    EndpointSettings {
        ipam_config: wish.and_then(ipam_config),
        links: wish.map(|wish| wish.links.clone()).filter(|links| !links.is_empty()),
        aliases: names(&view.aliases),
        // Before the first start there is only the wish.
        mac_address: wish
            .filter(|_| view.mac.is_empty())
            .and_then(|wish| wish.mac.clone())
            .unwrap_or_else(|| view.mac.clone()),
        driver_opts: wish.map(|wish| wish.driver_opts.clone()).filter(|options| !options.is_empty()),
        gw_priority: 0,
        network_id: if in_list && view.endpoint_id.is_empty() {
            String::new()
        } else {
            view.network_id.to_string()
        },
        endpoint_id: view.endpoint_id.clone(),
        gateway: text(view.gateway.map(|address| address.to_string())),
        ip_address: text(view.ipv4.map(|address| address.to_string())),
        ip_prefix_len: if view.ipv4.is_some() { view.prefix_len } else { 0 },
        ipv6_gateway: text(view.ipv6_gateway.map(|address| address.to_string())),
        global_ipv6_address: text(view.ipv6.map(|address| address.to_string())),
        global_ipv6_prefix_len: if view.ipv6.is_some() { view.ipv6_prefix_len } else { 0 },
        dns_names: names(&view.dns_names),
    }
}

fn ipam_config(wish: &EndpointSpec) -> Option<IpamConfig> {
    let text = |address: Option<String>| address.unwrap_or_default();
    let config = IpamConfig {
        ipv4_address: text(wish.ipv4.map(|address| address.to_string())),
        ipv6_address: text(wish.ipv6.map(|address| address.to_string())),
    };
    (config != IpamConfig::default()).then_some(config)
}
