//! A process the keeper holds: its streams, its log, who is attached, and how it ended.
//!
//! Nothing here waits. Each function does what can be done now and then says to the poller what it is waiting for.

use super::attached::{Attached, Wants};
use super::logfile::{LogWriter, encode};
use super::poller::{Interest, Key, Poller, Source, Watched};
use super::protocol::{ExitRecord, FdRole, ProcessEntry, StdioSpec, Target};
use super::spool::Spool;
use super::ttyspool::TtySpool;
use crate::cgroup::{Cgroup, OomWatch};
use crate::external::External;
use naru_kernel::{Errno, clock};
use naru_types::Timestamp;
use naru_types::logrec::Stream;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Most bytes taken from an output in one go, so that one loud process cannot keep the others waiting.
pub(super) const BATCH_BYTES: usize = 64 * 1024;
/// Most bytes taken after the end of a process before its end is told: a pipe holds at most 1 MiB
/// (/proc/sys/fs/pipe-max-size), more can only come from somebody who still writes.
const DRAIN_BYTES_MAX: usize = 2 << 20;
/// Most attached clients of one process.
pub(super) const ATTACHED_MAX: usize = 64;

/// What all processes share: the poller, the spool and two buffers.
pub(super) struct Shared {
    pub poller: Poller,
    pub spool: Spool,
    /// `None`: the run directory has no place for it.
    pub tty_spool: Option<TtySpool>,
    /// [`BATCH_BYTES`] long.
    pub batch: Vec<u8>,
    pub records: Vec<u8>,
}

/// Where a batch is safe between its pipe and its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guard {
    None,
    Spool,
    TtySpool,
}

/// What making a [`Process`] takes.
pub(super) struct Parts {
    pub target: Target,
    pub pid: i32,
    pub pidfd: OwnedFd,
    pub started_at: Timestamp,
    pub bundle: PathBuf,
    pub stdio: StdioSpec,
    pub streams: Streams,
    pub log: Option<LogWriter>,
    pub cgroup: Option<Cgroup>,
}

/// The keeper's ends, non-blocking. With a tty `stdin` and `stdout` are duplicates of the master.
#[derive(Debug, Default)]
pub(super) struct Streams {
    pub stdin: Option<OwnedFd>,
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
}

pub(super) struct Process {
    pub target: Target,
    pub pid: i32,
    pub pidfd: OwnedFd,
    pub started_at: Timestamp,
    pub bundle: PathBuf,
    pub stdio: StdioSpec,
    pub cgroup: Option<Cgroup>,
    /// A container, or an exec in one, of another runtime.
    pub external: Option<External>,
    pub oom_watch: Option<(OomWatch, Watched)>,
    pub oom_kills: u64,
    pub exit: Option<ExitRecord>,
    pub paused: bool,
    /// Nobody asks for it any more; it stays while somebody still writes into its pipes.
    pub forgotten: bool,
    /// Watches the pidfd of an adopted process; own children are reaped on SIGCHLD.
    pub adopted: Option<Adopted>,
    pub key: Key,
    /// When a stop that did not work becomes a SIGKILL.
    pub kill_at: Option<Instant>,
    pub stdin: Option<Watched>,
    pub stdin_waiting: Vec<u8>,
    /// Close stdin when nothing waits any more.
    pub stdin_ending: bool,
    pub outputs: [Option<Watched>; 2],
    pub log: Option<LogWriter>,
    pub attached: BTreeMap<Key, Attached>,
}

/// A process that is not our child.
pub(super) struct Adopted {
    pub pidfd: Watched,
    /// How often its exit status was asked for in vain.
    pub asked: u32,
}

impl Process {
    pub fn new(parts: Parts, key: Key, poller: &mut Poller) -> Self {
        let Streams { stdin, stdout, stderr } = parts.streams;
        let stdin = stdin.map(|fd| poller.adopt(fd, Source::Stdin(key)));
        let outputs = [(stdout, 0), (stderr, 1)].map(|(fd, n)| {
            let mut watched = poller.adopt(fd?, Source::Output(key, n));
            poller.set(&mut watched, Interest::IN).ok()?;
            Some(watched)
        });
        Self {
            target: parts.target,
            pid: parts.pid,
            pidfd: parts.pidfd,
            started_at: parts.started_at,
            bundle: parts.bundle,
            stdio: parts.stdio,
            cgroup: parts.cgroup,
            external: None,
            oom_watch: None,
            oom_kills: 0,
            exit: None,
            paused: false,
            forgotten: false,
            adopted: None,
            key,
            kill_at: None,
            stdin,
            stdin_waiting: Vec::new(),
            stdin_ending: false,
            outputs,
            log: parts.log,
            attached: BTreeMap::new(),
        }
    }

