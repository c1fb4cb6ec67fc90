//! Execs on their way, and containers of other runtimes ([`crate::external`]) on theirs, in both directions. A worker starts each one ([`crate::worker`]), so that a container without CPU time or memory, or with
//! a file system that does not answer, holds up its own execs and nobody else.

use super::exits::convert;
use super::journal::Journal;
use super::poller::{Interest, Key, Poller, Source, Watched};
use super::protocol::{self, ExitRecord, Target};
use super::server::Keeper;
use super::start::Newborn;
use crate::cgroup::Cgroup;
use crate::worker::{Listener, Stillborn};
use naru_kernel::pidfd::{self, ExitStatus};
use naru_kernel::unix;
use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, OwnedFd};

/// What is being started at once; more is refused. Each is a process of half a megabyte.
const STARTING_MAX: usize = 256;

/// Ends of strangers that are noted meanwhile: a container with the host's pid namespace can make any number. Beyond it the
/// kernel is asked, and before Linux 6.15 the status of an exec that ended at once may be unknown.
const ENDED_MAX: usize = 1024;

/// Bytes of what a runtime complains of.
const COMPLAINT_BYTES_MAX: usize = 32 << 10;

/// Who waits for the answer: a connection, and the number of its request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub peer: Key,
    pub seq: u64,
}

#[derive(Default)]
pub(super) struct Starting {
    workers: BTreeMap<Key, Worker>,
    /// Ended containers whose runtime takes its own things away.
    leaving: BTreeMap<Key, Leaving>,
    /// Children that were reaped before their worker's last word was read.
    ended: HashMap<i32, ExitStatus>,
}

struct Worker {
    socket: Watched,
    listener: Listener,
    newborn: Newborn,
    asked: Asked,
    warnings: Vec<String>,
}

struct Leaving {
    socket: Watched,
    process: Key,
    exit: ExitRecord,
}

impl Starting {
    pub fn is_full(&self) -> bool {
        self.workers.len() >= STARTING_MAX
    }

    pub fn is_empty(&self) -> bool {
        self.workers.is_empty() && self.leaving.is_empty()
    }

    pub fn has(&self, target: &Target) -> bool {
        self.workers.values().any(|worker| worker.newborn.target == *target)
    }

    pub fn add(
        &mut self,
        socket: OwnedFd,
        listener: Listener,
        newborn: Newborn,
        (asked, warnings): (Asked, Vec<String>),
        poller: &mut Poller,
    ) {
        let key = poller.fresh_key();
        let mut socket = poller.adopt(socket, Source::Worker(key));
        // Adding to an epoll set fails for want of memory only; the client's own timeout tells then.
        let _ = poller.set(&mut socket, Interest::IN);
        self.workers.insert(key, Worker { socket, listener, newborn, asked, warnings });
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
        if !self.workers.is_empty() && self.ended.len() < ENDED_MAX {
            self.ended.insert(pid, status);
        }
    }

    fn remove(&mut self, key: Key) -> Option<Worker> {
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
    /// A worker has said something.
    pub fn on_worker(&mut self, key: Key, journal: &mut Journal) {
        if let Some(leaving) = self.starting.leaving.remove(&key) {
            return self.on_left(leaving, journal);
        }
        let Some(worker) = self.starting.workers.get_mut(&key) else { return };
        let Some(done) = worker.listener.hear(worker.socket.as_fd()) else { return };
        let Some(Worker { socket, newborn, asked, mut warnings, .. }) = self.starting.remove(key) else {
            return;
        };
        drop(self.shared.poller.release(socket));
        let target = newborn.target.clone();
        let spawned = match done {
            Ok(spawned) => spawned,
            // A child that was killed before it became a program is reaped like any other.
            Err(Stillborn { error, .. }) => {
                clear(&newborn);
                return self.tell_failure(asked, &target, &error.into(), journal);
            }
        };
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

/// A container that another runtime could not start, or whose worker was killed in between.
fn clear(newborn: &Newborn) {
    if let (Some(cgroup), None) = (&newborn.cgroup, &newborn.target.exec_id) {
        // The start's own error is the one to tell, and the engine looks after the group as well.
        let _ = cgroup.kill_all().and_then(|()| Cgroup::delete(cgroup));
    }
}
