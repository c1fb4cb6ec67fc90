//! Which control group hierarchies this host has, and where.

use super::CgroupError;
use naru_kernel::{mountinfo, ns, path};
use rustix::fs::{Mode, OFlags};
use std::path::{Path, PathBuf};

/// Magic number of a cgroup v1 mount (statfs(2)).
const CGROUP1_MAGIC: u64 = 0x0027_e0eb;

/// The hierarchies that can be reached. v1 and v2 both filled is "hybrid".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    pub v1: Vec<Hierarchy>,
    /// The directory below which groups are made: the root of the hierarchy, or what was delegated.
    pub v2: Option<PathBuf>,
    /// The caller is not root of the machine: only hierarchies that were delegated to it are in the other fields, and
    /// limits that need one of the others cannot be had.
    pub delegated: bool,
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
        let magic = |path: &Path| {
            let fd = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
            path::fs_magic(fd).ok()
        };
        // Where everybody looks (file-hierarchy(7)): one look instead of the whole table of mounts.
        let usual = Path::new("/sys/fs/cgroup");
        let layout = if magic(usual) == Some(path::CGROUP2_MAGIC) {
            Self { v2: Some(usual.to_owned()), ..Self::default() }
        } else {
            let entries = mountinfo::read()
                .map_err(|cause| CgroupError::io("read", Path::new("/proc/self/mountinfo"), &cause))?;
            Self::from_mounts(&entries, magic)
        };
        let root = rustix::process::geteuid().is_root() && !ns::in_user_namespace();
        Ok(if root { layout } else { layout.only_delegated() })
    }

    /// What of it was given to somebody who is not root (cgroup-v2.rst, "Delegation"). cgroup v1 is not delegated safely,
    /// and systemd does not; a hierarchy that is writable all the same is used.
    fn only_delegated(mut self) -> Self {
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        self.v1.retain(|hierarchy| may_write(&hierarchy.mount));
        self.v2 = self.v2.and_then(|root| highest_delegated(&root, &own, may_hold_groups));
        self.delegated = true;
        self
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

    /// Whether limits of `controller` (v1's name) can be set; for a v2 hierarchy what it hands to its groups counts.
    pub fn has(&self, controller: &str) -> bool {
        let name = if controller == "blkio" { "io" } else { controller };
        let listed = |root: &PathBuf| {
            let text = std::fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
            text.split_whitespace().any(|listed| listed == name)
        };
        self.v1_with(controller).is_some() || self.v2.as_ref().is_some_and(listed)
    }

    /// Whether limits are set through v2.
    pub fn is_v2_only(&self) -> bool {
        self.v1.is_empty() && self.v2.is_some()
    }
}

/// The highest group that is the caller's own or holds it, and that may be used. Processes can be moved only below a
/// group that their mover may write, which therefore has to hold both their places.
fn highest_delegated(root: &Path, own: &str, usable: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let parts = path.split('/').filter(|part| !part.is_empty());
    if path.split('/').any(|part| part == "..") {
        return None;
    }
    let mut places = vec![root.to_owned()];
    for part in parts {
        places.push(places.last()?.join(part));
    }
    places.into_iter().find(|place| usable(place))
}

/// A group with processes of its own hands out no controllers ("No Internal Process Constraint"); the root is free of
/// that, and its file tells of kernel threads only.
fn may_hold_groups(place: &Path) -> bool {
    let is_root = !place.join("cgroup.type").exists();
    let empty =
        || std::fs::read_to_string(place.join("cgroup.procs")).is_ok_and(|text| text.trim().is_empty());
    may_write(place) && may_write(&place.join("cgroup.procs")) && (is_root || empty())
}

fn may_write(path: &Path) -> bool {
    rustix::fs::accessat(
        rustix::fs::CWD,
        path,
        rustix::fs::Access::WRITE_OK,
        // Root inside a user namespace has the rights of whom it is outside: the effective ones count.
        rustix::fs::AtFlags::EACCESS,
    )
    .is_ok()
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
    fn the_highest_delegated_group_is_used() {
        let own = "12:memory:/x\n0::/user.slice/user-1000.slice/user@1000.service/app.slice/a.scope\n";
        let root = Path::new("/sys/fs/cgroup");
        let usable = |place: &Path| place.to_string_lossy().contains("user@1000.service");
        let found = highest_delegated(root, own, usable);
        assert_eq!(found, Some(root.join("user.slice/user-1000.slice/user@1000.service")));
        assert_eq!(highest_delegated(root, "0::/../other\n", |_| true), None);
        assert_eq!(highest_delegated(root, "0::/session.scope\n", |_| false), None);
        assert_eq!(highest_delegated(root, "1:cpu:/\n", |_| true), None);
    }

    #[test]
    fn hidden_mounts_do_not_count() {
        let over = [HYBRID, b"50 31 0:39 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"].concat();
        let magic = |path: &Path| (path == Path::new("/sys/fs/cgroup")).then_some(path::CGROUP2_MAGIC);
        let layout = Layout::from_mounts(&mountinfo::parse(&over), magic);
        assert!(layout.is_v2_only());
    }
}
