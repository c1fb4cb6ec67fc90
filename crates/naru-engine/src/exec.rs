//! Further processes in a running container: created, started once, looked at for a while after their end.

use crate::container::Container;
use crate::engine::Engine;
use crate::keeper_link::client_error;
use crate::machine::State;
use crate::options::{ExecSpec, ExecStart};
use crate::view::ExecView;
use naru_runtime::keeper::client::{self, KeeperClient, StartError};
use naru_runtime::keeper::held::HeldFds;
use naru_runtime::keeper::protocol::{AdoptRequest, AttachRequest, ProcessEntry, StdioSpec, Target};
use naru_runtime::oci;
use naru_types::{ContainerId, Error, ExecId, Result};
use std::sync::{Arc, Mutex};
use tokio::net::UnixStream;
use tokio::sync::watch;

/// Ended sessions kept per container for `exec inspect`; the oldest go first.
const ENDED_KEPT_MAX: usize = 64;
/// The exit code of a session that nobody saw end.
const CODE_UNKNOWN: i64 = 255;

pub struct Exec {
    pub id: ExecId,
    pub container_id: ContainerId,
    pub spec: ExecSpec,
    /// Its place among all sessions.
    created: naru_types::Timestamp,
    state: watch::Sender<ExecState>,
    held: Mutex<Option<Started>>,
}

/// What keeps a running session whole should the keeper be killed.
struct Started {
    fds: HeldFds,
    stdio: StdioSpec,
    at: naru_types::Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecState {
    Created,
    Starting,
    Running { pid: i32 },
    Ended { code: i64 },
}

impl Exec {
    /// Ends with the exit code.
    pub async fn ended(&self) -> i64 {
        let mut state = self.state.subscribe();
        let ended = state.wait_for(|state| matches!(state, ExecState::Ended { .. })).await;
        match ended.as_deref() {
            Ok(ExecState::Ended { code }) => *code,
            Ok(ExecState::Created | ExecState::Starting | ExecState::Running { .. }) | Err(_) => CODE_UNKNOWN,
        }
    }
}

impl Engine {
    pub async fn exec_create(&self, r: &str, spec: ExecSpec) -> Result<ExecId> {
        let container = self.find(r)?;
        check_running(&container)?;
        if spec.args.is_empty() {
            return Err(Error::invalid("No exec command specified"));
        }
        let args = spec.args.join(" ");
        let exec = self.new_exec(&container, spec);
        self.emit_about(&container, &format!("exec_create: {args}"), &[("execID", exec.id.as_str())]);
        Ok(exec.id.clone())
    }

    /// `None` when detached.
    pub async fn exec_start(&self, id: &str, options: ExecStart) -> Result<Option<UnixStream>> {
        let exec = self.find_exec(id)?;
        self.run_exec(exec, options, true).await
    }

    pub async fn exec_resize(&self, id: &str, rows: u16, cols: u16) -> Result<()> {
        let exec = self.find_exec(id)?;
        let target = Target::exec(exec.container_id.clone(), exec.id.clone());
        match *exec.state.borrow() {
            // A client resizes before it starts, and after the end: neither is worth an error (moby#35561).
            ExecState::Created | ExecState::Starting | ExecState::Ended { .. } => return Ok(()),
            ExecState::Running { .. } => {}
        }
        let resized = self.with_keeper(move |keeper| keeper.resize(&target, rows, cols)).await;
        resized.or_else(|error| match error.kind() {
            naru_types::Kind::NotFound | naru_types::Kind::Conflict => Ok(()),
            _ => Err(error),
        })
    }

    /// Returns when the session has ended; at once when it is unknown.
    pub async fn exec_wait(&self, id: &str) {
        if let Ok(exec) = self.find_exec(id) {
            exec.ended().await;
        }
    }

