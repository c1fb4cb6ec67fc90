//! The life of one container as a pure function: `step(machine, event, rules, now)` gives the next machine
//! and the effects to run, in order.
//!
//! The caller makes the new state durable before it runs the effects. Slow effects (launch, teardown,
//! delete) report back with events, in any order with whatever else happens meanwhile; `sim` drives every
//! such order it can think of.

mod lifecycle;
mod requests;
#[cfg(test)]
mod sim;
mod state;

pub use state::*;

use naru_types::Timestamp;

/// The only way a container's state changes.
pub fn step(machine: Machine, event: Event, rules: &Rules, now: Timestamp) -> (Machine, Vec<Effect>) {
    let Machine { state, pending, waiters } = machine;
    let mut cx = Step { rules, now, pending, waiters, effects: Vec::new() };
    let state = match event {
        Event::Start(ask) => cx.start(state, ask),
        Event::Stop { ask, signal, timeout_secs } => cx.stop(state, ask, signal, timeout_secs),
        Event::Restart { ask, signal, timeout_secs } => cx.restart(state, ask, signal, timeout_secs),
        Event::Kill { ask, signal } => cx.kill(state, ask, signal),
        Event::Pause(ask) => cx.pause(state, ask),
        Event::Unpause(ask) => cx.unpause(state, ask),
        Event::Remove { ask, force, volumes } => cx.remove(state, ask, force, volumes),
        Event::Wait { ask, condition } => cx.wait(state, ask, condition),
        Event::Launched { pid, at } => cx.launched(state, pid, at),
        Event::LaunchFailed(failure) => cx.launch_failed(state, failure),
        Event::Frozen { ask, error } => cx.frozen(state, ask, error),
        Event::Thawed { ask, error } => cx.thawed(state, ask, error),
        Event::Oom => cx.oom(state),
        Event::Ended(status) => cx.ended(state, status),
        Event::TornDown => cx.torn_down(state),
        Event::Deleted => cx.deleted(state),
        Event::DeleteFailed(reason) => cx.delete_failed(state, reason),
        Event::Tick => cx.tick(state),
        Event::Resume => cx.resume(state),
        Event::DaemonStarted => cx.daemon_started(state),
    };
    (Machine { state, pending: cx.pending, waiters: cx.waiters }, cx.effects)
}

/// One step in the making.
struct Step<'a> {
    rules: &'a Rules,
    now: Timestamp,
    pending: Vec<(Ask, Goal)>,
    waiters: Vec<(Ask, crate::options::WaitCondition)>,
    effects: Vec<Effect>,
}

impl Step<'_> {
    fn push(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    fn emit(&mut self, what: Happening) {
        self.effects.push(Effect::Emit(what));
    }

    fn answer(&mut self, ask: Ask, answer: Result<(), Refusal>) {
        self.effects.push(Effect::Answer(ask, answer));
    }

    fn refuse(&mut self, ask: Ask, why: Refusal) {
        self.answer(ask, Err(why));
    }

    fn pend(&mut self, ask: Ask, goal: Goal) {
        self.pending.push((ask, goal));
    }

    /// Answers all who wait for `goal`.
    fn reach(&mut self, goal: Goal, answer: &Result<(), Refusal>) {
        for (ask, _) in self.pending.extract_if(.., |(_, wanted)| *wanted == goal) {
            self.effects.push(Effect::Answer(ask, answer.clone()));
        }
    }
}
