//! What the daemon holds of a running process so that a killed keeper breaks no pipe.
//!
//! The stdin duplicate is special: as long as any write end is open the process never reads its end of file. So it sits
//! in a slot that the client's reader thread empties when the keeper says `StdinClosed`.

use super::protocol::{FdRole, Target};
use super::wire::Fds;
use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

type Slot = Mutex<Option<OwnedFd>>;

/// The held write end of stdin; empty with a tty, without stdin, or after stdin was closed.
#[derive(Clone, Debug, Default)]
pub struct HeldStdin(Arc<Slot>);

impl HeldStdin {
    pub fn is_open(&self) -> bool {
        lock(&self.0).is_some()
    }

    /// `None` once it is closed.
    pub fn duplicate(&self) -> Result<Option<OwnedFd>, rustix::io::Errno> {
        lock(&self.0).as_ref().map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, 0)).transpose()
    }
}

/// Duplicates of the keeper's descriptors of one process.
#[derive(Debug, Default)]
pub struct HeldFds {
    pub stdin: HeldStdin,
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
    /// Master of the pty, in place of the three above.
    pub pty: Option<OwnedFd>,
    pub pidfd: Option<OwnedFd>,
}

impl HeldFds {
    /// From descriptors that were kept elsewhere.
    pub fn from_parts(parts: Vec<(FdRole, OwnedFd)>) -> Self {
        Self::from_reply(Fds::from_parts(parts))
    }

    pub(super) fn from_reply(mut fds: Fds) -> Self {
        Self {
            stdin: HeldStdin(Arc::new(Mutex::new(fds.take(FdRole::Stdin)))),
            stdout: fds.take(FdRole::Stdout),
            stderr: fds.take(FdRole::Stderr),
            pty: fds.take(FdRole::Pty),
            pidfd: fds.take(FdRole::Pidfd),
        }
    }

    /// All but stdin, with their roles.
    pub fn others(&self) -> impl Iterator<Item = (FdRole, BorrowedFd<'_>)> {
        [
            (FdRole::Stdout, &self.stdout),
            (FdRole::Stderr, &self.stderr),
            (FdRole::Pty, &self.pty),
            (FdRole::Pidfd, &self.pidfd),
        ]
        .into_iter()
        .filter_map(|(role, fd)| Some((role, fd.as_ref()?.as_fd())))
    }
}

/// Finds the stdin slot of a target again; holds nothing open by itself.
#[derive(Debug, Default)]
pub(super) struct HeldRegistry(Mutex<Slots>);

#[derive(Debug, Default)]
struct Slots {
    open: HashMap<Target, Weak<Slot>>,
    /// `StdinClosed` that came before the caller of `start` had registered the slot.
    closed_early: Vec<Target>,
}

/// Far more than the calls that can be in flight at once.
const CLOSED_EARLY_MAX: usize = 256;

impl HeldRegistry {
    pub fn insert(&self, target: Target, stdin: &HeldStdin) {
        let mut slots = lock(&self.0);
        if let Some(at) = slots.closed_early.iter().position(|early| *early == target) {
            slots.closed_early.swap_remove(at);
            lock(&stdin.0).take();
            return;
        }
        slots.open.retain(|_, slot| slot.strong_count() > 0);
        if stdin.is_open() {
            slots.open.insert(target, Arc::downgrade(&stdin.0));
        }
    }

    pub fn close(&self, target: &Target) {
        let mut slots = lock(&self.0);
        match slots.open.remove(target) {
            Some(slot) => {
                if let Some(slot) = slot.upgrade() {
                    lock(&slot).take();
                }
            }
            None if slots.closed_early.len() < CLOSED_EARLY_MAX => slots.closed_early.push(target.clone()),
            None => {}
        }
    }

    pub fn ended(&self, target: &Target) {
        let mut slots = lock(&self.0);
        slots.open.remove(target);
        slots.closed_early.retain(|early| early != target);
    }
}

/// A poisoned lock only says that another thread panicked; the slots are sound after any single statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
