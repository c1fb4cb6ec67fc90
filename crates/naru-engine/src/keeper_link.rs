//! The engine's connection to the keeper: calls out, notices in, and a new keeper when the old one dies.
//!
//! Containers do not notice a keeper's death: the engine holds duplicates of their pipes and hands them to the next.

use crate::container::Container;
use crate::engine::Engine;
use crate::fdstore::Stored;
use crate::machine::{Event as Step, ExitStatus, LaunchFailure};
use naru_runtime::keeper::client::{ClientError, KeeperClient, Notice};
use naru_runtime::keeper::held::HeldFds;
use naru_runtime::keeper::protocol::{
    AdoptRequest, Event, ExitRecord, ExitStatus as KeeperStatus, LogFile, ProcessEntry, Refusal, StdioSpec,
    Target,
};
use naru_types::signal::Signal;
use naru_types::spec::ContainerSpec;
use naru_types::{Error, Kind, Result};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;

/// How long a failed attempt to start a keeper is followed by the next.
const RELAUNCH_PAUSE: Duration = Duration::from_secs(1);
/// How often a call is tried while the keeper is being replaced, and the pause between.
const CALL_TRIES: u32 = 50;
const CALL_PAUSE: Duration = Duration::from_millis(100);

/// What a container that is starting means to whoever brings it and the keeper together.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Starts {
    /// Its daemon died over it.
    CutShort,
    /// This daemon is at it, and hears of the old keeper's death by itself or finds the new one in time.
    UnderWay,
}

pub const UNSEEN: &str = "exit status unknown: the keeper was killed while the container ran";

pub struct KeeperLink {
    client: Mutex<Option<Arc<KeeperClient>>>,
    /// `None`: the keeper ran this program already.
    pub upgraded: Option<std::result::Result<(), String>>,
    pub stored: Stored,
}

/// Notices are few (one per process that ends), so the queue is not bounded: the reader thread must never wait.
pub type Notices = mpsc::UnboundedReceiver<Notice>;

impl KeeperLink {
    /// Starts a keeper unless one runs, connects, and makes an older one run this daemon's program. Blocks.
    pub fn open(exe: &Path, run: &Path) -> Result<(Self, Notices)> {
        let (client, notices) = connect(exe, run)?;
        let upgraded = upgrade(&client, exe);
        Ok((
            Self { client: Mutex::new(Some(Arc::new(client))), upgraded, stored: Stored::take_over() },
            notices,
        ))
    }

    /// Every process the keeper knows. Blocks.
    pub fn list(&self) -> Result<Vec<ProcessEntry>> {
        let client = self.current().ok_or_else(|| Error::unavailable("the keeper has gone"))?;
        client.list().map_err(client_error)
    }

    fn current(&self) -> Option<Arc<KeeperClient>> {
        crate::lock(&self.client).clone()
    }

    fn replace(&self, client: Option<KeeperClient>) {
        *crate::lock(&self.client) = client.map(Arc::new);
    }
}

fn connect(exe: &Path, run: &Path) -> Result<(KeeperClient, Notices)> {
    let failed =
        |error: &dyn std::error::Error| Error::unavailable(format!("cannot start the keeper: {error}"));
    naru_runtime::keeper::launch(exe, run).map_err(|error| failed(&error).with_source(error))?;
    let (sender, notices) = mpsc::unbounded_channel();
    let on_notice = move |notice| {
        // The receiver goes only when the engine does.
        let _ = sender.send(notice);
    };
    let client = KeeperClient::connect(run, on_notice).map_err(|error| failed(&error).with_source(error))?;
    Ok((client, notices))
}

/// A keeper of another build makes place for ours. One that cannot (it is newer, say) goes on: what it speaks is
/// understood, or there would be no connection.
fn upgrade(client: &KeeperClient, exe: &Path) -> Option<std::result::Result<(), String>> {
    let ours = naru_runtime::keeper::build_of(exe).ok()?;
    if client.keeper_build() == ours {
        return None;
    }
    let upgraded = std::fs::File::open(exe)
        .map_err(|error| error.to_string())
        .and_then(|program| client.upgrade(program.as_fd()).map_err(|error| error.to_string()));
    Some(upgraded)
}

impl Engine {
    /// The keeper, waiting a bounded time for one that is being replaced. Blocks.
    pub(crate) fn keeper(&self) -> Result<Arc<KeeperClient>> {
        for _ in 0..CALL_TRIES {
            if let Some(client) = self.keeper.current() {
                return Ok(client);
            }
            std::thread::sleep(CALL_PAUSE);
        }
        Err(Error::unavailable("the keeper is being replaced and did not come back in time"))
    }

