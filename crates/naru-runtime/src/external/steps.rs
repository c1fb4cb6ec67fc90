//! What the worker does: prepares what the runtime reads, runs it, and finds out which process it has made.

use super::words;
use super::{Create, Exec, Runtime};
use crate::errors::{Context, StartError};
use crate::oci::{self, NamespaceKind};
use crate::request::{SpawnError, Spawned, Stdio};
use crate::rootfs::Rootfs;
use crate::{capability, user};
use naru_kernel::mount::{self, Propagation};
use naru_kernel::process::Child;
use naru_kernel::{caps, ns, pidfd, signals, tty, unix};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio as Standard};
use std::time::Duration;

/// Where runtimes, and their hooks, find programs. Nothing else of the keeper's environment is passed on.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How long one call of the runtime may take; below the keeper's client's own limit of a minute, which covers two.
const CALL_TIMEOUT: Duration = Duration::from_secs(25);

/// The spec's version that is written: there is nothing newer in naru's, and older runtimes refuse a later one.
const SPEC_VERSION: &str = "1.0.2";

/// Bytes of a `sockaddr_un` path with its NUL (unix(7)).
const SOCKET_PATH_BYTES_MAX: usize = 108;

const LOG: &str = "log.json";

pub struct Steps<'a> {
    pub runtime: &'a Runtime,
    pub id: &'a str,
    /// Is the runtime's bundle too.
    pub dir: &'a Path,
}

/// What the runtime is asked to leave behind.
struct Call {
    verb: &'static str,
    /// Of the files of this call.
    name: String,
    program: String,
    console: Option<UnixListener>,
}

