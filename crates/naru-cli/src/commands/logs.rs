//! `logs`: of a container, or of the services of the project in this directory.

use crate::client::{Api, Body, escape, moment, query};
use crate::flags::LogsFlags;
use crate::{Outcome, output, project, stdio};
use naru_types::{Error, Kind, Result};
use serde_json::Value;

pub fn logs(api: &Api, flags: &LogsFlags) -> Outcome {
    if let [name] = flags.names.as_slice() {
        match api.get(&format!("/containers/{}/json", escape(name))) {
            Ok(view) => {
                show(api, &view, flags, None)?;
                return Ok(0);
            }
            // No such container: a service of the project here may be meant.
            Err(error) if error.kind() == Kind::NotFound && project::is_here(flags.file.as_deref()) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let project = project::load(flags.file.as_deref(), None, &[])?;
    if let Some(unknown) =
        flags.names.iter().find(|name| !project.services.iter().any(|service| service.name == **name))
    {
        return Err(Error::not_found(format!("no such service: {unknown}"))
            .with_hint(format!("project {} has: {}", project.name, project::service_names(&project)))
            .into());
    }
    let containers: Vec<Value> = project::containers(api, &project.name)?
        .into_iter()
        .filter(|item| {
            flags.names.is_empty() || flags.names.iter().any(|name| *name == project::service_of(item))
        })
        .collect();
    let width = containers.iter().map(|item| project::service_of(item).len()).max().unwrap_or(0);
    std::thread::scope(|scope| {
        let readers: Vec<_> = containers
            .iter()
            .map(|item| {
                let prefix = format!("{:width$} | ", project::service_of(item));
                scope.spawn(move || {
                    let view =
                        api.get(&format!("/containers/{}/json", item["Id"].as_str().unwrap_or_default()))?;
                    show(api, &view, flags, Some(prefix))
                })
            })
            .collect();
        readers.into_iter().filter_map(|thread| thread.join().ok()).collect::<Result<Vec<()>>>()
    })?;
    Ok(0)
}

fn show(api: &Api, view: &Value, flags: &LogsFlags, prefix: Option<String>) -> Result<()> {
    let id = view["Id"].as_str().unwrap_or_default();
    let one = |on: bool| on.then_some("1");
    let since = flags.since.as_deref().map(moment).transpose()?;
    let until = flags.until.as_deref().map(moment).transpose()?;
    let parameters = query(&[
        ("stdout", Some("1")),
        ("stderr", Some("1")),
        ("follow", one(flags.follow)),
        ("timestamps", one(flags.timestamps)),
        ("tail", Some(&flags.tail)),
        ("since", since.as_deref()),
        ("until", until.as_deref()),
    ]);
    let mut response = api.stream("GET", &format!("/containers/{id}/logs{parameters}"), Body::Empty)?;
    let tty = view.pointer("/Config/Tty").and_then(Value::as_bool).unwrap_or(false);
    match prefix {
        Some(prefix) => {
            stdio::demultiplex_lines(&mut response, tty, |line| output::line(format_args!("{prefix}{line}")))
        }
        None => stdio::demultiplex(&mut response, tty),
    }
}
