//! Hooks: programs of the configuration that run at six points of a container's life (config.md, "POSIX-platform
//! Hooks").
//!
//! | kind | when | found in | runs in |
//! |---|---|---|---|
//! | prestart, createRuntime | mounts made, root not entered | runtime's | runtime's namespaces |
//! | createContainer | right after | runtime's | container's namespaces, all rights |
//! | startContainer | before the program | container's | container's, with the program's own rights, as an exec |
//! | poststart | the program runs | runtime's | runtime's |
//! | poststop | the container is gone | runtime's | runtime's |
//!
//! A program that comes out of the image (startContainer) never runs with more than the image's own rights.

use crate::cgroup::Cgroup;
use crate::errors::{Context, StartError, text};
use crate::oci::{self, Hook, State, Status};
use crate::outside::foreign_namespaces;
use crate::request::{ExecRequest, Stdio};
use crate::spawn::PidNamespace;
use crate::userns;
use naru_kernel::exec::StringArray;
use naru_kernel::ns::{self, NsFlags};
use naru_kernel::pidfd::{self, ExitStatus};
use naru_kernel::process::{self, Child, CloneArgs};
use naru_kernel::{Errno, exec, signals};
use rustix::event::{PollFd, PollFlags, Timespec};
use std::ffi::CString;
use std::io::{PipeReader, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// Bytes of a hook's output that an error quotes, from the end.
const OUTPUT_BYTES_MAX: usize = 2048;

/// Exit code of a hook's process that could not execute the hook; the reason comes over a pipe.
const NOT_EXECUTED: i32 = 127;

/// The hooks of one container and what they are told.
#[derive(Debug)]
pub struct HookInput<'a> {
    pub hooks: &'a oci::Hooks,
    /// Status and pid are filled in at each point.
    pub state: State,
}

/// A hook that failed.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    #[error("error running {kind} hook #{index}: {path} is not an absolute path")]
    Relative { kind: &'static str, index: usize, path: String },
    #[error("error running {kind} hook #{index}: the timeout of {path} is not greater than zero")]
    Timeout { kind: &'static str, index: usize, path: String },
    #[error("error running {kind} hook #{index}: {path}: {why}, output: {output}")]
    Failed { kind: &'static str, index: usize, path: String, why: String, output: String },
}

/// When a hook runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Prestart,
    CreateRuntime,
    CreateContainer,
    StartContainer,
    Poststart,
    Poststop,
}

/// The container that hooks are about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Container<'a> {
    pub spec: &'a oci::Spec,
    pub pid: i32,
    pub pidfd: BorrowedFd<'a>,
    pub cgroup: Option<&'a Cgroup>,
}

/// Runs the poststop hooks, all of them; what failed comes back as warnings, since nothing can be undone any more
/// (config.md, "Poststop").
pub fn poststop(input: &HookInput<'_>) -> Vec<HookError> {
    let state = state(input, Kind::Poststop, None);
    let hooks = input.hooks.poststop.iter().enumerate();
    hooks.filter_map(|(index, hook)| run(Kind::Poststop, index, hook, &state, None).err()).collect()
}

/// Runs all hooks of `kind` in order, up to the first that fails.
pub(crate) fn run_all(input: &HookInput<'_>, kind: Kind, container: &Container<'_>) -> Result<(), HookError> {
    let list = kind.list(input.hooks);
    if list.is_empty() {
        return Ok(());
    }
    let state = state(input, kind, Some(container.pid));
    list.iter().enumerate().try_for_each(|(index, hook)| run(kind, index, hook, &state, Some(container)))
}

impl Kind {
    fn list(self, hooks: &oci::Hooks) -> &[Hook] {
        match self {
            Self::Prestart => &hooks.prestart,
            Self::CreateRuntime => &hooks.create_runtime,
            Self::CreateContainer => &hooks.create_container,
            Self::StartContainer => &hooks.start_container,
            Self::Poststart => &hooks.poststart,
            Self::Poststop => &hooks.poststop,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Prestart => "prestart",
            Self::CreateRuntime => "createRuntime",
            Self::CreateContainer => "createContainer",
            Self::StartContainer => "startContainer",
            Self::Poststart => "poststart",
            Self::Poststop => "poststop",
        }
    }

