//! The builds that clients have under way: what one call of a build has to tell the others.

use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// How long a call waits for the build that it names: the client makes its calls at once.
const BUILD_WAIT_MAX: Duration = Duration::from_secs(5);
/// Builds at once.
const BUILDS_MAX: usize = 64;
/// What is kept of one build's progress, in bytes; then output is left out.
const PROGRESS_BYTES_MAX: usize = 8 << 20;

/// How the client's side of a build ended.
pub type Outcome = std::result::Result<(), Error>;

#[derive(Default)]
pub struct Build {
    pub session: String,
    pub tags: Vec<String>,
    pub cancel: Arc<AtomicBool>,
    progress: Mutex<Progress>,
    grown: watch::Sender<u64>,
    /// The image, once it is made.
    pub image: Mutex<Option<String>>,
    returned: Mutex<Option<Outcome>>,
    has_returned: Notify,
}

#[derive(Default)]
struct Progress {
    messages: Vec<Arc<Vec<u8>>>,
    bytes: usize,
    ended: bool,
}

impl Build {
    pub fn new(session: String, tags: Vec<String>) -> Self {
        Self { session, tags, ..Self::default() }
    }

    /// Adds a StatusResponse. `droppable` ones are left out when too much is kept already.
    pub fn tell(&self, message: Vec<u8>, droppable: bool) {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        if droppable && progress.bytes + message.len() > PROGRESS_BYTES_MAX {
            return;
        }
        progress.bytes += message.len();
        progress.messages.push(Arc::new(message));
        self.grown.send_modify(|version| *version += 1);
    }

    pub fn end_progress(&self) {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
        self.grown.send_modify(|version| *version += 1);
    }

    /// The message of this number; `None` when no further one comes.
    pub async fn progress(&self, number: usize) -> Option<Arc<Vec<u8>>> {
        let mut grown = self.grown.subscribe();
        loop {
            grown.borrow_and_update();
            {
                let progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
                match progress.messages.get(number) {
                    Some(message) => return Some(Arc::clone(message)),
                    None if progress.ended => return None,
                    None => {}
                }
            }
            grown.changed().await.ok()?;
        }
    }

    pub fn give_back(&self, outcome: Outcome) {
        *self.returned.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        self.has_returned.notify_one();
    }

    pub async fn returned(&self) -> Result<()> {
        self.has_returned.notified().await;
        let outcome = self.returned.lock().unwrap_or_else(PoisonError::into_inner).take();
        outcome.unwrap_or(Ok(()))
    }
}

#[derive(Default)]
pub struct Builds {
    open: Mutex<BTreeMap<String, Arc<Build>>>,
    changed: Notify,
}

impl Builds {
    /// The build is listed as long as the guard lives.
    pub fn open(self: &Arc<Self>, id: &str, build: Build) -> Result<Guard> {
        let build = Arc::new(build);
        {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            if open.len() >= BUILDS_MAX || open.contains_key(id) {
                return Err(Error::NoBuild { id: id.to_owned() });
            }
            open.insert(id.to_owned(), Arc::clone(&build));
        }
        self.changed.notify_waiters();
        Ok(Guard { builds: Arc::clone(self), id: id.to_owned(), build })
    }

    pub async fn find(&self, id: &str) -> Result<Arc<Build>> {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                let found = self.open.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
                if let Some(build) = found {
                    return build;
                }
                changed.await;
            }
        };
        let found = tokio::time::timeout(BUILD_WAIT_MAX, wait).await;
        found.map_err(|_| Error::NoBuild { id: id.to_owned() })
    }
}

/// Ends the build however its call ends: also when the client has gone.
pub struct Guard {
    builds: Arc<Builds>,
    id: String,
    pub build: Arc<Build>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.build.cancel.store(true, Ordering::Relaxed);
        self.build.end_progress();
        self.builds.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}
