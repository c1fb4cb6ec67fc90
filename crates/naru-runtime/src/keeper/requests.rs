//! One request in, one reply out.

use super::attached::Wants;
use super::journal::Journal;
use super::poller::Key;
use super::process::ATTACHED_MAX;
use super::protocol::{
    AttachRequest, Envelope, FdRole, FromKeeper, Refusal, Reply, Request, StartFailed, Target, VERSION,
    VERSION_MIN,
};
use super::server::Keeper;
use super::start::chain;
use super::starting::{Asked, Wanted};
use super::table::{Early, has_ended};
use super::wire::Fds;
use crate::cgroup::{Cgroup, CgroupError};
use naru_kernel::{Errno, pidfd, tty};
use naru_types::ContainerId;
use naru_types::signal::Signal;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

/// Longest time until a stop becomes a SIGKILL: a year, as good as never.
const STOP_TIMEOUT_MS_MAX: u64 = 365 * 24 * 3600 * 1000;

impl Keeper {
    pub fn on_request(
        &mut self,
        peer: Key,
        envelope: Envelope<Request>,
        mut fds: Fds,
        journal: &mut Journal,
    ) {
        let seq = envelope.seq;
        let asked = Asked { peer, seq };
        if !matches!(envelope.body, Request::Hello { .. }) && !self.peers.is_greeted(peer) {
            let reply = refused(Refusal::Malformed, "the first message of a connection is `hello`".into());
            return self.reply(peer, seq, reply, &[]);
        }
        let reply = match envelope.body {
            Request::Start(request) => {
                let (netns, userns) = (fds.take(FdRole::Netns), fds.take(FdRole::Userns));
                let wanted = Wanted::Container { request: Box::new(request), netns, userns };
                return self.begin(asked, wanted, journal);
            }
            Request::Exec(request) => {
                return self.begin(asked, Wanted::Exec(Box::new(request)), journal);
            }
            Request::Hold(target) => return self.reply_started(asked, &target, Vec::new()),
            Request::Hello { version, version_min } => self.greet(peer, version, version_min),
            Request::Upgrade => match fds.take(FdRole::Program) {
                None => refused(Refusal::Malformed, "an upgrade without its program".into()),
                Some(program) => {
                    refused(Refusal::Version, chain(&self.upgrade((peer, seq), &program, journal)))
                }
            },
            other => self.answer(other, fds, journal),
        };
        self.reply(peer, seq, reply, &[]);
    }

    fn greet(&mut self, peer: Key, version: u32, version_min: u32) -> Reply {
        let common = version.min(VERSION);
        if common < version_min.max(VERSION_MIN) {
            let ours = format!("{VERSION_MIN} to {VERSION}");
            return refused(
                Refusal::Version,
                format!("this keeper speaks protocol {ours}, not {version_min} to {version}"),
            );
        }
        self.peers.greet(peer);
        self.hello(common)
    }

    pub fn hello(&self, version: u32) -> Reply {
        Reply::Hello { version, pid: std::process::id() as i32, build: self.build.clone() }
    }

    /// Starts something, unless it runs already.
    fn begin(&mut self, asked: Asked, wanted: Wanted, journal: &mut Journal) {
        let target = wanted.target();
        if self.running(&target).is_ok() || self.starting.has(&target) {
            let reply = refused(Refusal::Busy, format!("{} runs already", name(&target)));
            return self.reply(asked.peer, asked.seq, reply, &[]);
        }
        // The entry of an earlier run makes place, its waiting clients stay.
        let early = self.table.take_early(&target, &mut self.shared.poller);
        self.forget(&target);
        for waiting in early {
            self.table.add_early(waiting, &mut self.shared.poller);
        }
        self.enqueue(asked, wanted, journal);
    }

    pub fn tell_failure(
        &mut self,
        asked: Asked,
        target: &Target,
        error: &StartFailed,
        journal: &mut Journal,
    ) {
        journal.write(format_args!("{}: {}: {error}", name(target), error.step));
        drop(self.table.take_early(target, &mut self.shared.poller));
        self.reply(asked.peer, asked.seq, Reply::StartFailed(error.clone()), &[]);
    }

