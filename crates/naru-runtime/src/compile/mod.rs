//! Compiles an [`oci::Spec`] into a [`Plan`]: the parent's side of every start, where errors can still be explained.
//!
//! The order of the steps is the order in which rights are needed and given up; each comment below says why a step
//! stands where it does.

mod attributes;
mod devices;
mod exec;
mod idmap;
mod mounts;
pub(crate) mod namespaces;
pub(crate) mod options;
pub(crate) mod process;
mod validate;

use crate::capability;
use crate::cgroup::Cgroup;
use crate::child::Relay;
use crate::errors::{Context, StartError};
use crate::hooks::HookInput;
use crate::oci::{self, NamespaceKind};
use crate::outside::Outside;
use crate::plan::{OnError, Op, Plan, Point, Program, Step};
use crate::request::{SpawnError, SpawnRequest, Stdio};
use crate::rootfs::Rootfs;
use crate::userns::{self, Maps};
use crate::{netdev, resctrl, user};
pub(crate) use attributes::mask;
pub(crate) use exec::exec;
use namespaces::Caller;
use naru_kernel::mount::{Change, Propagation, RDONLY};
use naru_kernel::ns::{self, NsFlags};
use naru_kernel::task::Mask;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
pub(crate) use validate::container as validate;

/// Everything [`crate::spawn`] needs for one clone.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub plan: Plan,
    /// For clone3.
    pub namespaces: NsFlags,
    /// A pid namespace to start in; the parent enters it around the clone, as setns(2) acts on children only.
    pub join_pid: Option<OwnedFd>,
    /// The cgroup v2 directory to clone into.
    pub cgroup_v2: Option<OwnedFd>,
    /// The process that joins namespaces before it makes the child.
    pub relay: Option<Relay>,
    /// For [`Point::Born`].
    pub maps: Option<Maps>,
    pub outside: Vec<Outside>,
    /// The CPUs that the clone runs on before the child is in its group.
    pub affinity: Option<Box<Mask>>,
    pub warnings: Vec<String>,
}

/// Steps in the making.
#[derive(Default)]
pub(crate) struct Steps {
    list: Vec<Step>,
}

impl Steps {
    pub fn push(&mut self, op: Op) {
        self.list.push(Step { op, on_error: OnError::Fail });
    }

    pub fn warn(&mut self, op: Op) {
        self.list.push(Step { op, on_error: OnError::Warn });
    }

    pub fn ignore(&mut self, op: Op) {
        self.list.push(Step { op, on_error: OnError::Ignore });
    }
}

