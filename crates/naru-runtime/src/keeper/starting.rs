//! What is on its way: starts of containers and execs, and, in the other direction, containers of other runtimes
//! ([`crate::external`]).
//!
//! A worker does each start ([`crate::worker`]), so that a container without CPU time or memory, or with a file system that does
//! not answer, holds up itself and nobody else. A start that takes longer than [`START_TIMEOUT`], or whose daemon has gone, is
//! given up: what comes of it is taken back, and another start of the same waits for that.

use super::exits::convert;
use super::journal::Journal;
use super::poller::{Interest, Key, Poller, Source, Watched};
use super::protocol::{self, ExecRequest, ExitRecord, StartFailed, StartRequest, Target};
use super::server::Keeper;
use super::start::{Beginning, Newborn, plain};
use crate::cgroup::Cgroup;
use crate::request::Spawned;
use crate::worker::{Begun, Listener, Stillborn};
use naru_kernel::pidfd::{self, ExitStatus};
use naru_kernel::process::Child;
use naru_kernel::unix;
use naru_types::signal::Signal;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// How long a start may take, the wait for its turn included. Less than a client waits for the answer.
pub(super) const START_TIMEOUT: Duration = Duration::from_secs(50);

/// What is being started at once; more waits. Each is a process of half a megabyte.
const STARTING_MAX: usize = 256;

/// What waits for its turn; more is refused.
const QUEUED_MAX: usize = 4096;

/// Ends of strangers that are noted meanwhile: a container with the host's pid namespace can make any number. Beyond it the
/// kernel is asked, and before Linux 6.15 the status of a process that ended at once may be unknown.
const ENDED_MAX: usize = 1024;

/// Bytes of what a runtime complains of.
const COMPLAINT_BYTES_MAX: usize = 32 << 10;

/// Who waits for the answer: a connection, and the number of its request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub peer: Key,
    pub seq: u64,
}

/// What shall be started.
pub(super) enum Wanted {
    Container { request: Box<StartRequest>, netns: Option<OwnedFd>, userns: Option<OwnedFd> },
    Exec(Box<ExecRequest>),
}

impl Wanted {
    pub fn target(&self) -> Target {
        match self {
            Self::Container { request, .. } => Target::container(request.id.clone()),
            Self::Exec(request) => Target::exec(request.id.clone(), request.exec_id.clone()),
        }
    }
}

#[derive(Default)]
pub(super) struct Starting {
    queued: VecDeque<Queued>,
    workers: BTreeMap<Key, Worker>,
    /// Numbers of workers that were not reaped yet.
    helpers: HashSet<i32>,
    /// Ended containers whose runtime takes its own things away.
    leaving: BTreeMap<Key, Leaving>,
    /// Children that were reaped before their worker's last word was read.
    ended: HashMap<i32, ExitStatus>,
}

struct Queued {
    /// Its worker's, once it has one.
    key: Key,
    asked: Asked,
    wanted: Wanted,
}

struct Worker {
    socket: Watched,
    process: Child,
    listener: Listener,
    newborn: Newborn,
    /// `None`: given up.
    asked: Option<Asked>,
    warnings: Vec<String>,
}

impl Worker {
    /// Its end, and that of what it has made, is heard like any other.
    fn give_up(&mut self) -> Option<Asked> {
        let _ = pidfd::send_signal(&self.process.pidfd, Signal::KILL);
        self.listener.kill();
        self.asked.take()
    }
}

struct Leaving {
    socket: Watched,
    process: Key,
    exit: ExitRecord,
}

impl Starting {
    pub fn is_empty(&self) -> bool {
        self.queued.is_empty() && self.workers.is_empty() && self.leaving.is_empty()
    }

    /// Whether somebody waits for its start.
    pub fn has(&self, target: &Target) -> bool {
        let mut workers = self.workers.values().filter(|worker| worker.asked.is_some());
        workers.any(|worker| worker.newborn.target == *target)
            || self.queued.iter().any(|queued| queued.wanted.target() == *target)
    }

    /// `false`: too many wait.
    fn enqueue(&mut self, asked: Asked, wanted: Wanted, poller: &mut Poller) -> bool {
        if self.queued.len() >= QUEUED_MAX {
            return false;
        }
        let key = poller.fresh_key();
        poller.wake_after(key, START_TIMEOUT);
        self.queued.push_back(Queued { key, asked, wanted });
        true
    }

