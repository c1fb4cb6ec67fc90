//! The event stream: a bounded ring for those who ask what was, a broadcast for those who watch.
//!
//! Events are not durable; what has to survive (alerts) is written down by its reader in an outbox of its own.

use naru_types::Timestamp;
use naru_types::event::Event;
use std::collections::VecDeque;
use std::sync::Mutex;
use tokio::sync::broadcast;

/// Events kept for `since`; Docker keeps 256.
const RING_EVENTS_MAX: usize = 4096;
/// How many events a slow reader may lag before it loses some.
const LAG_EVENTS_MAX: usize = 4096;

pub struct Events {
    ring: Mutex<VecDeque<Event>>,
    sender: broadcast::Sender<Event>,
}

impl Events {
    pub fn new() -> Self {
        Self { ring: Mutex::new(VecDeque::new()), sender: broadcast::channel(LAG_EVENTS_MAX).0 }
    }

    pub fn emit(&self, event: Event) {
        let mut ring = crate::lock(&self.ring);
        if ring.len() == RING_EVENTS_MAX {
            ring.pop_front();
        }
        ring.push_back(event.clone());
        // Sent under the lock, so that every reader sees the ring's order. Nobody listening is no error.
        let _ = self.sender.send(event);
    }

    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.sender.subscribe()
    }

    pub fn since(&self, since: Timestamp) -> Vec<Event> {
        crate::lock(&self.ring).iter().filter(|event| event.at >= since).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use naru_types::event::EventType;
    use std::collections::BTreeMap;

    #[test]
    fn the_ring_is_bounded_and_ordered() {
        let events = Events::new();
        let mut reader = events.subscribe();
        for at in 0..RING_EVENTS_MAX as i64 + 10 {
            let (action, attributes) = ("start".to_owned(), BTreeMap::new());
            events.emit(Event {
                kind: EventType::Container,
                action,
                actor_id: "x".into(),
                attributes,
                at: Timestamp(at),
            });
        }
        let all = events.since(Timestamp(0));
        assert_eq!((all.len(), all[0].at), (RING_EVENTS_MAX, Timestamp(10)));
        assert!(matches!(reader.try_recv(), Err(broadcast::error::TryRecvError::Lagged(_))));
    }
}
