//! Downloads that several pulls share: what two pulls need at the same time is fetched once.
//!
//! A download runs on a thread of its own and belongs to all who watch it, so a client that hangs up takes
//! nothing from the others; when the last of them has gone it is stopped. It waits for nobody, hence no two
//! pulls can wait for each other. When it fails, those who would have asked the same registry in the same
//! name get its error; the others try theirs.
//!
//! What was fetched can be shared until the last watcher has gone. Pulls watch until they have committed,
//! and [`Flights::board`] looks into the store before it begins a download: there is no moment in between
//! at which content is neither here nor there.

use crate::error::{ImageError, Result};
use crate::progress::LayerStep;
use crate::registry::client::Peer;
use crate::store::locked;
use naru_types::Digest;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// How often a watching pull looks at its cancel flag, in milliseconds.
const WAIT_MS: u64 = 200;

/// Downloads under way or not yet committed, by the digest of what they bring.
pub(crate) struct Flights<T> {
    table: Mutex<BTreeMap<Digest, Boarded<T>>>,
}

struct Boarded<T> {
    flight: Arc<Flight<T>>,
    watchers: usize,
}

struct Flight<T> {
    origin: Arc<Peer>,
    /// Set when nobody watches any more.
    stop: AtomicBool,
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    /// What was told so far; of consecutive passing steps only the last.
    steps: Vec<LayerStep>,
    /// Counts the changes of `steps`.
    version: u64,
    outcome: Outcome<T>,
}

enum Outcome<T> {
    UnderWay,
    Landed(Arc<T>),
    Failed(Arc<ImageError>),
    /// The last watcher took it along.
    Gone,
}

/// What the thread of a download is given.
pub(crate) struct Pilot<T> {
    flight: Arc<Flight<T>>,
    digest: Digest,
}

/// A place at a download; the content stays shared while one is held.
pub(crate) struct Watch<'a, T> {
    flights: &'a Flights<T>,
    flight: Arc<Flight<T>>,
    digest: Digest,
}

impl<T> Default for Flights<T> {
    fn default() -> Self {
        Self { table: Mutex::default() }
    }
}

impl<T: Send + Sync + 'static> Flights<T> {
    /// Joins the download of `digest` or begins it with `work`; `None` when `is_stored` says that it's there.
    pub fn board(
        &self,
        digest: Digest,
        origin: &Arc<Peer>,
        is_stored: &dyn Fn() -> bool,
        work: impl FnOnce(&Pilot<T>) -> Result<T> + Send + 'static,
    ) -> Result<Option<Watch<'_, T>>> {
        let mut table = locked(&self.table);
        let flight = match table.entry(digest) {
            Entry::Occupied(mut boarded) => {
                boarded.get_mut().watchers += 1;
                Arc::clone(&boarded.get().flight)
            }
            Entry::Vacant(_) if is_stored() => return Ok(None),
            Entry::Vacant(vacant) => {
                let flight = Arc::new(Flight::new(Arc::clone(origin)));
                let pilot = Pilot { flight: Arc::clone(&flight), digest };
                let thread = std::thread::Builder::new().name(format!("fetch {}", digest.short()));
                thread
                    .spawn(move || {
                        // `work` and all it owns (a handle of the store among it) ends before others are told.
                        let result = work(&pilot);
                        pilot.flight.finish(result);
                    })
                    .map_err(ImageError::io("start a thread for", digest.to_string()))?;
                vacant.insert(Boarded { flight: Arc::clone(&flight), watchers: 1 });
                flight
            }
        };
        Ok(Some(Watch { flights: self, flight, digest }))
    }
}

impl<T> Flight<T> {
    fn new(origin: Arc<Peer>) -> Self {
        let state = State { steps: Vec::new(), version: 0, outcome: Outcome::UnderWay };
        Self { origin, stop: AtomicBool::new(false), state: Mutex::new(state), changed: Condvar::new() }
    }

    fn finish(&self, result: Result<T>) {
        locked(&self.state).outcome = match result {
            Ok(content) => Outcome::Landed(Arc::new(content)),
            Err(error) => Outcome::Failed(Arc::new(error)),
        };
        self.changed.notify_all();
    }
}

impl<T> Pilot<T> {
    /// Set when the download should end.
    pub fn stop(&self) -> &AtomicBool {
        &self.flight.stop
    }

    pub fn tell(&self, step: LayerStep) {
        let mut state = locked(&self.flight.state);
        match state.steps.last_mut() {
            Some(last) if is_passing(last) && is_passing(&step) => *last = step,
            _ => state.steps.push(step),
        }
        state.version += 1;
        drop(state);
        self.flight.changed.notify_all();
    }
}

/// Watchers must not wait for a thread that panicked.
impl<T> Drop for Pilot<T> {
    fn drop(&mut self) {
        if matches!(locked(&self.flight.state).outcome, Outcome::UnderWay) {
            self.flight.finish(Err(ImageError::DownloadDied { digest: self.digest }));
        }
    }
}

