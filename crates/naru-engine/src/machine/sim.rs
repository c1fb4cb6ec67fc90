//! The machine in a world that does everything at the worst moment: launches, exits, teardowns and deadlines
//! come back in random order, people ask for random things, and the daemon dies between any two steps.
//! Seeded, so a failure repeats.

use super::*;
use crate::options::WaitCondition;
use naru_types::signal::Signal;
use naru_types::spec::RestartPolicy;
use std::collections::BTreeSet;

const STEPS: u64 = 300_000;
const MS: i64 = 1_000_000;

/// splitmix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

/// What exists outside the machine.
#[derive(Default)]
struct World {
    launching: bool,
    process: bool,
    /// Network, ports and bundle of a run.
    resources: bool,
    tearing: bool,
    deleting: bool,
    frozen: bool,
    killed: bool,
    freezing: Vec<Ask>,
    thawing: Vec<Ask>,
    asked: BTreeSet<Ask>,
    unlisted: bool,
    gone: bool,
    user_stopped: bool,
}

fn rules(dice: &mut Dice) -> Rules {
    let policy = match dice.roll(5) {
        0 => RestartPolicy::Always,
        1 => RestartPolicy::UnlessStopped,
        2 => RestartPolicy::OnFailure { max_retries: dice.roll(4) as u32 },
        _ => RestartPolicy::No,
    };
    let auto_remove = policy == RestartPolicy::No && dice.roll(3) == 0;
    Rules { policy, auto_remove, stop_signal: Signal::TERM, stop_timeout_secs: dice.roll(12) as i64 - 1 }
}

impl World {
    fn apply(&mut self, machine: &Machine, effects: &[Effect]) {
        for effect in effects {
            assert!(!self.gone, "an effect after Vanish: {effect:?}");
            match effect {
                Effect::Launch => {
                    assert!(!self.launching && !self.process, "two processes");
                    assert!(!self.resources && !self.tearing && !self.deleting, "launch over leftovers");
                    self.launching = true;
                    self.resources = true;
                    self.killed = false;
                }
                Effect::Signal(signal) | Effect::Stop { signal, .. } => {
                    self.killed |= *signal == Signal::KILL
                }
                Effect::Freeze(ask) => self.freezing.push(*ask),
                Effect::Thaw(Some(ask)) => self.thawing.push(*ask),
                Effect::Thaw(None) => self.frozen = false,
                Effect::Teardown => {
                    assert!(!self.process, "teardown under a live process");
                    self.tearing = true;
                }
                Effect::Delete { .. } => {
                    assert!(
                        !self.process && !self.launching && !self.resources,
                        "delete of a live container"
                    );
                    self.deleting = true;
                }
                Effect::Answer(ask, _) | Effect::AnswerWait(ask, _) => {
                    assert!(self.asked.remove(ask), "answered twice: {ask}");
                }
                Effect::Emit(what) => {
                    assert_eq!(self.unlisted, *what == Happening::Destroy, "destroy is told when it is true");
                }
                Effect::Unlist => self.unlisted = true,
                Effect::Vanish => {
                    assert!(
                        self.asked
                            .iter()
                            .all(|ask| self.freezing.contains(ask) || self.thawing.contains(ask))
                    );
                    assert!(!self.process && !self.resources, "removed but something is left");
                    assert!(machine.pending.is_empty() && machine.waiters.is_empty());
                    assert!(self.unlisted);
                    self.gone = true;
                }
            }
        }
    }

    fn check(&self, machine: &Machine, rules: &Rules) {
        match &machine.state {
            State::Created { .. } | State::Exited { .. } | State::Dead { .. } | State::Restarting { .. } => {
                assert!(!self.process && !self.resources, "{:?} holds something", machine.state);
                assert!(!machine.pending.iter().any(|(_, goal)| *goal != Goal::Removed), "{machine:?}");
            }
            State::Running { .. } | State::Paused { .. } | State::Stopping { .. } => {
                assert!(self.process || self.killed);
            }
            State::Starting(_) | State::Settling { .. } | State::Removing { .. } => {}
        }
        if let State::Exited { .. } | State::Created { .. } = machine.state {
            assert!(!machine.waiters.iter().any(|(_, wanted)| *wanted == WaitCondition::NotRunning));
        }
        if let State::Restarting { tries, .. } = &machine.state {
            assert!((100..=60_000).contains(&tries.delay_ms), "{tries:?}");
            assert!(
                rules.policy != RestartPolicy::No && !self.user_stopped,
                "restarted against the user's word"
            );
        }
    }

