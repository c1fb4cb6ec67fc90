//! `RUN --mount`: directories made ready before the step and put in order after it.

use crate::dockerfile::instruction::{MountFlag, RunMount, RunMountKind};
use crate::dockerfile::{expand, mount, run::mount_error};
use crate::error::{BuildError, Position, Result};
use crate::execute::Execution;
use crate::files::at;
use crate::files::resolve::resolve;
use crate::files::source::{SourceTree, field};
use crate::files::write::{Changes, LayerWriter};
use crate::runner::{StepMount, StepMountKind};
use crate::state::{State, absolute};
use crate::steps::{cache_mounts, lent};
use rustix::fd::AsFd;
use std::any::Any;
use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Mounts that are ready; the caches stay locked and what the client lent stays open until this is dropped.
#[derive(Default)]
pub(crate) struct Prepared {
    pub(crate) mounts: Vec<StepMount>,
    /// `KEY=value` of secrets and of the SSH agent's socket.
    pub(crate) env: Vec<String>,
    pub(crate) locks: Vec<File>,
    pub(crate) guards: Vec<Box<dyn Any + Send>>,
}

/// The mounts of a RUN with their variables replaced.
pub(crate) fn read(
    run: &Execution<'_>,
    state: &State,
    at: &Position,
    flags: &[MountFlag],
) -> Result<Vec<RunMount>> {
    let word = |value: &str| expand::expand(value, run.file.escape, &|name| state.variable(name));
    let read = |flag: &MountFlag| mount::parse(&flag.text, &word).map_err(|error| mount_error(at, error));
    flags.iter().map(read).collect()
}

/// Takes a mount into the step's key: what a bound tree holds counts, what a cache holds or a client lends
/// doesn't.
pub(crate) fn hash(
    run: &mut Execution<'_>,
    stage: usize,
    at: &Position,
    mount: &RunMount,
    hasher: &mut blake3::Hasher,
) -> Result<()> {
    field(hasher, format!("{mount:?}").as_bytes());
    if let RunMountKind::Bind { from, source, .. } = &mount.kind {
        let image = from.as_ref().map(|from| super::copy::tree_of(run, stage, at, from)).transpose()?;
        let tree = image.as_ref().unwrap_or(run.context);
        for found in tree.select(at, "RUN --mount", source)? {
            tree.hash(&found, hasher)?;
        }
    }
    Ok(())
}

pub(crate) fn prepare(
    run: &mut Execution<'_>,
    stage: usize,
    state: &State,
    at: &Position,
    mounts: &[RunMount],
) -> Result<Prepared> {
    let mut prepared = Prepared::default();
    for mount in mounts {
        let kind = match &mount.kind {
            RunMountKind::Tmpfs { size } => StepMountKind::Tmpfs { size: *size },
            RunMountKind::Bind { from, source, read_only } => StepMountKind::Bind {
                source: copied(run, stage, at, from.as_deref(), source)?,
                read_only: *read_only,
            },
            RunMountKind::Cache { .. } => cache_mounts::prepare(run, stage, at, mount, &mut prepared)?,
            RunMountKind::Secret { .. } => {
                lent::secret(run, state, at, mount, &mut prepared)?;
                continue;
            }
            RunMountKind::Ssh { .. } => {
                lent::ssh(run, state, at, mount, &mut prepared)?;
                continue;
            }
        };
        prepared.mounts.push(StepMount { target: target(state, at, mount)?, kind });
    }
    Ok(prepared)
}

/// Where a bind, cache or tmpfs goes.
fn target(state: &State, at: &Position, mount: &RunMount) -> Result<String> {
    let target = absolute(state.working_dir(), mount.target.as_deref().unwrap_or_default());
    if target == "/" {
        return Err(at.hinted(format!("invalid mount target {target:?}"), "add target=/path"));
    }
    Ok(target)
}

/// A copy of what is to be bound, so that `.dockerignore` holds and nothing of the original can change.
fn copied(
    run: &mut Execution<'_>,
    stage: usize,
    at: &Position,
    from: Option<&str>,
    source: &str,
) -> Result<PathBuf> {
    let image = from.map(|from| super::copy::tree_of(run, stage, at, from)).transpose()?;
    let dir = run.scratch_dir("bind")?;
    copy_tree(run, at, image.as_ref().unwrap_or(run.context), source, &dir)
}

/// Copies what `source` names into `dir` and gives the path of the copy: `dir`, or the one file in it.
pub(crate) fn copy_tree(
    run: &Execution<'_>,
    at: &Position,
    tree: &SourceTree,
    source: &str,
    dir: &Path,
) -> Result<PathBuf> {
    let nothing = at::open_root(&run.empty).map_err(BuildError::sys("open", &run.empty))?;
    let mut writer = LayerWriter {
        at,
        upper: at::open_root(dir).map_err(BuildError::sys("open", dir))?,
        view: nothing.as_fd(),
        changes: Changes::default(),
        replace: false,
        cancel: &run.request.cancel,
        links: HashMap::new(),
        into_layer: false,
    };
    let mut bound = dir.to_owned();
    for found in tree.select(at, "RUN --mount", source)? {
        if at::is_dir(&found.stat) {
            writer.copy(tree, &found, Path::new(""))?;
        } else {
            writer.copy(tree, &found, Path::new("file"))?;
            bound = dir.join("file");
        }
    }
    Ok(bound)
}

/// Which places in the root will come to be only because something is mounted on them: each target and
/// each directory above it that the image hasn't got, deepest first.
pub(crate) fn mount_points(run: &Execution<'_>, state: &State, mounts: &[StepMount]) -> Result<Vec<PathBuf>> {
    if mounts.is_empty() {
        return Ok(Vec::new());
    }
    let view = run.view(state)?;
    let mut points = Vec::new();
    for mount in mounts {
        let Ok(found) = resolve(view.as_fd(), Path::new(&mount.target), true) else { continue };
        let mut path = found.path.as_path();
        while !path.as_os_str().is_empty()
            && at::stat_if_any(&view, path.as_os_str()).is_ok_and(|stat| stat.is_none())
        {
            points.push(path.to_owned());
            path = path.parent().unwrap_or(Path::new(""));
        }
    }
    points.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
    points.dedup();
    Ok(points)
}
