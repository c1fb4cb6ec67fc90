//! Every process the keeper knows, by key, by target and by pid, and the clients that came before their process.

use super::poller::Key;
use super::process::Process;
use super::protocol::{AttachRequest, LIST_PAGE_LEN_MAX, ProcessEntry, Target};
use naru_kernel::Errno;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;

/// Most clients that wait for processes to start, altogether.
const EARLY_MAX: usize = 1024;

/// A client that attached before the start.
pub(super) struct Early {
    pub request: AttachRequest,
    pub socket: OwnedFd,
}

#[derive(Default)]
pub(super) struct Table {
    processes: BTreeMap<Key, Process>,
    names: BTreeMap<Target, Key>,
    children: HashMap<i32, Key>,
    early: Vec<Early>,
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

    pub fn early(&self) -> impl Iterator<Item = &Early> {
        self.early.iter()
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

    /// Keeps a client until its process starts. `false`: too many wait.
    pub fn add_early(&mut self, early: Early) -> bool {
        self.early.retain(|waiting| !has_hung_up(&waiting.socket));
        if self.early.len() >= EARLY_MAX {
            return false;
        }
        self.early.push(early);
        true
    }

    pub fn take_early(&mut self, target: &Target) -> Vec<Early> {
        self.early.extract_if(.., |early| early.request.target == *target).collect()
    }
}

fn has_hung_up(socket: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(socket, PollFlags::empty())];
    let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(poll(&mut polled, Some(&zero)), Ok(1))
        && polled[0].revents().intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL)
}

/// Says `ESRCH` as "it has ended".
pub(super) fn has_ended(errno: Errno) -> bool {
    errno == Errno::SRCH
}
