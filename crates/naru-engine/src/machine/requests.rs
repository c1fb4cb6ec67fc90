//! What people ask of a container. Each request is answered at once or becomes pending; it is never lost.

use super::{
    Ask, Effect, Goal, Happening, Origin, Outcome, Refusal, Run, Starting, State, Step, Stop, Then, Tries,
};
use crate::options::WaitCondition;
use crate::view::WaitResult;
use naru_types::Timestamp;
use naru_types::signal::Signal;

const NANOS_PER_SEC: i64 = 1_000_000_000;

impl Step<'_> {
    pub(super) fn start(&mut self, state: State, ask: Ask) -> State {
        let last = match state {
            State::Created { failure } => failure.filter(|failure| failure.started_at != Timestamp::ZERO),
            State::Exited { last, .. } => Some(last),
            State::Starting(starting) => {
                self.pend(ask, Goal::Started);
                return State::Starting(starting);
            }
            State::Paused { .. } => {
                self.refuse(ask, Refusal::IsPaused);
                return state;
            }
            State::Settling { exit, tries, outcome: Outcome::Stay { .. }, stopped } => {
                self.pend(ask, Goal::Started);
                return State::Settling { exit, tries, outcome: Outcome::StartNow, stopped };
            }
            State::Settling { outcome: Outcome::StartNow, .. } => {
                self.pend(ask, Goal::Started);
                return state;
            }
            State::Running { .. }
            | State::Stopping { .. }
            | State::Restarting { .. }
            | State::Settling { outcome: Outcome::Backoff { .. }, .. } => {
                self.refuse(ask, Refusal::AlreadyRunning);
                return state;
            }
            State::Removing { .. }
            | State::Dead { .. }
            | State::Settling { outcome: Outcome::Remove { .. }, .. } => {
                self.refuse(ask, Refusal::MarkedForRemoval);
                return state;
            }
        };
        self.pend(ask, Goal::Started);
        self.launch(Origin::User, Tries::default(), last)
    }

    pub(super) fn launch(&mut self, origin: Origin, tries: Tries, last: Option<super::Exit>) -> State {
        self.push(Effect::Launch);
        State::Starting(Starting { origin, tries, last, then: None, early: None })
    }

    pub(super) fn stop(
        &mut self,
        state: State,
        ask: Ask,
        signal: Option<Signal>,
        timeout: Option<i64>,
    ) -> State {
        match state {
            State::Created { .. } | State::Exited { .. } | State::Removing { .. } | State::Dead { .. } => {
                self.refuse(ask, Refusal::AlreadyStopped);
                state
            }
            State::Starting(_) | State::Running { .. } | State::Paused { .. } | State::Stopping { .. } => {
                self.pend(ask, Goal::Stopped);
                self.begin_stop(state, signal, timeout, Then::Stay)
            }
            State::Settling { exit, tries, outcome, .. } => {
                self.pend(ask, Goal::Stopped);
                let outcome = match outcome {
                    Outcome::Stay { .. } | Outcome::StartNow | Outcome::Backoff { .. } => self.stay(),
                    Outcome::Remove { volumes } => Outcome::Remove { volumes },
                };
                State::Settling { exit, tries, outcome, stopped: true }
            }
            State::Restarting { last, tries, .. } => {
                self.answer(ask, Ok(()));
                self.emit(Happening::Stop);
                self.come_to_rest(last, tries)
            }
        }
    }

    /// What a stop by hand leads to.
    pub(super) fn stay(&self) -> Outcome {
        if self.rules.auto_remove {
            Outcome::Remove { volumes: true }
        } else {
            Outcome::Stay { by_user: true }
        }
    }

    /// From the pause between two runs to exited (or removed) because somebody said so.
    fn come_to_rest(&mut self, last: super::Exit, tries: Tries) -> State {
        self.answer_exit_waiters(&last);
        if self.rules.auto_remove {
            self.push(Effect::Delete { volumes: true });
            return State::Removing { last: Some(last), volumes: true };
        }
        State::Exited { last, tries, by_user: true }
    }

    pub(super) fn restart(
        &mut self,
        state: State,
        ask: Ask,
        signal: Option<Signal>,
        timeout: Option<i64>,
    ) -> State {
        match state {
            State::Created { .. } | State::Exited { .. } => {
                let state = self.start(state, ask);
                match state {
                    State::Starting(starting) => {
                        State::Starting(Starting { origin: Origin::Restart, ..starting })
                    }
                    other => other,
                }
            }
            State::Starting(_) | State::Running { .. } | State::Paused { .. } | State::Stopping { .. } => {
                self.pend(ask, Goal::Started);
                self.begin_stop(state, signal, timeout, Then::Restart)
            }
            State::Settling { outcome: Outcome::Remove { .. }, .. }
            | State::Removing { .. }
            | State::Dead { .. } => {
                self.refuse(ask, Refusal::MarkedForRemoval);
                state
            }
            State::Settling { exit, tries, stopped, .. } => {
                self.pend(ask, Goal::Started);
                State::Settling { exit, tries, outcome: Outcome::StartNow, stopped }
            }
            State::Restarting { last, .. } => {
                self.pend(ask, Goal::Started);
                self.launch(Origin::Restart, Tries::default(), Some(last))
            }
        }
    }

    /// Sends the stop signal, or notes it for the launch that is under way. A removal is never taken back.
    fn begin_stop(
        &mut self,
        state: State,
        signal: Option<Signal>,
        timeout: Option<i64>,
        then: Then,
    ) -> State {
        let signal = signal.unwrap_or(self.rules.stop_signal);
        let secs = timeout.unwrap_or(self.rules.stop_timeout_secs);
        let kill_at = (secs >= 0 && signal != Signal::KILL)
            .then(|| Timestamp(self.now.0.saturating_add(secs.saturating_mul(NANOS_PER_SEC))));
        let mut stop = Stop { signal, kill_at, then };
        match state {
            State::Starting(starting) => {
                if let Some(Stop { then: Then::Remove { volumes }, .. }) = &starting.then {
                    stop.then = Then::Remove { volumes: *volumes };
                }
                State::Starting(Starting { then: Some(stop), ..starting })
            }
            State::Running { run } => self.send_stop(run, stop, false),
            State::Paused { run } => self.send_stop(run, stop, true),
            State::Stopping { run, stop: before } => {
                if let Then::Remove { volumes } = before.then {
                    stop.then = Then::Remove { volumes };
                }
                // The earlier of two deadlines holds; the signal is sent again, as two `docker stop` do.
                stop.kill_at = match (before.kill_at, stop.kill_at) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                };
                self.send_stop(run, stop, false)
            }
            State::Created { .. }
            | State::Settling { .. }
            | State::Restarting { .. }
            | State::Exited { .. }
            | State::Removing { .. }
            | State::Dead { .. } => state,
        }
    }

    pub(super) fn send_stop(&mut self, run: Run, stop: Stop, frozen: bool) -> State {
        self.push(match stop.kill_at {
            Some(kill_at) => Effect::Stop { signal: stop.signal, kill_at },
            None => Effect::Signal(stop.signal),
        });
        self.emit(Happening::Kill(stop.signal));
        if frozen {
            self.push(Effect::Thaw(None));
        }
        State::Stopping { run: Run { halted: true, ..run }, stop }
    }

    pub(super) fn kill(&mut self, state: State, ask: Ask, signal: Signal) -> State {
        let ends = signal == Signal::KILL || signal == self.rules.stop_signal;
        match state {
            State::Running { run } => {
                self.send(ask, signal);
                State::Running { run: Run { halted: run.halted || ends, ..run } }
            }
            State::Stopping { run, stop } => {
                self.send(ask, signal);
                State::Stopping { run, stop }
            }
            State::Paused { run } => {
                self.send(ask, signal);
                if !ends {
                    return State::Paused { run };
                }
                self.push(Effect::Thaw(None));
                State::Running { run: Run { halted: true, ..run } }
            }
            State::Restarting { last, tries, .. } if ends => {
                self.answer(ask, Ok(()));
                self.come_to_rest(last, tries)
            }
            State::Created { .. }
            | State::Starting(_)
            | State::Settling { .. }
            | State::Restarting { .. }
            | State::Exited { .. }
            | State::Removing { .. }
            | State::Dead { .. } => {
                self.refuse(ask, Refusal::NotRunning);
                state
            }
        }
    }

    fn send(&mut self, ask: Ask, signal: Signal) {
        self.push(Effect::Signal(signal));
        self.emit(Happening::Kill(signal));
        self.answer(ask, Ok(()));
    }

    pub(super) fn pause(&mut self, state: State, ask: Ask) -> State {
        match state {
            State::Running { .. } => self.push(Effect::Freeze(ask)),
            State::Paused { .. } => self.refuse(ask, Refusal::AlreadyPaused),
            State::Restarting { .. } => self.refuse(ask, Refusal::IsRestarting),
            State::Created { .. }
            | State::Starting(_)
            | State::Stopping { .. }
            | State::Settling { .. }
            | State::Exited { .. }
            | State::Removing { .. }
            | State::Dead { .. } => self.refuse(ask, Refusal::NotRunning),
        }
        state
    }

    pub(super) fn unpause(&mut self, state: State, ask: Ask) -> State {
        match state {
            State::Paused { .. } => self.push(Effect::Thaw(Some(ask))),
            State::Running { .. }
            | State::Created { .. }
            | State::Starting(_)
            | State::Stopping { .. }
            | State::Settling { .. }
            | State::Restarting { .. }
            | State::Exited { .. }
            | State::Removing { .. }
            | State::Dead { .. } => self.refuse(ask, Refusal::NotPaused),
        }
        state
    }

    pub(super) fn remove(&mut self, state: State, ask: Ask, force: bool, volumes: bool) -> State {
        let then = Then::Remove { volumes };
        match state {
            State::Created { .. } | State::Exited { .. } | State::Dead { .. } => {
                self.pend(ask, Goal::Removed);
                self.push(Effect::Delete { volumes });
                State::Removing { last: state.last().cloned(), volumes }
            }
            State::Removing { .. } | State::Settling { outcome: Outcome::Remove { .. }, .. } => {
                self.refuse(ask, Refusal::RemovalInProgress);
                state
            }
            State::Settling { exit, tries, outcome, stopped }
                if force || matches!(outcome, Outcome::Stay { .. }) =>
            {
                self.pend(ask, Goal::Removed);
                State::Settling { exit, tries, outcome: Outcome::Remove { volumes }, stopped }
            }
            State::Restarting { last, .. } if force => {
                self.pend(ask, Goal::Removed);
                self.answer_exit_waiters(&last);
                self.push(Effect::Delete { volumes });
                State::Removing { last: Some(last), volumes }
            }
            State::Starting(_) | State::Running { .. } | State::Paused { .. } | State::Stopping { .. }
                if force =>
            {
                self.pend(ask, Goal::Removed);
                let state = self.begin_stop(state, Some(Signal::KILL), None, then);
                // An older removal keeps its word about volumes only when this one adds nothing.
                widen_removal(state, volumes)
            }
            State::Starting(_)
            | State::Running { .. }
            | State::Paused { .. }
            | State::Stopping { .. }
            | State::Settling { .. }
            | State::Restarting { .. } => {
                self.refuse(ask, Refusal::StillActive(state.status()));
                state
            }
        }
    }

    pub(super) fn wait(&mut self, state: State, ask: Ask, condition: WaitCondition) -> State {
        let at_rest = match &state {
            State::Created { .. } | State::Exited { .. } | State::Dead { .. } | State::Removing { .. } => {
                true
            }
            State::Starting(_)
            | State::Running { .. }
            | State::Paused { .. }
            | State::Stopping { .. }
            | State::Settling { .. }
            | State::Restarting { .. } => false,
        };
        if condition == WaitCondition::NotRunning && at_rest {
            self.push(Effect::AnswerWait(ask, wait_result(state.last())));
        } else {
            self.waiters.push((ask, condition));
        }
        state
    }
}

pub(super) fn wait_result(exit: Option<&super::Exit>) -> WaitResult {
    match exit {
        Some(exit) => {
            WaitResult { exit_code: exit.code, error: (!exit.error.is_empty()).then(|| exit.error.clone()) }
        }
        None => WaitResult { exit_code: 0, error: None },
    }
}

fn widen_removal(state: State, volumes: bool) -> State {
    match state {
        State::Stopping { run, stop: Stop { then: Then::Remove { volumes: before }, signal, kill_at } } => {
            let then = Then::Remove { volumes: volumes || before };
            State::Stopping { run, stop: Stop { signal, kill_at, then } }
        }
        other => other,
    }
}