    /// The daemon is killed and started again: only the stored state and what really runs are left.
    fn daemon_dies(&mut self, machine: &Machine, rules: &Rules, now: Timestamp) -> Machine {
        let stored = serde_json::to_string(&machine.state).unwrap();
        self.asked.clear();
        self.freezing.clear();
        self.thawing.clear();
        self.tearing = false;
        self.deleting = false;
        let mut machine = Machine::new(serde_json::from_str(&stored).unwrap());
        let mut events = vec![Event::Resume];
        if machine.state.run().is_some() && !self.process {
            events.push(Event::Ended(ExitStatus { code: None, oom: false, at: now, why: "unseen".into() }));
        }
        for event in events {
            let (next, effects) = step(machine, event, rules, now);
            machine = next;
            self.apply(&machine, &effects);
        }
        if !self.tearing && !self.deleting {
            let before = machine.state.clone();
            let (next, effects) = step(machine, Event::DaemonStarted, rules, now);
            machine = next;
            self.user_stopped &= machine.state == before;
            self.apply(&machine, &effects);
        }
        machine
    }

    /// One thing that can happen now by itself.
    fn happening(&mut self, dice: &mut Dice, state: &State, now: &mut Timestamp) -> Option<Event> {
        if state.deadline().is_some() && dice.roll(4) == 0 {
            *now = state.deadline().unwrap_or(*now).max(*now);
            return Some(Event::Tick);
        }
        if self.launching {
            return Some(match dice.roll(8) {
                // The exit overtakes the news of the start.
                0 => {
                    self.process = false;
                    self.launching = false;
                    self.resources = true;
                    Event::Launched { pid: 7, at: *now }
                }
                1 => {
                    self.launching = false;
                    self.resources = false;
                    Event::LaunchFailed(LaunchFailure { code: 127, error: "no such file".into(), hint: None })
                }
                _ => {
                    self.launching = false;
                    self.process = true;
                    Event::Launched { pid: 7, at: *now }
                }
            });
        }
        if let Some(ask) = self.freezing.pop() {
            self.frozen = self.process;
            return Some(Event::Frozen { ask, error: (!self.process).then(|| "gone".into()) });
        }
        if let Some(ask) = self.thawing.pop() {
            self.frozen = false;
            return Some(Event::Thawed { ask, error: None });
        }
        if self.tearing {
            self.tearing = false;
            self.resources = false;
            return Some(Event::TornDown);
        }
        if self.deleting {
            self.deleting = false;
            return Some(if dice.roll(8) == 0 { Event::DeleteFailed("busy".into()) } else { Event::Deleted });
        }
        if self.process && (self.killed || dice.roll(3) == 0) {
            self.process = false;
            let code = if dice.roll(9) == 0 { None } else { Some(dice.roll(3) as i64) };
            return Some(Event::Ended(ExitStatus {
                code,
                oom: dice.roll(9) == 0,
                at: *now,
                why: "unseen".into(),
            }));
        }
        None
    }
}

fn request(dice: &mut Dice, ask: Ask) -> Event {
    let timeout_secs = (dice.roll(3) == 0).then(|| dice.roll(5) as i64 - 1);
    match dice.roll(12) {
        0..=2 => Event::Start(ask),
        3 => Event::Stop { ask, signal: None, timeout_secs },
        4 => Event::Restart { ask, signal: None, timeout_secs },
        5 => Event::Kill { ask, signal: [Signal::KILL, Signal::TERM, Signal(1)][dice.roll(3) as usize] },
        6 => Event::Pause(ask),
        7 => Event::Unpause(ask),
        8 => Event::Remove { ask, force: dice.roll(6) == 0, volumes: dice.roll(2) == 0 },
        9 => Event::Wait { ask, condition: WaitCondition::Removed },
        10 => Event::Wait { ask, condition: WaitCondition::NextExit },
        _ => Event::Wait { ask, condition: WaitCondition::NotRunning },
    }
}

#[test]
fn no_order_of_events_breaks_an_invariant() {
    let mut dice = Dice(0x006e_6172_7500);
    let mut now = Timestamp(1_000_000 * MS);
    let mut next_ask: Ask = 0;
    let (mut vanished, mut restarts) = (0u32, 0u32);
    let fresh =
        |dice: &mut Dice| (rules(dice), World::default(), Machine::new(State::Created { failure: None }));
    let (mut rules, mut world, mut machine) = fresh(&mut dice);
    for _ in 0..STEPS {
        if dice.roll(500) == 0 && !world.launching {
            machine = world.daemon_dies(&machine, &rules, now);
        }
        now = Timestamp(now.0 + dice.roll(4000) as i64 * MS);
        let own = if dice.roll(3) > 0 { world.happening(&mut dice, &machine.state, &mut now) } else { None };
        let event = own.unwrap_or_else(|| {
            next_ask += 1;
            world.asked.insert(next_ask);
            request(&mut dice, next_ask)
        });
        if let Event::Stop { .. } = event {
            world.user_stopped = true;
        }
        if let Event::Start(_) | Event::Restart { .. } = event {
            world.user_stopped = false;
        }
        let shown = format!("{:?} <- {event:?}", machine.state);
        let lost_process = matches!(event, Event::Launched { .. }) && !world.process;
        let (next, effects) = step(machine, event, &rules, now);
        machine = next;
        world.apply(&machine, &effects);
        if lost_process && !world.gone {
            let status = ExitStatus { code: Some(1), oom: false, at: now, why: String::new() };
            let (next, effects) = step(machine, Event::Ended(status), &rules, now);
            machine = next;
            world.apply(&machine, &effects);
        }
        if world.gone {
            vanished += 1;
            (rules, world, machine) = fresh(&mut dice);
            continue;
        }
        restarts += u32::from(matches!(machine.state, State::Restarting { .. }));
        // A panic here names the step that led to it.
        let _ = &shown;
        world.check(&machine, &rules);
    }
    assert!(vanished > 1000 && restarts > 1000, "the dice reach both ends: {vanished} {restarts}");
}

