//! The writing half of COPY and ADD: each item to its place in a new layer.

use crate::error::{BuildError, Result};
use crate::execute::Execution;
use crate::files::resolve::{Resolved, resolve};
use crate::files::source::{Source, SourceTree};
use crate::files::write::LayerWriter;
use crate::files::{archive, at};
use crate::steps::copy::{Item, Job};
use rustix::fd::{AsFd, OwnedFd};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

pub(crate) fn write(
    run: &mut Execution<'_>,
    job: &Job<'_>,
    tree: &SourceTree,
    view: &OwnedFd,
    upper: &Path,
) -> Result<()> {
    let destination = destination(job, view)?;
    let is_dir = destination.stat.as_ref().is_some_and(at::is_dir);
    if job.into_dir && destination.stat.is_some() && !is_dir {
        return Err(job.at.error(format!("cannot copy to non-directory: {}", job.destination)));
    }
    let into_dir = job.into_dir || (is_dir && !job.copy.link);
    let cancel = run.request.cancel.clone();
    let mut writer = LayerWriter {
        at: job.at,
        upper: at::open_root(upper).map_err(BuildError::sys("open", upper))?,
        view: view.as_fd(),
        changes: job.changes.clone(),
        replace: job.copy.link,
        cancel: &cancel,
        links: HashMap::new(),
        into_layer: true,
    };
    for item in &job.items {
        let place = |name: &OsStr| leaf(job, view, &destination, into_dir, name);
        match item {
            Item::File { source, narrowed } => {
                let tree = narrowed.as_ref().unwrap_or(tree);
                let unpack = job.copy.unpack.unwrap_or(job.copy.add);
                if unpack && unpacked(run, &mut writer, job, tree, source, &destination.path)? {
                    continue;
                }
                if at::is_dir(&source.stat) {
                    writer.copy(tree, source, &destination.path)?;
                } else {
                    writer.copy(tree, source, &place(&source.name)?)?;
                }
            }
            Item::Download(download) => {
                let tree = SourceTree::whole(download.open_dir()?);
                let source = download.source(&tree)?;
                let unpack = job.copy.unpack.unwrap_or(false);
                if !(unpack && unpacked(run, &mut writer, job, &tree, &source, &destination.path)?) {
                    writer.copy(&tree, &source, &place(&source.name)?)?;
                }
                // Another download's file may have the same inode number one day.
                writer.links.clear();
            }
            Item::Heredoc { name, content } => {
                writer.write_file(&place(OsStr::new(name))?, content.as_bytes())?;
            }
        }
    }
    Ok(())
}

/// With `--link` the place is as written, whatever the image has there.
fn destination(job: &Job<'_>, view: &OwnedFd) -> Result<Resolved> {
    if job.copy.link {
        return Ok(Resolved { path: PathBuf::from(job.destination.trim_start_matches('/')), stat: None });
    }
    resolve(view.as_fd(), Path::new(&job.destination), true)
        .map_err(|errno| job.at.error(format!("cannot copy to {}: {errno}", job.destination)))
}

/// Where a file called `name` goes: into the destination, or in its place.
fn leaf(
    job: &Job<'_>,
    view: &OwnedFd,
    destination: &Resolved,
    into_dir: bool,
    name: &OsStr,
) -> Result<PathBuf> {
    let path = if into_dir { destination.path.join(name) } else { destination.path.clone() };
    if job.copy.link {
        return Ok(path);
    }
    // The last component is not followed: a link there is replaced.
    let found = resolve(view.as_fd(), &path, false).map_err(BuildError::sys("read", &path))?;
    Ok(found.path)
}

/// Unpacks an archive into the destination; `false`: it is none.
fn unpacked(
    run: &mut Execution<'_>,
    writer: &mut LayerWriter<'_>,
    job: &Job<'_>,
    tree: &SourceTree,
    source: &Source,
    target: &Path,
) -> Result<bool> {
    let Some(compression) = archive::detect(job.at, tree, source)? else { return Ok(false) };
    let staging = run.scratch_dir("unpack")?;
    archive::extract(job.at, tree, source, compression, &staging)?;
    let root = at::open_root(&staging).map_err(BuildError::sys("open", &staging))?;
    let stat = rustix::fs::fstat(&root).map_err(BuildError::sys("read", &staging))?;
    // Inode numbers of one staging directory may come again in the next.
    writer.links.clear();
    // An archive's own modes stay; --chmod is for what is copied.
    let mode = writer.changes.mode.take();
    writer.copy(&SourceTree::whole(root), &Source { path: PathBuf::new(), name: "".into(), stat }, target)?;
    writer.changes.mode = mode;
    writer.links.clear();
    std::fs::remove_dir_all(&staging).map_err(BuildError::io("remove", &staging))?;
    Ok(true)
}
