//! `RUN --mount`: directories made ready before the step and put in order after it.

use crate::dockerfile::instruction::{RunMount, RunMountKind, Sharing};
use crate::error::{BuildError, Position, Result};
use crate::execute::Execution;
use crate::files::at;
use crate::files::resolve::resolve;
use crate::files::source::field;
use crate::files::write::{Changes, LayerWriter};
use crate::runner::{StepMount, StepMountKind};
use crate::state::{State, absolute};
use rustix::fd::AsFd;
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a step that waits for a locked cache looks again, and looks whether it is cancelled.
const LOCK_POLL: Duration = Duration::from_millis(100);
/// The most directories of one private cache.
const PRIVATE_MAX: usize = 64;

/// Mounts that are ready; the caches stay locked until this is dropped.
#[derive(Default)]
pub(crate) struct Prepared {
    pub(crate) mounts: Vec<StepMount>,
    #[allow(dead_code)] // held, never read
    locks: Vec<File>,
}

/// Takes a mount into the step's key: a cache's content doesn't count, a bound tree's does.
pub(crate) fn hash(
    run: &mut Execution<'_>,
    stage: usize,
    at: &Position,
    mount: &RunMount,
    hasher: &mut blake3::Hasher,
) -> Result<()> {
    field(hasher, format!("{mount:?}").as_bytes());
    if let RunMountKind::Bind { from, source } = &mount.kind {
        let image = from.as_ref().map(|from| super::copy::image_tree(run, stage, at, from)).transpose()?;
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
            RunMountKind::Bind { from, source } => StepMountKind::Bind {
                source: copied(run, stage, at, from.as_deref(), source)?,
                read_only: true,
            },
            RunMountKind::Cache { id, sharing, read_only, mode, uid, gid } => {
                let name = blake3::hash(id.as_bytes()).to_hex();
                let base = run.cache.mounts().join(name.as_str());
                let (source, lock) = lock_cache(run, &base, *sharing, (*mode, *uid, *gid))?;
                prepared.locks.push(lock);
                StepMountKind::Bind { source, read_only: *read_only }
            }
        };
        prepared.mounts.push(StepMount { target: absolute(state.working_dir(), &mount.target), kind });
    }
    Ok(prepared)
}

/// A copy of what is to be bound, so that `.dockerignore` holds and nothing of the original can change.
fn copied(
    run: &mut Execution<'_>,
    stage: usize,
    at: &Position,
    from: Option<&str>,
    source: &str,
) -> Result<PathBuf> {
    let image = from.map(|from| super::copy::image_tree(run, stage, at, from)).transpose()?;
    let dir = run.scratch_dir("bind")?;
    let tree = image.as_ref().unwrap_or(run.context);
    let nothing = at::open_root(&run.empty).map_err(BuildError::sys("open", &run.empty))?;
    let mut writer = LayerWriter {
        at,
        upper: at::open_root(&dir).map_err(BuildError::sys("open", &dir))?,
        view: nothing.as_fd(),
        changes: Changes::default(),
        cancel: &run.request.cancel,
        links: HashMap::new(),
    };
    let mut bound = dir.clone();
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

/// The directory of a cache, made if missing, and the lock on it.
fn lock_cache(
    run: &Execution<'_>,
    base: &Path,
    sharing: Sharing,
    look: (u32, u32, u32),
) -> Result<(PathBuf, File)> {
    match sharing {
        Sharing::Private => {
            for number in 0..PRIVATE_MAX {
                let dir = base.with_extension(format!("private{number}"));
                make(&dir, look)?;
                if let Some(lock) = try_lock(&dir)? {
                    return Ok((dir, lock));
                }
            }
            let source = std::io::Error::other(format!("{PRIVATE_MAX} steps use it at once"));
            Err(BuildError::Io { step: "use the private cache", path: base.to_owned(), source })
        }
        Sharing::Shared | Sharing::Locked => {
            make(base, look)?;
            let operation = match sharing {
                Sharing::Locked => FlockOperation::NonBlockingLockExclusive,
                Sharing::Shared | Sharing::Private => FlockOperation::NonBlockingLockShared,
            };
            loop {
                if let Some(lock) = flock(base, operation)? {
                    return Ok((base.to_owned(), lock));
                }
                run.check_cancel()?;
                std::thread::sleep(LOCK_POLL);
            }
        }
    }
}

fn make(dir: &Path, (mode, uid, gid): (u32, u32, u32)) -> Result<()> {
    match fs::create_dir(dir) {
        Ok(()) => {
            chown(dir, Some(uid), Some(gid)).map_err(BuildError::io("chown", dir))?;
            fs::set_permissions(dir, fs::Permissions::from_mode(mode)).map_err(BuildError::io("chmod", dir))
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(BuildError::io("make the directory", dir)(error)),
    }
}

/// An exclusive lock on a directory, or `None` when somebody else has one.
pub(crate) fn try_lock(dir: &Path) -> Result<Option<File>> {
    flock(dir, FlockOperation::NonBlockingLockExclusive)
}

fn flock(dir: &Path, operation: FlockOperation) -> Result<Option<File>> {
    let file = File::open(dir).map_err(BuildError::io("open", dir))?;
    match rustix::fs::flock(&file, operation) {
        Ok(()) => Ok(Some(file)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(errno) => Err(BuildError::sys("lock", dir)(errno)),
    }
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
