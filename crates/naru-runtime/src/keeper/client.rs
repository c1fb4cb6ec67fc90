//! The daemon's side: calls that block until their reply, and a reader thread that sorts what comes.
//!
//! A call costs the keeper microseconds (a start: a few milliseconds), so an async daemon calls from
//! `spawn_blocking`. Events and the loss of the connection come to one callback on the reader thread; it must not
//! call the client (the reply could not be read) and should hand over to a queue at once.

use super::connection::{CallError, Dispatcher};
pub use super::connection::{ClientError, Connection};
use super::held::{HeldFds, HeldRegistry};
use super::protocol::{
    AdoptRequest, AttachRequest, Event, ExecRequest, FdRole, ProcessEntry, Reply, Request, StartFailed,
    StartRequest, StdioSpec, Target, VERSION, VERSION_WITH_RUNTIMES,
};
use crate::oci;
use naru_kernel::{pidfd, unix};
use naru_types::signal::Signal;
use naru_types::{ContainerId, ExecId, Timestamp};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long a keeper whose connection was cut may take to end.
const DEATH_WAIT: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// What the reader thread reports.
#[derive(Debug)]
pub enum Notice {
    Event(Event),
    /// The keeper has gone; no more notices follow. Launch another, connect and adopt.
    Disconnected,
}

/// A started process.
#[derive(Debug)]
pub struct Started {
    pub pid: i32,
    pub started_at: Timestamp,
    /// What was asked for and could not be had, in sentences.
    pub warnings: Vec<String>,
    /// Keep these until the process's `Exited`.
    pub fds: HeldFds,
}

/// A further process in a running container.
#[derive(Clone, Copy, Debug)]
pub struct Exec<'a> {
    pub id: &'a ContainerId,
    pub exec_id: &'a ExecId,
    pub process: &'a oci::Process,
    /// All capabilities (`exec --privileged`).
    pub privileged: bool,
    /// With stdin, set `stdin_once`: Docker ends an exec's stdin with its client's.
    pub stdio: StdioSpec,
}

/// A start that did not work: either the process's fault or the connection's.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Failed(#[from] StartFailed),
    #[error(transparent)]
    Client(#[from] ClientError),
}

pub struct KeeperClient {
    dispatcher: Dispatcher,
    registry: Arc<HeldRegistry>,
    run_dir: PathBuf,
    keeper_pid: i32,
    /// `None`: it has gone again already.
    keeper_pidfd: Option<OwnedFd>,
    keeper_build: Mutex<String>,
    version: AtomicU32,
}

/// Namespaces that were made for a container before its start.
#[derive(Clone, Copy, Debug, Default)]
pub struct StartNamespaces<'a> {
    pub network: Option<BorrowedFd<'a>>,
    pub user: Option<BorrowedFd<'a>>,
}

impl KeeperClient {
    /// Connects to a running keeper ([`super::launch`] makes sure of one).
    pub fn connect(
        run_dir: &Path,
        on_notice: impl FnMut(Notice) + Send + 'static,
    ) -> Result<Self, ClientError> {
        let connection = Connection::open(run_dir)?;
        let keeper_pid = connection.keeper_pid();
        let keeper_pidfd = pidfd::open(keeper_pid).ok();
        let keeper_build = Mutex::new(connection.keeper_build().to_owned());
        let version = AtomicU32::new(connection.version());
        let registry = Arc::new(HeldRegistry::default());
        let dispatcher = Dispatcher::start(connection, Arc::clone(&registry), Box::new(on_notice))?;
        let run_dir = run_dir.to_owned();
        Ok(Self { dispatcher, registry, run_dir, keeper_pid, keeper_pidfd, keeper_build, version })
    }

    pub fn keeper_pid(&self) -> i32 {
        self.keeper_pid
    }

