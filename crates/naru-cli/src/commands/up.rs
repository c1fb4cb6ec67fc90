//! `up` and `down`: the containers of a project brought to what its compose file says.

mod converge;
mod prepare;

use crate::client::{Api, escape, query};
use crate::flags::{DownFlags, UpFlags};
use crate::project::{self, LABEL_PROJECT};
use crate::{Outcome, output};
use naru_compose::model::{Project, Service};
use naru_types::{Error, Kind, Result};
use serde_json::{Value, json};
use std::collections::BTreeSet;

pub fn up(api: &Api, flags: &UpFlags) -> Outcome {
    let project = project::load(
        flags.project.file.as_deref(),
        flags.project.project_name.as_deref(),
        &flags.project.profile,
    )?;
    let services = selected(&project, &flags.services)?;
    let names: Vec<&str> = services.iter().map(|service| service.name.as_str()).collect();
    let started =
        api.post("/naru/v1/deploys", Some(&json!({ "project": project.name, "services": names })))?;
    let outcome = deploy(api, &project, &services, flags);
    let finish = match &outcome {
        Ok(()) => json!({ "status": "succeeded" }),
        Err(error) => json!({ "status": "failed", "error": error.chain() }),
    };
    let id = started["id"].as_i64().unwrap_or_default();
    let recorded = api.post(&format!("/naru/v1/deploys/{id}"), Some(&finish));
    // What the deploy itself failed with says more than a record that could not be written.
    outcome?;
    recorded?;
    announce(api, &services)?;
    Ok(0)
}

fn deploy(api: &Api, project: &Project, services: &[&Service], flags: &UpFlags) -> Result<()> {
    prepare::images(api, services)?;
    prepare::networks(api, project)?;
    prepare::volumes(api, project)?;
    converge::services(api, project, services, flags.wait_timeout)
}

/// The named services and all that they depend on, in the project's order.
fn selected<'a>(project: &'a Project, names: &[String]) -> Result<Vec<&'a Service>> {
    let mut wanted: BTreeSet<&str> = BTreeSet::new();
    for name in names {
        if !project.services.iter().any(|service| service.name == *name) {
            return Err(Error::not_found(format!("no such service: {name}")).with_hint(format!(
                "project {} has: {}",
                project.name,
                project::service_names(project)
            )));
        }
        wanted.insert(name);
    }
    // Dependencies come first in the list, so one pass from its end finds them all.
    for service in project.services.iter().rev() {
        if wanted.contains(service.name.as_str()) {
            wanted.extend(service.depends_on.iter().map(|dependency| dependency.service.as_str()));
        }
    }
    Ok(project
        .services
        .iter()
        .filter(|service| names.is_empty() || wanted.contains(service.name.as_str()))
        .collect())
}

fn announce(api: &Api, services: &[&Service]) -> Result<()> {
    let https = api.get("/naru/v1/routes")?["https"].as_str().unwrap_or_default().to_owned();
    for (service, route) in services.iter().filter_map(|service| Some((service, service.route.as_ref()?))) {
        output::line(format_args!(
            "{}: {}",
            service.name,
            super::alerts::url(&route.host, &route.path, &https)
        ));
    }
    Ok(())
}

pub fn down(api: &Api, flags: &DownFlags) -> Outcome {
    let project = project::load(
        flags.project.file.as_deref(),
        flags.project.project_name.as_deref(),
        &flags.project.profile,
    )?;
    let order =
        |item: &Value| project.services.iter().position(|service| service.name == project::service_of(item));
    let mut containers = project::containers(api, &project.name)?;
    // Dependants go before what they depend on.
    containers.sort_by_key(|item| std::cmp::Reverse(order(item)));
    let timeout = flags.timeout.map(|secs| secs.to_string());
    for item in &containers {
        let id = escape(item["Id"].as_str().unwrap_or_default());
        gone(api.post(&format!("/containers/{id}/stop{}", query(&[("t", timeout.as_deref())])), None))?;
        gone(api.delete(&format!("/containers/{id}{}", query(&[("force", Some("1")), ("v", Some("1"))]))))?;
        output::talk(format_args!("removed {}", converge::display_name(item)));
    }
    let filter = json!({ "label": { format!("{LABEL_PROJECT}={}", project.name): true } }).to_string();
    let networks = api.get(&format!("/networks{}", query(&[("filters", Some(&filter))])))?;
    for network in networks.as_array().into_iter().flatten() {
        let name = network["Name"].as_str().unwrap_or_default();
        gone(api.delete(&format!("/networks/{}", escape(network["Id"].as_str().unwrap_or(name)))))?;
        output::talk(format_args!("removed network {name}"));
    }
    if flags.volumes {
        for volume in project.volumes.iter().filter(|volume| !volume.external) {
            gone(api.delete(&format!("/volumes/{}", escape(&volume.name))))?;
            output::talk(format_args!("removed volume {}", volume.name));
        }
    }
    Ok(0)
}

/// What is gone or stopped already is as wanted.
fn gone(answer: Result<Value>) -> Result<()> {
    match answer {
        Err(error) if matches!(error.kind(), Kind::NotFound | Kind::NotModified) => Ok(()),
        other => other.map(drop),
    }
}
