//! Things that clients name before, or just after, they open them: builds and sessions by their ids.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// How long a call waits for what it names: a client opens its connections and makes its calls all at once.
const WAIT_MAX: Duration = Duration::from_secs(5);

pub struct Waiting<T> {
    open: Mutex<BTreeMap<String, T>>,
    changed: Notify,
    len_max: usize,
}

impl<T: Clone> Waiting<T> {
    pub fn new(len_max: usize) -> Self {
        Self { open: Mutex::default(), changed: Notify::new(), len_max }
    }

    /// `false`: the id is taken, or too many are open.
    pub fn open(&self, id: &str, what: T) -> bool {
        let mut open = self.lock();
        if open.len() >= self.len_max || open.contains_key(id) {
            return false;
        }
        open.insert(id.to_owned(), what);
        drop(open);
        self.changed.notify_waiters();
        true
    }

    pub fn close(&self, id: &str) {
        self.lock().remove(id);
    }

    /// Waits a little for one that isn't open yet.
    pub async fn find(&self, id: &str) -> Option<T> {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                let found = self.lock().get(id).cloned();
                if let Some(found) = found {
                    return found;
                }
                changed.await;
            }
        };
        tokio::time::timeout(WAIT_MAX, wait).await.ok()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, T>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_comes_later_is_found() {
        let waiting = Waiting::new(2);
        let (found, ()) = tokio::join!(waiting.find("late"), async {
            tokio::task::yield_now().await;
            assert!(waiting.open("early", 1) && waiting.open("late", 2));
        });
        assert_eq!((found, waiting.find("early").await), (Some(2), Some(1)));
        assert!(!waiting.open("third", 3), "there is room for two");
        waiting.close("early");
        assert!(!waiting.open("late", 3) && waiting.open("third", 3));
    }
}