/// The plan of a container's first process.
pub(crate) fn container(request: SpawnRequest<'_>, caller: Caller) -> Result<Compiled, SpawnError> {
    let error = StartError::new(Context::Init);
    let SpawnRequest { spec, rootfs, cgroup, netns, stdio, options } = request;
    validate::container(spec, error)?;
    let devices = netdev::plan(spec, &netns, caller, error)?;
    let mut spaces = namespaces::choose(spec, netns, caller, error)?;
    spaces.outside.extend(devices);
    let owners = idmap::Owners::new(spec);
    // Layers belong to the image; the root directory of a bundle is its owner's to map (runtime-spec has no word for it).
    let root = if matches!(rootfs, Rootfs::Overlay { .. }) && owners.has_own() {
        rootfs.open_idmapped(owners.of_container(error)?, owners.root())
    } else {
        rootfs.open()
    };
    let root = root.map_err(|cause| error.plain(&cause.to_string()))?;
    let identity =
        user::resolve(root.as_fd(), &spec.process.user).map_err(|cause| error.plain(&cause.to_string()))?;
    let mut steps = Steps::default();
    if let Some(wanted) = &spec.linux.intel_rdt {
        let tasks = resctrl::prepare(wanted, container_id(spec, options.hooks));
        let tasks = tasks.map_err(|cause| error.plain(&cause.to_string()))?;
        spaces.outside.extend(tasks.into_iter().map(Outside::Resctrl));
    }
    let own_limits = begin_container(&mut steps, spec, &mut spaces, caller, error)?;
    join_cgroup_v1(cgroup, &mut steps, error)?;
    if own_limits {
        // While the host's /proc is still there, and with the rights of the caller.
        attributes::limits(&mut steps, None, &spec.process, error)?;
    }
    attributes::own(&mut steps, &spec.process, &spec.linux, error)?;
    spaces.push_joins(&mut steps);
    if !options.no_new_keyring {
        join_keyring(spec, &mut steps, error)?;
    }
    let hooks = options.hooks.map(|input| input.hooks);
    let attach_at = error.c_string(&attach_at(spec, rootfs, hooks, options.no_pivot, error)?)?;
    mounts::compile(
        &mut steps,
        &mounts::Input { spec, cgroup, attach_at: &attach_at, owners: &owners },
        error,
    )?;
    if let Stdio::Pty { rows, cols } = stdio {
        // After devpts is mounted, before the pivot hides nothing more: /dev/console is mounted from it.
        steps.push(Op::Pty { rows, cols });
        steps.push(Op::Console(mounts::file_target("/dev/console", error)?));
    }
    if hooks.is_some_and(has_create_hooks) {
        steps.push(Op::Await(Point::Created));
    }
    finish_root(&mut steps, spec, spaces.own_net, options.no_pivot, error)?;
    // Never the names of a namespace that somebody else lives in.
    let own_uts = spec.namespace(NamespaceKind::Uts).is_some_and(|namespace| namespace.path.is_none());
    if own_uts && !spec.hostname.is_empty() {
        steps.push(Op::Hostname(error.c_string(&spec.hostname)?));
    }
    if own_uts && !spec.domainname.is_empty() {
        steps.push(Op::Domainname(error.c_string(&spec.domainname)?));
    }
    let preserve_fds = above(options.preserve_fds, error)?;
    let mut rights = process::Rights::of_container(spec, &identity);
    rights.in_user_namespace = spaces.user || caller.worker;
    rights.keep_groups = match &spaces.maps {
        Some(maps) => maps.deny_setgroups,
        None => userns::setgroups_denied(),
    };
    rights.preserved = preserve_fds.len() as u32;
    rights.pause = if options.gate.is_some() {
        Some(Op::Gate)
    } else {
        hooks.is_some_and(|hooks| !hooks.start_container.is_empty()).then_some(Op::Await(Point::Start))
    };
    process::finish(&mut steps, rights, &spec.process.cwd, error)?;
    if options.init {
        steps.push(Op::Init);
    }
    let program = process::program(&spec.process, &identity, error)?;
    if let Some(maps) = &spaces.maps {
        give_stdio(&stdio, maps.host_uid(identity.uid));
    }
    let mut plan = plan(steps, program, root, stdio, identity.uid, error)?;
    plan.preserve_fds = preserve_fds;
    if let Some(gate) = options.gate {
        plan.gate = Some(renumber(gate, plan.preserve_fds.len(), error)?);
        plan.names =
            plan.steps.iter().map(|step| error.c_string(&step.op.describe())).collect::<Result<_, _>>()?;
    }
    Ok(Compiled {
        plan,
        namespaces: spaces.clone,
        join_pid: spaces.join_pid,
        cgroup_v2: cgroup_v2(cgroup, None, error)?,
        relay: spaces.relay,
        maps: spaces.maps,
        outside: spaces.outside,
        affinity: None,
        warnings: unknown_capabilities(spec.process.capabilities.as_ref()),
    })
}

