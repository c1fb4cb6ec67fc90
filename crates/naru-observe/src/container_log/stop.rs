//! How a follower is told to end.

use naru_kernel::Errno;
use naru_kernel::inotify::Inotify;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

const GO_ON: u8 = 0;
const FINISH: u8 = 1;
const CANCEL: u8 = 2;

/// Ends one follower, or all that were given a clone, from any thread.
#[derive(Clone, Debug)]
pub struct Stop(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: AtomicU8,
    /// Readable once the state is not `GO_ON` any more; never read, so that it wakes every clone.
    bell: OwnedFd,
}

impl Stop {
    pub fn new() -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self(Arc::new(Inner { state: AtomicU8::new(GO_ON), bell })))
    }

    /// Nothing more will be written (the container has exited): read what is there, then end.
    pub fn finish(&self) {
        self.raise(FINISH);
    }

    /// Nobody wants the rest: end at once.
    pub fn cancel(&self) {
        self.raise(CANCEL);
    }

    pub fn is_cancelled(&self) -> bool {
        self.0.state.load(Ordering::Acquire) == CANCEL
    }

    pub(super) fn is_finishing(&self) -> bool {
        self.0.state.load(Ordering::Acquire) != GO_ON
    }

    /// Returns after a change of the directory, a call to `finish` or `cancel`, or `left` nanoseconds.
    pub(super) fn wait(&self, inotify: &Inotify, left: Option<i64>) -> io::Result<()> {
        let timeout =
            left.map(|left| Timespec { tv_sec: left / 1_000_000_000, tv_nsec: left % 1_000_000_000 });
        let mut polled = [PollFd::new(inotify, PollFlags::IN), PollFd::new(&self.0.bell, PollFlags::IN)];
        match poll(&mut polled, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => inotify.drain().map(drop),
            Err(errno) => Err(errno.into()),
        }
    }

    fn raise(&self, state: u8) {
        self.0.state.fetch_max(state, Ordering::AcqRel);
        // Fails only when the counter is full, which rings as well.
        let _ = rustix::io::write(&self.0.bell, &1u64.to_ne_bytes());
    }
}
