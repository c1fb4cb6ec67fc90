//! Starting containers and execs.

use super::attached::Wants;
use super::logfile::LogWriter;
use super::pipes::remember_pipes;
use super::poller::{Interest, Key, Source};
use super::process::{Parts, Process, Streams};
use super::protocol::{ExecRequest, ExitRecord, LogFile, StartFailed, StartRequest, StdioSpec, Target};
use super::server::Keeper;
use super::stdio::{Reader, make_stdio, pty_streams};
use super::table::Early;
use crate::cgroup::{Cgroup, CgroupError};
use crate::external::{self, External};
use crate::oci;
use crate::request::{self, NetNs, SpawnError, SpawnOptions, SpawnRequest, Spawned};
use crate::worker::Begun;
use naru_kernel::{Errno, clock, pidfd};
use naru_types::signal::Signal;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Docker's number for a start that failed before the program was looked for.
const EXIT_CODE_START_FAILED: i32 = 128;

/// What is known of a process before it runs.
pub(super) struct Newborn {
    pub target: Target,
    bundle: PathBuf,
    stdio: StdioSpec,
    streams: Streams,
    log: Option<LogWriter>,
    pub cgroup: Option<Cgroup>,
    external: Option<External>,
}

impl Newborn {
    /// What may be the reason when it does not get on.
    pub fn hint(&self) -> &'static str {
        match (&self.external, &self.target.exec_id) {
            (Some(_), _) => "its runtime does not come to an end",
            (None, None) => "does the source of one of its mounts answer, and the disk of its image?",
            (None, Some(_)) => "does the container get CPU time and memory, and do its file systems answer?",
        }
    }
}

/// A start that has begun.
pub(super) struct Beginning {
    pub begun: Begun,
    pub newborn: Newborn,
    pub warnings: Vec<String>,
}

impl Keeper {
    /// Begins a container's start; [`super::starting`] hears how it goes.
    pub fn start(
        &mut self,
        request: StartRequest,
        netns: Option<OwnedFd>,
        userns: Option<&OwnedFd>,
    ) -> Result<Beginning, StartFailed> {
        let StartRequest { id, bundle, rootfs, stdio: wanted, log, init, runtime } = request;
        let mut spec: oci::Spec = read_json(&bundle.join("config.json"))?;
        join_user_namespace(&mut spec, userns);
        self.inherited.apply(&mut spec.process);
        let external = runtime.map(|runtime| External::new(runtime, id.as_str(), &bundle)).transpose();
        let external = external.map_err(|error| plain("make the runtime's directory", &error.to_string()))?;
        let netns = match &external {
            None => choose_netns(&spec, netns)?,
            // The runtime reads the spec itself.
            Some(_) => netns.map_or(NetNs::Host, NetNs::Fd),
        };
        let log = open_log(log)?;
        let (stdio, streams) =
            make_stdio(wanted, Reader::Itself).map_err(|errno| failed("make pipes", errno))?;
        // What an earlier run of this container recorded must not be taken for this one's end.
        remove_if_there(&bundle.join(ExitRecord::FILE_NAME))?;

        let (cgroup, warnings) = make_cgroup(&spec)?;
        let begun = match &external {
            None => {
                let options = SpawnOptions { init, ..SpawnOptions::default() };
                let (spec, rootfs, cgroup) = (&spec, &rootfs, cgroup.as_ref());
                let request = SpawnRequest { spec, rootfs, cgroup, netns, stdio, options };
                crate::spawn::spawn_in_worker(
                    request,
                    &userns.map(AsFd::as_fd).into_iter().collect::<Vec<_>>(),
                )
            }
            Some(external) => {
                let netns = if let NetNs::Fd(netns) = netns { Some(netns) } else { None };
                external.create(external::Create { spec, rootfs: &rootfs, netns, stdio })
            }
        };
        let begun = begun.inspect_err(|_| {
            // The start's own error is the one to tell; an empty group that stays is taken over by the next start.
            let _ = cgroup.as_ref().map(Cgroup::delete);
        })?;
        let target = Target::container(id);
        let newborn = Newborn { target, bundle, stdio: wanted, streams, log, cgroup, external };
        Ok(Beginning { begun, newborn, warnings })
    }