/// Up to the point where the child is who it shall be in the user namespace. Returns whether limits are the child's own
/// business; otherwise the parent does them.
fn begin_container(
    steps: &mut Steps,
    spec: &oci::Spec,
    spaces: &mut namespaces::Namespaces,
    caller: Caller,
    error: StartError,
) -> Result<bool, SpawnError> {
    // The files of an undumpable process in /proc belong to the machine's root, whom a worker is not.
    begin(steps, !caller.worker);
    let own_limits = !spaces.user;
    if !own_limits {
        attributes::limits(steps, Some(&mut spaces.outside), &spec.process, error)?;
    }
    if spaces.new_time {
        steps.push(Op::Unshare(ns::NEWTIME));
    }
    if spaces.maps.is_some() || !spaces.outside.is_empty() {
        steps.push(Op::Await(Point::Born));
    }
    if let Some(maps) = &spaces.maps {
        let (uid, gid) = maps.root;
        steps.push(Op::BecomeRoot { uid, gid, groups: !maps.deny_setgroups });
    } else if spaces.user {
        // Which ids a namespace has that was only joined, the spec does not say; without 0 nobody could set it up.
        steps.push(Op::BecomeRoot { uid: 0, gid: 0, groups: true });
    }
    if spaces.user || caller.worker {
        // A change of user sets it anew.
        steps.push(Op::Undumpable);
    }
    Ok(own_limits)
}

/// Where the root is attached for the time of the set-up. Any directory would do, since pivot_root takes it away, and
/// /proc exists everywhere; but hooks look for the root at its own path, and without a pivot it has to lie over `/`. In
/// the caller's mount namespace it may cover nothing but itself.
fn attach_at(
    spec: &oci::Spec,
    rootfs: &Rootfs,
    hooks: Option<&oci::Hooks>,
    no_pivot: bool,
    error: StartError,
) -> Result<String, SpawnError> {
    const ANYWHERE: &str = "/proc";
    if spec.namespace(NamespaceKind::Mount).is_none() {
        return match rootfs {
            Rootfs::Directory(path) => Ok(path.to_string_lossy().into_owned()),
            Rootfs::Overlay { .. } => Err(error.plain("an overlay needs a mount namespace")),
        };
    }
    if no_pivot {
        return Ok("/".into());
    }
    Ok(own_place_of(spec, rootfs, hooks).unwrap_or_else(|| ANYWHERE.into()))
}

/// The root's own path, when hooks look for it.
fn own_place_of(spec: &oci::Spec, rootfs: &Rootfs, hooks: Option<&oci::Hooks>) -> Option<String> {
    if !hooks.is_some_and(has_create_hooks) {
        return None;
    }
    // An overlay may have no path of its own; its writable directory exists and is the container's alone.
    Some(match rootfs {
        Rootfs::Directory(path) => path.to_string_lossy().into_owned(),
        Rootfs::Overlay { upper, .. } if spec.root.path.is_empty() => upper.to_string_lossy().into_owned(),
        Rootfs::Overlay { .. } => spec.root.path.clone(),
    })
}

fn has_create_hooks(hooks: &oci::Hooks) -> bool {
    [&hooks.prestart, &hooks.create_runtime, &hooks.create_container].iter().any(|list| !list.is_empty())
}

/// "Any value which cannot be mapped to a relevant kernel interface … MUST be logged as a warning" (config.md).
fn unknown_capabilities(sets: Option<&oci::Capabilities>) -> Vec<String> {
    let Some(sets) = sets else { return Vec::new() };
    let lists = [&sets.bounding, &sets.effective, &sets.inheritable, &sets.permitted, &sets.ambient];
    let mut unknown: Vec<&str> = lists
        .into_iter()
        .flatten()
        .filter(|name| capability::number(name).is_none())
        .map(String::as_str)
        .collect();
    unknown.sort_unstable();
    unknown.dedup();
    if unknown.is_empty() {
        return Vec::new();
    }
    // runc's words: tests of other projects look for them.
    vec![format!("ignoring unknown or unavailable capabilities: [{}]", unknown.join(" "))]
}

/// So that the container's user can open /dev/stdout again; the child has no right to give it. The null device is the
/// host's own.
fn give_stdio(stdio: &Stdio, owner: Option<u32>) {
    let (Stdio::Pipes { stdin, stdout, stderr }, Some(owner)) = (stdio, owner) else { return };
    for fd in [stdin, stdout, stderr] {
        if !naru_kernel::path::is_char_device(fd, 1, 3).unwrap_or(true) {
            // What cannot be given away (a file on a foreign file system) stays.
            let _ = rustix::fs::fchown(fd, Some(rustix::fs::Uid::from_raw(owner)), None);
        }
    }
}

