//! `build`: packs the context, streams it, shows what the builder says.

use crate::client::{Api, Body, query, rewound, scratch_file};
use crate::flags::BuildFlags;
use crate::request::pairs;
use crate::tar::Writer;
use crate::{Outcome, output};
use naru_types::dockerignore::{IGNORE_BYTES_MAX, Ignore};
use naru_types::{Error, Result};
use serde_json::{Map, Value, json};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

/// What a build needs, from flags or from a compose service.
#[derive(Debug, Default)]
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
}

pub fn build(api: &Api, flags: &BuildFlags) -> Outcome {
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
    };
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

/// Runs the build and returns the image's id.
pub fn run(api: &Api, order: &BuildOrder, quiet: bool) -> Result<String> {
    let (archive, dockerfile) = pack(order)?;
    let args = Value::Object(order.args.clone()).to_string();
    let labels = Value::Object(order.labels.clone()).to_string();
    let one = |on: bool| on.then_some("1");
    let mut parameters: Vec<(&str, Option<&str>)> = vec![
        ("dockerfile", Some(&dockerfile)),
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
    let path = format!("/build{}", query(&parameters));
    let response = api.stream("POST", &path, Body::Tar(archive))?;
    let id = output::build_progress(response, quiet)?;
    id.ok_or_else(|| Error::internal("the build ended without an image"))
}

/// The context as an archive; a Dockerfile from outside of it is added under a name of its own.
fn pack(order: &BuildOrder) -> Result<(Box<dyn std::io::Read + Send>, String)> {
    let context = order.context.canonicalize().map_err(|error| {
        Error::invalid(format!(
            "unable to prepare context: path {:?} not found",
            order.context.display().to_string()
        ))
        .with_source(error)
    })?;
    if !context.is_dir() {
        return Err(Error::invalid(format!(
            "unable to prepare context: {} is not a directory",
            context.display()
        )));
    }
    let dockerfile = context.join(order.dockerfile.as_deref().unwrap_or(Path::new("Dockerfile")));
    let dockerfile = dockerfile.canonicalize().map_err(|_| {
        Error::invalid(format!(
            "failed to read dockerfile: open {}: no such file or directory",
            dockerfile.display()
        ))
        .with_hint("name it with -f FILE")
    })?;
    let broken = |error: std::io::Error| {
        Error::invalid(format!("cannot read the context {}", context.display())).with_source(error)
    };
    let ignore = read_ignore(&context, &dockerfile)?;
    let mut writer = Writer::new(BufWriter::new(scratch_file()?));
    let name = if let Ok(inside) = dockerfile.strip_prefix(&context) {
        inside.display().to_string()
    } else {
        let name = format!(".dockerfile.{}", std::process::id());
        writer.append(&dockerfile, Path::new(&name)).map_err(broken)?;
        name
    };
    let mut pending = vec![PathBuf::new()];
    while let Some(directory) = pending.pop() {
        let mut names: Vec<_> = std::fs::read_dir(context.join(&directory))
            .map_err(broken)?
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<std::io::Result<_>>()
            .map_err(broken)?;
        names.sort();
        for entry in names {
            let relative = directory.join(entry);
            let path = context.join(&relative);
            let is_dir = std::fs::symlink_metadata(&path).map_err(broken)?.is_dir();
            let needed = relative == Path::new(&name) || relative == Path::new(".dockerignore");
            let excluded = !needed && ignore.excludes(&relative);
            if is_dir && (!excluded || ignore.has_exceptions()) {
                pending.push(relative.clone());
            }
            if !excluded {
                writer.append(&path, &relative).map_err(broken)?;
            }
        }
    }
    let file = writer
        .finish()
        .and_then(|buffered| buffered.into_inner().map_err(std::io::IntoInnerError::into_error))
        .map_err(broken)?;
    Ok((rewound(file)?, name))
}

/// `<Dockerfile>.dockerignore` wins over the context's own. The daemon applies the same rules; what they exclude need not
/// travel.
fn read_ignore(context: &Path, dockerfile: &Path) -> Result<Ignore> {
    let mut beside = dockerfile.as_os_str().to_owned();
    beside.push(".dockerignore");
    for path in [PathBuf::from(beside), context.join(".dockerignore")] {
        let broken = |what: String| Error::invalid(format!("{}: {what}", path.display()));
        match std::fs::metadata(&path) {
            Err(_) => continue,
            Ok(metadata) if metadata.len() > IGNORE_BYTES_MAX => {
                return Err(broken(format!("larger than {IGNORE_BYTES_MAX} bytes")));
            }
            Ok(_) => {}
        }
        let text = std::fs::read_to_string(&path).map_err(|error| broken(error.to_string()))?;
        return Ignore::parse(&text).map_err(|(line, what)| broken(format!("line {line}: {what}")));
    }
    Ok(Ignore::default())
}
