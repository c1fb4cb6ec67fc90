//! Compiles an [`oci::Spec`] into a [`Plan`]: the parent's side of every start, where errors can still be explained.
//!
//! The order of the steps is the order in which rights are needed and given up; each comment below says why a step
//! stands where it does.

mod mounts;
pub(crate) mod options;
pub(crate) mod process;

use crate::cgroup::Cgroup;
use crate::errors::{Context, StartError};
use crate::oci::{self, NamespaceKind};
use crate::plan::{OnError, Op, Plan, Program, Step};
use crate::request::{ExecRequest, NetNs, SpawnError, SpawnRequest, Stdio};
use crate::user;
use naru_kernel::mount::{Change, RDONLY};
use naru_kernel::ns::{self, NsFlags};
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

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
pub(crate) fn container(request: SpawnRequest<'_>) -> Result<Compiled, SpawnError> {
    let error = StartError::new(Context::Init);
    let spec = request.spec;
    let root = request.rootfs.open().map_err(|cause| error.plain(&cause.to_string()))?;
    let identity =
        user::resolve(root.as_fd(), &spec.process.user).map_err(|cause| error.plain(&cause.to_string()))?;
    let mut steps = Steps::default();
    begin(&mut steps);
    let mut namespaces = ns::NEWNS;
    let mut join_pid = None;
    let own_net = !matches!(request.netns, NetNs::Host);
    join_namespaces(spec, request.netns, &mut steps, &mut namespaces, &mut join_pid, error)?;
    join_cgroup_v1(request.cgroup, &mut steps, error)?;
    if spec.namespace(NamespaceKind::Cgroup).is_some_and(|namespace| namespace.path.is_none()) {
        // After joining: the group a process is in at this moment becomes the root that the namespace shows.
        steps.push(Op::Unshare(ns::NEWCGROUP));
    }
    // While the host's /proc is still there, and with the rights of the caller.
    process::limits(&mut steps, &spec.process, error)?;
    join_keyring(spec, &mut steps, error)?;
    mounts::compile(&mut steps, &mounts::Input { spec, cgroup: request.cgroup }, error)?;
    if let Stdio::Pty { rows, cols } = request.stdio {
        // After devpts is mounted, before the pivot hides nothing more: /dev/console is mounted from it.
        steps.push(Op::Pty { rows, cols });
        steps.push(Op::Console(mounts::file_target("/dev/console", error)?));
    }
    finish_root(&mut steps, spec, own_net, error)?;
    // Never the names of a namespace that somebody else lives in.
    let own_uts = spec.namespace(NamespaceKind::Uts).is_some_and(|namespace| namespace.path.is_none());
    if own_uts && !spec.hostname.is_empty() {
        steps.push(Op::Hostname(error.c_string(&spec.hostname)?));
    }
    if own_uts && !spec.domainname.is_empty() {
        steps.push(Op::Domainname(error.c_string(&spec.domainname)?));
    }
    process::finish(&mut steps, &process::Rights::of_container(spec, &identity), &spec.process.cwd, error)?;
    if request.options.init {
        steps.push(Op::Init);
    }
    let program = process::program(&spec.process, &identity, error)?;
    let plan = plan(steps, program, root, request.stdio, identity.uid, error)?;
    let cgroup_v2 = cgroup_v2(request.cgroup, None, error)?;
    Ok(Compiled { plan, namespaces, join_pid, cgroup_v2 })
}

/// The plan of a further process in a running container.
pub(crate) fn exec(request: ExecRequest<'_>) -> Result<Compiled, SpawnError> {
    let error = StartError::new(Context::Exec);
    let root = process::container_root(request.init_pid, request.init_pidfd, error)?;
    let identity = user::resolve(root.as_fd(), &request.process.user)
        .map_err(|cause| error.plain(&cause.to_string()))?;
    let join_pid = ns::open(&format!("/proc/{}/ns/pid", request.init_pid))
        .map_err(|cause| error.io("open the pid namespace", &cause))?;
    let init = request.init_pidfd.try_clone_to_owned().map_err(|cause| error.io("copy the pidfd", &cause))?;
    let mut steps = Steps::default();
    begin(&mut steps);
    join_cgroup_v1(request.cgroup, &mut steps, error)?;
    process::limits(&mut steps, request.process, error)?;
    // One call for all; namespaces that are shared with the host are joined, too, which changes nothing.
    let flags = ns::NEWNS | ns::NEWNET | ns::NEWIPC | ns::NEWUTS | ns::NEWCGROUP;
    steps.push(Op::SetNs { fd: init, flags });
    join_keyring(request.spec, &mut steps, error)?;
    if let Stdio::Pty { rows, cols } = request.stdio {
        steps.push(Op::Pty { rows, cols });
    }
    let rights = process::Rights::of_exec(&request, &identity);
    process::finish(&mut steps, &rights, &request.process.cwd, error)?;
    let program = process::program(request.process, &identity, error)?;
    let plan = plan(steps, program, root, request.stdio, identity.uid, error)?;
    let cgroup_v2 = cgroup_v2(request.cgroup, Some(request.init_pid), error)?;
    Ok(Compiled { plan, namespaces: 0, join_pid: Some(join_pid), cgroup_v2 })
}