impl<T> Watch<'_, T> {
    /// Waits for the end; every step is told once. `None`: it failed at a registry that isn't `peer`.
    pub fn follow(
        &self,
        peer: &Peer,
        tell: &dyn Fn(LayerStep),
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<Option<Arc<T>>> {
        let (mut told, mut version) = (0, 0);
        let mut last: Option<LayerStep> = None;
        let mut state = locked(&self.flight.state);
        loop {
            if is_cancelled() {
                return Err(ImageError::Cancelled);
            }
            if state.version != version {
                let steps = state.steps[told..].to_vec();
                // A passing step may be replaced by a later one of its kind: its place is looked at again.
                told = state.steps.len() - usize::from(state.steps.last().is_some_and(is_passing));
                version = state.version;
                drop(state);
                for step in steps {
                    if last.as_ref() != Some(&step) {
                        tell(step.clone());
                    }
                    last = Some(step);
                }
                state = locked(&self.flight.state);
                continue;
            }
            match &state.outcome {
                Outcome::Landed(content) => return Ok(Some(Arc::clone(content))),
                Outcome::Failed(error) if self.flight.origin.is_same(peer) => {
                    return Err(ImageError::Shared(Arc::clone(error)));
                }
                Outcome::Failed(_) | Outcome::Gone => return Ok(None),
                Outcome::UnderWay => {
                    let waited = self.flight.changed.wait_timeout(state, Duration::from_millis(WAIT_MS));
                    state = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }
}

impl<T> Drop for Watch<'_, T> {
    fn drop(&mut self) {
        let mut table = locked(&self.flights.table);
        let mut is_last = false;
        if let Entry::Occupied(mut boarded) = table.entry(self.digest)
            && Arc::ptr_eq(&boarded.get().flight, &self.flight)
        {
            boarded.get_mut().watchers -= 1;
            is_last = boarded.get().watchers == 0;
            let is_failed = matches!(locked(&self.flight.state).outcome, Outcome::Failed(_));
            // Nobody may join what has failed.
            if is_last || is_failed {
                boarded.remove();
            }
        }
        drop(table);
        if is_last {
            self.flight.stop.store(true, Ordering::Relaxed);
            self.outlast();
        }
    }
}

impl<T> Watch<'_, T> {
    /// Waits until a stopped download has put away what it made, so that a pull that ends leaves nothing.
    fn outlast(&self) {
        let mut state = locked(&self.flight.state);
        while matches!(state.outcome, Outcome::UnderWay) {
            state = self.flight.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let content = std::mem::replace(&mut state.outcome, Outcome::Gone);
        drop(state);
        drop(content);
    }
}

/// Steps of which only the latest matters.
fn is_passing(step: &LayerStep) -> bool {
    matches!(step, LayerStep::Downloading { .. } | LayerStep::Retrying { .. } | LayerStep::RateLimited { .. })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    type Table = Flights<u32>;

    fn peer(domain: &str) -> Arc<Peer> {
        Arc::new(Peer::anonymous(domain, "app").unwrap())
    }

    fn key() -> Digest {
        crate::blob::sha256(b"content")
    }

    #[test]
    fn who_joins_gets_the_same_content_and_hears_all_steps() {
        let (table, here) = (Table::default(), peer("localhost:1"));
        let (release, wait) = channel::<()>();
        let work = move |pilot: &Pilot<u32>| {
            pilot.tell(LayerStep::Waiting);
            wait.recv().unwrap();
            Ok(7)
        };
        let first = table.board(key(), &here, &|| false, work).unwrap().unwrap();
        let second = table.board(key(), &here, &|| false, |_| panic!("begun twice")).unwrap().unwrap();
        // The first hangs up while it is under way.
        drop(first);
        release.send(()).unwrap();
        let steps = Mutex::new(Vec::new());
        let content = second.follow(&here, &|step| locked(&steps).push(step), &|| false).unwrap().unwrap();
        assert_eq!(*content, 7);
        assert_eq!(*locked(&steps), [LayerStep::Waiting]);
        assert!(locked(&table.table).contains_key(&key()));
        drop(second);
        assert!(locked(&table.table).is_empty());
        assert!(table.board(key(), &here, &|| true, |_| panic!("is stored")).unwrap().is_none());
    }

    #[test]
    fn a_failure_is_for_those_who_would_meet_it_too() {
        let (table, here, there) = (Table::default(), peer("localhost:1"), peer("localhost:2"));
        let (release, wait) = channel::<()>();
        let work = move |_: &Pilot<u32>| {
            wait.recv().unwrap();
            Err(ImageError::Cancelled)
        };
        let first = table.board(key(), &here, &|| false, work).unwrap().unwrap();
        let same = table.board(key(), &here, &|| false, |_| Ok(1)).unwrap().unwrap();
        let other = table.board(key(), &there, &|| false, |_| Ok(2)).unwrap().unwrap();
        release.send(()).unwrap();
        for watch in [first, same] {
            let error = watch.follow(&here, &|_| {}, &|| false).unwrap_err();
            assert!(matches!(error, ImageError::Shared(_)), "{error}");
        }
        assert!(other.follow(&there, &|_| {}, &|| false).unwrap().is_none());
        drop(other);
        let again = table.board(key(), &there, &|| false, |_| Ok(3)).unwrap().unwrap();
        assert_eq!(again.follow(&there, &|_| {}, &|| false).unwrap().as_deref(), Some(&3));
    }

    #[test]
    fn the_last_to_go_stops_it_and_waits_for_its_end() {
        let (table, here) = (Table::default(), peer("localhost:1"));
        let ended = Arc::new(AtomicBool::new(false));
        let mark = Arc::clone(&ended);
        let work = move |pilot: &Pilot<u32>| {
            while !pilot.stop().load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            mark.store(true, Ordering::SeqCst);
            Err(ImageError::Cancelled)
        };
        let watch = table.board(key(), &here, &|| false, work).unwrap().unwrap();
        assert!(matches!(watch.follow(&here, &|_| {}, &|| true), Err(ImageError::Cancelled)));
        drop(watch);
        assert!(ended.load(Ordering::SeqCst));
    }

    #[test]
    fn nobody_waits_for_a_thread_that_died() {
        let (table, here) = (Table::default(), peer("localhost:1"));
        let watch = table.board(key(), &here, &|| false, |_| panic!("on purpose")).unwrap().unwrap();
        let error = watch.follow(&here, &|_| {}, &|| false).unwrap_err();
        assert!(error.to_string().contains("a bug in naru"), "{error}");
    }
}