/// The child installs these at 3 and following: the sources are moved above all of them first.
fn above(fds: Vec<OwnedFd>, error: StartError) -> Result<Vec<OwnedFd>, SpawnError> {
    let count = fds.len();
    fds.into_iter().map(|fd| renumber(fd, count, error)).collect()
}

pub(crate) fn renumber(fd: OwnedFd, preserved: usize, error: StartError) -> Result<OwnedFd, SpawnError> {
    use std::os::fd::AsRawFd;
    let first = 3 + preserved as i32;
    if preserved == 0 || fd.as_raw_fd() >= first {
        return Ok(fd);
    }
    rustix::io::fcntl_dupfd_cloexec(&fd, first)
        .map_err(|errno| error.errno("copy a preserved descriptor", errno))
}

fn begin(steps: &mut Steps, undumpable: bool) {
    if undumpable {
        // First: from here until execve nobody in a shared pid namespace can look into this process (CVE-2019-5736).
        steps.push(Op::Undumpable);
    }
    // execve keeps ignored signals ignored, and a Rust program ignores SIGPIPE.
    steps.push(Op::ResetSignals);
    steps.push(Op::NewSession);
}

/// Without this every process of every container would hold the keys of the keeper's session. The kernel makes a new
/// keyring, also for an exec: that of the first process is not ours to search.
fn join_keyring(spec: &oci::Spec, steps: &mut Steps, error: StartError) -> Result<(), SpawnError> {
    let name = format!("naru-{}", short_name(&spec.linux.cgroups_path));
    steps.push(Op::JoinKeyring(error.c_string(&name)?));
    Ok(())
}

fn join_cgroup_v1(cgroup: Option<&Cgroup>, steps: &mut Steps, error: StartError) -> Result<(), SpawnError> {
    let Some(cgroup) = cgroup else { return Ok(()) };
    for tasks in cgroup.open_v1_tasks().map_err(|cause| error.plain(&cause.to_string()))? {
        // The child writes, not the parent: moving oneself spares a wait for an RCU grace period (5–20 ms).
        steps.push(Op::JoinCgroup { tasks });
    }
    Ok(())
}

/// The directory to clone into; for an exec, the one that the container's first process is in.
fn cgroup_v2(
    cgroup: Option<&Cgroup>,
    init_pid: Option<i32>,
    error: StartError,
) -> Result<Option<OwnedFd>, SpawnError> {
    let Some(cgroup) = cgroup else { return Ok(None) };
    match init_pid {
        Some(pid) => cgroup.open_v2_dir_of(pid),
        None => cgroup.open_v2_dir(),
    }
    .map_err(|cause| error.plain(&cause.to_string()))
}

