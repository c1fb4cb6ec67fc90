//! The epoll set, with what each descriptor is for, and the timers.
//!
//! A descriptor that is shared with the daemon stays in an epoll set when we close our duplicate (epoll(7), question 6), so
//! nothing is left to closing: [`Watched`] is taken out before it is dropped. Tokens are never used twice; an event that
//! comes after its source has gone finds nothing.

use naru_kernel::Errno;
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData};
use std::collections::{BTreeSet, HashMap};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

pub(super) use rustix::event::epoll::EventFlags as Interest;

/// Events taken in one turn; more wait in the kernel.
const EVENTS_PER_TURN: usize = 64;

/// A process in the keeper's table; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key(pub u64);

/// What a descriptor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Listener,
    Children,
    Connection(Key),
    /// Output number 0 (stdout or pty) or 1 (stderr) of a process.
    Output(Key, usize),
    Stdin(Key),
    Attached(Key, Key),
    /// An adopted process; own children are reaped on SIGCHLD.
    Pidfd(Key),
    Oom(Key),
    /// A client that waits for its process to start.
    Early(Key),
    /// The process that starts an exec.
    Worker(Key),
}

/// A descriptor and what it is watched for.
#[derive(Debug)]
pub(super) struct Watched {
    pub fd: OwnedFd,
    token: u64,
    interest: Interest,
    registered: bool,
    /// Stay registered without interest, to learn of a hang-up.
    hangups: bool,
}

impl AsFd for Watched {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

pub(super) struct Poller {
    epoll: OwnedFd,
    sources: HashMap<u64, Source>,
    last: u64,
    events: Vec<Event>,
    timers: BTreeSet<(Instant, Key)>,
}

impl Poller {
    pub fn new() -> Result<Self, Errno> {
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            sources: HashMap::new(),
            last: 0,
            events: Vec::with_capacity(EVENTS_PER_TURN),
            timers: BTreeSet::new(),
        })
    }

    pub fn fresh_key(&mut self) -> Key {
        self.last += 1;
        Key(self.last)
    }

    /// Watches `fd` for nothing yet.
    pub fn adopt(&mut self, fd: OwnedFd, source: Source) -> Watched {
        let Key(token) = self.fresh_key();
        self.sources.insert(token, source);
        Watched { fd, token, interest: Interest::empty(), registered: false, hangups: false }
    }

    /// As [`Poller::adopt`], and a hang-up is reported even while there is no interest.
    pub fn adopt_with_hangups(&mut self, fd: OwnedFd, source: Source) -> Watched {
        Watched { hangups: true, ..self.adopt(fd, source) }
    }

    pub fn set(&self, watched: &mut Watched, interest: Interest) -> Result<(), Errno> {
        let wanted = watched.hangups || !interest.is_empty();
        if watched.registered == wanted && (!wanted || watched.interest == interest) {
            return Ok(());
        }
        let data = EventData::new_u64(watched.token);
        match (watched.registered, wanted) {
            (false, true) => epoll::add(&self.epoll, &watched.fd, data, interest)?,
            (true, true) => epoll::modify(&self.epoll, &watched.fd, data, interest)?,
            (true, false) => epoll::delete(&self.epoll, &watched.fd)?,
            (false, false) => {}
        }
        watched.registered = wanted;
        watched.interest = interest;
        Ok(())
    }

    /// Stops reporting hang-ups too.
    pub fn mute(&self, watched: &mut Watched) -> Result<(), Errno> {
        watched.hangups = false;
        self.set(watched, Interest::empty())
    }

    /// Gives the descriptor back, watched no more.
    pub fn release(&mut self, mut watched: Watched) -> OwnedFd {
        // Deleting an open, registered descriptor cannot fail.
        let _ = self.mute(&mut watched);
        self.sources.remove(&watched.token);
        watched.fd
    }

    /// Calls [`Turn`] for `key` again no earlier than `after` from now.
    pub fn wake_after(&mut self, key: Key, after: Duration) {
        self.timers.insert((Instant::now() + after, key));
    }

    /// No timer wakes `key` any more.
    pub fn forget_timers(&mut self, key: Key) {
        self.timers.retain(|(_, of)| *of != key);
    }

    /// Waits for events or timers.
    pub fn wait(&mut self, turn: &mut Turn) -> Result<(), Errno> {
        turn.events.clear();
        turn.timers.clear();
        let timeout = self.timers.first().map(|(at, _)| at.saturating_duration_since(Instant::now()));
        let timeout = timeout
            .map(|left| Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) });
        self.events.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        for event in &self.events {
            let data = event.data;
            if let Some(source) = self.sources.get(&data.u64()) {
                turn.events.push((*source, event.flags));
            }
        }
        let now = Instant::now();
        while let Some((at, key)) = self.timers.first().copied()
            && at <= now
        {
            self.timers.pop_first();
            turn.timers.push(key);
        }
        Ok(())
    }
}

/// What one wait gave.
#[derive(Debug, Default)]
pub(super) struct Turn {
    pub events: Vec<(Source, Interest)>,
    pub timers: Vec<Key>,
}
