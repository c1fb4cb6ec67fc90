//! The one task that owns a container's state: messages in, `step`, the new state made durable, effects out.
//!
//! Slow effects run beside it and come back as messages, so a wait can be registered in the middle of a launch.

use crate::container::Container;
use crate::engine::Engine;
use crate::machine::{Ask, Effect, Event, Happening, Machine, Refusal, Rules, State, step};
use crate::options::WaitCondition;
use crate::view::WaitResult;
use naru_runtime::keeper::client::{ClientError, KeeperClient};
use naru_runtime::keeper::protocol::Target;
use naru_types::Timestamp;
use naru_types::signal::Signal;
use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Docker's `DefaultStopTimeout`.
const STOP_TIMEOUT_SECS_DEFAULT: i64 = 10;
/// How long a deadline's timer sleeps at most before it looks at the wall clock again.
const CLOCK_LOOK_SECS: u64 = 30;

pub enum Message {
    /// Something happened.
    Report(Event),
    Request {
        make: Box<dyn FnOnce(Ask) -> Event + Send>,
        reply: oneshot::Sender<Result<(), Refusal>>,
    },
    Wait {
        condition: WaitCondition,
        reply: oneshot::Sender<WaitResult>,
        subscribed: oneshot::Sender<()>,
    },
}

pub struct Actor {
    engine: Arc<Engine>,
    container: Arc<Container>,
    inbox: mpsc::UnboundedReceiver<Message>,
    machine: Machine,
    next_ask: Ask,
    replies: HashMap<Ask, oneshot::Sender<Result<(), Refusal>>>,
    waits: HashMap<Ask, oneshot::Sender<WaitResult>>,
    /// What went wrong in the effects of this step: an answer "done" would be a lie.
    trouble: Option<String>,
}

impl Actor {
    /// Starts the task. It ends when the container is removed or the engine goes.
    pub fn spawn(engine: Arc<Engine>, container: Arc<Container>, inbox: mpsc::UnboundedReceiver<Message>) {
        let machine = Machine::new(container.cell().state.clone());
        let actor = Self {
            engine,
            container,
            inbox,
            machine,
            next_ask: 0,
            replies: HashMap::new(),
            waits: HashMap::new(),
            trouble: None,
        };
        tokio::spawn(actor.run());
    }

    async fn run(mut self) {
        loop {
            let deadline = sleep_for(self.machine.state.deadline());
            let event = tokio::select! {
                message = self.inbox.recv() => match message {
                    Some(message) => self.take(message),
                    None => return,
                },
                () = tokio::time::sleep(deadline) => Event::Tick,
                () = self.engine.closed() => return,
            };
            if self.handle(event).await.is_break() {
                return;
            }
        }
    }

    fn take(&mut self, message: Message) -> Event {
        self.next_ask += 1;
        match message {
            Message::Report(event) => event,
            Message::Request { make, reply } => {
                self.replies.insert(self.next_ask, reply);
                make(self.next_ask)
            }
            Message::Wait { condition, reply, subscribed } => {
                self.waits.insert(self.next_ask, reply);
                // The caller may have gone meanwhile; its wait is then answered to nobody.
                let _ = subscribed.send(());
                Event::Wait { ask: self.next_ask, condition }
            }
        }
    }

