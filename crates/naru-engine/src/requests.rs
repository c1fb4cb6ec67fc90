//! The verbs that the state machine answers: start, stop, restart, kill, pause, unpause, remove, wait.

use crate::actor::Message;
use crate::container::Container;
use crate::engine::Engine;
use crate::machine::{Ask, Event};
use crate::options::{RemoveOptions, WaitCondition};
use crate::refusal::{self, Verb};
use crate::view::WaitResult;
use naru_types::signal::Signal;
use naru_types::{Error, Result};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long SIGKILL may take to end a container before the request is answered without its end.
const KILL_WAIT_MAX: Duration = Duration::from_secs(10);

/// A registered wait: whatever happens after it was made is not missed.
#[must_use]
pub struct WaitHandle {
    result: oneshot::Receiver<WaitResult>,
}

impl WaitHandle {
    /// Ends when the condition is met. When the daemon shuts down first, the result carries an error.
    pub async fn done(self) -> WaitResult {
        self.result.await.unwrap_or_else(|_| WaitResult {
            exit_code: 255,
            error: Some("the daemon was stopped while waiting; the container goes on".into()),
        })
    }
}

impl Engine {
    pub async fn start(&self, r: &str) -> Result<()> {
        self.request(r, Verb::Start, Event::Start).await
    }

    pub async fn stop(&self, r: &str, signal: Option<Signal>, timeout_secs: Option<i64>) -> Result<()> {
        self.request(r, Verb::Stop, move |ask| Event::Stop { ask, signal, timeout_secs }).await
    }

    pub async fn restart(&self, r: &str, signal: Option<Signal>, timeout_secs: Option<i64>) -> Result<()> {
        self.request(r, Verb::Restart, move |ask| Event::Restart { ask, signal, timeout_secs }).await
    }

    /// SIGKILL is answered when the container has ended, as in dockerd: who kills and then looks, or removes, must not
    /// find it running. A process that the kernel holds on to is waited for [`KILL_WAIT_MAX`].
    pub async fn kill(&self, r: &str, signal: Signal) -> Result<()> {
        let ended = match signal {
            Signal::KILL => Some(self.wait(r, WaitCondition::NextExit).await?),
            _ => None,
        };
        self.request(r, Verb::Kill, move |ask| Event::Kill { ask, signal }).await?;
        if let Some(ended) = ended {
            let _ = tokio::time::timeout(KILL_WAIT_MAX, ended.done()).await;
        }
        Ok(())
    }

    pub async fn pause(&self, r: &str) -> Result<()> {
        self.request(r, Verb::Pause, Event::Pause).await
    }

    pub async fn unpause(&self, r: &str) -> Result<()> {
        self.request(r, Verb::Unpause, Event::Unpause).await
    }

    pub async fn remove(&self, r: &str, options: RemoveOptions) -> Result<()> {
        let RemoveOptions { force, volumes } = options;
        self.request(r, Verb::Remove, move |ask| Event::Remove { ask, force, volumes }).await
    }

    /// Subscribed when this returns, so a container that ends at once after its start is not missed.
    pub async fn wait(&self, r: &str, condition: WaitCondition) -> Result<WaitHandle> {
        let container = self.find(r)?;
        let (reply, result) = oneshot::channel();
        let (subscribed, ready) = oneshot::channel();
        let sent = container.mailbox.send(Message::Wait { condition, reply, subscribed });
        if sent.is_err() || ready.await.is_err() {
            return Err(gone(&container));
        }
        Ok(WaitHandle { result })
    }

    async fn request(
        &self,
        r: &str,
        verb: Verb,
        make: impl FnOnce(Ask) -> Event + Send + 'static,
    ) -> Result<()> {
        let container = self.find(r)?;
        let (reply, answer) = oneshot::channel();
        let message = Message::Request { make: Box::new(make), reply };
        container.mailbox.send(message).map_err(|_| gone(&container))?;
        let answer = answer.await.map_err(|_| gone(&container))?;
        answer.map_err(|refusal| refusal::error(verb, &container.name(), &container.id, refusal))
    }
}

fn gone(container: &Arc<Container>) -> Error {
    Error::not_found(format!("No such container: {}", container.id.short()))
}
