//! A container's control group on cgroup v1, v2 and hybrid hosts.
//!
//! `<parent>/<id>` below the root of each hierarchy. [`Cgroup::create`] makes it, [`Cgroup::apply`] sets limits,
//! [`crate::spawn`] puts the child in, [`Cgroup::delete`] takes it away. On a hybrid host limits go to v1, and the v2
//! group is made as well, for `cgroup.kill`.

mod devices;
mod files;
mod freezer;
mod layout;
mod limits;
mod oom;
mod place;
mod pressure;
mod stats;
mod stats_more;
mod stats_read;
mod systemd;

use crate::oci;
use naru_kernel::Errno;
use naru_types::signal::Signal;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub use layout::{Hierarchy, Layout};
pub use oom::OomWatch;
pub use pressure::{PressureLevel, PressureWatch};
pub use stats::{
    BlkioEntry, BlkioStats, CpuStats, HugetlbStats, MemoryEntry, MemoryStats, PidsStats, Pressure, Pressures,
    RdmaEntry, RdmaStats, Stall, Stats,
};
pub use systemd::DbusError;

/// Attempts to remove a busy group, and the pause between them: a killed process leaves its group a little after it
/// was reaped.
const DELETE_ATTEMPTS_MAX: u32 = 200;
const DELETE_PAUSE: Duration = Duration::from_millis(5);

/// Rounds of SIGKILL against a group that forks while it is killed (hosts without `cgroup.kill`), one pause of
/// [`FREEZE_PAUSE`] each: on a busy machine a killed process needs its turn to die.
const KILL_ROUNDS_MAX: u32 = 5000;

/// How long a freeze may take, in steps of [`FREEZE_PAUSE`].
const FREEZE_ATTEMPTS_MAX: u32 = 2000;
const FREEZE_PAUSE: Duration = Duration::from_millis(1);

/// A control group operation failed.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    #[error("cannot {step} {}: {source}", path.display())]
    Kernel {
        step: &'static str,
        path: PathBuf,
        #[source]
        source: Errno,
    },
    #[error("this host has no cgroup controller {0:?}")]
    NoController(&'static str),
    #[error(
        "rootless: no control group with the {0} controller was delegated to this user (cgroup v2 and a systemd user \
         manager with Delegate=yes do)"
    )]
    NotDelegated(&'static str),
    #[error("cgroup v2 has no {0}")]
    NotInV2(&'static str),
    /// What was asked, and why it cannot be.
    #[error("cannot set {0}")]
    Invalid(String),
    /// As runc says it: two containers in one group would be killed, frozen and limited together.
    #[error("container's cgroup is not empty: {0} process(es) found")]
    NotEmpty(usize),
    #[error("container's cgroup unexpectedly frozen")]
    Frozen,
    #[error("cannot {step} the unit {unit}: {source}")]
    Systemd {
        step: &'static str,
        unit: String,
        #[source]
        source: DbusError,
    },
    #[error("invalid cgroup path {0:?}")]
    InvalidPath(String),
    #[error("cannot {step} {}: gave up after {attempts} attempts", path.display())]
    Timeout { step: &'static str, path: PathBuf, attempts: u32 },
}

impl CgroupError {
    pub(crate) fn kernel(step: &'static str, path: &Path, source: Errno) -> Self {
        Self::Kernel { step, path: path.to_owned(), source }
    }

    pub(crate) fn io(step: &'static str, path: &Path, error: &io::Error) -> Self {
        Self::kernel(step, path, Errno::from_io_error(error).unwrap_or(Errno::IO))
    }
}

/// Removes the parent of all containers' groups (`naru`) from every hierarchy. One that still holds a group stays, and a
/// missing one is fine: for whoever made the last container go, without knowing whether it was the last.
pub fn remove_parent(name: &str) -> Result<(), CgroupError> {
    let parent = Cgroup::open(name)?;
    let v1 = parent.layout.v1.iter().map(|hierarchy| parent.directory_in(hierarchy));
    for directory in v1.chain(parent.v2_directory()) {
        match rustix::fs::rmdir(&directory) {
            Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::BUSY) => {}
            Err(errno) => return Err(CgroupError::kernel("remove", &directory, errno)),
        }
    }
    Ok(())
}

/// One container's control group.
#[derive(Clone, Debug)]
pub struct Cgroup {
    layout: Layout,
    path: String,
    driver: Driver,
    /// Of a scope that has just been made.
    placeholder: Arc<Mutex<Option<systemd::Placeholder>>>,
}

/// Who makes the group and takes it away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Driver {
    /// We do, in the file system.
    #[default]
    Fs,
    /// A scope of systemd: of the system's manager, or of the user's.
    Systemd { user: bool },
}

