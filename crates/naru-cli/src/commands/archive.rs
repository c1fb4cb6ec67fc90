//! `save`, `load`, `import`: images as tar files.

use super::image::encode_name;
use crate::client::{Api, Body, query};
use crate::flags::{ArchiveFormat, ImportFlags, LoadFlags, SaveFlags};
use crate::{Outcome, output};
use naru_types::{Error, ImageRef, Result};
use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::Path;

pub fn save(api: &Api, flags: &SaveFlags) -> Outcome {
    if flags.output.is_none() && std::io::stdout().is_terminal() {
        return Err(Error::invalid("cowardly refusing to save to a terminal")
            .with_hint("naru save -o FILE IMAGE")
            .into());
    }
    let mut names: Vec<(&str, Option<&str>)> =
        flags.images.iter().map(|name| ("names", Some(name.as_str()))).collect();
    names.push(("format", (flags.format == ArchiveFormat::Oci).then_some("oci")));
    if let Some(path) = flags.output.as_deref().filter(|path| is_directory(path)) {
        make_empty(path)?;
    }
    let mut archive = api.stream("GET", &format!("/images/get{}", query(&names)), Body::Empty)?;
    match &flags.output {
        None => copy(&mut archive, &mut std::io::stdout().lock(), "standard output")?,
        Some(path) if is_directory(path) => {
            if let Err(error) = crate::tar::unpack(archive, Path::new(path), Path::to_owned) {
                empty(path);
                return Err(error.into());
            }
        }
        Some(path) => {
            // Written beside and renamed, so that a failed save leaves no half archive under the wanted name.
            let part = format!("{path}.part");
            let mut file = File::create(&part).map_err(|error| unusable(&part, error))?;
            if let Err(error) = copy(&mut archive, &mut file, &part) {
                let _ = std::fs::remove_file(&part);
                return Err(error.into());
            }
            std::fs::rename(&part, path).map_err(|error| unusable(path, error))?;
        }
    }
    Ok(0)
}

pub fn load(api: &Api, flags: &LoadFlags) -> Outcome {
    let input = match flags.input.as_deref().filter(|path| Path::new(path).is_dir()) {
        Some(layout) => super::layout::pack(layout)?,
        None => open(flags.input.as_deref(), "naru load -i FILE")?,
    };
    let path = format!("/images/load{}", query(&[("quiet", flags.quiet.then_some("1"))]));
    let response = api.stream("POST", &path, Body::Tar(input))?;
    output::progress(response, false)?;
    Ok(0)
}

pub fn import(api: &Api, flags: &ImportFlags) -> Outcome {
    let source = (flags.source != "-").then_some(flags.source.as_str());
    let input = open(source, "naru import FILE")?;
    let reference =
        flags.reference.as_deref().map(ImageRef::parse).transpose()?.map(|r| r.with_default_tag());
    let repository = reference.as_ref().map(ImageRef::familiar_repository);
    let mut parameters = vec![
        ("fromSrc", Some("-")),
        ("repo", repository.as_deref()),
        ("tag", reference.as_ref().and_then(ImageRef::tag)),
        ("message", flags.message.as_deref()),
    ];
    parameters.extend(flags.change.iter().map(|change| ("changes", Some(change.as_str()))));
    let path = format!("/images/create{}", query(&parameters));
    let response = api.stream("POST", &path, Body::Tar(input))?;
    let id = output::last_status(response)?;
    output::line(id.ok_or_else(|| Error::internal("the import ended without an image"))?);
    Ok(0)
}

fn is_directory(path: &str) -> bool {
    path.ends_with('/') || Path::new(path).is_dir()
}

/// What is in the directory already would be mixed with the layout.
fn make_empty(path: &str) -> Result<()> {
    std::fs::create_dir_all(path).map_err(|error| unusable(path, error))?;
    match std::fs::read_dir(path).map_err(|error| unusable(path, error))?.next() {
        None => Ok(()),
        Some(_) => {
            Err(Error::invalid(format!("{path} is not empty")).with_hint("name an empty or a new directory"))
        }
    }
}

/// Takes back a failed save from a directory that was empty before. What cannot be removed is no layout: that is
/// complete only with its index, which comes last.
fn empty(path: &str) {
    for item in std::fs::read_dir(path).into_iter().flatten().flatten() {
        let is_directory = item.file_type().is_ok_and(|kind| kind.is_dir());
        let remove = if is_directory { std::fs::remove_dir_all } else { std::fs::remove_file };
        let _ = remove(item.path());
    }
}

fn open(path: Option<&str>, hint: &str) -> Result<Box<dyn Read + Send>> {
    match path {
        Some(path) => Ok(Box::new(File::open(path).map_err(|error| unusable(path, error))?)),
        None if std::io::stdin().is_terminal() => {
            Err(Error::invalid("requested to read an archive from standard input, but it is a terminal")
                .with_hint(hint))
        }
        None => Ok(Box::new(std::io::stdin())),
    }
}

fn copy(from: &mut impl Read, to: &mut impl std::io::Write, name: &str) -> Result<()> {
    std::io::copy(from, to).map(drop).map_err(|error| unusable(name, error))
}

pub fn unusable(path: &str, error: std::io::Error) -> Error {
    Error::invalid(format!("cannot use {path}")).with_source(error)
}

/// Whether the daemon has the image.
pub fn exists(api: &Api, name: &str) -> Result<bool> {
    match api.get(&format!("/images/{}/json", encode_name(name))) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == naru_types::Kind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
