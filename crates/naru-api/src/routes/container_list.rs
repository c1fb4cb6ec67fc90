//! `docker ps` and `docker container prune`.

use crate::context::ApiContext;
use crate::convert::{ports, summary};
use crate::web::filters::{Filters, name_fits};
use crate::web::request::Request;
use crate::web::respond::{self, Response};
use naru_engine::{ContainerView, RemoveOptions, Status};
use naru_image::Store;
use naru_kernel::clock;
use naru_types::{Error, Kind, Result, Timestamp};
use naru_wire::image::ContainersPruned;
use std::sync::Arc;

const KNOWN: [&str; 16] = [
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "isolation",
    "is-task",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
    "until",
];
const STATUSES: [&str; 7] = ["created", "running", "paused", "restarting", "removing", "exited", "dead"];

pub async fn list(context: Arc<ApiContext>, request: Request) -> Result<Response> {
    let filters = Filters::parse(&request.query, &KNOWN)?;
    let limit = request.query.text("limit").parse::<usize>().ok().filter(|limit| *limit > 0);
    let everything = context.engine.list();
    let wanted = Wanted::new(&filters, &everything, context.engine.images())?;
    // A limit or a status asks for stopped ones too.
    let all = request.query.flag("all") || limit.is_some() || filters.has("status") || filters.has("exited");
    let chosen = everything.iter().filter(|view| all || is_up(view)).filter(|view| wanted.fits(view));
    let mut rows = Vec::new();
    for view in chosen.take(limit.unwrap_or(usize::MAX)) {
        let size = match request.query.flag("size") {
            true => match context.engine.container_size(view.id.as_str()).await {
                // It went away since the list was taken.
                Err(error) if error.kind() == Kind::NotFound => continue,
                size => Some(size?),
            },
            false => None,
        };
        rows.push(summary::container(view, size, clock::now()));
    }
    respond::json(&rows)
}

fn is_up(view: &ContainerView) -> bool {
    matches!(view.state.status, Status::Running | Status::Paused | Status::Restarting)
}

/// The filters, with what they need looked up once.
struct Wanted<'a> {
    filters: &'a Filters,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
    exited: Vec<i64>,
    /// Ids of the images that `ancestor` names, with all of their layers.
    ancestors: Vec<naru_image::Image>,
    store: &'a Store,
}

impl<'a> Wanted<'a> {
    fn new(filters: &'a Filters, all: &[ContainerView], store: &'a Store) -> Result<Self> {
        let created = |name: &str| -> Result<Option<Timestamp>> {
            let Some(wanted) = filters.values(name).first() else { return Ok(None) };
            let is_it = |view: &&ContainerView| {
                view.name == wanted.trim_start_matches('/') || view.id.as_str().starts_with(wanted.as_str())
            };
            let found = all.iter().find(is_it).map(|view| view.created);
            found.map(Some).ok_or_else(|| Error::not_found(format!("No such container: {wanted}")))
        };
        if let Some(bad) = filters.values("status").iter().find(|status| !STATUSES.contains(&status.as_str()))
        {
            return Err(Error::invalid(format!("invalid filter 'status={bad}'")));
        }
        let code = |text: &String| {
            text.parse().map_err(|_| Error::invalid(format!("invalid filter 'exited={text}'")))
        };
        Ok(Self {
            filters,
            before: created("before")?,
            since: created("since")?,
            exited: filters.values("exited").iter().map(code).collect::<Result<_>>()?,
            ancestors: filters.values("ancestor").iter().filter_map(|name| store.get(name).ok()).collect(),
            store,
        })
    }

    fn fits(&self, view: &ContainerView) -> bool {
        let filters = self.filters;
        filters.any("id", |id| view.id.as_str().starts_with(id))
            && filters.any("name", |name| {
                name_fits(name, &view.name) || name_fits(name, &format!("/{}", view.name))
            })
            && filters.any("status", |status| view.state.status.as_str() == status)
            && filters.any("health", |health| health_of(view) == health)
            && filters.any("network", |network| on_network(view, network))
            && filters.any("volume", |wanted| has_volume(view, wanted))
            && filters.any("is-task", |value| matches!(value, "false" | "0"))
            && filters.any("publish", |port| {
                view.ports
                    .iter()
                    .any(|known| port_fits(port, known.host_port, known.container.proto.as_str()))
            })
            && filters.any("expose", |port| {
                view.spec
                    .network
                    .exposed
                    .iter()
                    .any(|known| port_fits(port, known.port, known.proto.as_str()))
            })
            && filters.labels_fit("label", &view.spec.labels)
            && self.before.is_none_or(|before| view.created < before)
            && self.since.is_none_or(|since| view.created > since)
            && (self.exited.is_empty()
                || (view.state.status == Status::Exited && self.exited.contains(&view.state.exit_code)))
            && self.has_ancestor(view)
    }

    /// The image itself, or one that was built on it.
    fn has_ancestor(&self, view: &ContainerView) -> bool {
        if !self.filters.has("ancestor") {
            return true;
        }
        let own = self.store.get_by_id(&view.image_id).ok();
        self.ancestors.iter().any(|ancestor| {
            let built_on = own.as_ref().is_some_and(|image| {
                !ancestor.layers().is_empty() && image.layers().starts_with(ancestor.layers())
            });
            ancestor.id == view.image_id || built_on
        })
    }
}

fn health_of(view: &ContainerView) -> &'static str {
    view.state.health.as_ref().map_or("none", |health| health.status.as_str())
}

fn on_network(view: &ContainerView, wanted: &str) -> bool {
    view.endpoints
        .iter()
        .any(|(name, endpoint)| name == wanted || endpoint.network_id.as_str().starts_with(wanted))
}

fn has_volume(view: &ContainerView, wanted: &str) -> bool {
    view.mounts.iter().any(|mount| mount.name == wanted || mount.destination == wanted)
}

/// `80`, `80/tcp`, `8000-8010/udp`.
fn port_fits(wanted: &str, port: u16, proto: &str) -> bool {
    ports::parse_exposed(wanted)
        .is_ok_and(|list| list.iter().any(|known| known.port == port && known.proto.as_str() == proto))
}

pub async fn prune(context: Arc<ApiContext>, request: Request) -> Result<Response> {
    let filters = Filters::parse(&request.query, &["label", "label!", "until"])?;
    let until = filters.until(clock::now())?;
    let mut pruned = ContainersPruned::default();
    let stopped =
        |view: &ContainerView| matches!(view.state.status, Status::Created | Status::Exited | Status::Dead);
    for view in context.engine.list() {
        let chosen = stopped(&view)
            && filters.prune_labels_fit(&view.spec.labels)
            && until.is_none_or(|until| view.created < until);
        if !chosen {
            continue;
        }
        let size = context.engine.container_size(view.id.as_str()).await.map_or(0, |size| size.rw);
        match context.engine.remove(view.id.as_str(), RemoveOptions::default()).await {
            Ok(()) => {
                pruned.containers_deleted.get_or_insert_default().push(view.id.to_string());
                pruned.space_reclaimed += size;
            }
            // Started or removed by somebody else in between: theirs.
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Conflict) => {}
            Err(error) => return Err(error),
        }
    }
    respond::json(&pruned)
}