    pub fn exec_inspect(&self, id: &str) -> Result<ExecView> {
        let exec = self.find_exec(id)?;
        let state = *exec.state.borrow();
        let (running, exit_code, pid) = match state {
            ExecState::Created | ExecState::Starting => (false, None, 0),
            ExecState::Running { pid } => (true, None, pid),
            ExecState::Ended { code } => (false, Some(code), 0),
        };
        Ok(ExecView {
            id: exec.id.clone(),
            container_id: exec.container_id.clone(),
            spec: exec.spec.clone(),
            running,
            exit_code,
            pid,
        })
    }

    fn find_exec(&self, id: &str) -> Result<Arc<Exec>> {
        let table = self.table();
        let found = ExecId::parse(id).and_then(|id| table.execs.get(&id).map(Arc::clone));
        found.ok_or_else(|| Error::not_found(format!("No such exec instance: {id}")))
    }

    pub(crate) fn new_exec(&self, container: &Container, spec: ExecSpec) -> Arc<Exec> {
        let exec = Arc::new(Exec {
            id: ExecId::from_bytes(crate::ids::random_32()),
            container_id: container.id.clone(),
            spec,
            created: crate::ids::now(),
            state: watch::channel(ExecState::Created).0,
            held: Mutex::new(None),
        });
        let mut table = self.table();
        table.execs.insert(exec.id.clone(), Arc::clone(&exec));
        let mut ended: Vec<_> = table
            .execs
            .values()
            .filter(|other| other.container_id == container.id)
            .filter(|other| matches!(*other.state.borrow(), ExecState::Ended { .. }))
            .map(|other| (other.created, other.id.clone()))
            .collect();
        ended.sort();
        for (_, id) in ended.iter().take(ended.len().saturating_sub(ENDED_KEPT_MAX)) {
            table.execs.remove(id);
        }
        exec
    }

    /// Drops a session that nobody will ask about again.
    pub(crate) fn forget_exec(&self, exec: &Exec) {
        self.table().execs.remove(&exec.id);
    }

    /// The attach stream is made before the start, so that no byte is lost.
    pub(crate) async fn run_exec(
        &self,
        exec: Arc<Exec>,
        options: ExecStart,
        loud: bool,
    ) -> Result<Option<UnixStream>> {
        let stream = self.blocking(move |engine| engine.run_exec_blocking(&exec, options, loud)).await?;
        let Some(stream) = stream else { return Ok(None) };
        into_tokio(stream).map(Some)
    }

    fn run_exec_blocking(
        &self,
        exec: &Arc<Exec>,
        options: ExecStart,
        loud: bool,
    ) -> Result<Option<std::os::unix::net::UnixStream>> {
        let container = self
            .by_id(&exec.container_id)
            .ok_or_else(|| Error::not_found(format!("No such container: {}", exec.container_id)))?;
        check_running(&container)?;
        let first = exec.state.send_if_modified(|state| {
            let first = *state == ExecState::Created;
            if first {
                *state = ExecState::Starting;
            }
            first
        });
        if !first {
            return Err(Error::conflict(format!("exec command {} has already run", exec.id)));
        }
        let started = self.start_in(&container, exec, options);
        match started {
            Ok(stream) => {
                if loud {
                    let action = format!("exec_start: {}", exec.spec.args.join(" "));
                    self.emit_about(&container, &action, &[("execID", exec.id.as_str())]);
                }
                Ok(stream)
            }
            Err((code, error)) => {
                exec.state.send_replace(ExecState::Ended { code });
                Err(error)
            }
        }
    }