    pub fn entry(&self) -> ProcessEntry {
        ProcessEntry {
            target: self.target.clone(),
            pid: self.pid,
            started_at: self.started_at,
            tty: self.stdio.tty,
            paused: self.paused,
            exit: self.exit,
            log_records_dropped: self.log.as_ref().map_or(0, |log| log.dropped),
        }
    }

    /// What the daemon holds as well.
    pub fn held(&self) -> Vec<(FdRole, BorrowedFd<'_>)> {
        let mut fds = vec![(FdRole::Pidfd, self.pidfd.as_fd())];
        let [out, err] = &self.outputs;
        if self.stdio.tty {
            fds.extend(out.as_ref().map(|master| (FdRole::Pty, master.as_fd())));
        } else {
            fds.extend(self.stdin.as_ref().map(|fd| (FdRole::Stdin, fd.as_fd())));
            fds.extend(out.as_ref().map(|fd| (FdRole::Stdout, fd.as_fd())));
            fds.extend(err.as_ref().map(|fd| (FdRole::Stderr, fd.as_fd())));
        }
        fds
    }

    /// SIGKILL follows unless it ends before. The earlier of two deadlines holds.
    pub fn kill_after(&mut self, after: Duration, shared: &mut Shared) {
        let at = Instant::now() + after;
        if self.kill_at.is_none_or(|before| at < before) {
            self.kill_at = Some(at);
            shared.poller.wake_after(self.key, after);
        }
    }

