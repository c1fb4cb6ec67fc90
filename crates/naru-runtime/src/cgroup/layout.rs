//! Which control group hierarchies this host has, and where.

use super::CgroupError;
use naru_kernel::{mountinfo, path};
use rustix::fs::{Mode, OFlags};
use std::path::{Path, PathBuf};

/// Magic number of a cgroup v1 mount (statfs(2)).
const CGROUP1_MAGIC: u64 = 0x0027_e0eb;

/// The hierarchies that can be reached. v1 and v2 both filled is "hybrid".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    pub v1: Vec<Hierarchy>,
    pub v2: Option<PathBuf>,
}

/// One v1 hierarchy: controllers that are mounted together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// `cpu`, `cpuacct`; or `name=systemd` alone.
    pub controllers: Vec<String>,
    pub mount: PathBuf,
}

impl Hierarchy {
    /// Its usual directory below /sys/fs/cgroup: `cpu,cpuacct`, `systemd`.
    pub fn directory_name(&self) -> String {
        let names: Vec<&str> =
            self.controllers.iter().map(|name| name.strip_prefix("name=").unwrap_or(name)).collect();
        names.join(",")
    }

    /// What must be said to mount the same hierarchy again.
    pub(crate) fn mount_options(&self) -> Vec<String> {
        let named = self.controllers.iter().any(|name| name.starts_with("name="));
        let none = named.then(|| "none".to_owned());
        none.into_iter().chain(self.controllers.iter().cloned()).collect()
    }
}

impl Layout {
    /// Reads /proc/self/mountinfo. A mount that is hidden under a later one does not count: what is asked is what a
    /// path leads to.
    pub fn detect() -> Result<Self, CgroupError> {
        let entries = mountinfo::read()
            .map_err(|cause| CgroupError::io("read", Path::new("/proc/self/mountinfo"), &cause))?;
        Ok(Self::from_mounts(&entries, |path| {
            let fd = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
            path::fs_magic(fd).ok()
        }))
    }

    fn from_mounts(entries: &[mountinfo::Entry], magic: impl Fn(&Path) -> Option<u64>) -> Self {
        let mut layout = Self::default();
        for entry in entries {
            if entry.fs_type == "cgroup" && magic(&entry.mount_point) == Some(CGROUP1_MAGIC) {
                let words = entry.super_options.iter().filter(|word| is_controller(word)).cloned();
                layout.add_v1(Hierarchy { controllers: words.collect(), mount: entry.mount_point.clone() });
            }
            if entry.fs_type == "cgroup2" && magic(&entry.mount_point) == Some(path::CGROUP2_MAGIC) {
                layout.v2.get_or_insert_with(|| entry.mount_point.clone());
            }
        }
        layout
    }

    /// The same hierarchy may be mounted twice; the first place counts.
    fn add_v1(&mut self, hierarchy: Hierarchy) {
        if !self.v1.iter().any(|known| known.controllers == hierarchy.controllers) {
            self.v1.push(hierarchy);
        }
    }

    /// The v1 hierarchy that has `controller`.
    pub fn v1_with(&self, controller: &str) -> Option<&Hierarchy> {
        self.v1.iter().find(|hierarchy| hierarchy.controllers.iter().any(|name| name == controller))
    }

    /// Whether limits are set through v2.
    pub fn is_v2_only(&self) -> bool {
        self.v1.is_empty() && self.v2.is_some()
    }
}

/// Superblock options that name a controller or a named hierarchy, not a mount flag.
fn is_controller(word: &str) -> bool {
    const OTHERS: [&str; 8] =
        ["rw", "ro", "xattr", "noprefix", "clone_children", "cpuset_v2_mode", "none", "favordynmods"];
    !word.is_empty() && !OTHERS.contains(&word) && !word.starts_with("release_agent=")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &[u8] = b"\
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/x,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";

    #[test]
    fn hybrid() {
        let magic =
            |path: &Path| Some(if path.ends_with("unified") { path::CGROUP2_MAGIC } else { CGROUP1_MAGIC });
        let layout = Layout::from_mounts(&mountinfo::parse(HYBRID), magic);
        assert_eq!(layout.v1.len(), 2);
        assert_eq!(layout.v1_with("cpuacct").unwrap().directory_name(), "cpu,cpuacct");
        assert_eq!(layout.v1[1].mount_options(), ["none", "name=systemd"]);
        assert_eq!(layout.v1[1].directory_name(), "systemd");
        assert!(layout.v2.is_some() && !layout.is_v2_only());
    }

    #[test]
    fn hidden_mounts_do_not_count() {
        let over = [HYBRID, b"50 31 0:39 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"].concat();
        let magic = |path: &Path| (path == Path::new("/sys/fs/cgroup")).then_some(path::CGROUP2_MAGIC);
        let layout = Layout::from_mounts(&mountinfo::parse(&over), magic);
        assert!(layout.is_v2_only());
    }
}