    #[allow(clippy::type_complexity)] // an exit code beside the error, and an optional stream: both are needed once
    fn start_in(
        &self,
        container: &Arc<Container>,
        exec: &Arc<Exec>,
        options: ExecStart,
    ) -> std::result::Result<Option<std::os::unix::net::UnixStream>, (i64, Error)> {
        const CODE_FAILED: i64 = 128;
        let keeper = self.keeper().map_err(|error| (CODE_FAILED, error))?;
        let process = Self::exec_process(container, &exec.spec).map_err(|error| (CODE_FAILED, error))?;
        let target = Target::exec(container.id.clone(), exec.id.clone());
        let spec = &exec.spec;
        let stream = if options.detach {
            None
        } else {
            let request = AttachRequest {
                target,
                stdin: spec.attach_stdin,
                stdout: spec.attach_stdout,
                stderr: spec.attach_stderr,
            };
            Some(keeper.attach(&request).map_err(|error| (CODE_FAILED, client_error(error)))?)
        };
        let (rows, cols) = options.console_size.or(spec.console_size).unwrap_or((0, 0));
        let open_stdin = spec.attach_stdin && !options.detach;
        let stdio = StdioSpec { tty: spec.tty, rows, cols, open_stdin, stdin_once: true };
        container.cell().execs.insert(exec.id.clone());
        let request = client::Exec {
            id: &container.id,
            exec_id: &exec.id,
            process: &process,
            privileged: spec.privileged,
            stdio,
        };
        let started = keeper.exec(&request).map_err(|error| {
            container.cell().execs.remove(&exec.id);
            match error {
                StartError::Failed(failed) => {
                    let text = format!("OCI runtime exec failed: exec failed: {}", failed.message);
                    // dockerd tells an exec's program that is missing from everything else that fails before it.
                    let code = if failed.docker_exit_code == 127 { 127 } else { 126 };
                    (code, Error::invalid(text).with_source(failed))
                }
                StartError::Client(error) => (CODE_FAILED, client_error(error)),
            }
        })?;
        *crate::lock(&exec.held) = Some(Started { fds: started.fds, stdio, at: started.started_at });
        let pid = started.pid;
        let still = exec.state.send_if_modified(|state| {
            // Its end may have been told already.
            let still = *state == ExecState::Starting;
            if still {
                *state = ExecState::Running { pid };
            }
            still
        });
        if !still {
            crate::lock(&exec.held).take();
        }
        Ok(stream)
    }

    /// The container's own process object with the session's words put in.
    fn exec_process(container: &Container, spec: &ExecSpec) -> Result<oci::Process> {
        let path = container.paths.bundle.join("config.json");
        let unreadable = |error: &dyn std::fmt::Display| {
            Error::internal(format!("cannot read {}: {error}", path.display()))
        };
        let bytes = std::fs::read(&path).map_err(|error| unreadable(&error))?;
        let config: oci::Spec = serde_json::from_slice(&bytes).map_err(|error| unreadable(&error))?;
        let mut process = config.process;
        process.args.clone_from(&spec.args);
        process.terminal = spec.tty;
        if spec.tty && !process.env.iter().any(|entry| entry.starts_with("TERM=")) {
            process.env.push("TERM=xterm".into());
        }
        for entry in &spec.env {
            let key = entry.split_once('=').map_or(entry.as_str(), |(key, _)| key);
            process.env.retain(|old| old.split_once('=').map_or(old.as_str(), |(key, _)| key) != key);
            if entry.contains('=') {
                process.env.push(entry.clone());
            }
        }
        if !spec.working_dir.is_empty() {
            if !spec.working_dir.starts_with('/') {
                return Err(Error::invalid(format!(
                    "the working directory '{}' is invalid, it needs to be an absolute path",
                    spec.working_dir
                )));
            }
            process.cwd.clone_from(&spec.working_dir);
        }
        if !spec.user.is_empty() {
            process.user = oci::User { username: spec.user.clone(), ..oci::User::default() };
        }
        Ok(process)
    }

