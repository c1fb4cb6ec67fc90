//! What happens to a container by itself: launches come back, processes end, deadlines pass, daemons start.

use super::requests::wait_result;
use super::{
    Ask, Effect, Exit, ExitStatus, Goal, Happening, LaunchFailure, Origin, Outcome, Refusal, Run, Starting,
    State, Step, Stop, Then, Tries,
};
use crate::options::WaitCondition;
use naru_types::Timestamp;
use naru_types::signal::Signal;
use naru_types::spec::RestartPolicy;

/// Docker's restart manager: the first pause, the longest, and the run that forgives all before it.
const BACKOFF_FIRST_MS: u64 = 100;
const BACKOFF_MAX_MS: u64 = 60_000;
const FORGIVING_RUN_NS: i64 = 10_000_000_000;
const NANOS_PER_MS: i64 = 1_000_000;
/// The exit code that stands for "unknown"; `exit_unknown` tells it from a real 255.
const CODE_UNKNOWN: i64 = 255;

impl Step<'_> {
    pub(super) fn launched(&mut self, state: State, pid: i32, at: Timestamp) -> State {
        let State::Starting(Starting { origin, tries, then, early, .. }) = state else {
            return state;
        };
        self.emit(Happening::Start);
        if origin == Origin::Restart {
            self.emit(Happening::Restart);
        }
        // Whoever waits for a restart that itself was asked for during this launch waits for the next one.
        let again = matches!(then, Some(Stop { then: Then::Restart, .. }));
        if !again {
            self.reach(Goal::Started, &Ok(()));
        }
        let run = Run { pid, started_at: at, tries, oom: false, halted: false };
        match (early, then) {
            (Some(status), stop) => self.settle(run, status, stop),
            (None, Some(stop)) => self.send_stop(run, stop, false),
            (None, None) => State::Running { run },
        }
    }

    pub(super) fn launch_failed(&mut self, state: State, failed: LaunchFailure) -> State {
        let State::Starting(Starting { origin, tries, last, then, .. }) = state else {
            return state;
        };
        let refusal = Err(Refusal::LaunchFailed(failed.clone()));
        let LaunchFailure { code, error, .. } = failed;
        self.reach(Goal::Started, &refusal);
        self.reach(Goal::Stopped, &Ok(()));
        let started_at = last.as_ref().map_or(Timestamp::ZERO, |last| last.started_at);
        let failure = Exit { code, unknown: false, oom: false, error, started_at, finished_at: self.now };
        let removal = match then.map(|stop| stop.then) {
            Some(Then::Remove { volumes }) => Some(volumes),
            Some(Then::Stay | Then::Restart) | None if self.rules.auto_remove => Some(true),
            None if origin == Origin::Policy => {
                if let Some((tries, due)) = self.backoff(code, tries, 0) {
                    return State::Restarting { last: failure, tries, due };
                }
                None
            }
            Some(Then::Stay | Then::Restart) | None => None,
        };
        self.answer_exit_waiters(&failure);
        match (removal, last) {
            (Some(volumes), _) => {
                self.push(Effect::Delete { volumes });
                State::Removing { last: Some(failure), volumes }
            }
            (None, None) => State::Created { failure: Some(failure) },
            (None, Some(_)) => State::Exited { last: failure, tries, by_user: false },
        }
    }

    pub(super) fn frozen(&mut self, state: State, ask: Ask, error: Option<String>) -> State {
        if let Some(error) = error {
            self.refuse(ask, Refusal::Failed(error));
            return state;
        }
        match state {
            State::Running { run } => {
                self.emit(Happening::Pause);
                self.answer(ask, Ok(()));
                State::Paused { run }
            }
            // A stop overtook the freeze: let the process see its signal.
            State::Stopping { .. } => {
                self.push(Effect::Thaw(None));
                self.refuse(ask, Refusal::NotRunning);
                state
            }
            State::Paused { .. } => {
                self.answer(ask, Ok(()));
                state
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

    pub(super) fn thawed(&mut self, state: State, ask: Ask, error: Option<String>) -> State {
        if let Some(error) = error {
            self.refuse(ask, Refusal::Failed(error));
            return state;
        }
        self.answer(ask, Ok(()));
        match state {
            State::Paused { run } => {
                self.emit(Happening::Unpause);
                State::Running { run }
            }
            other => other,
        }
    }

    pub(super) fn oom(&mut self, state: State) -> State {
        let mark = |run: Run| Run { oom: true, ..run };
        self.emit(Happening::Oom);
        match state {
            State::Running { run } => State::Running { run: mark(run) },
            State::Paused { run } => State::Paused { run: mark(run) },
            State::Stopping { run, stop } => State::Stopping { run: mark(run), stop },
            other => other,
        }
    }

    pub(super) fn ended(&mut self, state: State, status: ExitStatus) -> State {
        match state {
            State::Starting(starting) => State::Starting(Starting { early: Some(status), ..starting }),
            State::Running { run } | State::Paused { run } => self.settle(run, status, None),
            State::Stopping { run, stop } => self.settle(run, status, Some(stop)),
            // The keeper repeats itself after a reconnection; the first word stands.
            State::Created { .. }
            | State::Settling { .. }
            | State::Restarting { .. }
            | State::Exited { .. }
            | State::Removing { .. }
            | State::Dead { .. } => state,
        }
    }

    fn settle(&mut self, run: Run, status: ExitStatus, stop: Option<Stop>) -> State {
        let exit = Exit {
            code: status.code.unwrap_or(CODE_UNKNOWN),
            unknown: status.code.is_none(),
            oom: run.oom || status.oom,
            error: if status.code.is_none() { status.why } else { String::new() },
            started_at: run.started_at,
            finished_at: status.at,
        };
        if status.oom && !run.oom {
            self.emit(Happening::Oom);
        }
        let ran_ns = exit.finished_at.0.saturating_sub(run.started_at.0);
        let stopped = stop.as_ref().is_some_and(|stop| matches!(stop.then, Then::Stay | Then::Restart));
        let outcome = match stop.map(|stop| stop.then) {
            Some(Then::Stay) => self.stay(),
            Some(Then::Restart) => Outcome::StartNow,
            Some(Then::Remove { volumes }) => Outcome::Remove { volumes },
            None if run.halted => self.stay(),
            None => match self.backoff(exit.code, run.tries, ran_ns) {
                Some((tries, due)) => Outcome::Backoff { tries, due },
                None if self.rules.auto_remove => Outcome::Remove { volumes: true },
                None => Outcome::Stay { by_user: false },
            },
        };
        self.push(Effect::Teardown);
        State::Settling { exit, tries: run.tries, outcome, stopped }
    }

    /// The next try by the restart policy, where it wants one.
    fn backoff(&self, code: i64, tries: Tries, ran_ns: i64) -> Option<(Tries, Timestamp)> {
        let wanted = match self.rules.policy {
            RestartPolicy::No => false,
            RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
            RestartPolicy::OnFailure { max_retries } => {
                code != 0 && (max_retries == 0 || tries.count < max_retries)
            }
        };
        if !wanted {
            return None;
        }
        let delay_ms = match tries.delay_ms {
            _ if ran_ns >= FORGIVING_RUN_NS => BACKOFF_FIRST_MS,
            0 => BACKOFF_FIRST_MS,
            before => before.saturating_mul(2).min(BACKOFF_MAX_MS),
        };
        let due = Timestamp(self.now.0.saturating_add(delay_ms as i64 * NANOS_PER_MS));
        Some((Tries { count: tries.count.saturating_add(1), delay_ms }, due))
    }

    pub(super) fn torn_down(&mut self, state: State) -> State {
        let State::Settling { exit, tries, outcome, stopped } = state else {
            return state;
        };
        self.emit(Happening::Die(exit.clone()));
        if stopped {
            self.emit(Happening::Stop);
        }
        if let Outcome::Backoff { tries, due } = outcome {
            // `docker wait` ends with the run, not with the last of all runs (moby, `State.SetRestarting`).
            self.answer_exit_waiters(&exit);
            return State::Restarting { last: exit, tries, due };
        }
        self.answer_exit_waiters(&exit);
        self.reach(Goal::Stopped, &Ok(()));
        match outcome {
            Outcome::Stay { by_user } => {
                self.reach(Goal::Started, &Err(Refusal::Overtaken));
                State::Exited { last: exit, tries, by_user }
            }
            Outcome::StartNow => self.launch(Origin::Restart, Tries::default(), Some(exit)),
            Outcome::Backoff { tries, due } => State::Restarting { last: exit, tries, due },
            Outcome::Remove { volumes } => {
                self.reach(Goal::Started, &Err(Refusal::MarkedForRemoval));
                self.push(Effect::Delete { volumes });
                State::Removing { last: Some(exit), volumes }
            }
        }
    }

    /// The run is over: those who wait for it hear its exit code.
    pub(super) fn answer_exit_waiters(&mut self, exit: &Exit) {
        for (ask, _) in self.waiters.extract_if(.., |(_, condition)| *condition != WaitCondition::Removed) {
            self.effects.push(Effect::AnswerWait(ask, wait_result(Some(exit))));
        }
    }

    pub(super) fn deleted(&mut self, state: State) -> State {
        if !matches!(state, State::Removing { .. }) {
            return state;
        }
        let result = wait_result(state.last());
        // First of all: whoever hears of the end, and looks, must not find it.
        self.push(Effect::Unlist);
        self.emit(Happening::Destroy);
        for (ask, _) in self.waiters.drain(..) {
            self.effects.push(Effect::AnswerWait(ask, result.clone()));
        }
        for (ask, goal) in self.pending.drain(..) {
            let answer = match goal {
                Goal::Removed | Goal::Stopped => Ok(()),
                Goal::Started => Err(Refusal::MarkedForRemoval),
            };
            self.effects.push(Effect::Answer(ask, answer));
        }
        self.push(Effect::Vanish);
        state
    }

    pub(super) fn delete_failed(&mut self, state: State, reason: String) -> State {
        let State::Removing { last, volumes } = state else {
            return state;
        };
        self.reach(Goal::Removed, &Err(Refusal::Failed(reason.clone())));
        State::Dead { last, volumes, reason }
    }

    pub(super) fn tick(&mut self, state: State) -> State {
        match state {
            State::Stopping { run, stop } if stop.kill_at.is_some_and(|at| at <= self.now) => {
                self.send_stop(run, Stop { signal: Signal::KILL, kill_at: None, then: stop.then }, false)
            }
            State::Restarting { last, tries, due } if due <= self.now => {
                self.launch(Origin::Policy, tries, Some(last))
            }
            other => other,
        }
    }

    pub(super) fn resume(&mut self, state: State) -> State {
        match &state {
            State::Settling { .. } => self.push(Effect::Teardown),
            State::Removing { volumes, .. } => self.push(Effect::Delete { volumes: *volumes }),
            State::Created { .. }
            | State::Starting(_)
            | State::Running { .. }
            | State::Paused { .. }
            | State::Stopping { .. }
            | State::Restarting { .. }
            | State::Exited { .. }
            | State::Dead { .. } => {}
        }
        state
    }

    /// As dockerd: `always` starts whatever it finds exited, `unless-stopped` what nobody stopped, `on-failure` what
    /// failed. A container that was never started stays so.
    pub(super) fn daemon_started(&mut self, state: State) -> State {
        match state {
            State::Exited { last, tries, by_user } => {
                let wanted = match self.rules.policy {
                    RestartPolicy::No => false,
                    RestartPolicy::Always => true,
                    RestartPolicy::UnlessStopped => !by_user,
                    RestartPolicy::OnFailure { max_retries } => {
                        !by_user && last.code != 0 && (max_retries == 0 || tries.count < max_retries)
                    }
                };
                if wanted {
                    return self.launch(Origin::Policy, tries, Some(last));
                }
                if self.rules.auto_remove {
                    self.push(Effect::Delete { volumes: true });
                    return State::Removing { last: Some(last), volumes: true };
                }
                State::Exited { last, tries, by_user }
            }
            // Somebody wanted it gone, and what was in the way need not be there any more.
            State::Dead { last, volumes, reason: _ } => {
                self.push(Effect::Delete { volumes });
                State::Removing { last, volumes }
            }
            other => other,
        }
    }
}