    /// Begins an exec, as [`Keeper::start`].
    pub fn exec(&mut self, request: ExecRequest) -> Result<Beginning, StartFailed> {
        let container = Target::container(request.id.clone());
        let bundle = self.run_dir.join("bundles").join(request.id.as_str());
        let process_path = bundle.join(Path::new(&request.process_file).file_name().unwrap_or_default());
        let mut process: oci::Process = read_json(&process_path)?;
        remove_if_there(&process_path)?;
        self.inherited.apply(&mut process);
        let (stdio, streams) =
            make_stdio(request.stdio, Reader::Nobody).map_err(|errno| failed("make pipes", errno))?;

        let Some(init) = self.table.by_target(&container) else {
            return Err(plain("find the container", "it is not running"));
        };
        let spec: oci::Spec = read_json(&init.bundle.join("config.json"))?;
        let cgroup = init.cgroup.clone();
        if let Some(profile) = &spec.linux.seccomp {
            // As at the container's start.
            let _ = crate::seccomp::cached(profile);
        }
        let external = init.external.clone();
        let begun = match &external {
            Some(external) => external.exec(external::Exec {
                spec: &spec,
                process,
                init_pid: init.pid,
                exec_id: request.exec_id.to_string(),
                privileged: request.privileged,
                stdio,
            })?,
            None => crate::exec::exec_in_worker(request::ExecRequest {
                spec: &spec,
                process: &process,
                init_pidfd: init.pidfd.as_fd(),
                init_pid: init.pid,
                cgroup: cgroup.as_ref(),
                stdio,
                privileged: request.privileged,
                preserve_fds: Vec::new(),
                state: None,
            })?,
        };
        let target = Target::exec(request.id, request.exec_id);
        let stdio = request.stdio;
        let newborn = Newborn { target, bundle, stdio, streams, log: None, cgroup, external };
        Ok(Beginning { begun, newborn, warnings: Vec::new() })
    }

    pub fn take_in(&mut self, spawned: Spawned, newborn: Newborn) -> Result<Key, StartFailed> {
        let Newborn { target, bundle, stdio, streams, log, cgroup, external } = newborn;
        remember_pipes(&bundle, &target, &streams);
        let streams = match spawned.pty_master.map(|master| pty_streams(master, stdio)) {
            None => streams,
            Some(Ok(streams)) => streams,
            Some(Err(errno)) => {
                // It runs and nobody would know of it.
                let _ = pidfd::send_signal(&spawned.pidfd, Signal::KILL);
                let _ = pidfd::wait(&spawned.pidfd);
                if let (Some(cgroup), None) = (&cgroup, &target.exec_id) {
                    let _ = cgroup.delete();
                }
                return Err(failed("duplicate the pty", errno));
            }
        };
        let early = self.table.take_early(&target, &mut self.shared.poller);
        let (pid, pidfd) = (spawned.pid, spawned.pidfd);
        let key = self.shared.poller.fresh_key();
        let parts =
            Parts { target, pid, pidfd, started_at: clock::now(), bundle, stdio, streams, log, cgroup };
        let mut process = Process::new(parts, key, &mut self.shared.poller);
        process.external = external;
        for Early { request, socket } in early {
            let wants = Wants { stdin: request.stdin, stdout: request.stdout, stderr: request.stderr };
            process.attach(socket, wants, &mut self.shared);
        }
        self.table.insert(key, process, true);
        Ok(key)
    }

