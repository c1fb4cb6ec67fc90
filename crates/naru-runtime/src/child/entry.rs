//! How a process comes into its v2 control group, and how its parent knows that it did. Child-safe.

use super::{ReportKind, encode};
use naru_kernel::{Errno, unix};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use std::os::fd::{BorrowedFd, OwnedFd};

/// How a process comes into its v2 control group.
#[derive(Debug)]
pub(crate) enum Entry {
    /// There is none.
    None,
    /// clone3 puts it there.
    Cloned,
    /// It writes itself into this `cgroup.procs`.
    Write(OwnedFd),
}

impl Entry {
    /// Goes in and says so; `false` when the process must end. Child-safe.
    pub fn perform(&self, arrival: &Arrival, report: BorrowedFd<'_>) -> bool {
        let done = match self {
            Self::None => return true,
            Self::Cloned => Ok(()),
            Self::Write(procs) => rustix::io::write(procs, b"0").map(drop),
        };
        match done.and_then(|()| arrival.tell()) {
            Ok(()) => true,
            Err(errno) => {
                let word = encode(ReportKind::GroupRefused, 0, errno.raw_os_error());
                // When the parent is gone there is nobody to tell.
                let _ = unix::send(report, &word, &[]);
                false
            }
        }
    }
}

/// The sign of a process that it is in its group and was not killed at birth. It wakes nobody: the parent looks for it
/// once the start is over, unless it has to know before.
#[derive(Debug)]
pub(crate) struct Arrival(OwnedFd);

impl Arrival {
    pub fn new() -> Result<Self, Errno> {
        eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map(Self)
    }

    fn tell(&self) -> Result<(), Errno> {
        rustix::io::write(&self.0, &1_u64.to_ne_bytes()).map(drop)
    }

    pub fn is_told(&self) -> bool {
        let mut polled = [PollFd::new(&self.0, PollFlags::IN)];
        poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|count| count > 0)
    }

    /// Until it is told, or the process says something else on `report`, or ends.
    pub fn wait(&self, report: &OwnedFd) -> Result<(), Errno> {
        loop {
            let mut polled = [PollFd::new(&self.0, PollFlags::IN), PollFd::new(report, PollFlags::IN)];
            match poll(&mut polled, None) {
                Err(Errno::INTR) => {}
                other => return other.map(drop),
            }
        }
    }
}