    fn status(self) -> Status {
        match self {
            Self::Prestart | Self::CreateRuntime | Self::CreateContainer => Status::Creating,
            Self::StartContainer => Status::Created,
            Self::Poststart => Status::Running,
            Self::Poststop => Status::Stopped,
        }
    }
}

fn state(input: &HookInput<'_>, kind: Kind, pid: Option<i32>) -> State {
    State { version: oci::VERSION.into(), status: kind.status(), pid, ..input.state.clone() }
}

fn run(
    kind: Kind,
    index: usize,
    hook: &Hook,
    state: &State,
    container: Option<&Container<'_>>,
) -> Result<(), HookError> {
    let (kind_name, path) = (kind.name(), hook.path.clone());
    if !hook.path.starts_with('/') {
        return Err(HookError::Relative { kind: kind_name, index, path });
    }
    let timeout = match hook.timeout {
        None => None,
        Some(seconds) => match u64::try_from(seconds) {
            Ok(seconds @ 1..) => Some(Duration::from_secs(seconds)),
            _ => return Err(HookError::Timeout { kind: kind_name, index, path }),
        },
    };
    let failed = |why: String, output: String| HookError::Failed {
        kind: kind_name,
        index,
        path: path.clone(),
        why,
        output,
    };
    let plain =
        |step: &str, cause: &dyn std::fmt::Display| failed(format!("cannot {step}: {cause}"), String::new());
    let stdin = state_file(state).map_err(|cause| plain("pass the state", &cause))?;
    let (output, writer) = std::io::pipe().map_err(|cause| plain("make a pipe", &cause))?;
    let place = Place { kind, state, container };
    let started =
        place.start(hook, stdin, OwnedFd::from(writer)).map_err(|why| failed(why, String::new()))?;
    let (end, output) = watch(&started.child, output, timeout);
    let why = match end {
        End::Exited(ExitStatus::Code(0)) => return Ok(()),
        End::Exited(ExitStatus::Code(NOT_EXECUTED)) if let Some(errno) = started.exec_errno() => {
            format!("cannot execute it: {}", text(errno))
        }
        End::Exited(ExitStatus::Code(code)) => format!("exit status {code}"),
        End::Exited(ExitStatus::Signal(signal)) => format!("killed by signal {signal}"),
        End::TimedOut => format!("timed out after {} s and was killed", hook.timeout.unwrap_or_default()),
        End::Lost(errno) => format!("lost: {errno}"),
    };
    Err(failed(why, output))
}

/// The state as a file to read from: of any length, and no writer has to wait for the hook to read it.
fn state_file(state: &State) -> std::io::Result<OwnedFd> {
    let fd = rustix::fs::memfd_create("state", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = std::fs::File::from(fd);
    file.write_all(&serde_json::to_vec(state)?)?;
    file.rewind()?;
    Ok(file.into())
}

struct Place<'a> {
    kind: Kind,
    state: &'a State,
    container: Option<&'a Container<'a>>,
}

struct Started {
    child: Child,
    /// An errno, when the program could not be executed.
    failure: Option<PipeReader>,
}

impl Started {
    fn exec_errno(self) -> Option<i32> {
        let mut bytes = Vec::new();
        self.failure?.read_to_end(&mut bytes).ok()?;
        bytes.try_into().ok().map(i32::from_ne_bytes)
    }
}