impl Cgroup {
    /// Makes `<path>` (such as `naru/<id>`, relative to the root of each hierarchy) with its parents. Taking over an
    /// existing, empty one is fine.
    pub fn create(path: &str) -> Result<Self, CgroupError> {
        let cgroup = Self::open(path)?;
        cgroup.make()?;
        Ok(cgroup)
    }

    /// As [`Cgroup::create`], of a group that was opened.
    pub fn make(&self) -> Result<(), CgroupError> {
        for hierarchy in &self.layout.v1 {
            files::make_directories(&hierarchy.mount, &self.path, |dir| {
                if hierarchy.controllers.iter().any(|name| name == "cpuset") {
                    files::inherit_cpuset(dir)
                } else {
                    Ok(())
                }
            })?;
        }
        if let Some(root) = &self.layout.v2 {
            files::enable_controllers(root);
            files::make_directories(root, &self.path, |dir| {
                // The last one holds processes, so it must not enable controllers for children.
                if dir != root.join(&self.path) {
                    files::enable_controllers(dir);
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// The control group `<path>`, without touching it.
    pub fn open(path: &str) -> Result<Self, CgroupError> {
        let path = path.trim_matches('/');
        let bad = |name: &str| name.is_empty() || name == "." || name == ".." || name.contains('\0');
        if path.split('/').any(bad) {
            return Err(CgroupError::InvalidPath(path.to_owned()));
        }
        Ok(Self {
            layout: Layout::detect()?,
            path: path.to_owned(),
            driver: Driver::Fs,
            placeholder: Arc::default(),
        })
    }

    /// Where [`Cgroup::start_scope`] will put the container: the path of its scope, from `slice:prefix:name`.
    pub fn place_scope(cgroups_path: &str, id: &str, user: bool) -> Result<String, CgroupError> {
        systemd::place(cgroups_path, id, user)
    }

    /// Has systemd make the scope with these limits, and with the properties that `org.systemd.property.NAME` among the
    /// annotations gives it. A process of ours keeps it until [`Cgroup::settle`].
    pub fn start_scope(
        path: &str,
        user: bool,
        resources: &oci::Resources,
        annotations: &BTreeMap<String, String>,
    ) -> Result<Self, CgroupError> {
        let cgroup = Self::open_scope(path, user)?;
        if user {
            // What a user's manager calls the root is its own group, which must be the part that we may use.
            let group = systemd::manager_group(user)?;
            let same = |root: &PathBuf| root.ends_with(group.trim_start_matches('/'));
            if !cgroup.layout.v2.as_ref().is_some_and(same) {
                return Err(CgroupError::NotDelegated("memory"));
            }
        }
        let placeholder =
            systemd::start(&cgroup.path, user, cgroup.layout.is_v2_only(), resources, annotations)?;
        *cgroup.held() = Some(placeholder);
        Ok(cgroup)
    }

    /// A scope that was made before.
    pub fn open_scope(path: &str, user: bool) -> Result<Self, CgroupError> {
        Ok(Self { driver: Driver::Systemd { user }, ..Self::open(path)? })
    }

    /// The container's first process is inside: what kept the scope until now ends, and the processes' limit, which
    /// had to leave room for it, becomes what was asked for.
    pub fn settle(&self, resources: &oci::Resources) -> Result<(), CgroupError> {
        let (Driver::Systemd { user }, true) = (self.driver, self.held().take().is_some()) else {
            return Ok(());
        };
        if resources.pids.limit != Some(1) {
            return Ok(());
        }
        let pids = oci::Resources { pids: resources.pids.clone(), ..Default::default() };
        systemd::update(&self.path, user, self.layout.is_v2_only(), &pids)?;
        limits::apply(self, &pids).map(drop)
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Option<systemd::Placeholder>> {
        self.placeholder.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub fn driver(&self) -> Driver {
        self.driver
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The group's directory in a v1 hierarchy.
    pub fn directory_in(&self, hierarchy: &Hierarchy) -> PathBuf {
        hierarchy.mount.join(&self.path)
    }

    /// The group's directory in the v2 hierarchy.
    pub fn v2_directory(&self) -> Option<PathBuf> {
        self.layout.v2.as_ref().map(|root| root.join(&self.path))
    }

    /// Sets limits, at creation and live. Returns warnings for what this kernel cannot do and nobody insisted on.
    pub fn apply(&self, resources: &oci::Resources) -> Result<Vec<String>, CgroupError> {
        let Driver::Systemd { user } = self.driver else { return limits::apply(self, resources) };
        let mut rounded = systemd::rounded(resources);
        if self.held().is_some() {
            // systemd was told at the start, and the placeholder must not use up the only process.
            if rounded.pids.limit == Some(1) {
                rounded.pids.limit = None;
            }
        } else {
            limits::check(self, &rounded)?;
            systemd::update(&self.path, user, self.layout.is_v2_only(), &rounded)?;
        }
        limits::apply(self, &rounded)
    }

    pub fn stats(&self) -> Result<Stats, CgroupError> {
        // A group that is gone is an error, not a row of zeros.
        let directory = self.main_directory().ok_or_else(|| self.absent("memory"))?;
        rustix::fs::stat(&directory).map_err(|errno| CgroupError::kernel("read", &directory, errno))?;
        Ok(stats_read::read(self))
    }

    /// That a new container may have it: it does not exist yet, or nobody is in it and it is not frozen (a frozen one
    /// would stop the new process before it can say a word). Somebody may have made it with limits of its own.
    pub fn check_free(&self) -> Result<(), CgroupError> {
        match self.pids() {
            Ok(pids) if pids.is_empty() => {}
            Ok(pids) => return Err(CgroupError::NotEmpty(pids.len())),
            Err(CgroupError::Kernel { source: Errno::NOENT | Errno::NODEV, .. }) => {}
            Err(error) => return Err(error),
        }
        if self.is_frozen() { Err(CgroupError::Frozen) } else { Ok(()) }
    }

    /// One that cannot be read is not frozen: there is nobody in it. Being frozen counts: who froze it waits for the rest.
    pub fn is_frozen(&self) -> bool {
        freezer::Freezer::of(self).is_some_and(|freezer| freezer.is_asked())
    }

    /// Stops every process; returns when they are frozen.
    pub fn freeze(&self) -> Result<(), CgroupError> {
        self.set_frozen(true)
    }

    pub fn thaw(&self) -> Result<(), CgroupError> {
        self.set_frozen(false)
    }

    /// Processes inside, sub-groups included, as pids of the caller's pid namespace.
    pub fn pids(&self) -> Result<Vec<i32>, CgroupError> {
        let Some(directory) = self.main_directory() else { return Ok(Vec::new()) };
        let mut pids = Vec::new();
        files::walk(&directory, &mut |dir| {
            let text = files::read(&dir.join("cgroup.procs"))?;
            pids.extend(
                text.lines().filter_map(|line| line.trim().parse::<i32>().ok().filter(|pid| *pid > 0)),
            );
            Ok(())
        })?;
        Ok(pids)
    }

    /// Sends SIGKILL to everything inside, a frozen group included.
    pub fn kill_all(&self) -> Result<(), CgroupError> {
        if let Some(directory) = self.v2_directory() {
            match files::write(&directory.join("cgroup.kill"), "1") {
                Ok(()) if self.layout.is_v2_only() => return Ok(()),
                // Linux before 5.14, or a hybrid host whose v1 groups may know more processes.
                _ => {}
            }
        }
        for _ in 0..KILL_ROUNDS_MAX {
            let pids = self.pids()?;
            if pids.is_empty() {
                return Ok(());
            }
            for pid in pids {
                if let Ok(pidfd) = naru_kernel::pidfd::open(pid) {
                    // Gone already is what was wanted.
                    let _ = naru_kernel::pidfd::send_signal(&pidfd, Signal::KILL);
                }
            }
            // A frozen v1 process takes its SIGKILL only when thawed.
            let _ = self.thaw();
            if self.pids()?.iter().all(|pid| is_dying(*pid)) {
                return Ok(());
            }
            std::thread::sleep(FREEZE_PAUSE);
        }
        Err(CgroupError::Timeout { step: "kill", path: PathBuf::from(&self.path), attempts: KILL_ROUNDS_MAX })
    }

    /// How many processes the kernel killed for memory here, since creation.
    pub fn oom_kills(&self) -> Result<u64, CgroupError> {
        let (file, key) = match self.memory_directory() {
            Some((dir, true)) => (dir.join("memory.events"), "oom_kill"),
            Some((dir, false)) => (dir.join("memory.oom_control"), "oom_kill"),
            None => return Ok(0),
        };
        match files::read(&file) {
            Ok(text) => Ok(files::flat_keyed(&text).get(key).copied().unwrap_or(0)),
            Err(CgroupError::Kernel { source: Errno::NOENT, .. }) => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// A descriptor that becomes readable when [`Cgroup::oom_kills`] may have grown.
    pub fn oom_watch(&self) -> Result<OomWatch, CgroupError> {
        let (directory, v2) = self.memory_directory().ok_or(CgroupError::NoController("memory"))?;
        OomWatch::new(&directory, v2)
    }

    /// Removes it, sub-groups first; waits a bounded time for the last process to be gone. Missing is fine. The parent
    /// directories stay.
    pub fn delete(&self) -> Result<(), CgroupError> {
        let mut first_error = None;
        if let Driver::Systemd { user } = self.driver {
            drop(self.held().take());
            first_error = systemd::stop(&self.path, user).err();
        }
        let v1 = self.layout.v1.iter().map(|hierarchy| self.directory_in(hierarchy));
        for directory in v1.chain(self.v2_directory()) {
            // Every hierarchy gets its turn, whatever happened in the one before.
            if let Err(error) = files::remove_tree(&directory, DELETE_ATTEMPTS_MAX, DELETE_PAUSE) {
                first_error.get_or_insert(error);
            }
        }
        first_error.map_or(Ok(()), Err)
    }

    /// The `tasks` files of all v1 hierarchies, for a child that writes itself in.
    pub(crate) fn open_v1_tasks(&self) -> Result<Vec<OwnedFd>, CgroupError> {
        let open = |hierarchy: &Hierarchy| files::open_write(&self.directory_in(hierarchy).join("tasks"));
        self.layout.v1.iter().map(open).collect()
    }

    /// The v2 directory, to be cloned into.
    pub(crate) fn open_v2_dir(&self) -> Result<Option<OwnedFd>, CgroupError> {
        self.v2_directory().map(|directory| files::open_directory(&directory)).transpose()
    }

    /// The v2 directory for a process beside that one: the group itself, or, when it hands controllers to sub-groups and so
    /// takes no process ("No Internal Process Constraint" of cgroup-v2.rst: an init system lives inside), that one's own.
    pub(crate) fn open_v2_dir_of(&self, pid: i32) -> Result<Option<OwnedFd>, CgroupError> {
        let (Some(root), Some(own)) = (&self.layout.v2, self.v2_directory()) else { return Ok(None) };
        let handed_out = files::read(&own.join("cgroup.subtree_control"));
        if handed_out.is_ok_and(|controllers| controllers.trim().is_empty()) {
            return files::open_directory(&own).map(Some);
        }
        let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let path = text.lines().find_map(|line| line.strip_prefix("0::/"));
        // Only ever below our own group, whatever the file says.
        let inside = path.map(|path| root.join(path)).filter(|dir| dir.starts_with(&own));
        let safe = inside.filter(|dir| !dir.components().any(|part| part == std::path::Component::ParentDir));
        files::open_directory(&safe.unwrap_or(own)).map(Some)
    }

    /// Where limits of `controller` are set: the directory, and whether it is v2's.
    pub(crate) fn controller_directory(&self, controller: &str) -> Option<(PathBuf, bool)> {
        if let Some(hierarchy) = self.layout.v1_with(controller) {
            return Some((self.directory_in(hierarchy), false));
        }
        let v2_name = match controller {
            "blkio" => "io",
            "cpuacct" => "cpu",
            other => other,
        };
        let directory = self.v2_directory()?;
        let available = files::read(&directory.join("cgroup.controllers")).unwrap_or_default();
        available.split_whitespace().any(|name| name == v2_name).then_some((directory, true))
    }

    /// Whether the v2 group itself has `name`.
    pub(crate) fn has_v2_controller(&self, name: &str) -> bool {
        let file = self.v2_directory().map(|directory| directory.join("cgroup.controllers"));
        let text = file.and_then(|file| files::read(&file).ok()).unwrap_or_default();
        text.split_whitespace().any(|own| own == name)
    }

    /// Why there is no hierarchy with that controller.
    fn absent(&self, controller: &'static str) -> CgroupError {
        if self.layout.delegated {
            CgroupError::NotDelegated(controller)
        } else {
            CgroupError::NoController(controller)
        }
    }

    fn memory_directory(&self) -> Option<(PathBuf, bool)> {
        self.controller_directory("memory")
    }

    /// The hierarchy whose process list counts.
    fn main_directory(&self) -> Option<PathBuf> {
        if self.layout.is_v2_only() {
            return self.v2_directory();
        }
        let preferred = ["pids", "memory", "freezer"].iter().find_map(|name| self.layout.v1_with(name));
        preferred.or(self.layout.v1.first()).map(|hierarchy| self.directory_in(hierarchy))
    }

    fn set_frozen(&self, frozen: bool) -> Result<(), CgroupError> {
        let freezer = freezer::Freezer::of(self).ok_or_else(|| self.absent("freezer"))?;
        for _ in 0..FREEZE_ATTEMPTS_MAX {
            // v1 may answer FREEZING for ever unless asked again.
            if freezer.ask(frozen)? {
                return Ok(());
            }
            std::thread::sleep(FREEZE_PAUSE);
        }
        let step = if frozen { "freeze" } else { "thaw" };
        Err(CgroupError::Timeout { step, path: PathBuf::from(&self.path), attempts: FREEZE_ATTEMPTS_MAX })
    }
}

/// Whether the process is a zombie or gone.
fn is_dying(pid: i32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return true };
    // The command name may hold anything, so the state is what follows the last parenthesis (proc_pid_stat(5)).
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    matches!(state, None | Some('Z' | 'X'))
}
