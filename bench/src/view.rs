//! Three layouts of control groups on one host: what is mounted at /sys/fs/cgroup decides which one a runtime sees.
//!
//! crun refuses the hybrid layout, so a comparison with it needs one of the other two. In the v2 view only the
//! controllers that no v1 hierarchy holds are there: on a hybrid host a container has no memory or pids limit in it.

use crate::Result;
use naru_kernel::ns;
use rustix::fs::CWD;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use std::path::{Path, PathBuf};

const ROOT: &str = "/sys/fs/cgroup";
const UNIFIED: &str = "/sys/fs/cgroup/unified";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    V1,
    V2,
    Hybrid,
}

impl View {
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "v1" => Ok(Self::V1),
            "v2" => Ok(Self::V2),
            "hybrid" => Ok(Self::Hybrid),
            _ => Err(format!("no such view: {name} (v1, v2 or hybrid)").into()),
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
            Self::Hybrid => "hybrid",
        }
    }

    /// Moves this process into a mount namespace of its own that shows the layout. Every child sees it; the host's
    /// mount table doesn't change.
    pub fn enter(self) -> Result<()> {
        ns::unshare(ns::NEWNS).map_err(|error| format!("cannot make a mount namespace: {error}"))?;
        rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        let has_v1 = Path::new(ROOT).join("memory").is_dir();
        match self {
            Self::V1 | Self::Hybrid if !has_v1 => {
                return Err(format!("this machine has no cgroup v1: no {} view", self.name()).into());
            }
            Self::V1 if Path::new(UNIFIED).is_dir() => {
                rustix::mount::unmount(UNIFIED, UnmountFlags::DETACH)?;
            }
            Self::V2 if has_v1 => rustix::mount::mount("none", ROOT, "cgroup2", MountFlags::empty(), None)?,
            Self::V1 | Self::V2 | Self::Hybrid => {}
        }
        Ok(())
    }

    /// Whether a container of this view can have memory, cpu and pids limits.
    pub fn has_limits(self) -> bool {
        match self {
            Self::V1 | Self::Hybrid => true,
            Self::V2 => std::fs::read_to_string(Path::new(ROOT).join("cgroup.controllers"))
                .is_ok_and(|controllers| controllers.split_whitespace().any(|name| name == "memory")),
        }
    }
}

/// Unmounts whatever is mounted below `dir` in this mount namespace, the latest first.
pub fn unmount_below(dir: &Path) {
    const MOUNT_POINT: usize = 4;
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for line in table.lines().rev() {
        if let Some(point) =
            line.split(' ').nth(MOUNT_POINT).filter(|point| Path::new(point).starts_with(dir))
        {
            let _ = rustix::mount::unmount(point, UnmountFlags::DETACH);
        }
    }
}

/// Removes the control group `name` and what is in it from every hierarchy of the current view.
pub fn remove_cgroups(name: &str) {
    for root in hierarchies() {
        remove_tree(&root.join(name));
    }
}

/// A test that breaks off may leave a paused container, whose processes take no SIGKILL in a frozen group of v1.
pub fn thaw(pid: i32) {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let freezer = text.lines().find_map(|line| line.split_once(":freezer:/")).map(|(_, path)| path);
    // Never the group of the machine's own processes.
    if let Some(path) = freezer.filter(|path| !path.is_empty()) {
        let _ = std::fs::write(Path::new(ROOT).join("freezer").join(path).join("freezer.state"), "THAWED");
    }
}

/// Names of the control groups at the top of any hierarchy of the current view.
pub fn top_level_cgroups() -> Vec<String> {
    let mut names = Vec::new();
    for root in hierarchies() {
        let inside = directories(&root);
        names.extend(inside.iter().filter_map(|dir| Some(dir.file_name()?.to_str()?.to_owned())));
    }
    names
}

/// The v2 root itself, or each directory that a v1 hierarchy is mounted on.
fn hierarchies() -> Vec<PathBuf> {
    let root = Path::new(ROOT);
    if root.join("cgroup.procs").exists() { vec![root.to_path_buf()] } else { directories(root) }
}

fn remove_tree(dir: &Path) {
    for child in directories(dir) {
        remove_tree(&child);
    }
    let _ = rustix::fs::unlinkat(CWD, dir, rustix::fs::AtFlags::REMOVEDIR);
}

fn directories(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}
