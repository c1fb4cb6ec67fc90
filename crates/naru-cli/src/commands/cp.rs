//! `cp`: a tar stream to or from a container. Names on the client follow `cp`'s rules: into a directory that
//! exists, else under the new name.

use crate::client::{Api, Body, escape, query};
use crate::tar::{self, Writer};
use crate::{Outcome, output};
use base64::Engine;
use naru_types::{Error, Kind, Result};
use serde_json::Value;
use std::path::{Path, PathBuf};

pub fn cp(api: &Api, source: &str, destination: &str) -> Outcome {
    match (split(source), split(destination)) {
        (Some(_), Some(_)) => Err(super::invalid("copying between containers is not supported")),
        (None, None) => Err(Error::invalid("must specify at least one container source")
            .with_hint("naru cp CONTAINER:PATH LOCAL")
            .into()),
        (Some((container, path)), None) => from_container(api, container, path, destination),
        (None, Some((container, path))) => to_container(api, source, container, path),
    }
}

/// `container:path`, but neither `./a:b` nor `/a:b`.
fn split(text: &str) -> Option<(&str, &str)> {
    if text.starts_with(['/', '.']) || text == "-" {
        return None;
    }
    text.split_once(':')
}

fn from_container(api: &Api, container: &str, path: &str, destination: &str) -> Outcome {
    let url = format!("/containers/{}/archive{}", escape(container), query(&[("path", Some(path))]));
    let mut archive = api.stream("GET", &url, Body::Empty)?;
    if destination == "-" {
        std::io::copy(&mut archive, &mut std::io::stdout().lock())
            .map_err(|error| Error::internal("cannot write to standard output").with_source(error))?;
        return Ok(0);
    }
    let target = Path::new(destination);
    let base = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned();
    let contents_only = path.ends_with("/.") || path == ".";
    let (root, rename) = if target.is_dir() {
        (target.to_path_buf(), None)
    } else {
        let parent = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !parent.is_dir() {
            return Err(super::invalid(format!("no such directory: {}", parent.display())));
        }
        let name = target
            .file_name()
            .ok_or_else(|| super::invalid(format!("invalid destination {destination:?}")))?;
        (parent.to_path_buf(), Some(PathBuf::from(name)))
    };
    let skipped = tar::unpack(archive, &root, |name| match &rename {
        Some(new) => new.join(name.components().skip(1).collect::<PathBuf>()),
        None if contents_only => name.components().skip(1).collect(),
        None => name.to_path_buf(),
    })?;
    for name in skipped {
        output::talk(format_args!("warning: device node {} was not copied", name.display()));
    }
    output::talk(format_args!("Successfully copied {base} to {destination}"));
    Ok(0)
}

fn to_container(api: &Api, source: &str, container: &str, path: &str) -> Outcome {
    let archive_url = |path: &str, extra: &[(&str, Option<&str>)]| {
        let mut parameters = vec![("path", Some(path))];
        parameters.extend_from_slice(extra);
        format!("/containers/{}/archive{}", escape(container), query(&parameters))
    };
    if source == "-" {
        api.stream("PUT", &archive_url(path, &[]), Body::Tar(Box::new(std::io::stdin())))?;
        return Ok(0);
    }
    let local = Path::new(source);
    let contents_only = source.ends_with("/.") || source == ".";
    std::fs::symlink_metadata(local)
        .map_err(|error| Error::invalid(format!("cannot read {source}")).with_source(error))?;
    let base = std::path::absolute(local)
        .ok()
        .and_then(|path| path.file_name().map(PathBuf::from))
        .unwrap_or_default();
    let into_directory = path.ends_with('/') || destination_is_directory(api, &archive_url(path, &[]))?;
    let (directory, name) = if into_directory {
        (path.to_owned(), if contents_only { PathBuf::new() } else { base })
    } else {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("/", path));
        (if parent.is_empty() { "/".into() } else { parent.to_owned() }, PathBuf::from(name))
    };
    let archive = pack(local, &name)?;
    let url = archive_url(&directory, &[("noOverwriteDirNonDir", Some("true"))]);
    api.stream("PUT", &url, Body::Tar(archive))?;
    output::talk(format_args!("Successfully copied {source} to {container}:{path}"));
    Ok(0)
}

fn destination_is_directory(api: &Api, url: &str) -> Result<bool> {
    match api.head(url, "x-docker-container-path-stat") {
        Ok(header) => {
            let stat = header.and_then(|text| {
                let json = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
                serde_json::from_slice::<Value>(&json).ok()
            });
            Ok(stat
                .and_then(|stat| stat["mode"].as_u64())
                .is_some_and(|mode| mode & u64::from(naru_types::gomode::DIR) != 0))
        }
        Err(error) if error.kind() == Kind::NotFound && !error.message().contains("No such container") => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// The tree below `local` as an archive in a temporary, unlinked file: its size is bounded by the disk, not by memory.
fn pack(local: &Path, name: &Path) -> Result<Box<dyn std::io::Read + Send>> {
    let broken =
        |error: std::io::Error| Error::invalid(format!("cannot read {}", local.display())).with_source(error);
    let file = crate::client::scratch_file()?;
    let mut writer = Writer::new(std::io::BufWriter::new(file));
    let mut pending = vec![(local.to_path_buf(), name.to_path_buf())];
    while let Some((path, name)) = pending.pop() {
        if !name.as_os_str().is_empty() {
            writer.append(&path, &name).map_err(broken)?;
        }
        if std::fs::symlink_metadata(&path).map_err(broken)?.is_dir() {
            for entry in std::fs::read_dir(&path).map_err(broken)? {
                let entry = entry.map_err(broken)?;
                pending.push((entry.path(), name.join(entry.file_name())));
            }
        }
    }
    let file = writer
        .finish()
        .and_then(|buffered| buffered.into_inner().map_err(std::io::IntoInnerError::into_error))
        .map_err(broken)?;
    crate::client::rewound(file)
}
