//! Each service brought to its description: left alone, started again, or replaced.
//!
//! A replacement is made under a passing name before the old container is touched, so that a description that the daemon
//! refuses changes nothing; when it then doesn't start, the old one is started again.

use crate::client::{Api, escape, query};
use crate::commands::image::encode_name;
use crate::output;
use crate::project::{self, LABEL_HASH, LABEL_IMAGE};
use naru_compose::model::{Condition, Project, Service};
use naru_types::{Error, Result};
use serde_json::Value;
use std::time::{Duration, Instant};

const POLL_MS: u64 = 50;
/// From the health of a container to its route at the proxy, which may have to be started.
const ROUTE_WAIT: Duration = Duration::from_secs(15);

pub fn services(api: &Api, project: &Project, services: &[&Service], timeout_secs: u64) -> Result<()> {
    let timeout = Duration::from_secs(timeout_secs);
    for service in services {
        for dependency in &service.depends_on {
            if let Some(target) = project.services.iter().find(|other| other.name == dependency.service) {
                wait(api, &target.container_name, dependency.condition, timeout).map_err(|error| {
                    error.context(format_args!("service {} depends on {}", service.name, target.name))
                })?;
            }
        }
        converge(api, project, service)
            .map_err(|error| error.context(format_args!("service {}", service.name)))?;
    }
    // A route leads to healthy containers only: the deploy is done when there are some.
    for service in services.iter().filter(|service| service.route.is_some()) {
        wait(api, &service.container_name, Condition::Healthy, timeout)
            .map_err(|error| error.context(format_args!("service {}", service.name)))?;
    }
    for service in services {
        if let Some(route) = &service.route {
            wait_for_route(api, &route.host)?;
        }
    }
    warn_of_orphans(api, project)
}

/// The proxy learns of a healthy container a moment later; a proxy that can't serve (its port is taken) fails the deploy.
fn wait_for_route(api: &Api, host: &str) -> Result<()> {
    let deadline = Instant::now() + ROUTE_WAIT;
    loop {
        let answer = api.get("/naru/v1/routes")?;
        let served = answer["routes"].as_array().into_iter().flatten().any(|route| {
            route["host"].as_str() == Some(host)
                && route["backends"].as_array().is_some_and(|list| !list.is_empty())
        });
        if served && answer["proxy"].as_str() == Some("serving") {
            return Ok(());
        }
        if Instant::now() > deadline {
            let why = answer["proxy_error"]
                .as_str()
                .filter(|text| !text.is_empty())
                .unwrap_or("the proxy has no backend for it");
            return Err(
                Error::unavailable(format!("the route {host} is not served: {why}")).with_hint("naru routes")
            );
        }
        std::thread::sleep(Duration::from_millis(POLL_MS));
    }
}

fn converge(api: &Api, project: &Project, service: &Service) -> Result<()> {
    let image = api.get(&format!("/images/{}/json", encode_name(&service.spec.image)))?;
    let image_id = image["Id"].as_str().unwrap_or_default();
    let present = project::containers(api, &project.name)?;
    let old = present.iter().find(|item| project::service_of(item) == service.name);
    let Some(old) = old else {
        let id = create(api, service, image_id, &service.container_name)?;
        return start_new(api, service, &id, None);
    };
    let same = project::label(old, LABEL_HASH) == service.config_hash
        && project::label(old, LABEL_IMAGE) == image_id;
    let old_id = old["Id"].as_str().unwrap_or_default();
    if same {
        if old["State"].as_str() != Some("running") {
            api.post(&format!("/containers/{old_id}/start"), None)?;
            output::talk(format_args!("started {}", service.container_name));
        }
        return Ok(());
    }
    let id = create(api, service, image_id, &format!("{}.next", service.container_name))?;
    start_new(api, service, &id, Some(old_id))
}

/// naru's own route takes the description itself: nothing of it is lost in a detour through Docker's JSON.
fn create(api: &Api, service: &Service, image_id: &str, name: &str) -> Result<String> {
    let mut spec = service.spec.clone();
    spec.labels.insert(LABEL_IMAGE.into(), image_id.to_owned());
    let body = serde_json::to_value(&spec)
        .map_err(|error| Error::internal("cannot write the description").with_source(error))?;
    // What an interrupted deploy left under the passing name.
    if name != service.container_name {
        super::gone(api.delete(&format!("/containers/{}{}", escape(name), query(&[("force", Some("1"))]))))?;
    }
    let answer = api.post(&format!("/naru/v1/containers{}", query(&[("name", Some(name))])), Some(&body))?;
    let id = answer["Id"].as_str().ok_or_else(|| Error::internal("the daemon answered without an id"))?;
    Ok(id.to_owned())
}

