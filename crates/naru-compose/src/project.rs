//! The file as a whole: name, variables, networks, volumes, and the services put together.

use crate::error::{ComposeError, Result};
use crate::model::{Dependency, Network, Project, Service, Volume};
use crate::read::At;
use crate::service::{Draft, DraftDependency};
use crate::top_level::{networks, volumes};
use crate::{dotenv, interpolate, keys, order, service, yaml};
use naru_types::id::hex;
use naru_types::spec::NetworkMode;
use naru_types::suggest::nearest;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

/// Reads a text file for the loader.
pub type ReadFile<'a> = dyn Fn(&Path) -> io::Result<String> + 'a;

/// Everything that the outcome depends on.
pub struct LoadInput<'a> {
    /// Absolute path of the compose file; its directory is the project's unless told otherwise.
    pub file: &'a Path,
    pub text: &'a str,
    /// Absolute; `None`: the file's directory.
    pub working_dir: Option<&'a Path>,
    /// Of the caller; wins over `.env`.
    pub environment: &'a BTreeMap<String, String>,
    /// `-p`; wins over `COMPOSE_PROJECT_NAME`, the file's `name` and the directory's name.
    pub project_name: Option<&'a str>,
    /// Active profiles; `*` is all of them.
    pub profiles: &'a [String],
    /// For `.env`, `env_file` and seccomp profiles.
    pub read_file: &'a ReadFile<'a>,
}

/// What services refer to while they are read.
pub(crate) struct Scope<'a> {
    pub(crate) project: String,
    pub(crate) working_dir: &'a Path,
    pub(crate) read_file: &'a ReadFile<'a>,
    variables: &'a BTreeMap<String, String>,
    networks: BTreeMap<String, Network>,
    volumes: BTreeMap<String, Volume>,
    used_networks: BTreeSet<String>,
}

/// Loads a compose file into a checked project.
pub fn load(input: &LoadInput<'_>) -> naru_types::Result<Project> {
    Ok(load_project(input)?)
}

fn load_project(input: &LoadInput<'_>) -> Result<Project> {
    let file = input
        .file
        .file_name()
        .map_or_else(|| "compose.yaml".into(), |name| name.to_string_lossy().into_owned());
    let working_dir = input.working_dir.or_else(|| input.file.parent()).unwrap_or(Path::new("/"));
    let mut variables = variables(input, working_dir)?;
    let mut root = yaml::parse(&file, input.text)?;
    let name = project_name(input, &file, &root, &variables, working_dir)?;
    variables.insert("COMPOSE_PROJECT_NAME".into(), name.clone());
    let mut unset = BTreeSet::new();
    let lookup = |name: &str| variables.get(name).cloned();
    let mut note = |name: &str| {
        unset.insert(name.to_owned());
    };
    interpolate::tree(&file, &mut root, "", &lookup, &mut note)?;
    let mut warnings: Vec<String> = unset
        .into_iter()
        .map(|name| format!("The {name:?} variable is not set. Defaulting to a blank string."))
        .collect();
    let top = At { file: &file, path: String::new(), node: &root }.table(&keys::TOP, &keys::TOP_REFUSED)?;
    if top.get("version").is_some() {
        warnings.push(format!("{file}: the key version is obsolete and means nothing"));
    }
    let mut scope = Scope {
        networks: networks(&name, top.get("networks"))?,
        volumes: volumes(&name, top.get("volumes"))?,
        project: name.clone(),
        working_dir,
        read_file: input.read_file,
        variables: &variables,
        used_networks: BTreeSet::new(),
    };
    let mut drafts = Vec::new();
    for (name, at) in top.get("services").map(|at| at.entries()).transpose()?.unwrap_or_default() {
        drafts.push(service::read(&name, at, &mut scope)?);
    }
    if drafts.is_empty() {
        return Err(top.at.error("no service is defined").hint("write services: with at least one service"));
    }
    let drafts = active(relate(drafts)?, input.profiles)?;
    let sorted = order::sort(&drafts)?;
    let services = sorted.iter().map(|index| finish(&drafts[*index], &name, input, working_dir)).collect();
    let Scope { networks, volumes, used_networks, .. } = scope;
    Ok(Project {
        name,
        working_dir: working_dir.to_owned(),
        config_files: vec![input.file.to_owned()],
        services,
        networks: networks.into_values().filter(|network| used_networks.contains(&network.key)).collect(),
        volumes: volumes.into_values().collect(),
        warnings,
    })
}