    /// Out-of-memory kills are told at once where the kernel tells them, and at the container's end in any case.
    pub fn watch_oom(&mut self, key: Key) {
        let Some(process) = self.table.by_key(key) else { return };
        let Some(watch) = process.cgroup.as_ref().and_then(|cgroup| cgroup.oom_watch().ok()) else { return };
        let Ok(fd) = watch.as_fd().try_clone_to_owned() else { return };
        let mut watched = self.shared.poller.adopt(fd, Source::Oom(key));
        let _ = self.shared.poller.set(&mut watched, Interest::IN);
        process.oom_watch = Some((watch, watched));
    }
}

/// The one that was made for the container, instead of a new one with the same maps: its network belongs to it.
fn join_user_namespace(spec: &mut oci::Spec, userns: Option<&OwnedFd>) {
    let Some(userns) = userns else { return };
    let path = format!("/proc/self/fd/{}", userns.as_raw_fd());
    for namespace in &mut spec.linux.namespaces {
        if namespace.kind == oci::NamespaceKind::User {
            namespace.path = Some(path.clone());
        }
    }
}

/// A descriptor wins over the spec's entry; without an entry the container shares the host's network.
fn choose_netns(spec: &oci::Spec, given: Option<OwnedFd>) -> Result<NetNs, StartFailed> {
    match (given, spec.namespace(oci::NamespaceKind::Network)) {
        (Some(fd), _) => Ok(NetNs::Fd(fd)),
        (None, None) => Ok(NetNs::Host),
        (None, Some(namespace)) => match &namespace.path {
            None => Ok(NetNs::New),
            Some(path) => {
                let file = File::open(path).map_err(|error| {
                    plain(&format!("open the network namespace {path}"), &error.to_string())
                })?;
                Ok(NetNs::Fd(file.into()))
            }
        },
    }
}

fn make_cgroup(spec: &oci::Spec) -> Result<(Option<Cgroup>, Vec<String>), StartFailed> {
    let path = &spec.linux.cgroups_path;
    if path.is_empty() {
        return Ok((None, Vec::new()));
    }
    let told = |error: CgroupError| {
        let errno = match &error {
            CgroupError::Kernel { source, .. } => source.raw_os_error(),
            _ => 0,
        };
        let message = format!("cannot set up the control group {path}: {}", chain(&error));
        StartFailed {
            step: "set up the control group".into(),
            errno,
            message,
            docker_exit_code: EXIT_CODE_START_FAILED,
        }
    };
    let cgroup = Cgroup::create(path).map_err(told)?;
    match cgroup.apply(&spec.linux.resources) {
        Ok(warnings) => Ok((Some(cgroup), warnings)),
        Err(error) => {
            let _ = cgroup.delete();
            Err(told(error))
        }
    }
}

pub(super) fn open_log(log: Option<LogFile>) -> Result<Option<LogWriter>, StartFailed> {
    let open = |log| LogWriter::open(log).map_err(|error| plain("open the log", &chain(&error)));
    log.map(open).transpose()
}

pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, StartFailed> {
    let told = |error: &dyn std::fmt::Display| plain(&format!("read {}", path.display()), &error.to_string());
    let bytes = std::fs::read(path).map_err(|error| told(&error))?;
    serde_json::from_slice(&bytes).map_err(|error| told(&error))
}

fn remove_if_there(path: &Path) -> Result<(), StartFailed> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(plain(&format!("remove {}", path.display()), &error.to_string()))
        }
        _ => Ok(()),
    }
}

pub(super) fn failed(step: &str, errno: Errno) -> StartFailed {
    StartFailed { errno: errno.raw_os_error(), ..plain(step, &errno.to_string()) }
}

pub(super) fn plain(step: &str, why: &str) -> StartFailed {
    StartFailed {
        step: step.to_owned(),
        errno: 0,
        message: format!("cannot {step}: {why}"),
        docker_exit_code: EXIT_CODE_START_FAILED,
    }
}

/// The error and its causes in one line; a cause that was said already is left out.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = cause.source();
    }
    text
}

impl From<SpawnError> for StartFailed {
    fn from(error: SpawnError) -> Self {
        Self {
            step: error.step,
            errno: error.errno,
            message: error.message,
            docker_exit_code: error.exit_code,
        }
    }
}
