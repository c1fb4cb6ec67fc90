//! Networks, both ways.

use naru_engine::{IpamRequest, NetworkCreate, NetworkEndpointView, NetworkView};
use naru_types::{Error, Result};
use naru_wire::network::{self, Ipam, IpamPool, NetworkContainer, NetworkJson};

pub fn create(request: network::NetworkCreate) -> Result<NetworkCreate> {
    let ipam = request.ipam.unwrap_or_default();
    let unsupported = [
        ("Ingress", request.ingress),
        ("ConfigOnly", request.config_only),
        ("ConfigFrom", request.config_from.is_some_and(|from| !from.network.is_empty())),
        ("Scope", !matches!(request.scope.as_str(), "" | "local")),
        ("EnableIPv4=false", request.enable_ipv4 == Some(false)),
        ("IPAM.Driver", !matches!(ipam.driver.as_str(), "" | "default")),
        ("IPAM.Options", ipam.options.as_ref().is_some_and(|options| !options.is_empty())),
    ];
    if let Some((field, _)) = unsupported.iter().find(|(_, is_set)| *is_set) {
        return Err(Error::not_implemented(format!("network field {field} is not supported by naru"))
            .with_hint("naru has local bridge networks"));
    }
    Ok(NetworkCreate {
        name: request.name,
        driver: Some(request.driver).filter(|driver| !matches!(driver.as_str(), "" | "default")),
        internal: request.internal,
        attachable: request.attachable,
        labels: request.labels,
        options: request.options,
        ipam: ipam.config.unwrap_or_default().into_iter().map(pool).collect(),
        ipam_options: ipam.options,
        enable_ipv6: request.enable_ipv6.unwrap_or(false),
    })
}

fn pool(pool: IpamPool) -> IpamRequest {
    IpamRequest {
        subnet: pool.subnet,
        gateway: pool.gateway,
        ip_range: pool.ip_range,
        auxiliary: pool.auxiliary_addresses,
    }
}

/// `docker network inspect`. A list shows no containers.
pub fn network(view: &NetworkView, in_list: bool) -> NetworkJson {
    let is_builtin = view.driver != "bridge";
    let pools = view.ipam.iter().map(|pool| IpamPool {
        subnet: pool.subnet.clone(),
        ip_range: pool.ip_range.clone(),
        gateway: pool.gateway.clone(),
        auxiliary_addresses: pool.auxiliary.clone(),
    });
    let containers = view.containers.iter().filter(|_| !in_list);
    NetworkJson {
        name: view.name.clone(),
        id: view.id.to_string(),
        created: view.created.to_string(),
        scope: view.scope.into(),
        driver: view.driver.clone(),
        enable_ipv4: true,
        enable_ipv6: view.enable_ipv6,
        ipam: Ipam {
            driver: "default".into(),
            options: view.ipam_options.clone(),
            config: (!is_builtin).then(|| pools.collect()),
        },
        internal: view.internal,
        attachable: view.attachable,
        containers: containers.map(|(id, endpoint)| (id.to_string(), container(endpoint))).collect(),
        options: view.options.clone(),
        labels: view.labels.clone(),
        ..NetworkJson::default()
    }
}

fn container(view: &NetworkEndpointView) -> NetworkContainer {
    let endpoint = &view.endpoint;
    let with_prefix =
        |address: Option<String>, prefix: u8| address.map(|a| format!("{a}/{prefix}")).unwrap_or_default();
    NetworkContainer {
        name: view.name.clone(),
        endpoint_id: endpoint.endpoint_id.clone(),
        mac_address: endpoint.mac.clone(),
        ipv4_address: with_prefix(endpoint.ipv4.map(|a| a.to_string()), endpoint.prefix_len),
        ipv6_address: with_prefix(endpoint.ipv6.map(|a| a.to_string()), endpoint.ipv6_prefix_len),
    }
}
