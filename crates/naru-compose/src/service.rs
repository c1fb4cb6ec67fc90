//! One service to one container description.

use crate::error::Result;
use crate::keys;
use crate::model::{Build, Condition, PullPolicy, Route};
use crate::project::Scope;
use crate::read::{At, Table};
use crate::service_volumes::clean;
use crate::{resources, service_net, service_ports, service_run, service_volumes};
use naru_types::signal::Signal;
use naru_types::spec::{ContainerSpec, Process, Stdio};
use naru_types::{ImageRef, id::is_valid_name};

/// A service whose relations to others aren't resolved yet.
pub(crate) struct Draft<'a> {
    pub(crate) name: String,
    pub(crate) at: At<'a>,
    pub(crate) container_name: String,
    pub(crate) spec: ContainerSpec,
    pub(crate) build: Option<Build>,
    pub(crate) pull_policy: PullPolicy,
    pub(crate) depends_on: Vec<DraftDependency<'a>>,
    pub(crate) route: Option<Route>,
    pub(crate) profiles: Vec<String>,
    /// The service whose network it shares.
    pub(crate) shares_network_of: Option<String>,
}

pub(crate) struct DraftDependency<'a> {
    pub(crate) at: At<'a>,
    pub(crate) service: String,
    pub(crate) condition: Condition,
    pub(crate) restart: bool,
    pub(crate) required: bool,
}

pub(crate) fn read<'a>(name: &str, at: At<'a>, scope: &mut Scope<'_>) -> Result<Draft<'a>> {
    if !is_valid_name(name, 1) {
        return Err(at
            .error(format!("invalid service name {name:?}"))
            .hint("use letters, digits, '.', '_' and '-'"));
    }
    let table = at.table(&keys::SERVICE, &keys::SERVICE_REFUSED)?;
    let build = table.read("build", |at| build(at, scope))?;
    let image = table.string("image")?;
    if image.is_none() && build.is_none() {
        return Err(at.error("neither image nor build is given").hint("write image: name, or build: ."));
    }
    let image = image.unwrap_or_else(|| format!("{}-{name}", scope.project));
    if let Err(error) = ImageRef::parse(&image) {
        return Err(table.get("image").unwrap_or(at.clone()).error(error.message()));
    }
    let mut spec = description(&table, scope)?;
    spec.image = image;
    spec.mounts = service_volumes::read(&table, scope)?;
    let shares_network_of = service_net::read(&table, scope, name, &mut spec.network)?;
    service_ports::read(&table, &mut spec.network)?;
    let container_name = match table.get("container_name") {
        None => format!("{}-{name}-1", scope.project),
        Some(at) if is_valid_name(at.text()?, 2) => at.text()?.to_owned(),
        Some(at) => {
            let error = at.error(format!("invalid container name {:?}", at.text()?));
            return Err(error.hint("use letters, digits, '.', '_' and '-', at least two"));
        }
    };
    Ok(Draft {
        name: name.to_owned(),
        container_name,
        build,
        pull_policy: table.read("pull_policy", pull_policy)?.unwrap_or_default(),
        depends_on: table.read("depends_on", depends_on)?.unwrap_or_default(),
        route: table.read("x-naru", |at| extension(at, &spec))?.flatten(),
        profiles: table.read("profiles", At::strings)?.unwrap_or_default(),
        shares_network_of,
        spec,
        at,
    })
}

/// All that needs no other part of the file.
fn description(table: &Table<'_>, scope: &Scope<'_>) -> Result<ContainerSpec> {
    let stop_timeout = table.read("stop_grace_period", At::duration)?;
    Ok(ContainerSpec {
        hostname: table.string("hostname")?.unwrap_or_default(),
        domainname: table.string("domainname")?.unwrap_or_default(),
        process: Process {
            entrypoint: table.read("entrypoint", service_run::arguments)?,
            cmd: table.read("command", service_run::arguments)?,
            env: service_run::environment(table, scope)?,
            working_dir: table.string("working_dir")?.unwrap_or_default(),
            user: table.string("user")?.unwrap_or_default(),
            group_add: table.read("group_add", At::strings)?.unwrap_or_default(),
        },
        labels: table.read("labels", At::labels)?.unwrap_or_default(),
        annotations: table.read("annotations", At::labels)?.unwrap_or_default(),
        stdio: Stdio {
            tty: table.flag("tty")?,
            open_stdin: table.flag("stdin_open")?,
            attach_stdout: true,
            attach_stderr: true,
            ..Stdio::default()
        },
        stop_signal: table.read("stop_signal", signal)?,
        // Whole seconds, rounded up: nobody gets less time than he asked for.
        stop_timeout_secs: stop_timeout
            .map(|nanos| nanos.div_euclid(1_000_000_000) + i64::from(nanos % 1_000_000_000 > 0)),
        healthcheck: table.read("healthcheck", service_run::healthcheck)?,
        restart: table.read("restart", service_run::restart)?.unwrap_or_default(),
        resources: resources::read(table)?,
        security: service_run::security(table, scope)?,
        shm_size: table.read("shm_size", At::bytes)?,
        sysctls: table.read("sysctls", At::labels)?.unwrap_or_default(),
        ulimits: table.read("ulimits", resources::ulimits)?.unwrap_or_default(),
        devices: table.read("devices", service_run::devices)?.unwrap_or_default(),
        oom_score_adj: table.read("oom_score_adj", At::number)?.unwrap_or(0),
        init: table.flag("init")?,
        log: table.read("logging", service_run::logging)?.unwrap_or_default(),
        cgroup_parent: table.string("cgroup_parent")?,
        ..ContainerSpec::default()
    })
}