/// What must be done to the root while it can still be written and before it is entered.
fn finish_root(
    steps: &mut Steps,
    spec: &oci::Spec,
    own_net: bool,
    no_pivot: bool,
    error: StartError,
) -> Result<(), SpawnError> {
    let linux = &spec.linux;
    let propagation = options::propagation(&linux.rootfs_propagation);
    if no_pivot && matches!(propagation, Some((Propagation::Private, _))) {
        return Err(error.plain("rootfsPropagation of [r]private is not safe without pivot_root"));
    }
    for (name, value) in &linux.sysctl {
        let name = validate::dotted(name);
        validate::sysctl(&name, spec, own_net, error)?;
        let path = format!("sys/{}", validate::sysctl_path(&name));
        steps.push(Op::Sysctl { path: error.c_string(&path)?, value: error.c_string(value)? });
    }
    for path in &linux.readonly_paths {
        steps.push(Op::ReadOnly(error.c_string(below_root(&mounts::clean(path)))?));
    }
    for path in linux.masked_paths.iter().chain(&of_this_machine(&linux.masked_paths)) {
        steps.push(Op::Mask(error.c_string(below_root(&mounts::clean(path)))?));
    }
    // Docker makes a missing working directory; where that cannot be done, entering it gives the better error.
    if let Some(cwd) = crate::plan::Target::new(&spec.process.cwd, naru_kernel::path::Missing::Directory) {
        steps.ignore(Op::MakeDirectory(cwd));
    }
    if spec.root.readonly {
        steps.push(Op::ChangeRoot(Change { set: RDONLY, ..Change::default() }));
    }
    let own_tree = spec.namespace(NamespaceKind::Mount).is_some();
    steps.push(match (own_tree, no_pivot) {
        // chroot(2) alone: the tree is not ours to take anything off.
        (false, _) => Op::MoveRoot { hide: Vec::new() },
        (true, true) => Op::MoveRoot { hide: attributes::host_pseudo_mounts(error)? },
        (true, false) => Op::Pivot,
    });
    // After the pivot, which a shared root would refuse (pivot_root(2), EINVAL).
    if let Some((propagation, recursive)) = propagation {
        steps.push(Op::ChangeRoot(Change { propagation: Some(propagation), recursive, ..Change::default() }));
    }
    Ok(())
}

fn below_root(path: &str) -> &str {
    path.trim_start_matches('/')
}

/// moby's GHSA-6fw5-f8r9-fgfm hides /proc/interrupts and, for each CPU there is, its thermal events. The second list is
/// this machine's, so it is made where the first entry is asked for.
fn of_this_machine(masked: &[String]) -> Vec<String> {
    const CPUS: &str = "/sys/devices/system/cpu";
    if !masked.iter().any(|path| path == "/proc/interrupts") {
        return Vec::new();
    }
    let Ok(entries) = std::fs::read_dir(CPUS) else { return Vec::new() };
    let paths = entries.flatten().map(|entry| entry.path().join("thermal_throttle"));
    paths.filter(|path| path.is_dir()).map(|path| path.to_string_lossy().into_owned()).collect()
}

fn plan(
    steps: Steps,
    program: Program,
    root: OwnedFd,
    stdio: Stdio,
    stdio_owner: u32,
    error: StartError,
) -> Result<Plan, SpawnError> {
    let stdio = match stdio {
        Stdio::Pty { .. } => None,
        Stdio::Pipes { stdin, stdout, stderr } => {
            Some([above_stdio(stdin, error)?, above_stdio(stdout, error)?, above_stdio(stderr, error)?])
        }
    };
    Ok(Plan {
        steps: steps.list,
        program,
        root,
        stdio,
        stdio_owner,
        preserve_fds: Vec::new(),
        gate: None,
        names: Vec::new(),
    })
}

/// Descriptors 0, 1 and 2 are about to be replaced, so none of the sources may be one of them.
fn above_stdio(fd: OwnedFd, error: StartError) -> Result<OwnedFd, SpawnError> {
    use std::os::fd::AsRawFd;
    if fd.as_raw_fd() > 2 {
        return Ok(fd);
    }
    rustix::io::fcntl_dupfd_cloexec(&fd, 3).map_err(|errno| error.errno("copy a standard descriptor", errno))
}

/// The caller's word for the container; without one, its control group's.
pub(crate) fn container_id<'a>(spec: &'a oci::Spec, hooks: Option<&'a HookInput<'_>>) -> &'a str {
    match hooks {
        Some(input) if !input.state.id.is_empty() => &input.state.id,
        _ => short_name(&spec.linux.cgroups_path),
    }
}

/// The last component of the cgroup path is the container's id.
fn short_name(cgroups_path: &str) -> &str {
    let id = cgroups_path.rsplit(['/', ':']).next().unwrap_or_default();
    if id.is_empty() { "container" } else { id }
}

impl StartError {
    /// Text for the kernel; a NUL inside is the spec's fault.
    pub(crate) fn c_string(self, text: &str) -> Result<CString, SpawnError> {
        CString::new(text).map_err(|_| self.plain(&format!("a NUL byte in {text:?}")))
    }
}