/// The caller's environment over `.env`.
fn variables(input: &LoadInput<'_>, working_dir: &Path) -> Result<BTreeMap<String, String>> {
    let path = working_dir.join(".env");
    let problem = |line, message| ComposeError {
        file: path.display().to_string(),
        line,
        path: String::new(),
        message,
        hint: None,
        unsupported: false,
    };
    let mut variables = BTreeMap::new();
    match (input.read_file)(&path) {
        Ok(text) => {
            let pairs = dotenv::parse(&text, &|name| input.environment.get(name).cloned());
            for (key, value) in pairs.map_err(|(line, message)| problem(line, message))? {
                variables.extend(value.map(|value| (key, value)));
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(problem(1, format!("cannot read it: {error}"))),
    }
    variables.extend(input.environment.clone());
    Ok(variables)
}

fn project_name(
    input: &LoadInput<'_>,
    file: &str,
    root: &yaml::Node,
    variables: &BTreeMap<String, String>,
    working_dir: &Path,
) -> Result<String> {
    let own = match &root.value {
        yaml::Value::Map(entries) => entries.iter().find(|entry| entry.key == "name"),
        _ => None,
    };
    let mut node = own.map_or(yaml::Node { line: 1, value: yaml::Value::Null }, |entry| entry.node.clone());
    interpolate::tree(file, &mut node, "name", &|name| variables.get(name).cloned(), &mut |_| {})?;
    let at = At { file, path: "name".into(), node: &node };
    let environment = variables.get("COMPOSE_PROJECT_NAME").filter(|name| !name.is_empty());
    let given = match (input.project_name, environment) {
        (Some(name), _) => Some(name.to_owned()),
        (None, Some(name)) => Some(name.clone()),
        (None, None) if node.is_null() => None,
        (None, None) => Some(at.text()?.to_owned()),
    };
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    if let Some(name) = given {
        let valid = name.chars().all(fits) && name.starts_with(|c: char| c.is_ascii_alphanumeric());
        if !valid {
            let hint = "use lower-case letters, digits, '-' and '_', beginning with a letter or a digit";
            return Err(at.error(format!("invalid project name {name:?}")).hint(hint));
        }
        return Ok(name);
    }
    let directory = working_dir.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let name: String = directory.chars().filter(|c| fits(*c)).collect();
    let name = name.trim_start_matches(['-', '_']).to_owned();
    if name.is_empty() {
        return Err(at
            .error("the directory's name gives no project name")
            .hint("write name: at the top of the file, or use -p"));
    }
    Ok(name)
}

impl Scope<'_> {
    pub(crate) fn lookup(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }

    /// The real name of a network of the file, which counts as used from now on.
    pub(crate) fn network(&mut self, at: &At<'_>, key: &str) -> Result<String> {
        let known = self.networks.get(key).map(|network| network.name.clone());
        self.used_networks.insert(key.to_owned());
        known.ok_or_else(|| {
            at.error(format!("undefined network {key:?}"))
                .hint(format!("add `{key}:` under networks at the top level"))
        })
    }

    /// The real name of a volume of the file.
    pub(crate) fn volume(&self, at: &At<'_>, key: &str) -> Result<String> {
        self.volumes.get(key).map(|volume| volume.name.clone()).ok_or_else(|| {
            let hint =
                format!("add `{key}:` under volumes at the top level, or write ./{key} for a directory");
            at.error(format!("undefined volume {key:?}")).hint(hint)
        })
    }
}

/// Checks what services say of each other, and fills in shared networks.
fn relate(mut drafts: Vec<Draft<'_>>) -> Result<Vec<Draft<'_>>> {
    let names: BTreeMap<String, String> =
        drafts.iter().map(|draft| (draft.name.clone(), draft.container_name.clone())).collect();
    let mut containers = BTreeSet::new();
    for draft in &mut drafts {
        if !containers.insert(draft.container_name.clone()) {
            return Err(draft
                .at
                .error(format!("another service has the container name {:?} too", draft.container_name))
                .hint("remove container_name from one of them"));
        }
        if let Some(other) = draft.shares_network_of.clone() {
            let container = names.get(&other).ok_or_else(|| {
                draft.at.error(format!("network_mode names the undefined service {other:?}"))
            })?;
            draft.spec.network.mode = NetworkMode::Container(container.clone());
            if !draft.depends_on.iter().any(|dependency| dependency.service == other) {
                let at = draft.at.clone();
                draft.depends_on.push(DraftDependency {
                    at,
                    service: other,
                    condition: crate::model::Condition::Started,
                    restart: true,
                    required: true,
                });
            }
        }
        for dependency in &draft.depends_on {
            if !names.contains_key(&dependency.service) && dependency.required {
                let message = format!("depends on undefined service {:?}", dependency.service);
                let error = dependency.at.error(message);
                let meant = nearest(&dependency.service, names.keys().map(String::as_str));
                return Err(error.hint(match meant {
                    Some(meant) => format!("did you mean {meant:?}?"),
                    None => format!(
                        "services here: {}",
                        names.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
                    ),
                }));
            }
        }
    }
    Ok(drafts)
}

/// The services whose profiles are active, or that have none.
fn active<'a>(drafts: Vec<Draft<'a>>, profiles: &[String]) -> Result<Vec<Draft<'a>>> {
    let is_active = |draft: &Draft<'_>| {
        draft.profiles.is_empty()
            || profiles.iter().any(|profile| profile == "*" || draft.profiles.contains(profile))
    };
    let inactive: BTreeMap<String, Vec<String>> = drafts
        .iter()
        .filter(|draft| !is_active(draft))
        .map(|draft| (draft.name.clone(), draft.profiles.clone()))
        .collect();
    let mut kept: Vec<Draft<'a>> = drafts.into_iter().filter(is_active).collect();
    let names: BTreeSet<String> = kept.iter().map(|draft| draft.name.clone()).collect();
    for draft in &mut kept {
        for dependency in draft.depends_on.iter().filter(|dependency| dependency.required) {
            if let Some(profiles) = inactive.get(&dependency.service) {
                let message = format!("depends on {:?}, whose profile is not active", dependency.service);
                return Err(dependency
                    .at
                    .error(message)
                    .hint(format!("add --profile {}", profiles.join(" or "))));
            }
        }
        draft.depends_on.retain(|dependency| names.contains(&dependency.service));
    }
    Ok(kept)
}