    fn answer(&mut self, request: Request, mut fds: Fds, journal: &mut Journal) -> Reply {
        let answer = match request {
            Request::Attach(attach) => self.attach(attach, fds.take(FdRole::Attach)),
            Request::Resize { target, rows, cols } => self.resize(&target, rows, cols),
            Request::Signal { target, signal } => self.signal(&target, signal),
            Request::Stop { target, signal, timeout_ms } => self.stop(&target, signal, timeout_ms),
            Request::SignalAll { id, signal } => self.signal_all(&id, signal),
            Request::CloseStdin(target) => self.running(&target).map(|key| {
                self.with(key, super::process::Process::close_stdin);
                Reply::Done
            }),
            Request::Pause { id } => {
                self.with_cgroup(&id, Cgroup::freeze).map(|()| self.set_paused(&id, true))
            }
            Request::Resume { id } => {
                self.with_cgroup(&id, Cgroup::thaw).map(|()| self.set_paused(&id, false))
            }
            Request::Update { id, resources } => self
                .with_cgroup(&id, |cgroup| cgroup.apply(&resources))
                .map(|warnings| Reply::Updated { warnings }),
            Request::Adopt(adopt) => {
                let target = Target { id: adopt.id.clone(), exec_id: adopt.exec_id.clone() };
                if self.table.key(&target).is_some() {
                    Err(refused(Refusal::Busy, format!("{} is known already", name(&target))))
                } else {
                    let adopted = self.adopt(adopt, fds, journal);
                    adopted.map(|()| Reply::Done).map_err(|error| refused(Refusal::System, error.message))
                }
            }
            Request::List { after } => {
                let (entries, more) = self.table.page(after.as_ref());
                Ok(Reply::List { entries, more })
            }
            Request::Forget(target) => {
                if self.forget(&target) {
                    Ok(Reply::Done)
                } else {
                    Err(refused(Refusal::Busy, format!("{} runs", name(&target))))
                }
            }
            Request::Shutdown => self.shut_down(),
            // Taken by `on_request`, which knows the connection.
            Request::Hello { .. }
            | Request::Upgrade
            | Request::Start(_)
            | Request::Exec(_)
            | Request::Hold(_) => Err(refused(Refusal::Malformed, String::new())),
        };
        answer.unwrap_or_else(|refusal| refusal)
    }

    fn attach(&mut self, request: AttachRequest, socket: Option<OwnedFd>) -> Result<Reply, Reply> {
        let socket =
            socket.ok_or_else(|| refused(Refusal::Malformed, "an attach without its socket".into()))?;
        let wants = Wants { stdin: request.stdin, stdout: request.stdout, stderr: request.stderr };
        let shared = &mut self.shared;
        let taken = match self.table.by_target(&request.target).filter(|process| process.exit.is_none()) {
            Some(process) if process.attached_len() >= ATTACHED_MAX => false,
            Some(process) => {
                process.attach(socket, wants, shared);
                // What the client has written already raises an event, as its socket is watched from now on.
                true
            }
            None => self.table.add_early(Early { request, socket }, &mut self.shared.poller),
        };
        if taken {
            Ok(Reply::Done)
        } else {
            Err(refused(Refusal::Limit, "too many clients are attached".into()))
        }
    }

    fn resize(&mut self, target: &Target, rows: u16, cols: u16) -> Result<Reply, Reply> {
        self.running(target)?;
        let pty = self
            .table
            .by_target(target)
            .and_then(|process| process.pty().map(|pty| tty::set_size(pty, rows, cols)));
        match pty {
            None => Err(refused(Refusal::Malformed, format!("{} has no terminal", name(target)))),
            Some(Err(errno)) => Err(system(&format!("resize the terminal of {}", name(target)), errno)),
            Some(Ok(())) => Ok(Reply::Done),
        }
    }

    fn signal(&mut self, target: &Target, signal: Signal) -> Result<Reply, Reply> {
        self.running(target)?;
        let sent = self
            .table
            .by_target(target)
            .map_or(Err(Errno::SRCH), |process| pidfd::send_signal(&process.pidfd, signal));
        match sent {
            Ok(()) => Ok(Reply::Done),
            Err(errno) if has_ended(errno) => Err(not_running(target)),
            Err(errno) => Err(system(&format!("send {signal} to {}", name(target)), errno)),
        }
    }

