//! From the running keeper to its [`State`] and back.

use super::attached::Attached;
use super::journal::Journal;
use super::logfile::LogWriter;
use super::poller::{Interest, Key, Source};
use super::process::{Adopted, Parts, Process, Shared, Streams};
use super::protocol::AttachRequest;
use super::server::Keeper;
use super::state::{AttachedState, Checked, EarlyState, Kept, ProcessState, State, StateError, VERSION};
use super::table::Early;
use crate::cgroup::Cgroup;
use crate::external::External;
use naru_kernel::{Errno, inherit};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("descriptor {number} was not handed over")]
    Take { number: RawFd, source: Errno },
    #[error(transparent)]
    State(#[from] StateError),
    #[error("cannot duplicate or watch a pidfd")]
    Pidfd(#[source] Errno),
}

pub(super) fn take(number: RawFd) -> Result<OwnedFd, RestoreError> {
    inherit::take(number).map_err(|source| RestoreError::Take { number, source })
}

impl Keeper {
    /// `asked`: the connection that wants the upgrade, and its request's number.
    pub fn save(&self, asked: (Key, u64)) -> (State, Kept<'_>) {
        let mut kept = Kept::default();
        let state = State {
            version: VERSION,
            build: self.build.clone(),
            lock: kept.fd(self.lock.as_fd()),
            listener: kept.fd(self.listener.as_fd()),
            inherited: self.inherited.save(),
            processes: self.table.processes().map(|process| process.save(&mut kept)).collect(),
            early: self.table.early().map(|early| save_early(early, &mut kept)).collect(),
            peers: self.peers.save(asked, &mut kept),
        };
        (state, kept)
    }

    /// Takes over every process, client and connection of `checked`. What cannot be taken is told in the journal and left to
    /// the daemon, which adopts containers that a keeper does not know.
    pub fn restore(&mut self, checked: &Checked<'_>, journal: &mut Journal) -> Option<(Key, u64)> {
        for saved in &checked.state.processes {
            let key = self.shared.poller.fresh_key();
            match Process::restore(saved, checked, key, &mut self.shared) {
                Ok(process) => {
                    self.table.insert(key, process, saved.exit.is_none() && !saved.adopted);
                    if saved.forgotten {
                        self.table.unname(&saved.target);
                    }
                    self.go_on(key, saved);
                }
                Err(error) => journal.write(format_args!("lost {:?}: {error}", saved.target)),
            }
        }
        for early in &checked.state.early {
            match take(early.socket) {
                Ok(socket) => {
                    let early = Early { request: early.request.clone(), socket };
                    self.table.add_early(early, &mut self.shared.poller);
                }
                Err(error) => journal.write(format_args!("lost an early client: {error}")),
            }
        }
        let mut asked = None;
        for peer in &checked.state.peers {
            match take(peer.socket) {
                Ok(socket) => {
                    let key = self.peers.insert(socket, peer.greeted, &mut self.shared.poller);
                    asked = asked.or(peer.upgrade_seq.and_then(|seq| Some((key?, seq))));
                }
                Err(error) => journal.write(format_args!("lost a connection: {error}")),
            }
        }
        asked
    }

    /// Timers and watches that a state does not hold.
    fn go_on(&mut self, key: Key, saved: &ProcessState) {
        if saved.exit.is_some() {
            self.linger(key);
            self.sweep(key);
        } else if saved.target.exec_id.is_none() {
            self.watch_oom(key);
            // Whatever was killed between the two programs raised no event here.
            self.on_oom(key);
        }
    }
}

fn save_early<'a>((request, socket): (&AttachRequest, BorrowedFd<'a>), kept: &mut Kept<'a>) -> EarlyState {
    EarlyState { request: request.clone(), socket: kept.fd(socket) }
}