    /// One call to the keeper, from async code.
    pub(crate) async fn with_keeper<T: Send + 'static>(
        &self,
        call: impl FnOnce(&KeeperClient) -> std::result::Result<T, ClientError> + Send + 'static,
    ) -> Result<T> {
        self.blocking(move |engine| call(engine.keeper()?.as_ref()).map_err(client_error)).await
    }

    /// Sorts notices for as long as the engine lives.
    pub(crate) async fn follow_keeper(self: Arc<Self>, mut notices: Notices) {
        loop {
            let notice = tokio::select! {
                notice = notices.recv() => notice,
                () = self.closed() => return,
            };
            match notice {
                Some(Notice::Event(event)) => self.on_keeper_event(event),
                Some(Notice::Disconnected) | None => {
                    self.keeper.replace(None);
                    match self.replace_keeper().await {
                        Some(next) => notices = next,
                        None => return,
                    }
                }
            }
        }
    }

    fn on_keeper_event(&self, event: Event) {
        match event {
            Event::Exited { target: Target { id, exec_id: Some(exec_id) }, exit } => {
                self.exec_ended(&id, &exec_id, i64::from(exit.status.docker_code()));
            }
            Event::Exited { target: Target { id, exec_id: None }, exit } => {
                if self.steps.ended(&id, ended(exit)) {
                    return;
                }
                let Some(container) = self.by_id(&id) else {
                    self.forget_stray(id);
                    return;
                };
                let awaited = {
                    let cell = container.cell();
                    cell.state.run().is_some() || matches!(cell.state, crate::machine::State::Starting(_))
                };
                if !awaited {
                    // Told before, by a keeper that died before it could forget.
                    self.forget_again(id);
                    return;
                }
                self.report(&id, Step::Ended(ended(exit)));
            }
            Event::Oom { id } => self.report(&id, Step::Oom),
            // The client has closed its duplicate already.
            Event::StdinClosed { target: Target { id, exec_id: None } } => crate::fdstore::forget_stdin(&id),
            Event::StdinClosed { .. } => {}
        }
    }

    fn forget_again(&self, id: naru_types::ContainerId) {
        let engine = self.arc();
        tokio::task::spawn_blocking(move || {
            if let Ok(keeper) = engine.keeper() {
                // Should this one die as well, the next will be told at its start.
                let _ = keeper.forget(&Target::container(id));
            }
        });
    }

    /// The end of something that start-up found and killed.
    fn forget_stray(&self, id: naru_types::ContainerId) {
        let engine = self.arc();
        tokio::task::spawn_blocking(move || {
            if let Ok(keeper) = engine.keeper() {
                // The keeper forgets it when it ends, at the latest.
                let _ = keeper.forget(&Target::container(id.clone()));
            }
            let parent = engine.config.cgroup_parent.trim_matches('/');
            for cgroup in [format!("{parent}/{id}"), engine.step_cgroup(&id)] {
                crate::open::clear_cgroup(&cgroup);
            }
            // Its directory, if there is one, is the next start's to sweep.
            let _ = std::fs::remove_dir_all(engine.config.run.join("bundles").join(id.as_str()));
        });
    }

    /// Until it works or the engine closes.
    async fn replace_keeper(self: &Arc<Self>) -> Option<Notices> {
        loop {
            if self.is_closing() {
                return None;
            }
            let next = self
                .blocking(|engine| {
                    let (client, notices) = connect(&engine.config.exe, &engine.config.run)?;
                    engine.readopt(&client)?;
                    engine.keeper.replace(Some(client));
                    Ok(notices)
                })
                .await;
            match next {
                Ok(notices) => return Some(notices),
                Err(_) => tokio::time::sleep(RELAUNCH_PAUSE).await,
            }
        }
    }

    /// Hands every running container, and every exec session in one, to a keeper that may not know it.
    fn readopt(&self, client: &KeeperClient) -> Result<()> {
        let known = client.list().map_err(client_error)?;
        for container in self.containers() {
            self.take_up(client, &container, &known, Starts::UnderWay);
        }
        self.readopt_execs(client, &known);
        Ok(())
    }

    /// Brings one container and the keeper's word about it together: it runs and is known, it runs and is adopted, or
    /// it has ended and its task hears how.
    pub(crate) fn take_up(
        &self,
        client: &KeeperClient,
        container: &Arc<Container>,
        known: &[ProcessEntry],
        starts: Starts,
    ) {
        let target = Target::container(container.id.clone());
        let entry = known.iter().find(|entry| entry.target == target);
        let (state, held) = {
            let cell = container.cell();
            (cell.state.clone(), cell.held.clone())
        };
        let starting = matches!(state, crate::machine::State::Starting(_));
        if starting && starts == Starts::UnderWay {
            return;
        }
        if let Some(entry) = entry {
            if starting {
                self.report(&container.id, Step::Launched { pid: entry.pid, at: entry.started_at });
            }
            match entry.exit {
                Some(exit) => self.report(&container.id, Step::Ended(ended(exit))),
                None if state.run().is_some() || starting => {
                    // The keeper has them; systemd goes on keeping its own.
                    drop(self.keeper.stored.take(&container.id));
                    if let (None, Ok(started)) = (held, client.hold(&target)) {
                        if !started.fds.stdin.is_open() {
                            // Closed while no daemon was there to hear of it.
                            crate::fdstore::forget_stdin(&container.id);
                        }
                        container.cell().held = Some(Arc::new(started.fds));
                    }
                }
                // It runs though nobody wants it: a removal was under way, and its task tears the rest down.
                None => drop(client.signal_all(&container.id, Signal::KILL)),
            }
            return;
        }
        if let Some(exit) = ExitRecord::read(&container.paths.bundle).filter(|_| state.run().is_some()) {
            self.report(&container.id, Step::Ended(ended(exit)));
            return;
        }
        let Some(run) = state.run() else {
            // Daemon and keeper may have died after the clone and before the answer: then its process runs.
            crate::open::clear_cgroup(&self.cgroup_path(container));
            if starting {
                let error = "the daemon was stopped while the container was being started".to_owned();
                let failure = LaunchFailure { code: crate::launch::CODE_START_FAILED, error, hint: None };
                self.report(&container.id, Step::LaunchFailed(failure));
            }
            return;
        };
        // What systemd kept is whole; what can be found without it has no standard input and no terminal.
        let found = || self.keeper.stored.take(&container.id).or_else(|| orphan(container, run.pid));
        let held = held.or_else(|| found().map(Arc::new));
        let adopted = held.as_ref().is_some_and(|held| {
            let spec = container.cell().spec.clone();
            let request = AdoptRequest {
                id: container.id.clone(),
                exec_id: None,
                pid: run.pid,
                started_at: run.started_at,
                bundle: container.paths.bundle.clone(),
                stdio: stdio_of(&spec),
                log: log_of(container),
                paused: matches!(state, crate::machine::State::Paused { .. }),
            };
            client.adopt(request, held).is_ok()
        });
        if adopted {
            container.cell().held = held;
        } else {
            let (code, at) = (None, crate::ids::now());
            self.report(&container.id, Step::Ended(ExitStatus { code, oom: false, at, why: UNSEEN.into() }));
        }
    }
}

