//! Starts processes: one clone3 per container or exec, then waits until the program runs or the child has told why not.
//!
//! What the child reports is answered here: the maps of its user namespace are written, hooks are run, the filter's
//! listener is handed to its agent. A plain start has no such point and costs no round trip.

use crate::child::{self, Arrival, Entry, GO, ReportKind};
use crate::compile::namespaces::Caller;
use crate::compile::{self, Compiled};
use crate::errors::{Context, StartError, text};
use crate::hooks::{self, Container, HookError, Kind};
use crate::oci::{self, Status};
use crate::plan::Point;
use crate::report::{Report, explained, failure, warning};
use crate::request::{NetNs, SpawnError, SpawnRequest, Spawned};
use crate::worker::{self, Begun};
use crate::{notify, resctrl, rootless};
use naru_kernel::process::{Child, CloneArgs};
use naru_kernel::{Errno, ns, pidfd, process, task, unix};
use rustix::fs::{Mode, OFlags};
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Starts a container's first process; see [`crate::request`]. With a gate it returns when the process waits there.
pub fn spawn(request: SpawnRequest<'_>) -> Result<Spawned, SpawnError> {
    let caller = Caller::own();
    if rootless::needs_worker(request.spec, caller) {
        return rootless::spawn(request);
    }
    spawn_as(request, caller, None)
}

/// As [`spawn`], without waiting for what may take as long as others like: a mount whose server does not answer, a disk, the
/// group's share of the CPU. A worker does all that; of the caller's descriptors it keeps those of the request and `further`.
/// The caller must have one thread.
pub(crate) fn spawn_in_worker(
    request: SpawnRequest<'_>,
    further: &[BorrowedFd<'_>],
) -> Result<Begun, SpawnError> {
    let caller = Caller::own();
    let error = StartError::new(Context::Init);
    if let Some(profile) = &request.spec.linux.seccomp {
        // Here, where it stays: what the worker compiles is gone with it. A wrong profile is the worker's to tell.
        let _ = crate::seccomp::cached(profile);
    }
    worker::begin(error, move |side| {
        side.die_with_caller().map_err(|errno| error.errno("live as long as the caller", errno))?;
        let mut own = worker::fds_of(&request.stdio);
        own.extend(further);
        own.extend(request.options.preserve_fds.iter().chain(&request.options.gate).map(AsFd::as_fd));
        if let NetNs::Fd(netns) = &request.netns {
            own.push(netns.as_fd());
        }
        side.keep_only(&own);
        if rootless::needs_worker(request.spec, caller) {
            return rootless::work(request, side);
        }
        spawn_as(request, caller, Some(&|child| side.tell_birth(child)))
    })
}

/// `tell_birth`: called once the child exists, whose parent is then not this process but its parent.
pub(crate) fn spawn_as(
    request: SpawnRequest<'_>,
    caller: Caller,
    tell_birth: Option<&dyn Fn(&Child)>,
) -> Result<Spawned, SpawnError> {
    let (spec, hooks, cgroup) = (request.spec, request.options.hooks, request.cgroup);
    let undo = |failure| {
        if let Some(wanted) = &spec.linux.intel_rdt {
            // The start's own error is the one to tell.
            let _ = resctrl::remove(wanted, compile::container_id(spec, hooks));
        }
        failure
    };
    let compiled = compile::container(request, caller).map_err(undo)?;
    let start = Start {
        compiled: &compiled,
        error: StartError::new(Context::Init),
        spec,
        cgroup,
        hooks,
        state: hooks.map(|input| &input.state),
        tell_birth,
    };
    start.run().map_err(undo)
}

/// One start, container or exec.
pub(crate) struct Start<'a> {
    pub compiled: &'a Compiled,
    pub error: StartError,
    pub spec: &'a oci::Spec,
    pub cgroup: Option<&'a crate::cgroup::Cgroup>,
    pub hooks: Option<&'a hooks::HookInput<'a>>,
    /// For a seccomp agent.
    pub state: Option<&'a oci::State>,
    pub tell_birth: Option<&'a dyn Fn(&Child)>,
}

