//! What ops needs of the engine, and nothing more: so that the rules, the router and the sender can be run
//! against something that is no engine.

use naru_engine::{ContainerView, Engine, LogOptions};
use naru_types::event::Event;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast;

/// Longest wait for the last lines of a log, in seconds; an alert goes out without them rather than late.
const TAIL_SECS_MAX: u64 = 3;

pub(crate) type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

pub(crate) trait EnginePort: Send + Sync {
    fn list(&self) -> Vec<ContainerView>;
    fn inspect(&self, id: &str) -> Option<ContainerView>;
    fn subscribe(&self) -> broadcast::Receiver<Event>;
    fn emit(&self, event: Event);
    /// The last lines of both streams, oldest first; empty when they cannot be read.
    fn tail(&self, id: &str, lines: u64) -> Later<Vec<String>>;
}

impl EnginePort for Arc<Engine> {
    fn list(&self) -> Vec<ContainerView> {
        Engine::list(self)
    }

    fn inspect(&self, id: &str) -> Option<ContainerView> {
        Engine::inspect(self, id).ok()
    }

    fn subscribe(&self) -> broadcast::Receiver<Event> {
        Engine::subscribe(self)
    }

    fn emit(&self, event: Event) {
        Engine::emit(self, event);
    }

    fn tail(&self, id: &str, lines: u64) -> Later<Vec<String>> {
        let (engine, id) = (self.clone(), id.to_owned());
        Box::pin(async move {
            let reading = read_tail(&engine, &id, lines);
            tokio::time::timeout(Duration::from_secs(TAIL_SECS_MAX), reading).await.unwrap_or_default()
        })
    }
}

async fn read_tail(engine: &Engine, id: &str, lines: u64) -> Vec<String> {
    let options = LogOptions { stdout: true, stderr: true, tail: Some(lines), ..LogOptions::default() };
    let Ok(mut records) = engine.logs(id, options).await else { return Vec::new() };
    let mut found = vec![String::new()];
    while let Some(record) = records.recv().await {
        let text = String::from_utf8_lossy(&record.payload);
        if let Some(last) = found.last_mut() {
            last.push_str(text.trim_end_matches(['\n', '\r']));
        }
        if !record.partial {
            found.push(String::new());
        }
    }
    found.retain(|line| !line.is_empty());
    found
}