impl Process {
    fn save<'a>(&'a self, kept: &mut Kept<'a>) -> ProcessState {
        let now = Instant::now();
        let [out, err] = &self.outputs;
        ProcessState {
            target: self.target.clone(),
            pid: self.pid,
            pidfd: kept.fd(self.pidfd.as_fd()),
            started_at: self.started_at,
            bundle: self.bundle.clone(),
            stdio: self.stdio,
            cgroup: self.cgroup.as_ref().map(|cgroup| cgroup.path().to_owned()),
            oom_kills: self.oom_kills,
            exit: self.exit,
            paused: self.paused,
            forgotten: self.forgotten,
            adopted: self.adopted.is_some(),
            stdin: self.stdin.as_ref().map(|fd| kept.fd(fd.as_fd())),
            stdin_waiting: kept.bytes([self.stdin_waiting.as_slice()]),
            stdin_ending: self.stdin_ending,
            outputs: [out, err].map(|output| output.as_ref().map(|fd| kept.fd(fd.as_fd()))),
            log: self.log.as_ref().map(|log| log.save(kept)),
            attached: self.attached.values().map(|attached| attached.save(kept)).collect(),
            kill_in_ms: self.kill_at.map(|at| at.saturating_duration_since(now).as_millis() as u64),
        }
    }

    fn restore(
        saved: &ProcessState,
        checked: &Checked<'_>,
        key: Key,
        shared: &mut Shared,
    ) -> Result<Self, RestoreError> {
        let mut process = Self::new(parts(saved)?, key, &mut shared.poller);
        match process.take_up(saved, checked, shared) {
            Ok(()) => Ok(process),
            Err(error) => {
                process.release(shared);
                Err(error)
            }
        }
    }

    /// What was under way.
    fn take_up(
        &mut self,
        saved: &ProcessState,
        checked: &Checked<'_>,
        shared: &mut Shared,
    ) -> Result<(), RestoreError> {
        self.oom_kills = saved.oom_kills;
        self.external = External::read(&self.bundle);
        self.exit = saved.exit;
        self.paused = saved.paused;
        self.forgotten = saved.forgotten;
        self.stdin_waiting = checked.bytes(saved.stdin_waiting)?.to_vec();
        self.stdin_ending = saved.stdin_ending;
        if saved.adopted {
            let pidfd = self.pidfd.try_clone();
            let pidfd = pidfd
                .map_err(|error| RestoreError::Pidfd(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
            let pidfd = shared.poller.adopt(pidfd, Source::Pidfd(self.key));
            let adopted = self.adopted.insert(Adopted { pidfd, asked: 0 });
            shared.poller.set(&mut adopted.pidfd, Interest::IN).map_err(RestoreError::Pidfd)?;
        }
        for attached in &saved.attached {
            self.restore_attached(attached, checked, shared)?;
        }
        if let Some(ms) = saved.kill_in_ms {
            self.kill_after(Duration::from_millis(ms), shared);
        }
        self.settle(shared);
        Ok(())
    }

    fn restore_attached(
        &mut self,
        attached: &AttachedState,
        checked: &Checked<'_>,
        shared: &mut Shared,
    ) -> Result<(), RestoreError> {
        let waiting = checked.bytes(attached.waiting)?;
        let client = shared.poller.fresh_key();
        let socket = take(attached.socket)?;
        let source = Source::Attached(self.key, client);
        // A deaf one has hung up already; that must not be reported again without end.
        let socket = if attached.deaf {
            shared.poller.adopt(socket, source)
        } else {
            shared.poller.adopt_with_hangups(socket, source)
        };
        let raw = self.stdio.tty;
        self.attached.insert(client, Attached::restore(attached, socket, waiting, raw));
        Ok(())
    }
}

fn parts(saved: &ProcessState) -> Result<Parts, RestoreError> {
    let optional = |number: Option<RawFd>| number.map(take).transpose();
    let [out, err] = saved.outputs;
    Ok(Parts {
        target: saved.target.clone(),
        pid: saved.pid,
        pidfd: take(saved.pidfd)?,
        started_at: saved.started_at,
        bundle: saved.bundle.clone(),
        stdio: saved.stdio,
        streams: Streams { stdin: optional(saved.stdin)?, stdout: optional(out)?, stderr: optional(err)? },
        log: match &saved.log {
            Some(log) => Some(LogWriter::restore(log, take(log.file)?)),
            None => None,
        },
        // A group that is gone is only looked for by what is gone as well.
        cgroup: saved.cgroup.as_deref().and_then(|path| Cgroup::open(path).ok()),
    })
}
