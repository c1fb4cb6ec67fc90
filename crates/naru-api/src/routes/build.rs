//! `POST /build`: the classic builder's interface over naru's builder.

use crate::context::ApiContext;
use crate::routes::image::{blocking, emit};
use crate::routes::image_transfer::{Lines, message, parse_platform, say, streamed};
use crate::routes::registry_auth::Registries;
use crate::routes::{build_extras, build_in_place};
use crate::web::filters::Filters;
use crate::web::request::Request;
use crate::web::respond::{self, Response};
use naru_build::{BuildEvent, BuildRequest, ContextDir, DockerfileSource, StepNetwork, unpack_context};
use naru_types::{Error, ImageRef, Result};
use naru_wire::image::BuildPruned;
use naru_wire::message::Message;
use naru_wire::url::Query;
use std::collections::BTreeMap;
use std::sync::Arc;

pub async fn build(context: Arc<ApiContext>, mut request: Request) -> Result<Response> {
    let options = Options::parse(&request.query)?;
    let registries = Registries::from_header(request.header("x-registry-config"));
    let extras = build_extras::from_header(request.header("x-naru-build"))?;
    let cancel = Arc::clone(&request.gone);
    let source = build_in_place::open(extras.in_place.as_ref(), request.peer)?;
    let body = request.reader();
    let dir = ContextDir::make(&context.build_contexts)?;
    streamed(move |lines| {
        unpack_context(body, dir.path())?;
        let mut wanted = BuildRequest::new(build_extras::context(&extras, dir.path()));
        build_extras::fill(&extras, dir.path(), &mut wanted)?;
        let in_place = build_in_place::key(extras.in_place.as_ref());
        wanted.credentials = Arc::new(move |image| registries.of(image));
        wanted.cancel = cancel;
        let quiet = options.quiet;
        options.fill(&mut wanted);
        if extras.check {
            let found = build_extras::report(context.builder.check(&wanted)?);
            say(lines, &Message::aux(serde_json::json!({ "check": found })));
            return Ok(());
        }
        if let Some(source) = source {
            let files = dir.path();
            build_in_place::take(&context.builder, &mut wanted, files, source, &in_place)?;
        }
        run(&context, &wanted, quiet, lines)
    })
    .await
}