/// A container that outlived both keeper and daemon: its pidfd can be had back here, and the keeper finds its output's
/// pipes again. The number may have been given to
/// another process, so its cgroup has to name the container.
fn orphan(container: &Container, pid: i32) -> Option<HeldFds> {
    let pidfd = rustix::process::pidfd_open(
        rustix::process::Pid::from_raw(pid)?,
        rustix::process::PidfdFlags::empty(),
    )
    .ok()?;
    let cgroups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    cgroups.contains(container.id.as_str()).then(|| HeldFds { pidfd: Some(pidfd), ..HeldFds::default() })
}

pub fn ended(exit: ExitRecord) -> ExitStatus {
    let code = match exit.status {
        KeeperStatus::Code(_) | KeeperStatus::Signal(_) => Some(i64::from(exit.status.docker_code())),
        KeeperStatus::Unknown => None,
    };
    ExitStatus { code, oom: exit.oom, at: exit.at, why: UNSEEN.into() }
}

pub fn stdio_of(spec: &ContainerSpec) -> StdioSpec {
    let (rows, cols) = spec.stdio.console_size.unwrap_or((0, 0));
    StdioSpec {
        tty: spec.stdio.tty,
        rows,
        cols,
        open_stdin: spec.stdio.open_stdin,
        stdin_once: spec.stdio.stdin_once,
    }
}

pub fn log_of(container: &Container) -> Option<LogFile> {
    let log = container.cell().spec.log.clone();
    log.enabled.then(|| LogFile {
        path: container.paths.log(),
        file_bytes_max: log.file_bytes_max,
        files_max: log.files_max,
    })
}

pub fn client_error(error: ClientError) -> Error {
    let kind = match &error {
        ClientError::Refused { reason: Refusal::Unknown, .. } => Kind::NotFound,
        ClientError::Refused { reason: Refusal::NotRunning | Refusal::Busy, .. } => Kind::Conflict,
        ClientError::Connect { .. } | ClientError::Disconnected | ClientError::Timeout => Kind::Unavailable,
        ClientError::Refused { .. }
        | ClientError::Socket(_)
        | ClientError::Version { .. }
        | ClientError::Unexpected
        | ClientError::Wire(_)
        | ClientError::Thread(_)
        | ClientError::BundleFile { .. }
        | ClientError::Encode { .. } => Kind::Internal,
    };
    Error::new(kind, error.to_string()).with_source(error)
}
