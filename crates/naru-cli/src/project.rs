//! The compose project in the current directory, and what of it runs.

use crate::client::{Api, query};
use naru_compose::model::Project;
use naru_types::{Error, Result};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// In the order in which Compose looks for them.
const FILES: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"];
pub const LABEL_PROJECT: &str = "com.docker.compose.project";
pub const LABEL_SERVICE: &str = "com.docker.compose.service";
pub const LABEL_HASH: &str = "com.docker.compose.config-hash";
pub const LABEL_IMAGE: &str = "com.docker.compose.image";

/// Whether a compose file is named or lies here.
pub fn is_here(file: Option<&str>) -> bool {
    find(file).is_ok()
}

fn find(file: Option<&str>) -> Result<PathBuf> {
    let absolute = |path: &Path| {
        std::path::absolute(path)
            .map_err(|error| Error::invalid(format!("cannot use {}", path.display())).with_source(error))
    };
    if let Some(file) = file {
        return absolute(Path::new(file));
    }
    let here = FILES.iter().map(Path::new).find(|path| path.exists());
    match here {
        Some(path) => absolute(path),
        None => Err(Error::not_found("no compose file here")
            .with_hint("name one with -f FILE, or write compose.yaml")),
    }
}

pub fn load(file: Option<&str>, name: Option<&str>, profiles: &[String]) -> Result<Project> {
    let path = find(file)?;
    let text = std::fs::read_to_string(&path)
        .map_err(|error| Error::invalid(format!("cannot read {}", path.display())).with_source(error))?;
    let environment = std::env::vars().collect();
    let project = naru_compose::load(&naru_compose::LoadInput {
        file: &path,
        working_dir: None,
        text: &text,
        project_name: name,
        profiles,
        environment: &environment,
        read_file: &|path| std::fs::read_to_string(path),
    })?;
    project.warnings.iter().for_each(|warning| crate::output::talk(format_args!("warning: {warning}")));
    Ok(project)
}

pub fn service_names(project: &Project) -> String {
    project.services.iter().map(|service| service.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// The project's containers as `GET /containers/json` shows them, stopped ones too.
pub fn containers(api: &Api, project: &str) -> Result<Vec<Value>> {
    let filter = json!({ "label": { format!("{LABEL_PROJECT}={project}"): true } }).to_string();
    let list =
        api.get(&format!("/containers/json{}", query(&[("all", Some("1")), ("filters", Some(&filter))])))?;
    Ok(list.as_array().cloned().unwrap_or_default())
}

pub fn label<'a>(item: &'a Value, name: &str) -> &'a str {
    item["Labels"].get(name).and_then(Value::as_str).unwrap_or_default()
}

pub fn service_of(item: &Value) -> String {
    label(item, LABEL_SERVICE).to_owned()
}