fn build(at: &At<'_>, scope: &Scope<'_>) -> Result<Build> {
    let table = if at.is_map() { Some(at.table(&keys::BUILD, &keys::BUILD_REFUSED)?) } else { None };
    let context = match &table {
        None => Some(at.clone()),
        Some(table) => table.get("context"),
    };
    let context = match context {
        None => scope.working_dir.to_owned(),
        Some(at) => {
            let text = at.text()?;
            if text.contains("://") || text.starts_with("git@") {
                return Err(at.unsupported(
                    "building from a URL is not supported",
                    "clone it, and name the directory",
                ));
            }
            clean(&scope.working_dir.join(text))
        }
    };
    let mut build = Build { context, dockerfile: "Dockerfile".into(), ..Build::default() };
    let Some(table) = table else { return Ok(build) };
    build.dockerfile = table.string("dockerfile")?.unwrap_or(build.dockerfile);
    build.dockerfile_inline = table.string("dockerfile_inline")?;
    if let (Some(_), Some(at)) = (&build.dockerfile_inline, table.get("dockerfile")) {
        return Err(at.error("dockerfile and dockerfile_inline exclude each other"));
    }
    for (key, value) in table.read("args", At::pairs)?.unwrap_or_default() {
        // An argument alone takes its value from where naru was called.
        if let Some(value) = value.or_else(|| scope.lookup(&key)) {
            build.args.insert(key, value);
        }
    }
    build.target = table.string("target")?;
    build.labels = table.read("labels", At::labels)?.unwrap_or_default();
    build.tags = table.read("tags", At::strings)?.unwrap_or_default();
    build.no_cache = table.flag("no_cache")?;
    build.pull = table.flag("pull")?;
    build.network = table.read("network", network)?;
    build.extra_hosts = table.read("extra_hosts", service_net::extra_hosts)?.unwrap_or_default();
    build.shm_size = table.read("shm_size", At::bytes)?;
    Ok(build)
}

fn network(at: &At<'_>) -> Result<String> {
    match at.text()? {
        name @ ("default" | "none" | "host") => Ok(name.to_owned()),
        other => Err(
            at.unsupported(format!("build network {other:?} is not supported"), "use default, none or host")
        ),
    }
}

fn pull_policy(at: &At<'_>) -> Result<PullPolicy> {
    Ok(match at.text()? {
        "always" => PullPolicy::Always,
        "never" => PullPolicy::Never,
        "missing" | "if_not_present" => PullPolicy::Missing,
        "build" => PullPolicy::Build,
        other => {
            return Err(at
                .error(format!("unknown pull policy {other:?}"))
                .hint("use always, missing, never or build"));
        }
    })
}

fn signal(at: &At<'_>) -> Result<Signal> {
    let text = at.text()?;
    Signal::parse(text).ok_or_else(|| {
        at.error(format!("invalid signal {text:?}")).hint("use a name such as SIGTERM or a number")
    })
}

fn depends_on<'a>(at: &At<'a>) -> Result<Vec<DraftDependency<'a>>> {
    let plain = |at: At<'a>, service: &str| DraftDependency {
        at,
        service: service.to_owned(),
        condition: Condition::Started,
        restart: false,
        required: true,
    };
    if at.is_list() {
        return at.items()?.into_iter().map(|item| Ok(plain(item.clone(), item.text()?))).collect();
    }
    let mut found = Vec::new();
    for (service, entry) in at.entries()? {
        let table = entry.table(&["condition", "required", "restart"], &[])?;
        let condition = match table.get("condition") {
            None => Condition::Started,
            Some(at) => match at.text()? {
                "service_started" => Condition::Started,
                "service_healthy" => Condition::Healthy,
                "service_completed_successfully" => Condition::CompletedSuccessfully,
                other => {
                    let hint = "use service_started, service_healthy or service_completed_successfully";
                    return Err(at.error(format!("unknown condition {other:?}")).hint(hint));
                }
            },
        };
        found.push(DraftDependency {
            condition,
            restart: table.flag("restart")?,
            required: table.read("required", At::bool)?.unwrap_or(true),
            ..plain(entry.clone(), &service)
        });
    }
    Ok(found)
}

/// `x-naru`.
fn extension(at: &At<'_>, spec: &ContainerSpec) -> Result<Option<Route>> {
    at.table(&["route"], &[])?.read("route", |at| route(at, spec))
}

fn route(at: &At<'_>, spec: &ContainerSpec) -> Result<Route> {
    let table = at.table(&["host", "path", "port"], &[])?;
    let host_at =
        table.get("host").ok_or_else(|| at.error("host is missing").hint("write host: app.example.com"))?;
    let host = host_at.text()?.to_ascii_lowercase();
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    if !host.split('.').all(label) {
        return Err(host_at.error(format!("invalid host name {host:?}")));
    }
    let path = table.string("path")?.unwrap_or_else(|| "/".into());
    if !path.starts_with('/') || path.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(table
            .get("path")
            .unwrap_or(at.clone())
            .error("the path must begin with / and hold no spaces"));
    }
    let port = match (table.read("port", At::number::<u16>)?, spec.network.exposed.as_slice()) {
        (Some(0), _) => return Err(at.error("the port must not be 0")),
        (Some(port), _) => port,
        (None, [only]) => only.port,
        (None, _) => {
            return Err(at
                .error("port is missing")
                .hint("write port: 3000, the port that the service listens on"));
        }
    };
    Ok(Route { host, path, port })
}