impl Steps<'_> {
    pub fn create(&self, create: &Create<'_>, tell: &dyn Fn(&Child)) -> Result<Spawned, SpawnError> {
        let error = StartError::new(Context::Init);
        prepare(create.spec.process.oom_score_adj, error)?;
        let root = self.mount_root(create.rootfs, error)?;
        let mut spec = create.spec.clone();
        resolve_user(&mut spec.process, root.as_fd(), error)?;
        spec.version = SPEC_VERSION.into();
        spec.root.path = self.dir.join("rootfs").to_string_lossy().into_owned();
        if let Some(netns) = &create.netns {
            join_network(&mut spec, netns);
        }
        self.write("config.json", &spec, error)?;
        drop(root);

        let program = spec.process.args.first().cloned().unwrap_or_default();
        let call = self.call("create", "init", program, &create.stdio, error)?;
        let bundle = [OsStr::new("--bundle"), self.dir.as_os_str()];
        let made = self.run_with_process(&call, &bundle, &create.stdio, error);
        let (child, pty_master) = made.inspect_err(|_| self.take_back())?;
        tell(&child);
        let mut start = self.command("start", LOG);
        start.arg(self.id).stdin(Standard::null()).stdout(Standard::null()).stderr(Standard::null());
        if let Err(why) = run(&mut start).map_err(|why| self.complaint(LOG, why)) {
            self.take_back();
            return Err(words::error("start", &why, &call.program));
        }
        Ok(Spawned { pid: child.pid, pidfd: child.pidfd, pty_master, warnings: Vec::new() })
    }

    pub fn exec(&self, exec: &Exec<'_>, tell: &dyn Fn(&Child)) -> Result<Spawned, SpawnError> {
        let error = StartError::new(Context::Exec);
        prepare(exec.process.oom_score_adj, error)?;
        let mut process = exec.process.clone();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(format!("/proc/{}/root", exec.init_pid), flags, Mode::empty())
            .map_err(|errno| error.errno("open the container's root", errno))?;
        resolve_user(&mut process, root.as_fd(), error)?;
        drop(root);
        bind_as_container(&mut process, exec);
        let name = format!("exec-{}", exec.exec_id);
        let file = format!("{name}.json");
        self.write(&file, &process, error)?;
        let program = process.args.first().cloned().unwrap_or_default();
        let call = self.call("exec", &name, program, &exec.stdio, error)?;
        let file = self.dir.join(file);
        let words = [OsStr::new("--detach"), OsStr::new("--process"), file.as_os_str()];
        let made = self.run_with_process(&call, &words, &exec.stdio, error);
        for suffix in ["json", "pid", "log", "sock"] {
            // They are only in the way; the bundle's end takes what stays.
            let _ = std::fs::remove_file(self.dir.join(format!("{name}.{suffix}")));
        }
        let (child, pty_master) = made?;
        tell(&child);
        Ok(Spawned { pid: child.pid, pidfd: child.pidfd, pty_master, warnings: Vec::new() })
    }

    /// A complaint is for the keeper's log.
    pub fn delete(&self) -> Result<(), String> {
        prepare(None, StartError::new(Context::Init)).map_err(|error| error.message)?;
        let mut command = self.command("delete", LOG);
        command.args(["--force", self.id]);
        command.stdin(Standard::null()).stdout(Standard::null()).stderr(Standard::null());
        run(&mut command).map_err(|why| self.complaint(LOG, why))
    }

    /// The start's own error is the one to tell.
    fn take_back(&self) {
        let mut command = self.command("delete", "delete.log");
        command.args(["--force", self.id]);
        command.stdin(Standard::null()).stdout(Standard::null()).stderr(Standard::null());
        let _ = run(&mut command);
    }

    /// Only this process's mount namespace, and the container's that is made of it, has the mount. Mounts of the host still
    /// come in here, and none goes out.
    fn mount_root(&self, rootfs: &Rootfs, error: StartError) -> Result<OwnedFd, SpawnError> {
        ns::unshare(ns::NEWNS).map_err(|errno| error.errno("make a mount namespace", errno))?;
        mount::set_root_propagation(Propagation::Slave)
            .map_err(|errno| error.errno("keep mounts from the host", errno))?;
        let root = rootfs.open().map_err(|cause| error.plain(&cause.to_string()))?;
        let place = self.dir.join("rootfs");
        std::fs::create_dir(&place)
            .map_err(|cause| error.io(&format!("make {}", place.display()), &cause))?;
        let c_place = CString::new(place.as_os_str().as_bytes())
            .map_err(|_| error.plain("the run directory's path has a NUL"))?;
        mount::attach_host(&root, &c_place).map_err(|errno| {
            error.errno(&format!("mount the root file system on {}", place.display()), errno)
        })?;
        Ok(root)
    }

    fn write(
        &self,
        name: &str,
        content: &impl serde::Serialize,
        error: StartError,
    ) -> Result<(), SpawnError> {
        let path = self.dir.join(name);
        let failed = |cause: std::io::Error| error.io(&format!("write {}", path.display()), &cause);
        let bytes = serde_json::to_vec(content).map_err(|cause| failed(cause.into()))?;
        std::fs::write(&path, bytes).map_err(failed)
    }

    fn call(
        &self,
        verb: &'static str,
        name: &str,
        program: String,
        stdio: &Stdio,
        error: StartError,
    ) -> Result<Call, SpawnError> {
        let name = name.to_owned();
        let console = match stdio {
            Stdio::Pipes { .. } => None,
            Stdio::Pty { .. } => {
                let listener = self.listen(&format!("{name}.sock"));
                Some(listener.map_err(|cause| error.io("listen for the terminal", &cause))?)
            }
        };
        Ok(Call { verb, name, program, console })
    }

    /// A path that is too long for a socket's address is said from the directory itself, in which the runtime is run.
    fn socket_path(&self, name: &str) -> PathBuf {
        let whole = self.dir.join(name);
        if whole.as_os_str().len() < SOCKET_PATH_BYTES_MAX { whole } else { PathBuf::from(name) }
    }

    fn listen(&self, name: &str) -> std::io::Result<UnixListener> {
        std::env::set_current_dir(self.dir)?;
        UnixListener::bind(self.socket_path(name))
    }

    /// Runs a verb that makes a process, which becomes ours when the runtime has ended.
    fn run_with_process(
        &self,
        call: &Call,
        words: &[&OsStr],
        stdio: &Stdio,
        error: StartError,
    ) -> Result<(Child, Option<OwnedFd>), SpawnError> {
        let (log, pid_file) = (format!("{}.log", call.name), self.dir.join(format!("{}.pid", call.name)));
        let mut command = self.command(call.verb, &log);
        command.args(words).arg("--pid-file").arg(&pid_file);
        if call.console.is_some() {
            command.arg("--console-socket").arg(self.socket_path(&format!("{}.sock", call.name)));
        }
        command.arg(self.id);
        give(&mut command, stdio, error)?;
        if let Err(why) = run(&mut command) {
            return Err(words::error(call.verb, &self.complaint(&log, why), &call.program));
        }
        let text = std::fs::read_to_string(&pid_file)
            .map_err(|cause| error.io(&format!("read {}", pid_file.display()), &cause))?;
        let pid = text.trim().parse().map_err(|_| error.plain("the runtime wrote no process number"))?;
        // Nobody but this process could reap it, so the number is still its own.
        let pidfd = pidfd::open(pid).map_err(|errno| error.errno("open the new process", errno))?;
        let master = match (&call.console, stdio) {
            (Some(listener), Stdio::Pty { rows, cols }) => Some(receive_pty(listener, *rows, *cols, error)?),
            _ => None,
        };
        Ok((Child { pid, pidfd }, master))
    }

    fn command(&self, verb: &str, log: &str) -> Command {
        let mut command = Command::new(&self.runtime.path);
        command.env_clear().env("PATH", PATH).current_dir(self.dir).args(&self.runtime.args);
        command.arg("--root").arg(self.dir.join("state")).arg("--log").arg(self.dir.join(log));
        command.args(["--log-format", "json", verb]);
        command
    }

    fn complaint(&self, log: &str, why: String) -> String {
        words::complaint(&self.dir.join(log))
            .unwrap_or_else(|| format!("{} {why}", self.runtime.path.display()))
    }
}