    /// The program that the keeper runs, as [`super::build_of`] names it.
    pub fn keeper_build(&self) -> String {
        self.keeper_build.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes `program` take the keeper's place: same process, same containers, same connections. Refused with
    /// [`super::protocol::Refusal::Version`] when it cannot read the keeper's state; then the old one goes on.
    pub fn upgrade(&self, program: BorrowedFd<'_>) -> Result<(), ClientError> {
        match self.dispatcher.call(&Request::Upgrade, &[(FdRole::Program, program)])?.0 {
            Reply::Hello { build, version, .. } => {
                self.version.store(version.min(VERSION), Ordering::Relaxed);
                *self.keeper_build.lock().unwrap_or_else(PoisonError::into_inner) = build;
                Ok(())
            }
            other => Err(CallError::unexpected(other)),
        }
    }

    /// Starts a container whose `config.json` is in `request.bundle`.
    /// [`ClientError::Disconnected`] is told once nothing can come of the start any more.
    pub fn start(
        &self,
        request: StartRequest,
        namespaces: StartNamespaces<'_>,
    ) -> Result<Started, StartError> {
        let theirs = self.version.load(Ordering::Relaxed);
        if request.runtime.is_some() && theirs < VERSION_WITH_RUNTIMES {
            // It would take its own without a word.
            return Err(ClientError::Version { theirs }.into());
        }
        let target = Target::container(request.id.clone());
        let given = [(FdRole::Netns, namespaces.network), (FdRole::Userns, namespaces.user)];
        let fds: Vec<_> = given.into_iter().filter_map(|(role, fd)| Some((role, fd?))).collect();
        self.started(target, &Request::Start(request), &fds)
    }

    /// Starts a further process in a running container. The process goes by file
    /// because an environment can be longer than a message.
    pub fn exec(&self, exec: &Exec<'_>) -> Result<Started, StartError> {
        let process_file = format!("exec-{}.json", exec.exec_id);
        self.write_bundle_file(exec.id, &process_file, exec.process)?;
        let request = ExecRequest {
            id: exec.id.clone(),
            exec_id: exec.exec_id.clone(),
            process_file,
            privileged: exec.privileged,
            stdio: exec.stdio,
        };
        self.started(Target::exec(exec.id.clone(), exec.exec_id.clone()), &Request::Exec(request), &[])
    }

    /// A stream to the process: Docker's frames (raw bytes with a tty) come out, stdin goes in, shutting down the
    /// write side ends stdin; end of file comes when the output has ended. Before the start it is kept for it, and
    /// closed should the start fail.
    pub fn attach(&self, request: &AttachRequest) -> Result<UnixStream, ClientError> {
        let (ours, theirs) = unix::stream_pair().map_err(ClientError::Socket)?;
        self.done(&Request::Attach(request.clone()), &[(FdRole::Attach, theirs.as_fd())])?;
        Ok(UnixStream::from(ours))
    }

    /// Asks for the descriptors of a process that an earlier daemon started.
    pub fn hold(&self, target: &Target) -> Result<Started, ClientError> {
        let (reply, fds) = self.dispatcher.call(&Request::Hold(target.clone()), &[])?;
        match reply {
            Reply::Started { pid, started_at, warnings } => Ok(self
                .held(target.clone(), Started { pid, started_at, warnings, fds: HeldFds::from_reply(fds) })),
            other => Err(CallError::unexpected(other)),
        }
    }

    pub fn resize(&self, target: &Target, rows: u16, cols: u16) -> Result<(), ClientError> {
        self.done(&Request::Resize { target: target.clone(), rows, cols }, &[])
    }

    pub fn signal(&self, target: &Target, signal: Signal) -> Result<(), ClientError> {
        self.done(&Request::Signal { target: target.clone(), signal }, &[])
    }

    /// Sends `signal`, and SIGKILL should the process still run after `timeout`, even if this daemon is gone by then.
    pub fn stop(
        &self,
        target: &Target,
        signal: Signal,
        timeout: Option<Duration>,
    ) -> Result<(), ClientError> {
        let timeout_ms = timeout.map(|timeout| timeout.as_millis().try_into().unwrap_or(u64::MAX));
        self.done(&Request::Stop { target: target.clone(), signal, timeout_ms }, &[])
    }

    /// To every process of the container.
    pub fn signal_all(&self, id: &ContainerId, signal: Signal) -> Result<(), ClientError> {
        self.done(&Request::SignalAll { id: id.clone(), signal }, &[])
    }

    pub fn close_stdin(&self, target: &Target) -> Result<(), ClientError> {
        self.done(&Request::CloseStdin(target.clone()), &[])
    }

    pub fn pause(&self, id: &ContainerId) -> Result<(), ClientError> {
        self.done(&Request::Pause { id: id.clone() }, &[])
    }

    pub fn resume(&self, id: &ContainerId) -> Result<(), ClientError> {
        self.done(&Request::Resume { id: id.clone() }, &[])
    }

    /// Sets limits; returns warnings.
    pub fn update(&self, id: &ContainerId, resources: &oci::Resources) -> Result<Vec<String>, ClientError> {
        match self.dispatcher.call(&Request::Update { id: id.clone(), resources: resources.clone() }, &[])?.0
        {
            Reply::Updated { warnings } => Ok(warnings),
            other => Err(CallError::unexpected(other)),
        }
    }

    /// Gives a new keeper what was held of a container whose keeper died. Its `Exited` follows as usual, at once when
    /// it has ended meanwhile.
    pub fn adopt(&self, request: AdoptRequest, held: &HeldFds) -> Result<(), ClientError> {
        let target = Target { id: request.id.clone(), exec_id: request.exec_id.clone() };
        let stdin = held.stdin.duplicate().map_err(|errno| ClientError::Socket(errno.into()))?;
        let mut fds: Vec<(FdRole, BorrowedFd<'_>)> =
            stdin.iter().map(|fd| (FdRole::Stdin, fd.as_fd())).collect();
        fds.extend(held.others());
        self.done(&Request::Adopt(request), &fds)?;
        self.registry.insert(target, &held.stdin);
        Ok(())
    }

    /// Every process the keeper knows, ended ones that were not forgotten included, in the order of targets.
    pub fn list(&self) -> Result<Vec<ProcessEntry>, ClientError> {
        let mut all: Vec<ProcessEntry> = Vec::new();
        loop {
            let after = all.last().map(|entry| entry.target.clone());
            match self.dispatcher.call(&Request::List { after }, &[])?.0 {
                Reply::List { entries, more } => {
                    let go_on = more && !entries.is_empty();
                    all.extend(entries);
                    if !go_on {
                        return Ok(all);
                    }
                }
                other => return Err(CallError::unexpected(other)),
            }
        }
    }

    pub fn forget(&self, target: &Target) -> Result<(), ClientError> {
        self.done(&Request::Forget(target.clone()), &[])
    }

    /// Ends the keeper; refused (`Refusal::Busy`) while anything runs.
    pub fn shutdown(&self) -> Result<(), ClientError> {
        self.done(&Request::Shutdown, &[])
    }

    fn started(
        &self,
        target: Target,
        request: &Request,
        fds: &[(FdRole, BorrowedFd<'_>)],
    ) -> Result<Started, StartError> {
        let answer = self.dispatcher.call(request, fds);
        let (reply, fds) = answer.inspect_err(|error| {
            if matches!(error, ClientError::Disconnected) {
                self.wait_for_death();
            }
        })?;
        match reply {
            Reply::Started { pid, started_at, warnings } => {
                Ok(self.held(target, Started { pid, started_at, warnings, fds: HeldFds::from_reply(fds) }))
            }
            Reply::StartFailed(failed) => Err(StartError::Failed(failed)),
            other => Err(CallError::unexpected(other).into()),
        }
    }

    /// Waits until a keeper that hung up has ended: before that, a start of its may still become a process, which whoever
    /// takes the attempt back would miss. The kernel closes what a killed process had open first and sends its children,
    /// the workers, their death signal last (`exit_files` and `exit_notify` in Linux's kernel/exit.c).
    fn wait_for_death(&self) {
        if let Some(keeper) = &self.keeper_pidfd {
            // After an error, or in vain, there is nothing better to do than to go on.
            let _ = poll(&mut [PollFd::new(keeper, PollFlags::IN)], Some(&DEATH_WAIT));
        }
    }

    fn held(&self, target: Target, started: Started) -> Started {
        self.registry.insert(target, &started.fds.stdin);
        started
    }

    fn done(&self, request: &Request, fds: &[(FdRole, BorrowedFd<'_>)]) -> Result<(), ClientError> {
        match self.dispatcher.call(request, fds)?.0 {
            Reply::Done => Ok(()),
            other => Err(CallError::unexpected(other)),
        }
    }

    fn write_bundle_file(
        &self,
        id: &ContainerId,
        name: &str,
        content: &oci::Process,
    ) -> Result<(), ClientError> {
        let path = self.run_dir.join("bundles").join(id.as_str()).join(name);
        let bytes = serde_json::to_vec(content)
            .map_err(|source| ClientError::Encode { path: path.clone(), source })?;
        let written = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| file.write_all(&bytes));
        written.map_err(|source| ClientError::BundleFile { path, source })
    }
}