    async fn handle(&mut self, event: Event) -> ControlFlow<()> {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            self.trouble = None;
            let before = self.machine.state.clone();
            let machine = Machine {
                state: before.clone(),
                pending: std::mem::take(&mut self.machine.pending),
                waiters: std::mem::take(&mut self.machine.waiters),
            };
            let (next, effects) = step(machine, event, &self.rules(), crate::ids::now());
            self.machine = next;
            if self.machine.state != before {
                self.publish().await;
            }
            for effect in effects {
                if let Some(event) = self.perform(effect).await? {
                    events.push_back(event);
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn rules(&self) -> Rules {
        let cell = self.container.cell();
        Rules {
            policy: cell.spec.restart,
            auto_remove: cell.spec.auto_remove,
            stop_signal: cell.spec.stop_signal.unwrap_or(Signal::TERM),
            stop_timeout_secs: cell.spec.stop_timeout_secs.unwrap_or(STOP_TIMEOUT_SECS_DEFAULT),
        }
    }

    /// Durable before visible.
    async fn publish(&mut self) {
        let state = self.machine.state.clone();
        let (container, stored) = (Arc::clone(&self.container), state.clone());
        let save = move |engine: &Arc<Engine>| {
            Ok(engine.db.save_state(&container.id, &stored, || container.cell().facts.clone())?)
        };
        let saved = self.engine.blocking(save).await;
        if let Err(error) = saved {
            self.trouble = Some(error.chain());
        }
        let active = !matches!(
            state,
            State::Created { .. }
                | State::Exited { .. }
                | State::Restarting { .. }
                | State::Removing { .. }
                | State::Dead { .. }
        );
        self.container.cell().state = state;
        self.container.active.send_replace(active);
    }

    async fn perform(&mut self, effect: Effect) -> ControlFlow<(), Option<Event>> {
        match effect {
            Effect::Launch => self.beside(crate::launch::launch),
            Effect::Teardown => self.beside(|engine, container| {
                crate::teardown::teardown(engine, container);
                Event::TornDown
            }),
            Effect::Delete { volumes } => {
                self.beside(move |engine, container| {
                    match crate::teardown::delete(engine, container, volumes) {
                        Ok(()) => Event::Deleted,
                        Err(error) => Event::DeleteFailed(error.chain()),
                    }
                });
            }
            Effect::Signal(signal) => {
                let send = move |keeper: &KeeperClient, target: &Target| keeper.signal(target, signal);
                self.signal(send).await;
            }
            Effect::Stop { signal, kill_at } => {
                let timeout = time_until(kill_at);
                let send =
                    move |keeper: &KeeperClient, target: &Target| keeper.stop(target, signal, Some(timeout));
                self.signal(send).await;
            }
            Effect::Freeze(ask) => {
                let id = self.container.id.clone();
                let done = self.engine.with_keeper(move |keeper| keeper.pause(&id)).await;
                return ControlFlow::Continue(Some(Event::Frozen {
                    ask,
                    error: done.err().map(|error| error.chain()),
                }));
            }
            Effect::Thaw(ask) => {
                let id = self.container.id.clone();
                let done = self.engine.with_keeper(move |keeper| keeper.resume(&id)).await;
                let error = done.err().map(|error| error.chain());
                return ControlFlow::Continue(ask.map(|ask| Event::Thawed { ask, error }));
            }
            Effect::Answer(ask, answer) => {
                let answer = match (answer, self.trouble.clone()) {
                    (Ok(()), Some(trouble)) => Err(Refusal::Failed(trouble)),
                    (answer, _) => answer,
                };
                if let Some(reply) = self.replies.remove(&ask) {
                    // The caller may have gone; what it asked for is done all the same.
                    let _ = reply.send(answer);
                }
            }
            Effect::AnswerWait(ask, result) => {
                if let Some(reply) = self.waits.remove(&ask) {
                    let _ = reply.send(result);
                }
            }
            Effect::Emit(what) => self.emit(what),
            Effect::Unlist => self.engine.forget(&self.container),
            Effect::Vanish => return ControlFlow::Break(()),
        }
        ControlFlow::Continue(None)
    }

    /// Runs something slow on a blocking thread; its event comes back through the mailbox.
    fn beside(&self, work: impl FnOnce(&Arc<Engine>, &Arc<Container>) -> Event + Send + 'static) {
        let (engine, container) = (Arc::clone(&self.engine), Arc::clone(&self.container));
        tokio::task::spawn_blocking(move || {
            let event = work(&engine, &container);
            // A closed mailbox means that the engine is shutting down; the next one takes the work up.
            let _ = container.mailbox.send(Message::Report(event));
        });
    }

    async fn signal(
        &mut self,
        send: impl FnOnce(&KeeperClient, &Target) -> Result<(), ClientError> + Send + 'static,
    ) {
        let target = Target::container(self.container.id.clone());
        let sent = self.engine.with_keeper(move |keeper| send(keeper, &target)).await;
        // Gone already: its exit is on the way.
        if let Err(error) = sent
            && error.kind() != naru_types::Kind::Conflict
            && error.kind() != naru_types::Kind::NotFound
        {
            self.trouble = Some(error.chain());
        }
    }

    fn emit(&self, what: Happening) {
        match &what {
            Happening::Start => crate::health::watch(&self.engine, &self.container),
            Happening::Die(_) => crate::health::unwatch(&self.container),
            Happening::Kill(_)
            | Happening::Stop
            | Happening::Restart
            | Happening::Pause
            | Happening::Unpause
            | Happening::Oom
            | Happening::Destroy => {}
        }
        self.engine.emit_container(&self.container, what);
    }
}

fn sleep_for(deadline: Option<Timestamp>) -> Duration {
    let longest = Duration::from_secs(CLOCK_LOOK_SECS);
    let Some(deadline) = deadline else {
        return longest;
    };
    time_until(deadline).min(longest)
}

fn time_until(deadline: Timestamp) -> Duration {
    Duration::from_nanos(deadline.0.saturating_sub(crate::ids::now().0).max(0) as u64)
}
