//! From containers and their labels to the proxy's table. Pure.
//!
//! `naru.route.host` (several: separated by commas), `naru.route.path` (default `/`), `naru.route.port`
//! (default: the lowest exposed TCP port). Containers with the same host and path share the route. Those that
//! are healthy, or have no health check, serve; those whose first check is not through serve only where there
//! is nobody else; unhealthy and paused ones never. A route stays, without backends, while one of its
//! containers is there but cannot serve: visitors get "not ready" and not a broken TLS handshake.

use naru_engine::{ContainerView, HealthStatus, Status};
use naru_proxy::table::{host_problem, path_prefix_problem};
use naru_proxy::{Route, RouteTable};
use naru_types::spec::{NetworkMode, Proto};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

const HOST: &str = "naru.route.host";
const PATH: &str = "naru.route.path";
const PORT: &str = "naru.route.port";
const COMPOSE_SERVICE: &str = "com.docker.compose.service";
/// Problems that are reported; more of them say nothing new.
const PROBLEMS_MAX: usize = 100;

#[derive(Default)]
struct Gathered {
    service: String,
    ready: Vec<SocketAddr>,
    starting: Vec<SocketAddr>,
}

enum Readiness {
    Ready,
    Starting,
    No,
}

/// The table, sorted, and a sentence for each label that cannot be followed.
pub(crate) fn compute(containers: &[ContainerView]) -> (RouteTable, Vec<String>) {
    let mut routes: BTreeMap<(String, String), Gathered> = BTreeMap::new();
    let mut problems = Vec::new();
    for view in containers.iter().filter(|view| is_there(view.state.status)) {
        let Some(hosts) = view.spec.labels.get(HOST) else { continue };
        let path = view.spec.labels.get(PATH).map_or("/", String::as_str);
        let address = address(view);
        for host in
            hosts.split(',').map(|host| host.trim().to_ascii_lowercase()).filter(|host| !host.is_empty())
        {
            let wrong = host_problem(&host).or_else(|| path_prefix_problem(path));
            if let Some(why) = wrong.map(str::to_owned).or_else(|| address.as_ref().err().cloned()) {
                problems.push(format!("container {}: route {host}{path}: {why}", view.name));
            }
            if wrong.is_none() {
                let trimmed = match path.trim_end_matches('/') {
                    "" => "/",
                    trimmed => trimmed,
                };
                let route = routes.entry((host, trimmed.to_owned())).or_default();
                gather(route, view, address.as_ref().ok().copied().flatten());
            }
        }
    }
    problems.truncate(PROBLEMS_MAX);
    (RouteTable { routes: routes.into_iter().map(finish).collect() }, problems)
}

fn gather(route: &mut Gathered, view: &ContainerView, address: Option<SocketAddr>) {
    if route.service.is_empty() {
        route.service.clone_from(view.spec.labels.get(COMPOSE_SERVICE).unwrap_or(&view.name));
    }
    match (readiness(view), address) {
        (Readiness::Ready, Some(address)) => route.ready.push(address),
        (Readiness::Starting, Some(address)) => route.starting.push(address),
        (Readiness::No, _) | (_, None) => {}
    }
}

fn finish(((host, path_prefix), mut gathered): ((String, String), Gathered)) -> Route {
    let mut backends =
        if gathered.ready.is_empty() { gathered.starting } else { std::mem::take(&mut gathered.ready) };
    backends.sort_unstable();
    backends.dedup();
    backends.truncate(naru_proxy::table::BACKENDS_MAX);
    Route { host, path_prefix, backends, service: gathered.service }
}

fn is_there(status: Status) -> bool {
    match status {
        Status::Running | Status::Paused | Status::Restarting => true,
        Status::Created | Status::Removing | Status::Exited | Status::Dead => false,
    }
}

fn readiness(view: &ContainerView) -> Readiness {
    if view.state.status != Status::Running {
        return Readiness::No;
    }
    match view.state.health.as_ref().map(|health| health.status) {
        None | Some(HealthStatus::Healthy) => Readiness::Ready,
        Some(HealthStatus::Starting) => Readiness::Starting,
        Some(HealthStatus::Unhealthy) => Readiness::No,
    }
}

/// `Ok(None)`: it has no address at present. The error is about the labels.
fn address(view: &ContainerView) -> Result<Option<SocketAddr>, String> {
    let port = match view.spec.labels.get(PORT) {
        Some(text) => port_of(text)?,
        None => lowest_exposed(view)?,
    };
    let ip = view.endpoints.values().find_map(|endpoint| endpoint.ipv4);
    let ip = ip.or((view.spec.network.mode == NetworkMode::Host).then_some(Ipv4Addr::LOCALHOST));
    Ok(ip.map(|ip| SocketAddr::new(IpAddr::V4(ip), port)))
}

fn port_of(text: &str) -> Result<u16, String> {
    text.trim().parse().ok().filter(|port| *port != 0).ok_or(format!("{PORT}={text} is no port"))
}

fn lowest_exposed(view: &ContainerView) -> Result<u16, String> {
    let tcp = view.spec.network.exposed.iter().filter(|exposed| exposed.proto == Proto::Tcp);
    tcp.map(|exposed| exposed.port)
        .min()
        .ok_or(format!("the image exposes no TCP port; set the label {PORT}"))
}
