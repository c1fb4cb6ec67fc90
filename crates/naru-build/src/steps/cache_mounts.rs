//! `RUN --mount=type=cache`: directories that outlive the build, beneath `<root>/build-cache/mounts`.
//!
//! Caches of one id are one directory only while they begin alike: with the same first content and, where
//! the mount says so, the same owner and mode.

use crate::dockerfile::instruction::{Look, RunMount, RunMountKind, Sharing};
use crate::error::{BuildError, Position, Result};
use crate::execute::Execution;
use crate::files::source::field;
use crate::runner::StepMountKind;
use crate::steps::mounts::{Prepared, copy_tree};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a step that waits for a locked cache looks again, and looks whether it is cancelled.
const LOCK_POLL: Duration = Duration::from_millis(100);
/// The most directories of one private cache.
const PRIVATE_MAX: usize = 64;
const CACHE_MODE: u32 = 0o755;

pub(crate) fn prepare(
    run: &mut Execution<'_>,
    stage: usize,
    at: &Position,
    mount: &RunMount,
    prepared: &mut Prepared,
) -> Result<StepMountKind> {
    let RunMountKind::Cache { id, from, source, sharing, read_only, look } = &mount.kind else {
        return Err(at.error("this mount is not a cache"));
    };
    let target = mount.target.as_deref().unwrap_or_default();
    let tree = from.as_ref().map(|from| super::copy::tree_of(run, stage, at, from)).transpose()?;
    let source = source.as_deref().unwrap_or("/");
    if tree.is_none() && source.trim_matches('/') != "" {
        return Err(at.hinted(
            format!("the cache has no directory {source}: it begins empty"),
            "name where its first content comes from with from=",
        ));
    }
    let mut hasher = blake3::Hasher::new();
    field(&mut hasher, id.as_deref().unwrap_or(&crate::state::absolute("/", target)).as_bytes());
    if *look != Look::default() {
        field(&mut hasher, format!("{look:?}").as_bytes());
    }
    if let Some(tree) = &tree {
        for found in tree.select(at, "RUN --mount", source)? {
            tree.hash(&found, &mut hasher)?;
        }
    }
    let base = run.cache.mounts().join(hasher.finalize().to_hex().as_str());
    let make = |run: &mut Execution<'_>, dir: &Path| {
        make(run, dir, look, |run, fresh| match &tree {
            Some(tree) => copy_tree(run, at, tree, source, fresh).map(drop),
            None => Ok(()),
        })
    };
    let (source, lock) = lock_cache(run, &base, *sharing, &make)?;
    prepared.locks.push(lock);
    Ok(StepMountKind::Bind { source, read_only: *read_only })
}

type Make<'a> = dyn Fn(&mut Execution<'_>, &Path) -> Result<()> + 'a;

/// The directory of a cache, made if missing, and the lock on it.
fn lock_cache(
    run: &mut Execution<'_>,
    base: &Path,
    sharing: Sharing,
    make: &Make<'_>,
) -> Result<(PathBuf, File)> {
    match sharing {
        Sharing::Private => {
            for number in 0..PRIVATE_MAX {
                let dir = base.with_extension(format!("private{number}"));
                make(run, &dir)?;
                if let Some(lock) = try_lock(&dir)? {
                    return Ok((dir, lock));
                }
            }
            let source = std::io::Error::other(format!("{PRIVATE_MAX} steps use it at once"));
            Err(BuildError::Io { step: "use the private cache", path: base.to_owned(), source })
        }
        Sharing::Shared | Sharing::Locked => {
            make(run, base)?;
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

/// Makes a cache's directory whole before it gets its name, so that nobody finds it half-filled.
fn make(
    run: &mut Execution<'_>,
    dir: &Path,
    look: &Look,
    fill: impl Fn(&mut Execution<'_>, &Path) -> Result<()>,
) -> Result<()> {
    if dir.exists() {
        return Ok(());
    }
    let fresh = run.scratch_dir("cache")?;
    fill(run, &fresh)?;
    if *look != Look::default() {
        chown(&fresh, Some(look.uid.unwrap_or(0)), Some(look.gid.unwrap_or(0)))
            .map_err(BuildError::io("chown", &fresh))?;
        fs::set_permissions(&fresh, fs::Permissions::from_mode(look.mode.unwrap_or(CACHE_MODE)))
            .map_err(BuildError::io("chmod", &fresh))?;
    }
    match fs::rename(&fresh, dir) {
        // Another build was faster.
        Err(_) if dir.exists() => Ok(()),
        made => made.map_err(BuildError::io("make the directory", dir)),
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