    /// Whose turn it is.
    fn next(&mut self) -> Option<Queued> {
        if self.workers.len() >= STARTING_MAX {
            return None;
        }
        let given_up = |target: &Target| self.workers.values().any(|worker| worker.newborn.target == *target);
        let index = self.queued.iter().position(|queued| !given_up(&queued.wanted.target()))?;
        self.queued.remove(index)
    }

    fn add(&mut self, key: Key, asked: Asked, beginning: Beginning, poller: &mut Poller) {
        let Beginning { begun: Begun { socket, worker, listener }, newborn, warnings } = beginning;
        let mut socket = poller.adopt(socket, Source::Worker(key));
        // Adding to an epoll set fails for want of memory only; the deadline tells then.
        let _ = poller.set(&mut socket, Interest::IN);
        self.helpers.insert(worker.pid);
        let asked = Some(asked);
        self.workers.insert(key, Worker { socket, process: worker, listener, newborn, asked, warnings });
    }

    /// `process` has ended as `exit` says; `socket` ends when its runtime is done with it.
    pub fn add_leaving(&mut self, socket: OwnedFd, process: Key, exit: ExitRecord, poller: &mut Poller) {
        let key = poller.fresh_key();
        let mut socket = poller.adopt(socket, Source::Worker(key));
        let _ = poller.set(&mut socket, Interest::IN);
        self.leaving.insert(key, Leaving { socket, process, exit });
    }

    /// A child that nobody knows has ended: an orphan of some container, a worker, or a program that was quick.
    pub fn note_end(&mut self, pid: i32, status: ExitStatus) {
        if !self.helpers.remove(&pid) && !self.workers.is_empty() && self.ended.len() < ENDED_MAX {
            self.ended.insert(pid, status);
        }
    }

    fn remove(&mut self, key: Key, poller: &mut Poller) -> Option<Worker> {
        poller.forget_timers(key);
        self.workers.remove(&key)
    }

    /// How a process ended that was reaped already. An entry of another is an older process's of the same number.
    fn end_of(&mut self, pid: i32, pidfd: &OwnedFd) -> Option<protocol::ExitStatus> {
        const REAPED: i32 = -1;
        let noted = self.ended.remove(&pid);
        if self.workers.is_empty() {
            self.ended.clear();
        }
        if pidfd::number(pidfd).ok() != Some(REAPED) {
            return None;
        }
        Some(noted.or_else(|| pidfd::exit_info(pidfd)).map_or(protocol::ExitStatus::Unknown, convert))
    }
}

impl Keeper {
    /// Starts it when it is its turn.
    pub fn enqueue(&mut self, asked: Asked, wanted: Wanted, journal: &mut Journal) {
        let target = wanted.target();
        if self.starting.enqueue(asked, wanted, &mut self.shared.poller) {
            return self.start_queued(journal);
        }
        let error = plain("start it", "too many are being started");
        self.tell_failure(asked, &target, &error, journal);
    }

    fn start_queued(&mut self, journal: &mut Journal) {
        while let Some(Queued { key, asked, wanted }) = self.starting.next() {
            let target = wanted.target();
            let beginning = match wanted {
                Wanted::Container { request, netns, userns } => self.start(*request, netns, userns.as_ref()),
                Wanted::Exec(request) => match self.running(&Target::container(request.id.clone())) {
                    Ok(_) => self.exec(*request),
                    Err(refusal) => {
                        self.shared.poller.forget_timers(key);
                        drop(self.table.take_early(&target, &mut self.shared.poller));
                        self.reply(asked.peer, asked.seq, refusal, &[]);
                        continue;
                    }
                },
            };
            match beginning {
                Ok(beginning) => self.starting.add(key, asked, beginning, &mut self.shared.poller),
                Err(error) => {
                    self.shared.poller.forget_timers(key);
                    self.tell_failure(asked, &target, &error, journal);
                }
            }
        }
    }

