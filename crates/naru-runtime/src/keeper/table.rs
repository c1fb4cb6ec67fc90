//! Every process the keeper knows, by key, by target and by pid, and the clients that came before their process.

use super::poller::{Interest, Key, Poller, Source, Watched};
use super::process::Process;
use super::protocol::{AttachRequest, LIST_PAGE_LEN_MAX, ProcessEntry, Target};
use naru_kernel::Errno;
use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Most clients that wait for processes to start, altogether.
const EARLY_MAX: usize = 1024;

/// A client that attached before the start.
pub(super) struct Early {
    pub request: AttachRequest,
    pub socket: OwnedFd,
}

/// An [`Early`] in the table. Its hang-up is watched for: the start that it waits for may never be asked for, as when the
/// daemon was killed in between.
struct Waiting {
    key: Key,
    request: AttachRequest,
    socket: Watched,
}

#[derive(Default)]
pub(super) struct Table {
    processes: BTreeMap<Key, Process>,
    names: BTreeMap<Target, Key>,
    children: HashMap<i32, Key>,
    early: Vec<Waiting>,
}

impl Table {
    /// `child`: whether the keeper has to reap it.
    pub fn insert(&mut self, key: Key, process: Process, child: bool) {
        if child {
            self.children.insert(process.pid, key);
        }
        self.names.insert(process.target.clone(), key);
        self.processes.insert(key, process);
    }

    pub fn key(&self, target: &Target) -> Option<Key> {
        self.names.get(target).copied()
    }

    pub fn by_key(&mut self, key: Key) -> Option<&mut Process> {
        self.processes.get_mut(&key)
    }

    pub fn by_target(&mut self, target: &Target) -> Option<&mut Process> {
        self.processes.get_mut(self.names.get(target)?)
    }

    /// The child that was reaped under `pid`; the number is free for reuse from now on.
    pub fn take_child(&mut self, pid: i32) -> Option<Key> {
        self.children.remove(&pid)
    }

    /// Takes the process off the list; it stays in the table until [`Table::remove`].
    pub fn unname(&mut self, target: &Target) {
        self.names.remove(target);
    }

    pub fn remove(&mut self, key: Key) -> Option<Process> {
        let process = self.processes.remove(&key)?;
        if self.names.get(&process.target) == Some(&key) {
            self.names.remove(&process.target);
        }
        Some(process)
    }

    pub fn processes(&self) -> impl Iterator<Item = &Process> {
        self.processes.values()
    }

    pub fn early(&self) -> impl Iterator<Item = (&AttachRequest, BorrowedFd<'_>)> {
        self.early.iter().map(|waiting| (&waiting.request, waiting.socket.as_fd()))
    }

    /// The container's execs.
    pub fn execs(&self, container: &Target) -> Vec<Target> {
        let of_container = |target: &&Target| target.id == container.id && target.exec_id.is_some();
        self.names.keys().filter(of_container).cloned().collect()
    }

    pub fn anything_runs(&self) -> bool {
        self.processes.values().any(|process| process.exit.is_none())
    }

    /// One page of the list, and whether there is more.
    pub fn page(&self, after: Option<&Target>) -> (Vec<ProcessEntry>, bool) {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        let mut rest = self.names.range::<Target, _>((from, Unbounded));
        let entries = rest
            .by_ref()
            .take(LIST_PAGE_LEN_MAX)
            .filter_map(|(_, key)| self.processes.get(key))
            .map(Process::entry)
            .collect();
        (entries, rest.next().is_some())
    }

    /// Keeps a client until its process starts or it hangs up. `false`: too many wait.
    pub fn add_early(&mut self, early: Early, poller: &mut Poller) -> bool {
        if self.early.len() >= EARLY_MAX {
            return false;
        }
        let key = poller.fresh_key();
        let mut socket = poller.adopt_with_hangups(early.socket, Source::Early(key));
        // One that can't be watched is only kept for longer.
        let _ = poller.set(&mut socket, Interest::empty());
        self.early.push(Waiting { key, request: early.request, socket });
        true
    }

    /// The clients that wait for `target`, which do so no more.
    pub fn take_early(&mut self, target: &Target, poller: &mut Poller) -> Vec<Early> {
        let theirs = self.early.extract_if(.., |waiting| waiting.request.target == *target);
        theirs
            .map(|waiting| Early { request: waiting.request, socket: poller.release(waiting.socket) })
            .collect()
    }

    /// The client that waits under `key` has hung up.
    pub fn on_early_gone(&mut self, key: Key, poller: &mut Poller) {
        for waiting in self.early.extract_if(.., |waiting| waiting.key == key) {
            drop(poller.release(waiting.socket));
        }
    }
}

/// Says `ESRCH` as "it has ended".
pub(super) fn has_ended(errno: Errno) -> bool {
    errno == Errno::SRCH
}
