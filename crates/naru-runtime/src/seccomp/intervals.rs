//! The number line of one architecture, cut into intervals of equal outcome.

use super::arch::{Arch, Machine, X32_BIT};
use super::rules::{Decision, Decisions, Rules};
use super::words::{Action, Condition, KILL_THREAD};

/// libseccomp's answer to an architecture that the profile does not have.
pub const BAD_ARCHITECTURE: Action = KILL_THREAD;
const SIGN_BIT: u32 = 0x8000_0000;

/// What happens in an interval.
#[derive(Clone, PartialEq)]
pub enum Outcome {
    Action(Action),
    /// The first alternative whose conditions all hold, else the default.
    Conditional(Vec<(Vec<Condition>, Action)>),
}

/// Each interval reaches from its first number to the next one's.
pub type Intervals = Vec<(u32, Outcome)>;

/// All numbers of an architecture.
pub fn of_machine(rules: &Rules, machine: &Machine) -> Intervals {
    let mut intervals = Intervals::new();
    let decisions = rules.decisions(machine);
    // Calls above 16384 go through number 0 on s390 (setup, which nobody else makes): one that the kernel does not know
    // arrives as 0 and has to look unknown, not forbidden.
    let multiplexes_zero = matches!(machine.arch, Arch::S390 | Arch::S390X);
    match decisions.unknown_from {
        Some((_, action)) if multiplexes_zero => {
            push(&mut intervals, 0, Outcome::Action(action));
            span(&mut intervals, decisions, rules.default, 1, u32::MAX);
        }
        _ => span(&mut intervals, decisions, rules.default, 0, u32::MAX),
    }
    intervals
}

/// x86_64 and x32 are one architecture to the kernel, told apart by a bit of the number: the intervals below it and those
/// above. What has the sign bit too is no call of either; -1 is what a tracer leaves behind to skip a call (seccomp(2)),
/// so it must not kill.
pub fn of_x86_64(rules: &Rules, arches: &[Arch]) -> (Intervals, Intervals) {
    let decisions = |arch: Arch| arches.contains(&arch).then(|| rules.decisions(arch.machine()));
    let (own, x32) = (decisions(Arch::X86_64), decisions(Arch::X32));
    let absent = if x32.is_some() { rules.default } else { BAD_ARCHITECTURE };
    let unknown = |decisions: &Option<Decisions>| {
        decisions.as_ref().and_then(|decisions| decisions.unknown_from).map_or(absent, |(_, action)| action)
    };
    let (unknown_own, unknown_x32, only_own) = (unknown(&own), unknown(&x32), x32.is_none());
    let side = |decisions: Option<Decisions>, low: u32, high: u32| {
        let mut intervals = Intervals::new();
        match decisions {
            Some(decisions) => span(&mut intervals, decisions, rules.default, low, high),
            None => push(&mut intervals, low, Outcome::Action(BAD_ARCHITECTURE)),
        }
        intervals
    };
    let below = side(own, 0, X32_BIT - 1);
    let mut above = side(x32, X32_BIT, SIGN_BIT - 1);
    push(&mut above, SIGN_BIT, Outcome::Action(unknown_own));
    push(&mut above, SIGN_BIT | X32_BIT, Outcome::Action(unknown_x32));
    if only_own {
        push(&mut above, u32::MAX, Outcome::Action(rules.default));
    }
    (below, above)
}

/// The decisions for `low..=high`.
fn span(intervals: &mut Intervals, decisions: Decisions, default: Action, low: u32, high: u32) {
    let mut next = low;
    for (number, decision) in decisions.calls.into_iter().filter(|(number, _)| (low..=high).contains(number))
    {
        if number > next {
            push(intervals, next, Outcome::Action(default));
        }
        let outcome = match decision {
            Decision::Always(action) => Outcome::Action(action),
            Decision::Conditional(list) => Outcome::Conditional(list),
        };
        push(intervals, number, outcome);
        next = number + 1;
    }
    // The newest call that the profile names is at or above the last one with a decision.
    match decisions.unknown_from {
        Some((from, action)) => {
            if from > next {
                push(intervals, next, Outcome::Action(default));
            }
            push(intervals, from, Outcome::Action(action));
        }
        None => push(intervals, next, Outcome::Action(default)),
    }
}

fn push(intervals: &mut Intervals, first: u32, outcome: Outcome) {
    if intervals.last().is_none_or(|(_, last)| *last != outcome) {
        intervals.push((first, outcome));
    }
}