fn begin(steps: &mut Steps) {
    // First: from here until execve nobody in a shared pid namespace can look into this process (CVE-2019-5736).
    steps.push(Op::Undumpable);
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

fn join_namespaces(
    spec: &oci::Spec,
    netns: NetNs,
    steps: &mut Steps,
    namespaces: &mut NsFlags,
    join_pid: &mut Option<OwnedFd>,
    error: StartError,
) -> Result<(), SpawnError> {
    match netns {
        NetNs::New => {
            *namespaces |= ns::NEWNET;
            steps.push(Op::LoopbackUp);
        }
        NetNs::Host => {}
        NetNs::Fd(fd) => steps.push(Op::SetNs { fd, flags: ns::NEWNET }),
    }
    for namespace in &spec.linux.namespaces {
        let flag = match namespace.kind {
            // The network comes as a descriptor, mounts are always private, cgroup follows the join.
            NamespaceKind::Network | NamespaceKind::Mount => continue,
            NamespaceKind::Cgroup if namespace.path.is_none() => continue,
            NamespaceKind::Cgroup => ns::NEWCGROUP,
            NamespaceKind::Pid => ns::NEWPID,
            NamespaceKind::Ipc => ns::NEWIPC,
            NamespaceKind::Uts => ns::NEWUTS,
            NamespaceKind::User => return Err(error.plain("user namespaces are not supported")),
            NamespaceKind::Time => return Err(error.plain("time namespaces are not supported")),
        };
        match &namespace.path {
            None => *namespaces |= flag,
            Some(path) => {
                let fd =
                    ns::open(path).map_err(|cause| error.io(&format!("open namespace {path}"), &cause))?;
                if flag == ns::NEWPID {
                    *join_pid = Some(fd);
                } else {
                    steps.push(Op::SetNs { fd, flags: flag });
                }
            }
        }
    }
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
    error: StartError,
) -> Result<(), SpawnError> {
    let linux = &spec.linux;
    for (name, value) in &linux.sysctl {
        if !is_namespaced(name, spec, own_net) {
            return Err(error.plain(&format!("sysctl {name:?} is not in a separate kernel namespace")));
        }
        let path = format!("sys/{}", name.replace('.', "/"));
        steps.push(Op::Sysctl { path: error.c_string(&path)?, value: error.c_string(value)? });
    }
    for path in &linux.readonly_paths {
        steps.push(Op::ReadOnly(error.c_string(path.trim_start_matches('/'))?));
    }
    for path in linux.masked_paths.iter().chain(&of_this_machine(&linux.masked_paths)) {
        steps.push(Op::Mask(error.c_string(path.trim_start_matches('/'))?));
    }
    // Docker makes a missing working directory; where that cannot be done, entering it gives the better error.
    if let Some(cwd) = crate::plan::Target::new(&spec.process.cwd, naru_kernel::path::Missing::Directory) {
        steps.ignore(Op::MakeDirectory(cwd));
    }
    if spec.root.readonly {
        steps.push(Op::ChangeRoot(Change { set: RDONLY, ..Change::default() }));
    }
    steps.push(Op::Pivot);
    // After the pivot, which a shared root would refuse (pivot_root(2), EINVAL).
    if let Some((propagation, recursive)) = options::propagation(&linux.rootfs_propagation) {
        steps.push(Op::ChangeRoot(Change { propagation: Some(propagation), recursive, ..Change::default() }));
    }
    Ok(())
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

/// Whether writing the sysctl changes only the container: the kernel keeps most of them once for the whole machine
/// (the list is runc's, libcontainer/configs/validate).
fn is_namespaced(name: &str, spec: &oci::Spec, own_net: bool) -> bool {
    let own = |kind| spec.namespace(kind).is_some();
    let is_ipc = name.starts_with("fs.mqueue.")
        || name.starts_with("kernel.msg")
        || name.starts_with("kernel.shm")
        || name == "kernel.sem";
    (name.starts_with("net.") && own_net)
        || (is_ipc && own(NamespaceKind::Ipc))
        || (name == "kernel.domainname" && own(NamespaceKind::Uts))
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
    Ok(Plan { steps: steps.list, program, root, stdio, stdio_owner })
}

/// Descriptors 0, 1 and 2 are about to be replaced, so none of the sources may be one of them.
fn above_stdio(fd: OwnedFd, error: StartError) -> Result<OwnedFd, SpawnError> {
    use std::os::fd::AsRawFd;
    if fd.as_raw_fd() > 2 {
        return Ok(fd);
    }
    rustix::io::fcntl_dupfd_cloexec(&fd, 3).map_err(|errno| error.errno("copy a standard descriptor", errno))
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
