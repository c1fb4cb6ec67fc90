//! A few network namespaces made in advance: making one costs more than the rest of a start's namespaces together
//! (0.35 ms and up), and at that moment nobody waits.
//!
//! A namespace is given out once and never comes back, so nothing that a container did in one can meet another. They
//! are held by descriptor only: when the daemon ends, however it ends, the kernel removes those that nobody uses.

use crate::devices;
use crate::error::NetError;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Namespaces that wait at most; a burst of more starts makes its own.
const READY_MAX: usize = 4;
/// How long nobody may have taken one before the next is made: starts go first.
const IDLE: Duration = Duration::from_millis(50);

#[derive(Debug, Default)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    ready: Vec<OwnedFd>,
    /// Counts takes, so that the filler sees whether there was one.
    taken: u64,
    filling: bool,
    closed: bool,
}

impl Pool {
    /// One with `lo` up and Docker's sysctls, which nobody has used.
    pub fn take(&self) -> Result<OwnedFd, NetError> {
        let mut state = self.shared.lock();
        state.taken += 1;
        let ready = state.ready.pop();
        // Without a thread for it every start makes its own, as on the first.
        let fill = !state.filling && !state.closed;
        state.filling |= fill;
        drop(state);
        if fill {
            self.fill_beside();
        }
        ready.map_or_else(devices::new_netns, Ok)
    }

    fn fill_beside(&self) {
        let shared = Arc::clone(&self.shared);
        let spawned = std::thread::Builder::new()
            .name("netns-pool".into())
            .stack_size(128 << 10)
            .spawn(move || shared.fill());
        if spawned.is_err() {
            self.shared.lock().filling = false;
        }
    }

    #[cfg(test)]
    fn wait_for(&self, count: usize) {
        let state = self.shared.lock();
        drop(self.shared.changed.wait_while(state, |state| state.ready.len() != count).unwrap());
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        state.ready.clear();
        self.shared.changed.notify_all();
    }
}

impl Shared {
    /// Makes namespaces, each after a pause without takes, until the pool is full.
    fn fill(&self) {
        let mut state = self.lock();
        loop {
            let before = state.taken;
            let waited = self.changed.wait_timeout_while(state, IDLE, |state| !state.closed);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if state.closed || state.ready.len() >= READY_MAX {
                state.filling = false;
                return;
            }
            if state.taken != before {
                continue;
            }
            drop(state);
            let made = devices::new_netns();
            state = self.lock();
            match made {
                Ok(netns) if !state.closed => state.ready.push(netns),
                // The next take tells its caller why there are none.
                Ok(_) | Err(_) => {
                    state.filling = false;
                    return;
                }
            }
            self.changed.notify_all();
        }
    }

    /// A poisoned lock only says that another thread panicked; the state is sound after any single statement.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use rustix::fs::fstat;

    #[test]
    fn a_namespace_is_given_out_once() {
        let pool = Pool::default();
        let first = match pool.take() {
            Ok(netns) => netns,
            Err(error) => return println!("SKIP: no network namespaces here: {error}"),
        };
        let mut given = vec![first];
        for _ in 0..3 {
            pool.wait_for(READY_MAX);
            // All that wait, and one that has to be made.
            given.extend((0..=READY_MAX).map(|_| pool.take().unwrap()));
        }
        let mut inodes: Vec<u64> = given.iter().map(|netns| fstat(netns).unwrap().st_ino).collect();
        inodes.sort_unstable();
        inodes.dedup();
        assert_eq!(inodes.len(), given.len());
    }
}