/// What the child has said so far.
#[derive(Default)]
struct Heard {
    pty_master: Option<OwnedFd>,
    warnings: Vec<String>,
    /// The kernel's words on what the next report is about.
    detail: String,
    created: bool,
    /// What it said before the process in between told of it, in order.
    early: VecDeque<Report>,
}

impl Start<'_> {
    /// Clones into the v2 group, which is the quick way (no lock of all process groups, cgroup-v2.rst). Where the kernel
    /// refuses that, or kills the child at birth, the child writes itself in.
    ///
    /// It kills when the group, or our own, was ever killed through `cgroup.kill`: up to Linux 6.18 at least,
    /// `cgroup_css_set_fork` compares the kill count of the *caller's* group with that of the child's, as if a kill had
    /// come in between.
    pub fn run(&self) -> Result<Spawned, SpawnError> {
        let Some(directory) = &self.compiled.cgroup_v2 else { return self.start(&Entry::None)? };
        match self.start(&Entry::Cloned)? {
            Err(_) => {}
            started => return started,
        }
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let procs = rustix::fs::openat(directory, "cgroup.procs", flags, Mode::empty())
            .map_err(|errno| self.error.errno("open cgroup.procs of the control group", errno))?;
        self.start(&Entry::Write(procs))?
    }

    /// The outer error is final; the inner one calls for another entry, if there is one left.
    fn start(&self, entry: &Entry) -> Result<Result<Spawned, SpawnError>, SpawnError> {
        let arrival = Arrival::new().map_err(|errno| self.error.errno("make an eventfd", errno))?;
        let (ours, child, early) = match self.bear(entry, &arrival)? {
            Ok(born) => born,
            Err(refused) => return Ok(Err(refused)),
        };
        if let Some(tell) = self.tell_birth {
            tell(&child);
        }
        let mut heard = Heard { warnings: self.compiled.warnings.clone(), early, ..Heard::default() };
        let listened = self.listen(&ours, &child, &mut heard);
        if !matches!(entry, Entry::None) && !arrival.is_told() {
            self.end(&child);
            return Ok(Err(listened.err().unwrap_or_else(|| self.killed_at_birth())));
        }
        match listened.and_then(|()| self.after_start(&child, heard.created)) {
            Ok(()) => {
                let Heard { pty_master, warnings, .. } = heard;
                Ok(Ok(Spawned { pid: child.pid, pidfd: child.pidfd, pty_master, warnings }))
            }
            Err(failure) => {
                self.end(&child);
                Err(failure)
            }
        }
    }

    /// It has said its last word and exits, or was killed: reaping cannot take long. A kill makes sure.
    fn end(&self, child: &Child) {
        let _ = pidfd::send_signal(&child.pidfd, naru_types::signal::Signal::KILL);
        if self.tell_birth.is_none() {
            let _ = pidfd::wait(&child.pidfd);
        }
    }

    /// As [`Start::start`], until the process exists. Who has to tell others of it waits until it is in its group.
    fn bear(&self, entry: &Entry, arrival: &Arrival) -> Result<Result<Born, SpawnError>, SpawnError> {
        let (ours, theirs) =
            unix::seqpacket_pair().map_err(|cause| self.error.io("make a socket pair", &cause))?;
        let theirs = compile::renumber(theirs, self.compiled.plan.preserve_fds.len(), self.error)?;
        let first = match self.clone(entry, arrival, theirs)? {
            Ok(first) => first,
            Err(refused) => return Ok(Err(refused)),
        };
        let has_relay = self.compiled.relay.is_some();
        if !matches!(entry, Entry::None)
            && (has_relay || self.tell_birth.is_some())
            && let Err(refused) = self.hear_of_entry(arrival, &ours)
        {
            self.end(&first);
            return Ok(Err(refused));
        }
        if !has_relay {
            return Ok(Ok((ours, first, VecDeque::new())));
        }
        let born = self.hear_of_birth(&ours);
        // The process in between ends right after its word; without one it is stuck or gone.
        if born.is_err() {
            let _ = pidfd::send_signal(&first.pidfd, naru_types::signal::Signal::KILL);
        }
        if self.tell_birth.is_none() {
            pidfd::wait(&first.pidfd)
                .map_err(|errno| self.error.errno("wait for the process in between", errno))?;
        }
        born.map(|(child, early)| Ok((ours, child, early)))
    }

    fn hear_of_entry(&self, arrival: &Arrival, socket: &OwnedFd) -> Result<(), SpawnError> {
        arrival.wait(socket).map_err(|errno| self.error.errno("wait for the new process", errno))?;
        if arrival.is_told() {
            return Ok(());
        }
        let report = Report::receive(socket, self.error)?;
        match report.kind {
            Some(ReportKind::GroupRefused) => Err(self.group_refusal(Errno::from_raw_os_error(report.errno))),
            _ => Err(self.killed_at_birth()),
        }
    }

    fn killed_at_birth(&self) -> SpawnError {
        self.error.plain("the new process was killed as it joined its control group")
    }

    /// What the group's own files say about why it takes no process.
    fn group_refusal(&self, errno: Errno) -> SpawnError {
        let why = self.compiled.cgroup_v2.as_ref().and_then(|directory| refusal_of(directory));
        let step = match why {
            Some(why) => format!("join the control group, {why}"),
            None => "join the control group".into(),
        };
        self.error.errno(&step, errno)
    }

    /// The child, or the process in between. The child's end of the socket is moved into the child, so execve or exit of
    /// the child is our end of file.
    fn clone(
        &self,
        entry: &Entry,
        arrival: &Arrival,
        report: OwnedFd,
    ) -> Result<Result<Child, SpawnError>, SpawnError> {
        let Self { compiled, error, .. } = self;
        let _inside = match &compiled.join_pid {
            Some(fd) => Some(PidNamespace::enter(fd, *error)?),
            None => None,
        };
        let _on_cpus = match &compiled.affinity {
            Some(mask) => Some(OnCpus::go(mask, *error)?),
            None => None,
        };
        let into = matches!(entry, Entry::Cloned);
        let cgroup = compiled.cgroup_v2.as_ref().filter(|_| into).map(AsFd::as_fd);
        let relay = compiled.relay.as_ref();
        let namespaces = if relay.is_some() { 0 } else { compiled.namespaces };
        // The process in between makes the child as its own sibling: both are children of who shall have the child.
        let sibling = self.tell_birth.is_some();
        let child = process::spawn(&CloneArgs { namespaces, cgroup, sibling }, move || {
            if !entry.perform(arrival, report.as_fd()) {
                return process::PANIC_EXIT_CODE;
            }
            match relay {
                Some(relay) => child::run_relay(relay, compiled.namespaces, &compiled.plan, report),
                None => child::run(&compiled.plan, report),
            }
        });
        match child {
            Ok(child) => Ok(Ok(child)),
            Err(errno) if into && may_be_the_group(errno) => Ok(Err(error.errno("clone", errno))),
            Err(errno) => Err(error.errno("clone", errno)),
        }
    }

    /// The child may be quicker with its first words than the process in between with its only one.
    fn hear_of_birth(&self, socket: &OwnedFd) -> Result<(Child, VecDeque<Report>), SpawnError> {
        let mut early = VecDeque::new();
        loop {
            let mut report = Report::receive(socket, self.error)?;
            match report.kind {
                Some(ReportKind::Born) => {
                    let Some(pidfd) = report.fds.pop() else { break };
                    return Ok((Child { pid: report.index as i32, pidfd }, early));
                }
                Some(ReportKind::JoinFailed) => return Err(self.join_failure(&report)),
                Some(_) => early.push_back(report),
                None => break,
            }
        }
        Err(self.error.plain("the process in between ended without a word"))
    }

    fn join_failure(&self, report: &Report) -> SpawnError {
        let joins = self.compiled.relay.as_ref().map(|relay| &relay.joins);
        let step = match joins.and_then(|joins| joins.get(report.index as usize)) {
            Some(join) => format!("join the {} namespace", crate::plan::namespace_name(join.flags)),
            None => "clone".into(),
        };
        self.error.errno(&step, Errno::from_raw_os_error(report.errno))
    }

    /// Reads reports until the child's end closes, or it waits at the gate.
    fn listen(&self, socket: &OwnedFd, child: &Child, heard: &mut Heard) -> Result<(), SpawnError> {
        let plan = &self.compiled.plan;
        loop {
            let mut report = match heard.early.pop_front() {
                Some(report) => report,
                None => Report::receive(socket, self.error)?,
            };
            if report.end {
                // Without this word the child was killed on its way; without a gate that looks like an execve, and its
                // end is seen as the program's.
                let lost = plan.gate.is_some().then(|| self.error.plain("the new process was killed"));
                return lost.map_or(Ok(()), Err);
            }
            match report.kind {
                Some(ReportKind::PtyMaster) => heard.pty_master = report.fds.pop(),
                Some(ReportKind::Detail) => heard.detail = std::mem::take(&mut report.text),
                Some(ReportKind::Warning) => {
                    heard
                        .warnings
                        .push(explained(warning(plan, &report), &std::mem::take(&mut heard.detail)));
                }
                Some(ReportKind::Failed) => {
                    let mut failure = failure(plan, &report, self.error);
                    failure.message = explained(failure.message, &heard.detail);
                    return Err(failure);
                }
                Some(ReportKind::Created) => {
                    heard.created = true;
                    return Ok(());
                }
                Some(ReportKind::Listener) => self.deliver(report.fds.pop(), child)?,
                Some(ReportKind::Point) => {
                    self.at_point(report.index, child, &mut heard.warnings)?;
                    // A child that is gone by now shows as the end of file.
                    let _ = unix::send(socket, GO, &[]);
                }
                Some(ReportKind::GroupRefused) => {
                    return Err(self.group_refusal(Errno::from_raw_os_error(report.errno)));
                }
                Some(ReportKind::Born | ReportKind::JoinFailed) | None => {
                    return Err(self.error.plain("the new process spoke nonsense"));
                }
            }
        }
    }

    fn at_point(&self, point: u32, child: &Child, warnings: &mut Vec<String>) -> Result<(), SpawnError> {
        match Point::from_number(point) {
            Some(Point::Born) => self.set_up_outside(child.pid, warnings),
            Some(Point::Created) => {
                self.run_hooks(Kind::Prestart, child)?;
                self.run_hooks(Kind::CreateRuntime, child)?;
                self.run_hooks(Kind::CreateContainer, child)
            }
            Some(Point::Start) => self.run_hooks(Kind::StartContainer, child),
            None => Err(self.error.plain("the new process stands at a point that does not exist")),
        }
    }

    fn set_up_outside(&self, pid: i32, warnings: &mut Vec<String>) -> Result<(), SpawnError> {
        if let Some(maps) = &self.compiled.maps {
            maps.write(&pid.to_string()).map_err(|cause| self.error.plain(&cause.to_string()))?;
        }
        for item in &self.compiled.outside {
            match item.perform(pid) {
                Ok(()) => {}
                Err(errno) if item.only_warns() => {
                    warnings.push(format!("cannot {}: {}", item.describe(), text(errno.raw_os_error())));
                }
                Err(errno) => return Err(self.error.errno(&item.describe(), errno)),
            }
        }
        Ok(())
    }

    fn run_hooks(&self, kind: Kind, child: &Child) -> Result<(), SpawnError> {
        let Some(input) = self.hooks else { return Ok(()) };
        let container =
            Container { spec: self.spec, pid: child.pid, pidfd: child.pidfd.as_fd(), cgroup: self.cgroup };
        hooks::run_all(input, kind, &container)
            .map_err(|cause: HookError| self.error.plain(&cause.to_string()))
    }

    /// A failing poststart hook stops the container (runtime.md, "Lifecycle", 9); the caller of this kills it.
    fn after_start(&self, child: &Child, created: bool) -> Result<(), SpawnError> {
        if created { Ok(()) } else { self.run_hooks(Kind::Poststart, child) }
    }

    fn deliver(&self, listener: Option<OwnedFd>, child: &Child) -> Result<(), SpawnError> {
        let Some(listener) = listener else { return Err(self.error.plain("the seccomp listener got lost")) };
        notify::deliver(self.spec, self.state, Status::Creating, child.pid, &listener)
            .map_err(|cause| self.error.plain(&cause.to_string()))
    }
}

