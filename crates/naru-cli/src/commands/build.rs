//! `build`: packs the context, streams it, shows what the builder says.

use crate::client::{Api, Body, query, rewound, scratch_file};
use crate::commands::build_extras;
use crate::flags::BuildFlags;
use crate::request::pairs;
use crate::tar::Writer;
use crate::{Outcome, credentials, output};
use naru_types::dockerignore::{IGNORE_BYTES_MAX, Ignore};
use naru_types::quantity::parse_bytes;
use naru_types::{Error, Result};
use naru_wire::naru::{BUILD_EXTRAS_HEADER, BuildExtras};
use serde_json::{Map, Value, json};
use std::io::{BufWriter, Read};
use std::path::{Path, PathBuf};

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

fn send(api: &Api, order: &BuildOrder) -> Result<impl Read + use<>> {
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
    parameters.extend(order.extra_hosts.iter().map(|host| ("extrahosts", Some(host.as_str()))));
    let shm_size = order.shm_size.map(|bytes| bytes.to_string());
    parameters.push(("shmsize", shm_size.as_deref()));
    let path = format!("/build{}", query(&parameters));
    let credentials = credentials::header_for_all();
    let mut headers = vec![("X-Registry-Config", credentials.as_str())];
    let extras = build_extras::header(&order.extras)?;
    if order.extras != BuildExtras::default() {
        headers.push((BUILD_EXTRAS_HEADER, &extras));
    }
    api.stream_with("POST", &path, Body::Tar(archive), &headers)
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
    // Beside other directories the context has one of its own.
    let base = Path::new(if order.directories.is_empty() { "" } else { "context" });
    let name = if let Ok(inside) = dockerfile.strip_prefix(&context) {
        inside.display().to_string()
    } else {
        let name = format!(".dockerfile.{}", std::process::id());
        writer.append(&dockerfile, &base.join(&name)).map_err(broken)?;
        name
    };
    let needed = |path: &Path| path == Path::new(&name) || path == Path::new(".dockerignore");
    append_tree(&mut writer, &context, base, &ignore, &needed).map_err(broken)?;
    for (number, directory) in order.directories.iter().enumerate() {
        let unreadable = |error: std::io::Error| {
            Error::invalid(format!("cannot read the build context {}", directory.display()))
                .with_source(error)
        };
        let root = directory.canonicalize().map_err(unreadable)?;
        let place = PathBuf::from(format!("directories/{number}"));
        writer.append(&root, &place).map_err(unreadable)?;
        append_tree(&mut writer, &root, &place, &Ignore::default(), &|_| true).map_err(unreadable)?;
    }
    let file = writer
        .finish()
        .and_then(|buffered| buffered.into_inner().map_err(std::io::IntoInnerError::into_error))
        .map_err(broken)?;
    Ok((rewound(file)?, name))
}

/// What the rules leave of the directory `root`, beneath `base` in the archive.
fn append_tree<W: std::io::Write>(
    writer: &mut Writer<W>,
    root: &Path,
    base: &Path,
    ignore: &Ignore,
    needed: &dyn Fn(&Path) -> bool,
) -> std::io::Result<()> {
    let mut pending = vec![PathBuf::new()];
    while let Some(directory) = pending.pop() {
        let mut names: Vec<_> = std::fs::read_dir(root.join(&directory))?
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<std::io::Result<_>>()?;
        names.sort();
        for entry in names {
            let relative = directory.join(entry);
            let path = root.join(&relative);
            let is_dir = std::fs::symlink_metadata(&path)?.is_dir();
            let excluded = !needed(&relative) && ignore.excludes(&relative);
            if is_dir && (!excluded || ignore.has_exceptions()) {
                pending.push(relative.clone());
            }
            if !excluded {
                writer.append(&path, &base.join(&relative))?;
            }
        }
    }
    Ok(())
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