#[test]
fn an_exit_that_overtakes_its_start_is_not_lost() {
    let rules = Rules {
        policy: RestartPolicy::No,
        auto_remove: true,
        stop_signal: Signal::TERM,
        stop_timeout_secs: 10,
    };
    let mut machine = Machine::new(State::Created { failure: None });
    let mut effects = Vec::new();
    let status = ExitStatus { code: Some(3), oom: false, at: Timestamp(5), why: String::new() };
    for event in [
        Event::Wait { ask: 1, condition: WaitCondition::NextExit },
        Event::Wait { ask: 2, condition: WaitCondition::Removed },
        Event::Start(3),
        Event::Ended(status),
        Event::Launched { pid: 9, at: Timestamp(4) },
        Event::TornDown,
        Event::Deleted,
    ] {
        let (next, more) = step(machine, event, &rules, Timestamp(5));
        machine = next;
        effects.extend(more);
    }
    for ask in [1, 2] {
        let answer = crate::view::WaitResult { exit_code: 3, error: None };
        assert!(effects.contains(&Effect::AnswerWait(ask, answer)), "{effects:?}");
    }
    assert!(effects.contains(&Effect::Answer(3, Ok(()))));
    assert_eq!(effects.last(), Some(&Effect::Vanish));
}

#[test]
fn back_off_doubles_to_a_minute_and_a_long_run_forgives() {
    let rules = Rules {
        policy: RestartPolicy::Always,
        auto_remove: false,
        stop_signal: Signal::TERM,
        stop_timeout_secs: 10,
    };
    let mut machine = Machine::new(State::Created { failure: None });
    let mut now = Timestamp(0);
    let mut delays = Vec::new();
    for round in 0..13 {
        let event = if round == 0 { Event::Start(1) } else { Event::Tick };
        let ran_ms = if round == 11 { 10_000 } else { 5 };
        machine = step(machine, event, &rules, now).0;
        machine = step(machine, Event::Launched { pid: 1, at: now }, &rules, now).0;
        now = Timestamp(now.0 + ran_ms * MS);
        let status = ExitStatus { code: Some(0), oom: false, at: now, why: String::new() };
        machine = step(machine, Event::Ended(status), &rules, now).0;
        machine = step(machine, Event::TornDown, &rules, now).0;
        let State::Restarting { due, .. } = machine.state else { unreachable!("{machine:?}") };
        delays.push((due.0 - now.0) / MS);
        now = due;
    }
    assert_eq!(delays, [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000, 100, 200]);
    assert_eq!(machine.state.restart_count(), 13);
}

#[test]
fn a_daemon_start_follows_docker() {
    let exit = |code| Exit { code, started_at: Timestamp(1), finished_at: Timestamp(2), ..Exit::default() };
    for (policy, by_user, code, starts) in [
        (RestartPolicy::Always, true, 0, true),
        (RestartPolicy::UnlessStopped, true, 0, false),
        (RestartPolicy::UnlessStopped, false, 0, true),
        (RestartPolicy::OnFailure { max_retries: 0 }, false, 1, true),
        (RestartPolicy::OnFailure { max_retries: 0 }, false, 0, false),
        (RestartPolicy::No, false, 1, false),
    ] {
        let rules = Rules { policy, auto_remove: false, stop_signal: Signal::TERM, stop_timeout_secs: 10 };
        let state = State::Exited { last: exit(code), tries: Tries::default(), by_user };
        let (_, effects) = step(Machine::new(state), Event::DaemonStarted, &rules, Timestamp(9));
        assert_eq!(effects.contains(&Effect::Launch), starts, "{policy:?} {by_user} {code}");
    }
    let rules = Rules {
        policy: RestartPolicy::Always,
        auto_remove: false,
        stop_signal: Signal::TERM,
        stop_timeout_secs: 10,
    };
    let (_, effects) =
        step(Machine::new(State::Created { failure: None }), Event::DaemonStarted, &rules, Timestamp(9));
    assert_eq!(effects, []);
    let dead = State::Dead { last: None, volumes: true, reason: "in use".into() };
    let (machine, effects) = step(Machine::new(dead), Event::DaemonStarted, &rules, Timestamp(9));
    assert_eq!(effects, [Effect::Delete { volumes: true }]);
    assert_eq!(machine.state, State::Removing { last: None, volumes: true });
}
