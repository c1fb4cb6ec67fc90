//! The builds that clients have under way: what one call of a build has to tell the others.

use crate::error::{Error, Result};
use crate::outputs::Output;
use crate::waiting::Waiting;
use naru_image::Lease;
use naru_types::{Digest, ImageRef};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

/// Builds at once, those that have just ended among them.
const BUILDS_MAX: usize = 256;
/// For how long an ended build's progress can be asked for: a client on a busy machine may ask after the build was over.
const ENDED_KEPT: Duration = Duration::from_secs(10);
/// What is kept of one build's progress, in bytes; then output is left out.
const PROGRESS_BYTES_MAX: usize = 8 << 20;

/// How the client's side of a build ended.
pub type Outcome = std::result::Result<(), Error>;

#[derive(Default)]
pub struct Build {
    pub session: String,
    pub outputs: Vec<Output>,
    /// The entitlement `network.host`.
    pub host_network_allowed: bool,
    pub cancel: Arc<AtomicBool>,
    progress: Mutex<Progress>,
    grown: watch::Sender<u64>,
    pub made: Mutex<Option<Arc<Made>>>,
    returned: Mutex<Option<Outcome>>,
    has_returned: Notify,
}

/// A build's result.
pub struct Made {
    pub image: Digest,
    /// Keeps an image that is on no list until it was sent.
    pub _held: Lease,
}

#[derive(Default)]
struct Progress {
    messages: Vec<Arc<Vec<u8>>>,
    bytes: usize,
    ended: bool,
}

impl Build {
    pub fn new(session: String, outputs: Vec<Output>, host_network_allowed: bool) -> Self {
        Self { session, outputs, host_network_allowed, ..Self::default() }
    }

    /// Whether the image goes into the store: because it is said, or nothing is.
    pub fn is_stored(&self) -> bool {
        self.outputs.is_empty() || self.outputs.iter().any(|output| matches!(output, Output::Store { .. }))
    }

    /// The names it gets there.
    pub fn names(&self) -> impl Iterator<Item = &ImageRef> {
        self.outputs.iter().flat_map(|output| match output {
            Output::Store { names } => names.iter(),
            _ => [].iter(),
        })
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

pub struct Builds(Waiting<Arc<Build>>);

impl Default for Builds {
    fn default() -> Self {
        Self(Waiting::new(BUILDS_MAX))
    }
}

impl Builds {
    /// The build is listed as long as the guard lives.
    pub fn open(self: &Arc<Self>, id: &str, build: Build) -> Result<Guard> {
        let build = Arc::new(build);
        if !self.0.open(id, Arc::clone(&build)) {
            return Err(Error::NoBuild { id: id.to_owned() });
        }
        Ok(Guard { builds: Arc::clone(self), id: id.to_owned(), build })
    }

    /// One that goes on.
    pub async fn find(&self, id: &str) -> Result<Arc<Build>> {
        let found = self.find_told(id).await?;
        if found.cancel.load(Ordering::Relaxed) {
            return Err(Error::NoBuild { id: id.to_owned() });
        }
        Ok(found)
    }

    /// One that goes on, or has ended a moment ago.
    pub async fn find_told(&self, id: &str) -> Result<Arc<Build>> {
        self.0.find(id).await.ok_or_else(|| Error::NoBuild { id: id.to_owned() })
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
        // The image may go now, if nothing else wants it.
        drop(self.build.made.lock().unwrap_or_else(PoisonError::into_inner).take());
        let (builds, id) = (Arc::clone(&self.builds), std::mem::take(&mut self.id));
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(async move {
                tokio::time::sleep(ENDED_KEPT).await;
                builds.0.close(&id);
            })),
            // The daemon ends.
            Err(_) => builds.0.close(&id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_ended_build_is_told_of_for_a_while() {
        let builds = Arc::new(Builds::default());
        let guard = builds.open("a", Build::default()).unwrap();
        guard.build.tell(b"told".to_vec(), false);
        assert!(builds.find("a").await.is_ok());
        drop(guard);
        assert!(builds.find("a").await.is_err());
        let late = builds.find_told("a").await.unwrap();
        assert_eq!(late.progress(0).await.unwrap().as_slice(), b"told");
        assert!(late.progress(1).await.is_none());
    }
}