    /// The pty's master.
    pub fn pty(&self) -> Option<BorrowedFd<'_>> {
        self.outputs[0].as_ref().filter(|_| self.stdio.tty).map(|master| master.as_fd())
    }

    pub fn attached_len(&self) -> usize {
        self.attached.len()
    }

    pub fn attach(&mut self, socket: OwnedFd, wants: Wants, shared: &mut Shared) {
        let poller = &mut shared.poller;
        let key = poller.fresh_key();
        let socket = poller.adopt_with_hangups(socket, Source::Attached(self.key, key));
        let wants = Wants { stdin: wants.stdin && self.stdin.is_some(), ..wants };
        self.attached.insert(key, Attached::new(socket, wants, self.stdio.tty));
        self.settle(shared);
    }

    /// Takes one batch from an output.
    pub fn on_output(&mut self, number: usize, shared: &mut Shared) {
        self.take_batch(number, shared);
        self.settle(shared);
    }

    pub fn on_attached(&mut self, key: Key, flags: Interest, shared: &mut Shared) -> StdinChange {
        if let Some(attached) = self.attached.get_mut(&key) {
            if flags.intersects(Interest::HUP | Interest::ERR) {
                attached.hung_up(&shared.poller);
            }
            attached.flush();
        }
        self.on_stdin(shared)
    }

    /// Moves stdin bytes from the attached clients to the process.
    pub fn on_stdin(&mut self, shared: &mut Shared) -> StdinChange {
        let was_open = self.stdin.is_some();
        self.move_stdin(shared);
        self.settle(shared);
        if was_open && self.stdin.is_none() { StdinChange::Closed } else { StdinChange::None }
    }

    /// Closes stdin once what waits has been written.
    pub fn close_stdin(&mut self, shared: &mut Shared) -> StdinChange {
        if self.stdio.tty {
            return StdinChange::None;
        }
        self.stdin_ending = true;
        self.on_stdin(shared)
    }

    /// After the process ended: what it wrote goes to the log and the clients, however slow those are.
    pub fn drain(&mut self, shared: &mut Shared) {
        for number in 0..self.outputs.len() {
            let mut left = DRAIN_BYTES_MAX;
            while left > 0 && self.outputs[number].is_some() {
                match self.take_batch(number, shared) {
                    0 => break,
                    taken => left = left.saturating_sub(taken),
                }
            }
        }
        self.stdin_waiting.clear();
        if let Some(stdin) = self.stdin.take() {
            drop(shared.poller.release(stdin));
        }
        self.settle(shared);
    }

    /// Lets the clients go as soon as they have taken what waits.
    pub fn end_attached(&mut self, shared: &mut Shared) {
        self.attached.values_mut().for_each(Attached::end);
        self.settle(shared);
    }

    pub fn has_output(&self) -> bool {
        self.outputs.iter().any(Option::is_some)
    }

    pub fn is_over(&self) -> bool {
        self.exit.is_some() && !self.has_output() && self.attached.is_empty()
    }

    /// Takes every descriptor out of the poller.
    pub fn release(&mut self, shared: &mut Shared) {
        let poller = &mut shared.poller;
        let attached = std::mem::take(&mut self.attached);
        let watched = self.outputs.iter_mut().filter_map(Option::take).chain(self.stdin.take());
        let watched = watched.chain(attached.into_values().map(Attached::into_watched));
        let watched = watched
            .chain(self.oom_watch.take().map(|(_, fd)| fd))
            .chain(self.adopted.take().map(|adopted| adopted.pidfd));
        watched.for_each(|fd| drop(poller.release(fd)));
    }

    /// Reads once and hands on. The bytes taken; zero also when nothing is there or the output has ended.
    fn take_batch(&mut self, number: usize, shared: &mut Shared) -> usize {
        let Some(output) = &self.outputs[number] else { return 0 };
        let stream = if number == 0 { Stream::Stdout } else { Stream::Stderr };
        let batch = &mut shared.batch[..self.log.as_ref().map_or(BATCH_BYTES, LogWriter::batch_bytes_max)];
        let guard = match &self.log {
            None => Guard::None,
            Some(log) if !self.stdio.tty && shared.spool.note(log, stream) => Guard::Spool,
            Some(log) if self.stdio.tty && shared.tty_spool.as_mut().is_some_and(|spool| spool.note(log)) => {
                Guard::TtySpool
            }
            Some(_) => Guard::None,
        };
        let taken = match (guard, &mut shared.tty_spool) {
            // A full run directory must not stop the container: then the batch is read plainly.
            (Guard::Spool, _) => match shared.spool.take(output.as_fd(), batch) {
                Err(Errno::NOSPC | Errno::DQUOT | Errno::INVAL) => rustix::io::read(output, batch),
                taken => taken,
            },
            (Guard::TtySpool, Some(spool)) => spool.take(output.as_fd(), batch),
            (Guard::None | Guard::TtySpool, _) => rustix::io::read(output, batch),
        };
        match taken {
            Err(Errno::AGAIN | Errno::INTR) => 0,
            // EIO: a pty whose last slave was closed (pty(7)).
            Ok(0) | Err(_) => {
                self.close_output(number, shared);
                0
            }
            Ok(taken) => {
                self.hand_on(stream, taken, guard, shared);
                taken
            }
        }
    }

    fn hand_on(&mut self, stream: Stream, taken: usize, guard: Guard, shared: &mut Shared) {
        let bytes = &shared.batch[..taken];
        if let Some(log) = &mut self.log {
            shared.records.clear();
            encode(stream, clock::now(), bytes, &mut shared.records);
            let rotated = log.make_room(shared.records.len());
            match (guard, &mut shared.tty_spool) {
                (Guard::Spool, _) if rotated => drop(shared.spool.note(log, stream)),
                (Guard::TtySpool, Some(spool)) if rotated => drop(spool.note(log)),
                _ => {}
            }
            log.append(&shared.records);
            match (guard, &mut shared.tty_spool) {
                (Guard::Spool, _) => shared.spool.clear(),
                (Guard::TtySpool, Some(spool)) => spool.clear(taken),
                (Guard::None | Guard::TtySpool, _) => {}
            }
        }
        for attached in self.attached.values_mut().filter(|attached| attached.wants(stream)) {
            attached.push(stream, bytes);
        }
    }

    fn close_output(&mut self, number: usize, shared: &mut Shared) {
        if let Some(output) = self.outputs[number].take() {
            drop(shared.poller.release(output));
        }
    }

    /// Drops clients that are over and tells the poller what everything waits for.
    pub fn settle(&mut self, shared: &mut Shared) {
        let poller = &mut shared.poller;
        if self.outputs.iter().all(Option::is_none) {
            self.attached.values_mut().for_each(Attached::end);
        }
        for (_, attached) in self.attached.extract_if(.., |_, attached| attached.is_over()) {
            drop(poller.release(attached.into_watched()));
        }
        let input = self.stdin_waiting.is_empty();
        for attached in self.attached.values_mut() {
            attached.rewatch(poller, input);
        }
        if let Some(stdin) = &mut self.stdin {
            // Errors are reported without interest; a pipe whose reader has gone is found at the next write.
            let _ = poller.set(stdin, if input { Interest::empty() } else { Interest::OUT });
        }
        for (output, stream) in self.outputs.iter_mut().zip([Stream::Stdout, Stream::Stderr]) {
            let Some(output) = output else { continue };
            let full = self.attached.values().any(|attached| attached.wants(stream) && attached.is_full());
            let _ = poller.set(output, if full { Interest::empty() } else { Interest::IN });
        }
    }
}

/// Whether the process's stdin was closed just now: whoever holds a duplicate has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StdinChange {
    None,
    Closed,
}