    /// A worker has said something.
    pub fn on_worker(&mut self, key: Key, journal: &mut Journal) {
        if let Some(leaving) = self.starting.leaving.remove(&key) {
            return self.on_left(leaving, journal);
        }
        let Some(worker) = self.starting.workers.get_mut(&key) else { return };
        let Some(done) = worker.listener.hear(worker.socket.as_fd()) else { return };
        let Some(worker) = self.starting.remove(key, &mut self.shared.poller) else { return };
        drop(self.shared.poller.release(worker.socket));
        let asked = worker.asked.filter(|asked| self.peers.is_greeted(asked.peer));
        match (done, asked) {
            (Ok(spawned), Some(asked)) => {
                self.on_started(spawned, worker.newborn, (asked, worker.warnings), journal);
            }
            (Ok(spawned), None) => {
                let _ = pidfd::send_signal(&spawned.pidfd, Signal::KILL);
                clear(&worker.newborn);
            }
            // A child that was killed before it became a program is reaped like any other.
            (Err(Stillborn { error, .. }), asked) => {
                clear(&worker.newborn);
                if let Some(asked) = asked {
                    self.tell_failure(asked, &worker.newborn.target, &error.into(), journal);
                }
            }
        }
        self.start_queued(journal);
    }

    fn on_started(
        &mut self,
        spawned: Spawned,
        newborn: Newborn,
        (asked, mut warnings): (Asked, Vec<String>),
        journal: &mut Journal,
    ) {
        let target = newborn.target.clone();
        let end = self.starting.end_of(spawned.pid, &spawned.pidfd);
        let pid = spawned.pid;
        warnings.extend(spawned.warnings.iter().cloned());
        match self.take_in(spawned, newborn) {
            Err(error) => self.tell_failure(asked, &target, &error, journal),
            Ok(process) => {
                if target.exec_id.is_none() {
                    self.watch_oom(process);
                }
                self.reply_started(asked, &target, warnings);
                if let Some(status) = end {
                    self.table.take_child(pid);
                    self.on_end(process, status, journal);
                }
            }
        }
    }

    /// A start's time is over. `false`: the timer is none of a start.
    pub fn on_deadline(&mut self, key: Key, journal: &mut Journal) -> bool {
        let late = if let Some(worker) = self.starting.workers.get_mut(&key) {
            worker.give_up().map(|asked| (asked, worker.newborn.target.clone(), worker.newborn.hint()))
        } else {
            let Some(index) = self.starting.queued.iter().position(|queued| queued.key == key) else {
                return false;
            };
            let queued = self.starting.queued.remove(index);
            queued.map(|queued| (queued.asked, queued.wanted.target(), "an earlier start is still under way"))
        };
        if let Some((asked, target, why)) = late {
            let error = StartFailed {
                errno: naru_kernel::Errno::TIMEDOUT.raw_os_error(),
                ..plain(&format!("start it within {} s", START_TIMEOUT.as_secs()), why)
            };
            self.tell_failure(asked, &target, &error, journal);
        }
        true
    }

    /// Nobody waits any more for what `peer` has asked for.
    pub fn on_peer_gone(&mut self, peer: Key) {
        for (_, worker) in &mut self.starting.workers {
            if worker.asked.is_some_and(|asked| asked.peer == peer) {
                drop(self.table.take_early(&worker.newborn.target, &mut self.shared.poller));
                worker.give_up();
            }
        }
        let gone = |queued: &Queued| queued.asked.peer == peer;
        for queued in self.starting.queued.iter().filter(|queued| gone(queued)) {
            self.shared.poller.forget_timers(queued.key);
            drop(self.table.take_early(&queued.wanted.target(), &mut self.shared.poller));
        }
        self.starting.queued.retain(|queued| !gone(queued));
    }

    /// The runtime of an ended container has taken its things away, or could not.
    fn on_left(&mut self, leaving: Leaving, journal: &mut Journal) {
        let Leaving { socket, process, exit } = leaving;
        let mut complaint = [0; COMPLAINT_BYTES_MAX];
        let heard = unix::recv_nonblocking(&socket, &mut complaint).map_or(0, |received| received.len);
        drop(self.shared.poller.release(socket));
        if heard > 0 {
            let complaint = String::from_utf8_lossy(complaint.get(..heard).unwrap_or_default());
            journal
                .write(format_args!("an ended container could not be deleted by its runtime: {complaint}"));
        }
        self.conclude(process, exit, journal);
    }
}

/// A container that did not start, or whose start was given up.
fn clear(newborn: &Newborn) {
    if let (Some(cgroup), None) = (&newborn.cgroup, &newborn.target.exec_id) {
        // The start's own error is the one to tell, and the engine looks after the group as well.
        let _ = cgroup.kill_all().and_then(|()| Cgroup::delete(cgroup));
    }
}
