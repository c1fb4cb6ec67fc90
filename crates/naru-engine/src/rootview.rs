//! A container's file system from outside, as descriptors: what `cp`, `export` and `commit` look through.
//!
//! A running container is seen through /proc/<pid>/root, its mounts included. Of a stopped one the overlay is mounted
//! detached (nobody's mount table shows it) and paths that lead into a volume or a bind are taken there. No path of the
//! container is ever resolved from the host's root: openat2(2) with RESOLVE_IN_ROOT does it, magic links refused.

use crate::container::Container;
use crate::engine::Engine;
use crate::merge::clean;
use naru_runtime::rootfs::Rootfs;
use naru_types::spec::MountSource;
use naru_types::{Error, Result};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The root and, of a stopped container, what would be mounted over it: target and opened source.
pub struct RootView {
    root: OwnedFd,
    mounts: Vec<(PathBuf, OwnedFd, bool)>,
    read_only: bool,
}

/// A path found in a view: the tree it is in and its place there, symlinks before the last component resolved.
pub struct Place<'a> {
    pub tree: BorrowedFd<'a>,
    /// Relative to `tree`; `.` for the tree itself.
    pub path: PathBuf,
    pub read_only: bool,
}

impl RootView {
    /// Blocks.
    pub fn open(engine: &Engine, container: &Container) -> Result<Self> {
        let read_only = container.cell().spec.security.read_only_rootfs;
        if let Some(pid) = container.pid() {
            return Ok(Self { root: running_root(container, pid)?, mounts: Vec::new(), read_only: false });
        }
        let root = overlay(container)?;
        let mut mounts = Vec::new();
        let specs = container.cell().spec.mounts.clone();
        for mount in &specs {
            let source = match &mount.source {
                MountSource::Bind { path, .. } => path.clone(),
                MountSource::Volume { name, .. } => engine.volume_data(name),
                MountSource::Tmpfs { .. } => continue,
            };
            // A source that has gone since is simply not mounted over anything.
            if let Ok(fd) = rustix::fs::open(&source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
                mounts.push((PathBuf::from(clean(&mount.target)), fd, mount.read_only));
            }
        }
        // The longest target first, so that a mount within a mount is found.
        mounts.sort_by_key(|(target, _, _)| std::cmp::Reverse(target.as_os_str().len()));
        Ok(Self { root, mounts, read_only })
    }

    /// The container's own layer over its image, mounts left out.
    pub fn without_mounts(container: &Container) -> Result<Self> {
        Ok(Self { root: overlay(container)?, mounts: Vec::new(), read_only: false })
    }

    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Finds `path`. `follow`: the last component too.
    pub fn locate(&self, path: &str, follow: bool) -> std::result::Result<Place<'_>, Errno> {
        let asked = absolute(path);
        let resolved = if follow { self.resolve(&asked)? } else { self.resolve_parent(&asked)? };
        Ok(self.place(&resolved))
    }

    /// Every symlink resolved, within the root.
    fn resolve(&self, path: &Path) -> std::result::Result<PathBuf, Errno> {
        let place = self.place(path);
        let fd = open_in(place.tree, &place.path, OFlags::PATH)?;
        let inner = path_of(&fd, place.tree)?;
        Ok(self.outer(&place, path, &inner))
    }

    fn resolve_parent(&self, path: &Path) -> std::result::Result<PathBuf, Errno> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Ok(PathBuf::from("/"));
        };
        if self.mounts.iter().any(|(target, _, _)| target == path) {
            return Ok(path.to_owned());
        }
        Ok(self.resolve(parent)?.join(name))
    }

    /// In which tree an absolute path without symlinks lies.
    fn place(&self, path: &Path) -> Place<'_> {
        let relative =
            |path: &Path| if path.as_os_str().is_empty() { PathBuf::from(".") } else { path.to_owned() };
        for (target, fd, read_only) in &self.mounts {
            if let Ok(rest) = path.strip_prefix(target) {
                return Place { tree: fd.as_fd(), path: relative(rest), read_only: *read_only };
            }
        }
        let rest = path.strip_prefix("/").unwrap_or(path);
        Place { tree: self.root.as_fd(), path: relative(rest), read_only: self.read_only }
    }

    /// A path within a tree, as a path of the container.
    fn outer(&self, place: &Place<'_>, asked: &Path, inner: &Path) -> PathBuf {
        let is_mount = self.mounts.iter().find(|(target, _, _)| asked.starts_with(target));
        let same =
            std::os::fd::AsRawFd::as_raw_fd(&place.tree) != std::os::fd::AsRawFd::as_raw_fd(&self.root);
        match is_mount {
            Some((target, _, _)) if same => target.join(inner),
            _ => Path::new("/").join(inner),
        }
    }
}

fn overlay(container: &Container) -> Result<OwnedFd> {
    let paths = &container.paths;
    let rootfs = Rootfs::Overlay { lower: paths.lower.clone(), upper: paths.upper(), work: paths.work() };
    rootfs.open().map_err(|error| Error::internal(error.to_string()).with_source(error))
}

/// The number may have been given away since: its cgroup has to name the container.
fn running_root(container: &Container, pid: i32) -> Result<OwnedFd> {
    let failed = |error: Errno| {
        Error::conflict(format!("container {} is not running", container.id))
            .with_source(std::io::Error::from(error))
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(format!("/proc/{pid}/root"), flags, Mode::empty()).map_err(failed)?;
    let cgroups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    if !cgroups.contains(container.id.as_str()) {
        return Err(failed(Errno::SRCH));
    }
    Ok(root)
}

/// openat2(2) within `tree`, as if that were the root.
pub fn open_in(tree: BorrowedFd<'_>, path: &Path, flags: OFlags) -> std::result::Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(tree, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// Where an opened file lies within `tree`, by the kernel's own account of both.
fn path_of(fd: &OwnedFd, tree: BorrowedFd<'_>) -> std::result::Result<PathBuf, Errno> {
    let read = |fd: BorrowedFd<'_>| {
        let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
        rustix::fs::readlink(link, Vec::new())
            .map(|text| PathBuf::from(std::ffi::OsStr::from_bytes(text.as_bytes())))
    };
    let (path, base) = (read(fd.as_fd())?, read(tree)?);
    Ok(path.strip_prefix(&base).or_else(|_| path.strip_prefix("/")).unwrap_or(&path).to_owned())
}

/// Absolute, `.` and `..` taken out by name, as Docker cleans a path before it looks.
pub fn absolute(path: &str) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for part in Path::new(path).components() {
        match part {
            std::path::Component::Normal(name) => clean.push(name),
            std::path::Component::ParentDir => {
                clean.pop();
            }
            std::path::Component::RootDir
            | std::path::Component::CurDir
            | std::path::Component::Prefix(_) => {}
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_cannot_climb() {
        for (path, expect) in [("a/../../b", "/b"), ("", "/"), ("/x/./y/", "/x/y"), ("/..", "/")] {
            assert_eq!(absolute(path), Path::new(expect), "{path}");
        }
    }
}