/// What the keeper has for itself and a runtime must not inherit.
fn prepare(oom_score_adj: Option<i32>, error: StartError) -> Result<(), SpawnError> {
    signals::set_mask(signals::bits(&[])).map_err(|errno| error.errno("unblock signals", errno))?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|errno| error.errno("become a subreaper", errno))?;
    // A lower score than allowed is the runtime's to complain about.
    let _ = std::fs::write("/proc/self/oom_score_adj", oom_score_adj.unwrap_or(0).max(0).to_string());
    Ok(())
}

/// Names are naru's extension of the spec ([`oci::User`]), so no other runtime knows them.
fn resolve_user(
    process: &mut oci::Process,
    root: BorrowedFd<'_>,
    error: StartError,
) -> Result<(), SpawnError> {
    let identity = user::resolve(root, &process.user).map_err(|cause| error.plain(&cause.to_string()))?;
    process.user = oci::User {
        uid: identity.uid,
        gid: identity.gid,
        umask: process.user.umask,
        additional_gids: identity.groups,
        ..oci::User::default()
    };
    Ok(())
}

/// The worker lives until the runtime has joined.
fn join_network(spec: &mut oci::Spec, netns: &OwnedFd) {
    let path = format!("/proc/{}/fd/{}", std::process::id(), netns.as_raw_fd());
    spec.linux.namespaces.retain(|namespace| namespace.kind != NamespaceKind::Network);
    spec.linux.namespaces.push(oci::Namespace { kind: NamespaceKind::Network, path: Some(path) });
}

/// An exec has all bonds of the container, as with naru's own runtime.
fn bind_as_container(process: &mut oci::Process, exec: &Exec<'_>) {
    let first = &exec.spec.process;
    if exec.privileged {
        let permitted = caps::permitted();
        let names = (0_u32..).zip(capability::NAMES).filter(|(number, _)| permitted & (1 << number) != 0);
        let all: Vec<String> = names.map(|(_, name)| format!("CAP_{name}")).collect();
        process.capabilities = Some(oci::Capabilities {
            bounding: all.clone(),
            effective: all.clone(),
            permitted: all,
            ..oci::Capabilities::default()
        });
    } else if process.capabilities.is_none() {
        process.capabilities.clone_from(&first.capabilities);
    }
    process.no_new_privileges |= first.no_new_privileges;
    if process.apparmor_profile.is_empty() {
        process.apparmor_profile.clone_from(&first.apparmor_profile);
    }
    if process.selinux_label.is_empty() {
        process.selinux_label.clone_from(&first.selinux_label);
    }
}

fn give(command: &mut Command, stdio: &Stdio, error: StartError) -> Result<(), SpawnError> {
    let copy = |fd: &OwnedFd| {
        fd.try_clone()
            .map(Standard::from)
            .map_err(|cause| error.io("duplicate a standard descriptor", &cause))
    };
    match stdio {
        Stdio::Pipes { stdin, stdout, stderr } => {
            command.stdin(copy(stdin)?).stdout(copy(stdout)?).stderr(copy(stderr)?);
        }
        Stdio::Pty { .. } => {
            command.stdin(Standard::null()).stdout(Standard::null()).stderr(Standard::null());
        }
    }
    Ok(())
}

/// The runtime has sent it before it ended, so nothing is waited for.
fn receive_pty(
    listener: &UnixListener,
    rows: u16,
    cols: u16,
    error: StartError,
) -> Result<OwnedFd, SpawnError> {
    let failed = |cause: std::io::Error| error.io("receive the terminal", &cause);
    listener.set_nonblocking(true).map_err(failed)?;
    let (socket, _) = listener.accept().map_err(failed)?;
    let mut name = [0; 256];
    let received = unix::recv_nonblocking(&socket, &mut name).map_err(failed)?.fds.pop();
    let master = received.ok_or_else(|| error.plain("the runtime sent no terminal"))?;
    if rows != 0 || cols != 0 {
        tty::set_size(&master, rows, cols).map_err(|errno| error.errno("size the terminal", errno))?;
    }
    Ok(master)
}

/// `Err` says what became of the runtime; why is in its log.
fn run(command: &mut Command) -> Result<(), String> {
    let mut child = command.spawn().map_err(|cause| format!("cannot be executed: {cause}"))?;
    let ended = pidfd::open(child.id() as i32).is_ok_and(|pidfd| {
        let limit = Timespec { tv_sec: CALL_TIMEOUT.as_secs() as i64, tv_nsec: 0 };
        poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&limit)) != Ok(0)
    });
    if !ended {
        // It has not been waited for, so the number is its own.
        let _ = child.kill();
        let _ = child.wait();
        return Err(format!("did not answer within {} s", CALL_TIMEOUT.as_secs()));
    }
    match child.wait() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("ended with {status}")),
        Err(cause) => Err(format!("could not be waited for: {cause}")),
    }
}