fn start_new(api: &Api, service: &Service, id: &str, old: Option<&str>) -> Result<()> {
    if let Some(old) = old {
        super::gone(api.post(&format!("/containers/{old}/stop"), None))?;
    }
    if let Err(error) = api.post(&format!("/containers/{id}/start"), None) {
        // Both clean-ups are best effort: the reason of the failure is what the user needs.
        let _ = api.delete(&format!("/containers/{id}?force=1"));
        if let Some(old) = old {
            let _ = api.post(&format!("/containers/{old}/start"), None);
        }
        return Err(error);
    }
    match old {
        Some(old) => {
            api.delete(&format!("/containers/{old}?force=1"))?;
            api.post(
                &format!("/containers/{id}/rename{}", query(&[("name", Some(&service.container_name))])),
                None,
            )?;
            output::talk(format_args!("replaced {}", service.container_name));
        }
        None => output::talk(format_args!("started {}", service.container_name)),
    }
    Ok(())
}

/// Waits until the container is as the condition says. A container without a health check is healthy when it runs.
fn wait(api: &Api, name: &str, condition: Condition, timeout: Duration) -> Result<()> {
    let deadline = Instant::now() + timeout;
    loop {
        let state = api.get(&format!("/containers/{}/json", escape(name)))?["State"].clone();
        if reached(name, &state, condition)? {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Error::unavailable(format!(
                "{name} is not {} after {} s",
                word(condition),
                timeout.as_secs()
            ))
            .with_hint(format!("naru logs {name}; naru inspect -f '{{{{json .State.Health}}}}' {name}")));
        }
        std::thread::sleep(Duration::from_millis(POLL_MS));
    }
}

fn word(condition: Condition) -> &'static str {
    match condition {
        Condition::Started => "started",
        Condition::Healthy => "healthy",
        Condition::CompletedSuccessfully => "completed",
    }
}

fn reached(name: &str, state: &Value, condition: Condition) -> Result<bool> {
    let status = state["Status"].as_str().unwrap_or_default();
    let code = state["ExitCode"].as_i64().unwrap_or_default();
    let ended = matches!(status, "exited" | "dead");
    let failed = || {
        Error::conflict(format!("container {name} exited ({code})")).with_hint(format!("naru logs {name}"))
    };
    match condition {
        Condition::Started => Ok(matches!(status, "running" | "paused" | "restarting") || ended),
        Condition::CompletedSuccessfully if ended && code != 0 => Err(failed()),
        Condition::CompletedSuccessfully => Ok(ended),
        Condition::Healthy if ended => Err(failed()),
        Condition::Healthy => match state["Health"]["Status"].as_str() {
            None => Ok(status == "running"),
            Some("healthy") => Ok(true),
            Some("unhealthy") => Err(Error::conflict(format!("container {name} is unhealthy"))
                .with_hint(format!("naru inspect -f '{{{{json .State.Health}}}}' {name}"))),
            Some(_) => Ok(false),
        },
    }
}

fn warn_of_orphans(api: &Api, project: &Project) -> Result<()> {
    for item in project::containers(api, &project.name)? {
        let service = project::service_of(&item);
        if !project.services.iter().any(|known| known.name == service) {
            output::talk(format_args!(
                "warning: {} belongs to service {service}, which the compose file doesn't have",
                display_name(&item)
            ));
        }
    }
    Ok(())
}

pub fn display_name(item: &Value) -> &str {
    item["Names"][0].as_str().unwrap_or_default().trim_start_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn conditions() {
        for (state, condition, expect) in [
            (json!({"Status": "running"}), Condition::Healthy, Some(true)),
            (json!({"Status": "running", "Health": {"Status": "starting"}}), Condition::Healthy, Some(false)),
            (json!({"Status": "running", "Health": {"Status": "healthy"}}), Condition::Healthy, Some(true)),
            (json!({"Status": "running", "Health": {"Status": "unhealthy"}}), Condition::Healthy, None),
            (json!({"Status": "exited", "ExitCode": 0}), Condition::Healthy, None),
            (json!({"Status": "exited", "ExitCode": 0}), Condition::CompletedSuccessfully, Some(true)),
            (json!({"Status": "exited", "ExitCode": 2}), Condition::CompletedSuccessfully, None),
            (json!({"Status": "running"}), Condition::CompletedSuccessfully, Some(false)),
            (json!({"Status": "created"}), Condition::Started, Some(false)),
            (json!({"Status": "running"}), Condition::Started, Some(true)),
        ] {
            assert_eq!(reached("x", &state, condition).ok(), expect, "{state} {condition:?}");
        }
    }
}