impl Place<'_> {
    /// Starts the hook in its namespaces.
    fn start(&self, hook: &Hook, stdin: OwnedFd, output: OwnedFd) -> Result<Started, String> {
        match (self.kind, self.container) {
            (Kind::StartContainer, Some(container)) => exec_inside(hook, container, stdin, output),
            (Kind::CreateContainer, Some(container)) => {
                let flags = foreign_namespaces(container.pid);
                let cwd = container.spec.root.path.clone();
                start_outside(hook, &cwd, Some((container, flags)), [stdin.as_fd(), output.as_fd()])
            }
            _ => start_outside(hook, &self.state.bundle, None, [stdin.as_fd(), output.as_fd()]),
        }
    }
}

/// A program of the host, in the host's namespaces or (createContainer) in those of the container.
fn start_outside(
    hook: &Hook,
    cwd: &str,
    inside: Option<(&Container<'_>, NsFlags)>,
    stdio: [BorrowedFd<'_>; 2],
) -> Result<Started, String> {
    let to_c = |text: &str| CString::new(text).map_err(|_| format!("a NUL byte in {text:?}"));
    let list = |texts: &[String]| texts.iter().map(|text| to_c(text)).collect::<Result<Vec<_>, _>>();
    let (path, cwd) = (to_c(&hook.path)?, to_c(cwd)?);
    let args = StringArray::new(if hook.args.is_empty() { vec![path.clone()] } else { list(&hook.args)? });
    let env = StringArray::new(list(hook.env.as_deref().unwrap_or_default())?);
    let (failure, failure_writer) =
        std::io::pipe().map_err(|cause| format!("cannot make a pipe: {cause}"))?;
    let error = StartError::new(Context::Init);
    let _pid_namespace = match inside {
        Some((container, flags)) if flags & ns::NEWPID != 0 => {
            let fd = ns::open(&format!("/proc/{}/ns/pid", container.pid))
                .map_err(|cause| format!("cannot open the pid namespace: {cause}"))?;
            Some(PidNamespace::enter(&fd, error).map_err(|cause| cause.to_string())?)
        }
        _ => None,
    };
    let root = inside.map(|(container, _)| userns::root_of(&container.pid.to_string()));
    let body = || {
        let joins = inside.map(|(container, flags)| (container.pidfd, flags & !ns::NEWPID));
        let errno = become_hook(joins, root, stdio, || {
            // Where there is no such directory the hook starts at the root.
            let _ = rustix::process::chdir(&cwd).or_else(|_| rustix::process::chdir(c"/"));
            exec::execve(&path, &args, &env)
        });
        let _ = rustix::io::write(&failure_writer, &errno.raw_os_error().to_ne_bytes());
        NOT_EXECUTED
    };
    let child =
        process::spawn(&CloneArgs::default(), body).map_err(|errno| format!("cannot clone: {errno}"))?;
    Ok(Started { child, failure: Some(failure) })
}

/// Child-safe; returns only when something failed.
fn become_hook(
    joins: Option<(BorrowedFd<'_>, NsFlags)>,
    root: Option<(u32, u32)>,
    [stdin, output]: [BorrowedFd<'_>; 2],
    execute: impl FnOnce() -> Errno,
) -> Errno {
    let prepare = || {
        signals::reset_dispositions();
        signals::set_mask(0)?;
        rustix::process::setsid()?;
        if let Some((pidfd, flags)) = joins
            && flags != 0
        {
            ns::setns(pidfd, flags)?;
            if let (true, Some((uid, gid))) = (flags & ns::NEWUSER != 0, root) {
                exec::set_gid(gid)?;
                exec::set_uid(uid)?;
            }
        }
        exec::install_stdio(stdin, 0)?;
        exec::install_stdio(output, 1)?;
        exec::install_stdio(output, 2)?;
        exec::cloexec_from(3)
    };
    match prepare() {
        Ok(()) => execute(),
        Err(errno) => errno,
    }
}

/// A program of the container, with the rights of its first process.
fn exec_inside(
    hook: &Hook,
    container: &Container<'_>,
    stdin: OwnedFd,
    output: OwnedFd,
) -> Result<Started, String> {
    let spec = container.spec;
    let args = if hook.args.is_empty() { vec![hook.path.clone()] } else { hook.args.clone() };
    let process = oci::Process {
        user: spec.process.user.clone(),
        args,
        env: hook.env.clone().unwrap_or_else(|| spec.process.env.clone()),
        cwd: "/".into(),
        capabilities: spec.process.capabilities.clone(),
        no_new_privileges: spec.process.no_new_privileges,
        rlimits: spec.process.rlimits.clone(),
        ..oci::Process::default()
    };
    let stderr = output.try_clone().map_err(|cause| format!("cannot copy a descriptor: {cause}"))?;
    let request = ExecRequest {
        spec,
        process: &process,
        init_pidfd: container.pidfd,
        init_pid: container.pid,
        cgroup: container.cgroup,
        stdio: Stdio::Pipes { stdin, stdout: output, stderr },
        privileged: false,
        preserve_fds: Vec::new(),
        state: None,
    };
    let spawned = crate::exec::exec_path(request, Some(&hook.path)).map_err(|cause| cause.to_string())?;
    Ok(Started { child: Child { pid: spawned.pid, pidfd: spawned.pidfd }, failure: None })
}

enum End {
    Exited(ExitStatus),
    TimedOut,
    Lost(Errno),
}

/// Waits for the end of the hook, not for that of its output: what it left behind may keep that open.
fn watch(child: &Child, output: PipeReader, timeout: Option<Duration>) -> (End, String) {
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let mut tail = Tail { output: Some(output), bytes: Vec::new() };
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            end_session(child);
            return (End::TimedOut, tail.text());
        }
        match tail.wait(&child.pidfd, left) {
            Ok(false) => {}
            Ok(true) => {
                let end = pidfd::wait(&child.pidfd).map_or_else(End::Lost, End::Exited);
                return (end, tail.text());
            }
            Err(errno) => {
                end_session(child);
                return (End::Lost(errno), tail.text());
            }
        }
    }
}

/// Kills the hook and, as it has a session of its own, what it started.
fn end_session(child: &Child) {
    let _ = signals::kill(-child.pid, KILL);
    let _ = pidfd::send_signal(&child.pidfd, naru_types::signal::Signal::KILL);
    let _ = pidfd::wait(&child.pidfd);
}

const KILL: i32 = 9;

/// The end of what the hook wrote.
struct Tail {
    output: Option<PipeReader>,
    bytes: Vec<u8>,
}

impl Tail {
    /// Takes in what there is; whether the process has ended.
    fn wait(&mut self, pidfd: &OwnedFd, left: Option<Duration>) -> Result<bool, Errno> {
        let left = left
            .map(|left| Timespec { tv_sec: left.as_secs() as _, tv_nsec: i64::from(left.subsec_nanos()) });
        let mut polled = vec![PollFd::new(pidfd, PollFlags::IN)];
        if let Some(output) = &self.output {
            polled.push(PollFd::new(output, PollFlags::IN));
        }
        match rustix::event::poll(&mut polled, left.as_ref()) {
            Err(Errno::INTR) => return Ok(false),
            other => other?,
        };
        let ended = !polled.first().is_none_or(|pidfd| pidfd.revents().is_empty());
        let readable = polled.get(1).is_some_and(|output| !output.revents().is_empty());
        drop(polled);
        if readable {
            self.read();
        }
        // What it wrote before it ended is in the pipe by now: the next round reads it.
        Ok(ended && !readable)
    }

    fn read(&mut self) {
        let mut buffer = [0u8; 4096];
        let len = self.output.as_mut().map_or(0, |output| output.read(&mut buffer).unwrap_or(0));
        if len == 0 {
            self.output = None;
        }
        self.bytes.extend_from_slice(buffer.get(..len).unwrap_or_default());
        let surplus = self.bytes.len().saturating_sub(OUTPUT_BYTES_MAX);
        self.bytes.drain(..surplus);
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).trim_end().to_owned()
    }
}