fn finish(draft: &Draft<'_>, project: &str, input: &LoadInput<'_>, working_dir: &Path) -> Service {
    let mut spec = draft.spec.clone();
    // A description of strings, numbers and maps always serialises.
    let text = serde_json::to_string(&spec).unwrap_or_default();
    let config_hash = hex(&Sha256::digest(format!("{text}\n{:?}\n{:?}", draft.build, draft.route)));
    let file: PathBuf = input.file.to_owned();
    let mut label = |name: &str, value: &str| drop(spec.labels.insert(name.to_owned(), value.to_owned()));
    label("com.docker.compose.project", project);
    label("com.docker.compose.service", &draft.name);
    label("com.docker.compose.container-number", "1");
    label("com.docker.compose.oneoff", "False");
    label("com.docker.compose.config-hash", &config_hash);
    label("com.docker.compose.project.working_dir", &working_dir.to_string_lossy());
    label("com.docker.compose.project.config_files", &file.to_string_lossy());
    if let Some(route) = &draft.route {
        label("naru.route.host", &route.host);
        label("naru.route.path", &route.path);
        label("naru.route.port", &route.port.to_string());
    }
    Service {
        name: draft.name.clone(),
        container_name: draft.container_name.clone(),
        spec,
        build: draft.build.clone(),
        pull_policy: draft.pull_policy,
        depends_on: draft
            .depends_on
            .iter()
            .map(|dependency| Dependency {
                service: dependency.service.clone(),
                condition: dependency.condition,
                restart: dependency.restart,
            })
            .collect(),
        route: draft.route.clone(),
        profiles: draft.profiles.clone(),
        config_hash,
    }
}