/// Builds and tells of it. A failed command's code goes into the error line, where the client takes its own from.
fn run(context: &ApiContext, wanted: &BuildRequest, quiet: bool, lines: &Lines) -> Result<()> {
    let mut failed = 0;
    let mut tell = |event: BuildEvent| {
        if let BuildEvent::CommandFailed { code } = event {
            failed = code;
        }
        if quiet {
            return;
        }
        if let BuildEvent::Pull(progress) = &event {
            say(lines, &message(progress));
        }
        if let BuildEvent::Built { image } = &event {
            say(lines, &Message::aux(serde_json::json!({ "ID": image.to_string() })));
        }
        for text in event.classic() {
            say(lines, &Message::stream(text));
        }
    };
    match context.builder.build(wanted, &mut tell) {
        Ok(image) => {
            let id = image.to_string();
            if quiet {
                say(lines, &Message::stream(format!("{id}\n")));
            }
            for tag in &wanted.tags {
                emit(&context.engine, "tag", &id, &tag.with_default_tag().familiar());
            }
            Ok(())
        }
        Err(error) if failed != 0 => {
            say(lines, &Message::error(error.chain(), failed));
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// The query's parameters, checked before the context is read.
struct Options {
    quiet: bool,
    dockerfile: String,
    args: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
    tags: Vec<ImageRef>,
    target: Option<String>,
    no_cache: bool,
    pull: bool,
    platform: Option<naru_types::platform::Platform>,
    network: StepNetwork,
    extra_hosts: Vec<String>,
    shm_size: Option<i64>,
}

impl Options {
    fn parse(query: &Query) -> Result<Self> {
        refuse(query)?;
        let or =
            |text: &str, default: &str| if text.is_empty() { default.to_owned() } else { text.to_owned() };
        let tags = query.all("t").filter(|tag| !tag.is_empty());
        Ok(Self {
            quiet: query.flag("q"),
            dockerfile: or(query.text("dockerfile"), "Dockerfile"),
            args: map(query, "buildargs")?,
            labels: map(query, "labels")?,
            tags: tags.map(|tag| Ok(ImageRef::parse(tag)?.with_default_tag())).collect::<Result<_>>()?,
            target: Some(query.text("target").to_owned()).filter(|target| !target.is_empty()),
            no_cache: query.flag("nocache"),
            pull: query.flag("pull"),
            platform: parse_platform(query.text("platform"))?,
            network: network(query.text("networkmode"))?,
            // The docker CLI repeats the parameter, docker-py joins the hosts with commas.
            extra_hosts: query
                .all("extrahosts")
                .flat_map(|hosts| hosts.split(','))
                .filter(|host| !host.is_empty())
                .map(|host| extra_host(host))
                .collect::<Result<_>>()?,
            shm_size: query.text("shmsize").parse().ok().filter(|size| *size > 0),
        })
    }

    fn fill(self, wanted: &mut BuildRequest) {
        wanted.dockerfile = DockerfileSource::InContext(self.dockerfile);
        wanted.args = self.args;
        wanted.labels = self.labels;
        wanted.tags = self.tags;
        wanted.target = self.target;
        wanted.no_cache = self.no_cache;
        wanted.pull = self.pull;
        wanted.platform = self.platform;
        wanted.network = self.network;
        wanted.extra_hosts = self.extra_hosts;
        wanted.shm_size = self.shm_size;
    }
}

/// `rm` and `forcerm` need nothing: a step's container never outlives it. `cachefrom` names images whose layers may
/// serve as cache; naru's cache is its own, so an image that is not looked at changes no result.
fn refuse(query: &Query) -> Result<()> {
    let number = |name: &str| !matches!(query.text(name), "" | "0");
    let set = [
        ("remote", !query.text("remote").is_empty(), "send the context: clone or download it first"),
        ("version=2 (BuildKit)", query.text("version") == "2", "set DOCKER_BUILDKIT=0"),
        ("squash", query.flag("squash"), "leave --squash out"),
        ("outputs", !matches!(query.text("outputs"), "" | "[]" | "null"), "leave --output out"),
        ("memory", number("memory"), "limits of build steps are not supported"),
        ("memswap", number("memswap"), "limits of build steps are not supported"),
        ("cpushares", number("cpushares"), "limits of build steps are not supported"),
        ("cpuperiod", number("cpuperiod"), "limits of build steps are not supported"),
        ("cpuquota", number("cpuquota"), "limits of build steps are not supported"),
        ("cpusetcpus", !query.text("cpusetcpus").is_empty(), "limits of build steps are not supported"),
        ("cpusetmems", !query.text("cpusetmems").is_empty(), "limits of build steps are not supported"),
        ("cgroupparent", !query.text("cgroupparent").is_empty(), "leave --cgroup-parent out"),
        ("ulimits", !matches!(query.text("ulimits"), "" | "[]" | "null"), "leave --ulimit out"),
        ("securityopt", !matches!(query.text("securityopt"), "" | "[]" | "null"), "leave --security-opt out"),
        ("isolation", !matches!(query.text("isolation"), "" | "default"), "leave --isolation out"),
    ];
    match set.into_iter().find(|(_, is_set, _)| *is_set) {
        Some((name, _, hint)) => {
            Err(Error::not_implemented(format!("build option {name} is not supported by naru"))
                .with_hint(hint))
        }
        None => Ok(()),
    }
}

/// A JSON object of texts; a `null` value (a build argument to be taken from nowhere) is left out.
fn map(query: &Query, name: &str) -> Result<BTreeMap<String, String>> {
    let text = query.text(name);
    if text.is_empty() {
        return Ok(BTreeMap::new());
    }
    let parsed: Option<BTreeMap<String, Option<String>>> = serde_json::from_str(text)
        .map_err(|error| Error::invalid(format!("error reading {name}")).with_source(error))?;
    Ok(parsed.unwrap_or_default().into_iter().filter_map(|(key, value)| Some((key, value?))).collect())
}

/// `name:address`, or `name=address` as newer clients write it.
fn extra_host(text: &str) -> Result<String> {
    let (name, address) = text.split_once(['=', ':']).unwrap_or((text, ""));
    let address = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    let known = address == "host-gateway" || address.parse::<std::net::IpAddr>().is_ok();
    if name.is_empty() || !known {
        return Err(Error::invalid(format!("invalid extra host {text:?}")).with_hint("write name:address"));
    }
    Ok(format!("{name}:{address}"))
}

fn network(mode: &str) -> Result<StepNetwork> {
    match mode {
        "" | "default" | "bridge" => Ok(StepNetwork::Bridge),
        "none" => Ok(StepNetwork::None),
        "host" => Ok(StepNetwork::Host),
        other => {
            Err(Error::not_implemented(format!("building on the network {other:?} is not supported by naru"))
                .with_hint("use --network default, none or host"))
        }
    }
}

pub async fn prune(context: Arc<ApiContext>, request: Request) -> Result<Response> {
    let known = ["until", "id", "parent", "type", "description", "inuse", "shared", "private"];
    let filters = Filters::parse(&request.query, &known)?;
    if let Some(name) = known.iter().find(|name| filters.has(name)) {
        return Err(Error::not_implemented(format!(
            "pruning the build cache by {name} is not supported by naru"
        ))
        .with_hint("leave --filter out: the whole cache goes"));
    }
    let pruned = blocking(move || context.builder.prune()).await?;
    respond::json(&BuildPruned { caches_deleted: None, space_reclaimed: pruned.bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters() {
        let query = Query::parse(
            "t=gb:1&t=x&buildargs=%7B%22A%22%3A%221%22%2C%22B%22%3Anull%7D&nocache=1&rm=1&dockerfile=d/F",
        );
        let options = Options::parse(&query).unwrap();
        assert_eq!(options.tags.iter().map(ImageRef::familiar).collect::<Vec<_>>(), ["gb:1", "x:latest"]);
        assert_eq!(options.args, BTreeMap::from([("A".to_owned(), "1".to_owned())]));
        assert!(options.no_cache && !options.quiet && options.dockerfile == "d/F");
        let hosts = Query::parse("extrahosts=a%3A10.0.0.1&extrahosts=b%3D%3A%3A1,c:host-gateway");
        assert_eq!(Options::parse(&hosts).unwrap().extra_hosts, ["a:10.0.0.1", "b:::1", "c:host-gateway"]);
        for bad in [
            "extrahosts=a",
            "t=UPPER",
            "remote=http://x",
            "squash=1",
            "version=2",
            "buildargs=x",
            "memory=5",
            "networkmode=n",
        ] {
            assert!(Options::parse(&Query::parse(bad)).is_err(), "{bad}");
        }
    }
}