/// Our end of the report socket, the child, and what it has said already.
type Born = (OwnedFd, Child, VecDeque<Report>);

/// Errors of clone3 that CLONE_INTO_CGROUP may have brought (clone(2)); without it they come again if they were not its.
fn may_be_the_group(errno: Errno) -> bool {
    // E2BIG and EINVAL: Linux before 5.7 does not know the flag.
    matches!(
        errno,
        Errno::BUSY
            | Errno::NOENT
            | Errno::NODEV
            | Errno::OPNOTSUPP
            | Errno::PERM
            | Errno::ACCESS
            | Errno::TOOBIG
            | Errno::INVAL
    )
}

/// cgroup-v2.rst, "Threads" and "No Internal Process Constraint".
fn refusal_of(directory: &OwnedFd) -> Option<String> {
    let read = |name: &str| {
        let file =
            rustix::fs::openat(directory, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        std::io::read_to_string(std::fs::File::from(file)).ok()
    };
    match read("cgroup.type")?.trim() {
        "domain invalid" => return Some("which lies below a threaded one (\"domain invalid\")".into()),
        "threaded" => return Some("which is threaded and takes only threads of its domain".into()),
        _ => {}
    }
    let handed_out = read("cgroup.subtree_control")?;
    let handed_out = handed_out.trim();
    (!handed_out.is_empty()).then(|| {
        format!("which hands controllers ({handed_out}) to its sub-groups and so holds no processes itself")
    })
}

/// The calling thread's children are born in another pid namespace while this lives.
pub(crate) struct PidNamespace {
    own: OwnedFd,
}

impl PidNamespace {
    pub fn enter(fd: &OwnedFd, error: StartError) -> Result<Self, SpawnError> {
        let own = ns::open_own("pid").map_err(|cause| error.io("open the own pid namespace", &cause))?;
        ns::setns(fd, ns::NEWPID).map_err(|errno| error.errno("join the pid namespace", errno))?;
        Ok(Self { own })
    }
}

impl Drop for PidNamespace {
    fn drop(&mut self) {
        // Going back to one's own pid namespace needs only the right that entering the other one needed.
        let _ = ns::setns(&self.own, ns::NEWPID);
    }
}

/// The calling thread runs on these CPUs while this lives, and so do the children that it makes.
struct OnCpus {
    own: Box<task::Mask>,
}

impl OnCpus {
    fn go(mask: &task::Mask, error: StartError) -> Result<Self, SpawnError> {
        let own = task::affinity(0).map_err(|errno| error.errno("read the own CPU affinity", errno))?;
        task::set_affinity(0, mask).map_err(|errno| error.errno("set the initial CPU affinity", errno))?;
        Ok(Self { own: Box::new(own) })
    }
}

impl Drop for OnCpus {
    fn drop(&mut self) {
        // The CPUs were the thread's own a moment ago.
        let _ = task::set_affinity(0, &self.own);
    }
}