    fn stop(&mut self, target: &Target, signal: Signal, timeout_ms: Option<u64>) -> Result<Reply, Reply> {
        let done = self.signal(target, signal)?;
        let shared = &mut self.shared;
        if let (Some(process), Some(ms)) = (self.table.by_target(target), timeout_ms) {
            process.kill_after(Duration::from_millis(ms.min(STOP_TIMEOUT_MS_MAX)), shared);
        }
        Ok(done)
    }

    fn signal_all(&mut self, id: &ContainerId, signal: Signal) -> Result<Reply, Reply> {
        if signal == Signal::KILL {
            return self.with_cgroup(id, Cgroup::kill_all).map(|()| Reply::Done);
        }
        let before = self.with_cgroup(id, Cgroup::pids)?;
        let opened: Vec<(i32, OwnedFd)> =
            before.into_iter().filter_map(|pid| Some((pid, pidfd::open(pid).ok()?))).collect();
        // A number that is in the group after its pidfd was opened was not reused for a stranger.
        let after = self.with_cgroup(id, Cgroup::pids)?;
        for (_, process) in opened.iter().filter(|(pid, _)| after.contains(pid)) {
            // It may have ended just now.
            let _ = pidfd::send_signal(process, signal);
        }
        Ok(Reply::Done)
    }

    fn shut_down(&mut self) -> Result<Reply, Reply> {
        if self.table.anything_runs() || !self.starting.is_empty() {
            return Err(refused(Refusal::Busy, "containers run".into()));
        }
        self.ending = true;
        Ok(Reply::Done)
    }

    fn set_paused(&mut self, id: &ContainerId, paused: bool) -> Reply {
        if let Some(process) = self.table.by_target(&Target::container(id.clone())) {
            process.paused = paused;
        }
        Reply::Done
    }

    /// The key of a process that has not ended.
    pub fn running(&mut self, target: &Target) -> Result<Key, Reply> {
        let key = self.table.key(target);
        match (key, self.table.by_target(target)) {
            (Some(key), Some(process)) if process.exit.is_none() => Ok(key),
            (Some(_), Some(_)) => Err(not_running(target)),
            _ => Err(refused(Refusal::Unknown, format!("the keeper knows no {}", name(target)))),
        }
    }

    fn with_cgroup<T>(
        &mut self,
        id: &ContainerId,
        act: impl FnOnce(&Cgroup) -> Result<T, CgroupError>,
    ) -> Result<T, Reply> {
        let target = Target::container(id.clone());
        self.running(&target)?;
        let Some(cgroup) = self.table.by_target(&target).and_then(|process| process.cgroup.as_ref()) else {
            return Err(refused(Refusal::System, format!("{} has no control group", name(&target))));
        };
        act(cgroup).map_err(|error| refused(Refusal::System, chain(&error)))
    }

    pub fn reply_started(&mut self, asked: Asked, target: &Target, warnings: Vec<String>) {
        let Asked { peer, seq } = asked;
        let shared = &mut self.shared;
        let Some(process) = self.table.by_target(target).filter(|process| process.exit.is_none()) else {
            return self.reply(peer, seq, not_running(target), &[]);
        };
        let reply =
            FromKeeper::Reply(Reply::Started { pid: process.pid, started_at: process.started_at, warnings });
        self.peers.send(peer, seq, &reply, &process.held(), &mut shared.poller);
    }

    pub fn reply(&mut self, peer: Key, seq: u64, reply: Reply, fds: &[(FdRole, BorrowedFd<'_>)]) {
        self.peers.send(peer, seq, &FromKeeper::Reply(reply), fds, &mut self.shared.poller);
    }
}

fn name(target: &Target) -> String {
    match &target.exec_id {
        None => format!("container {}", target.id.short()),
        Some(exec_id) => format!("exec {} of container {}", exec_id.short(), target.id.short()),
    }
}

fn not_running(target: &Target) -> Reply {
    refused(Refusal::NotRunning, format!("{} is not running", name(target)))
}

fn system(what: &str, errno: Errno) -> Reply {
    refused(Refusal::System, format!("cannot {what}: {errno}"))
}

fn refused(reason: Refusal, message: String) -> Reply {
    Reply::Refused { reason, message }
}