    pub(crate) fn exec_ended(&self, id: &ContainerId, exec_id: &ExecId, code: i64) {
        let exec = self.table().execs.get(exec_id).map(Arc::clone);
        if let Some(exec) = exec {
            crate::lock(&exec.held).take();
            exec.state.send_replace(ExecState::Ended { code });
        }
        let Some(container) = self.by_id(id) else { return };
        let known = container.cell().execs.remove(exec_id);
        if known {
            let code = code.to_string();
            self.emit_about(&container, "exec_die", &[("execID", exec_id.as_str()), ("exitCode", &code)]);
        }
        let target = Target::exec(id.clone(), exec_id.clone());
        let engine = self.arc();
        tokio::task::spawn_blocking(move || {
            if let Ok(keeper) = engine.keeper() {
                // Forgotten with its container at the latest.
                let _ = keeper.forget(&target);
            }
        });
    }

    /// Sessions that end because their container did; the keeper may not have said so yet.
    pub(crate) fn execs_end_with(&self, container: &Container) {
        let ids: Vec<_> = std::mem::take(&mut container.cell().execs).into_iter().collect();
        for id in ids {
            let exec = self.table().execs.get(&id).map(Arc::clone);
            let Some(exec) = exec else { continue };
            crate::lock(&exec.held).take();
            exec.state.send_if_modified(|state| {
                let running = !matches!(state, ExecState::Ended { .. });
                if running {
                    *state = ExecState::Ended { code: 137 };
                }
                running
            });
        }
    }

    /// After a keeper's death: sessions that the new one does not know are handed to it with what we hold of them. One that
    /// was just being started is lost.
    pub(crate) fn readopt_execs(&self, client: &KeeperClient, known: &[ProcessEntry]) {
        let execs: Vec<_> = self.table().execs.values().map(Arc::clone).collect();
        for exec in execs {
            let target = Target::exec(exec.container_id.clone(), exec.id.clone());
            let state = *exec.state.borrow();
            let pid = match state {
                ExecState::Starting => None,
                ExecState::Running { pid } => Some(pid),
                ExecState::Created | ExecState::Ended { .. } => continue,
            };
            match known.iter().find(|entry| entry.target == target) {
                Some(entry) => {
                    if let Some(exit) = entry.exit {
                        let code = i64::from(exit.status.docker_code());
                        self.exec_ended(&exec.container_id, &exec.id, code);
                    }
                }
                None if pid.is_some_and(|pid| self.adopt_exec(client, &exec, pid)) => {}
                None => self.exec_ended(&exec.container_id, &exec.id, CODE_UNKNOWN),
            }
        }
    }

    fn adopt_exec(&self, client: &KeeperClient, exec: &Exec, pid: i32) -> bool {
        let (Some(container), held) = (self.by_id(&exec.container_id), crate::lock(&exec.held)) else {
            return false;
        };
        let Some(started) = &*held else { return false };
        let request = AdoptRequest {
            id: exec.container_id.clone(),
            exec_id: Some(exec.id.clone()),
            pid,
            started_at: started.at,
            bundle: container.paths.bundle.clone(),
            stdio: started.stdio,
            log: None,
            paused: false,
        };
        client.adopt(request, &started.fds).is_ok()
    }
}

fn check_running(container: &Container) -> Result<()> {
    let cell = container.cell();
    match &cell.state {
        State::Running { .. } | State::Stopping { .. } => Ok(()),
        State::Paused { .. } => Err(Error::conflict(format!(
            "Container {} is paused, unpause the container before exec",
            container.id
        ))),
        State::Restarting { .. } => Err(Error::conflict(format!(
            "Container {} is restarting, wait until the container is running",
            container.id
        ))),
        State::Created { .. }
        | State::Starting(_)
        | State::Settling { .. }
        | State::Exited { .. }
        | State::Removing { .. }
        | State::Dead { .. } => Err(Error::conflict(format!("container {} is not running", container.id))),
    }
}

pub fn into_tokio(stream: std::os::unix::net::UnixStream) -> Result<UnixStream> {
    stream
        .set_nonblocking(true)
        .and_then(|()| UnixStream::from_std(stream))
        .map_err(|error| Error::internal(format!("cannot use an attach socket: {error}")).with_source(error))
}
