//! `build`: gives the daemon the context, shows what the builder says.

use crate::client::{Api, Body, BodyReader, query};
use crate::commands::build_context::Place;
use crate::commands::build_extras;
use crate::flags::BuildFlags;
use crate::request::pairs;
use crate::{Outcome, credentials, output};
use naru_types::quantity::parse_bytes;
use naru_types::{Error, Result};
use naru_wire::naru::{BUILD_EXTRAS_HEADER, BuildExtras, CONTEXT_ELSEWHERE};
use serde_json::{Map, Value, json};
use std::io::Read;
use std::path::PathBuf;

/// What a build needs, from flags or from a compose service.
#[derive(Default)]
pub struct BuildOrder {
    pub context: PathBuf,
    /// Relative to the context, or absolute; `None`: Dockerfile.
    pub dockerfile: Option<PathBuf>,
    pub tags: Vec<String>,
    pub args: Map<String, Value>,
    pub labels: Map<String, Value>,
    pub target: Option<String>,
    pub no_cache: bool,
    pub pull: bool,
    pub network: Option<String>,
    pub extra_hosts: Vec<String>,
    /// Bytes.
    pub shm_size: Option<i64>,
    pub extras: BuildExtras,
    /// The directories of `extras`, in its order.
    pub directories: Vec<PathBuf>,
}

pub fn build(api: &Api, flags: &BuildFlags) -> Outcome {
    let (extras, directories) = build_extras::read(flags)?;
    let order = BuildOrder {
        context: PathBuf::from(&flags.path),
        dockerfile: flags.file.as_ref().map(|file| std::path::absolute(file).unwrap_or_else(|_| file.into())),
        tags: flags.tag.clone(),
        args: build_args(&flags.build_arg),
        labels: pairs(&flags.label),
        target: flags.target.clone(),
        no_cache: flags.no_cache,
        pull: flags.pull,
        network: flags.network.clone(),
        extra_hosts: flags.add_host.clone(),
        shm_size: flags.shm_size.as_deref().map(shm_size).transpose()?,
        extras,
        directories,
    };
    if flags.check {
        return check(api, &order);
    }
    let id = run(api, &order, flags.quiet)?;
    if flags.quiet {
        output::line(&id);
    }
    if let Some(file) = &flags.iidfile {
        std::fs::write(file, &id)
            .map_err(|error| Error::invalid(format!("cannot write {file}")).with_source(error))?;
    }
    Ok(0)
}

/// `KEY` alone takes the caller's variable over, or stays unset.
fn build_args(list: &[String]) -> Map<String, Value> {
    list.iter()
        .map(|item| match item.split_once('=') {
            Some((key, value)) => (key.to_owned(), json!(value)),
            None => (
                item.clone(),
                std::env::vars().find(|(key, _)| key == item).map_or(Value::Null, |(_, value)| json!(value)),
            ),
        })
        .collect()
}

fn shm_size(text: &str) -> Result<i64> {
    parse_bytes(text)
        .ok_or_else(|| Error::invalid(format!("invalid --shm-size {text:?}")).with_hint("write 64m"))
}

/// `--check`: findings are a failure, as for docker.
fn check(api: &Api, order: &BuildOrder) -> Outcome {
    let found = output::build_check(send(api, order)?)?;
    output::line(&build_extras::report(&found));
    Ok(u8::from(!found.warnings.is_empty()))
}

/// Runs the build and returns the image's id.
pub fn run(api: &Api, order: &BuildOrder, quiet: bool) -> Result<String> {
    let id = output::build_progress(send(api, order)?, quiet)?;
    id.ok_or_else(|| Error::internal("the build ended without an image"))
}

/// Where the daemon can read the context itself, it is not sent.
fn send(api: &Api, order: &BuildOrder) -> Result<BodyReader> {
    let place = Place::of(order)?;
    if let Some((archive, in_place)) = place.in_place(order)? {
        let extras = BuildExtras { in_place: Some(in_place), ..order.extras.clone() };
        match send_archive(api, order, archive, &place.name, &extras) {
            Err(error) if error.message() == CONTEXT_ELSEWHERE => {}
            answer => return answer,
        }
    }
    send_archive(api, order, place.pack(order)?, &place.name, &order.extras)
}

fn send_archive(
    api: &Api,
    order: &BuildOrder,
    archive: Box<dyn Read + Send>,
    dockerfile: &str,
    extras: &BuildExtras,
) -> Result<BodyReader> {
    let args = Value::Object(order.args.clone()).to_string();
    let labels = Value::Object(order.labels.clone()).to_string();
    let one = |on: bool| on.then_some("1");
    let mut parameters: Vec<(&str, Option<&str>)> = vec![
        ("dockerfile", Some(dockerfile)),
        ("buildargs", (!order.args.is_empty()).then_some(&args)),
        ("labels", (!order.labels.is_empty()).then_some(&labels)),
        ("target", order.target.as_deref()),
        ("nocache", one(order.no_cache)),
        ("pull", one(order.pull)),
        ("networkmode", order.network.as_deref()),
        ("rm", Some("1")),
        ("version", Some("1")),
    ];
    parameters.extend(order.tags.iter().map(|tag| ("t", Some(tag.as_str()))));
    parameters.extend(order.extra_hosts.iter().map(|host| ("extrahosts", Some(host.as_str()))));
    let shm_size = order.shm_size.map(|bytes| bytes.to_string());
    parameters.push(("shmsize", shm_size.as_deref()));
    let path = format!("/build{}", query(&parameters));
    let credentials = credentials::header_for_all();
    let mut headers = vec![("X-Registry-Config", credentials.as_str())];
    let header = build_extras::header(extras)?;
    if *extras != BuildExtras::default() {
        headers.push((BUILD_EXTRAS_HEADER, &header));
    }
    api.stream_with("POST", &path, Body::Tar(archive), &headers)
}
