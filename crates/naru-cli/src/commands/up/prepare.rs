//! What must be there before the first container of a project is made: images, networks, volumes.

use crate::client::{Api, escape};
use crate::commands::{archive, build, image};
use crate::output;
use crate::project::LABEL_PROJECT;
use naru_compose::model::{Build, Network, Project, PullPolicy, Service};
use naru_types::{Error, Kind, Result};
use serde_json::{Map, Value, json};

/// Builds what has a `build`, pulls what is missing. A build whose steps are cached takes a moment, so it is always
/// asked: an image that is older than its sources would be a deploy of yesterday.
pub fn images(api: &Api, services: &[&Service]) -> Result<()> {
    for service in services {
        let name = &service.spec.image;
        match &service.build {
            Some(order) => {
                output::talk(format_args!("building {} ({name})", service.name));
                build(api, order, name)
                    .map_err(|error| error.context(format_args!("service {}", service.name)))?;
            }
            None => pull(api, service, name)?,
        }
    }
    Ok(())
}

fn build(api: &Api, order: &Build, name: &str) -> Result<()> {
    if order.dockerfile_inline.is_some() {
        return Err(Error::not_implemented("build.dockerfile_inline is not supported yet")
            .with_hint("write it to a Dockerfile beside the compose file"));
    }
    if !order.extra_hosts.is_empty() || order.shm_size.is_some() {
        return Err(Error::not_implemented("build.extra_hosts and build.shm_size are not supported yet"));
    }
    let words = |map: &std::collections::BTreeMap<String, String>| -> Map<String, Value> {
        map.iter().map(|(key, value)| (key.clone(), json!(value))).collect()
    };
    let mut tags = vec![name.to_owned()];
    tags.extend(order.tags.iter().cloned());
    build::run(
        api,
        &build::BuildOrder {
            context: order.context.clone(),
            dockerfile: Some(order.dockerfile.clone().into()),
            tags,
            args: words(&order.args),
            labels: words(&order.labels),
            target: order.target.clone(),
            no_cache: order.no_cache,
            pull: order.pull,
            network: order.network.clone(),
            ..build::BuildOrder::default()
        },
        false,
    )
    .map(drop)
}

fn pull(api: &Api, service: &Service, name: &str) -> Result<()> {
    let wanted = match service.pull_policy {
        PullPolicy::Always => true,
        PullPolicy::Never => false,
        PullPolicy::Missing => !archive::exists(api, name)?,
        PullPolicy::Build => {
            let services = service.name.clone();
            return Err(Error::invalid(format!(
                "service {services}: pull_policy is build, but there is no build section"
            )));
        }
    };
    if wanted {
        output::talk(format_args!("pulling {name}"));
        image::pull_with_progress(api, name, None, false)
            .map_err(|error| error.context(format_args!("service {}", service.name)))?;
    }
    Ok(())
}

pub fn networks(api: &Api, project: &Project) -> Result<()> {
    for network in &project.networks {
        match api.get(&format!("/networks/{}", escape(&network.name))) {
            Ok(_) => continue,
            Err(error) if error.kind() == Kind::NotFound && !network.external => {}
            Err(error) if error.kind() == Kind::NotFound => {
                return Err(Error::not_found(format!(
                    "network {} declared as external, but could not be found",
                    network.name
                ))
                .with_hint(format!("naru network create {}", network.name)));
            }
            Err(error) => return Err(error),
        }
        create_network(api, project, network)?;
        output::talk(format_args!("created network {}", network.name));
    }
    Ok(())
}

fn create_network(api: &Api, project: &Project, network: &Network) -> Result<()> {
    let mut labels = network.labels.clone();
    labels.insert(LABEL_PROJECT.into(), project.name.clone());
    labels.insert("com.docker.compose.network".into(), network.key.clone());
    let pools: Vec<Value> = network
        .ipam
        .iter()
        .map(|pool| {
            let mut config = Map::new();
            let mut put = |key: &str, value: Option<String>| {
                if let Some(value) = value {
                    config.insert(key.into(), json!(value));
                }
            };
            put("Subnet", pool.subnet.clone());
            put("IPRange", pool.ip_range.clone());
            put("Gateway", pool.gateway.map(|address| address.to_string()));
            Value::Object(config)
        })
        .collect();
    let body = json!({
        "Name": network.name, "Driver": "bridge", "Internal": network.internal,
        "Labels": labels, "Options": network.options, "IPAM": { "Config": pools },
    });
    api.post("/networks/create", Some(&body)).map(drop)
}

pub fn volumes(api: &Api, project: &Project) -> Result<()> {
    for volume in &project.volumes {
        match api.get(&format!("/volumes/{}", escape(&volume.name))) {
            Ok(_) => continue,
            Err(error) if error.kind() == Kind::NotFound && !volume.external => {}
            Err(error) if error.kind() == Kind::NotFound => {
                return Err(Error::not_found(format!("external volume {} not found", volume.name))
                    .with_hint(format!("naru volume create {}", volume.name)));
            }
            Err(error) => return Err(error),
        }
        let mut labels = volume.labels.clone();
        labels.insert(LABEL_PROJECT.into(), project.name.clone());
        labels.insert("com.docker.compose.volume".into(), volume.key.clone());
        api.post(
            "/volumes/create",
            Some(&json!({ "Name": volume.name, "Driver": "local", "Labels": labels })),
        )?;
        output::talk(format_args!("created volume {}", volume.name));
    }
    Ok(())
}
