//! From a profile's rules to one decision per system call number and architecture.

use super::SeccompError;
use super::arch::Machine;
use super::table::Row;
use super::words::{self, ALLOW, Action, Condition, DATA_MASK, ENOSYS, ERRNO, LOG, NOTIFY, Operator, TRACE};
use crate::oci;

/// A profile with its words read.
pub struct Rules {
    pub default: Action,
    rules: Vec<Rule>,
}

struct Rule {
    action: Action,
    /// The rule applies when all conditions of one of them hold. One empty list is "always".
    alternatives: Vec<Vec<Condition>>,
    calls: Vec<Row>,
}

/// What happens to one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Always(Action),
    /// The first whose conditions all hold, else the default.
    Conditional(Vec<(Vec<Condition>, Action)>),
}

/// All decisions for one architecture.
pub struct Decisions {
    /// Ordered by number.
    pub calls: Vec<(u32, Decision)>,
    /// From this number on: calls that are newer than the profile, and what they get.
    pub unknown_from: Option<(u32, Action)>,
}

impl Rules {
    /// Names that no architecture has are left out, as every runtime does: profiles name calls of future kernels.
    pub fn read(profile: &oci::Seccomp) -> Result<Self, SeccompError> {
        let default = words::action(&profile.default_action, profile.default_errno_ret)?;
        if default == NOTIFY {
            return Err(SeccompError::NotifyDefault);
        }
        let mut rules = Vec::with_capacity(profile.syscalls.len());
        for rule in &profile.syscalls {
            let action = words::action(&rule.action, rule.errno_ret)?;
            if action == NOTIFY && rule.names.iter().any(|name| name == "write") {
                return Err(SeccompError::NotifyWrite);
            }
            let calls = rule.names.iter().filter_map(|name| Row::find(name)).collect();
            rules.push(Rule { action, alternatives: alternatives(&rule.args)?, calls });
        }
        Ok(Self { default, rules })
    }

    pub fn notifies(&self) -> bool {
        self.rules.iter().any(|rule| rule.action == NOTIFY)
    }

    pub fn decisions(&self, machine: &Machine) -> Decisions {
        // Hundreds of calls share the conditions of a few rules: what is sorted below are numbers only.
        let mut lists: Vec<Vec<Vec<Condition>>> =
            self.rules.iter().map(|rule| on_machine(&rule.alternatives, machine)).collect();
        let mut found = Vec::with_capacity(self.rules.iter().map(|rule| rule.calls.len()).sum());
        let mut newest = 0;
        for (list, rule) in self.rules.iter().enumerate() {
            for row in &rule.calls {
                if let Some(number) = machine.number(*row) {
                    newest = newest.max(number);
                    found.push((number, rule.action, list));
                }
                if let Some((number, operation)) = machine.multiplexed(*row) {
                    newest = newest.max(number);
                    found.push((number, rule.action, lists.len()));
                    lists.push(of_operation(&lists[list], operation));
                }
            }
        }
        // A rule that says what happens anyway is left out, but its calls are known.
        found.retain(|(_, action, _)| *action != self.default);
        found.sort_by_key(|(number, ..)| *number);
        let mut calls: Vec<(u32, Decision)> = Vec::with_capacity(found.len());
        for (number, action, list) in found {
            if calls.last().is_none_or(|(last, _)| *last != number) {
                calls.push((number, Decision::Conditional(Vec::new())));
            }
            if let Some((_, decision)) = calls.last_mut() {
                decision.add(&lists[list], action);
            }
        }
        let unknown_from = (newest > 0 && self.refuses()).then_some((newest + 1, ERRNO | ENOSYS));
        Decisions { calls, unknown_from }
    }

    /// As runc: a refusing profile answers ENOSYS for calls that its author cannot have known, so that libcs fall back.
    fn refuses(&self) -> bool {
        !matches!(self.default & !DATA_MASK, ALLOW | LOG | TRACE)
    }
}

impl Decision {
    /// Of two rules on one call the first wins, but one without conditions takes the place of all that have some.
    fn add(&mut self, alternatives: &[Vec<Condition>], action: Action) {
        for conditions in alternatives {
            match self {
                Self::Always(_) => {}
                Self::Conditional(_) if conditions.is_empty() => *self = Self::Always(action),
                Self::Conditional(list) => list.push((conditions.clone(), action)),
            }
        }
    }
}

/// Several conditions on one argument are alternatives, each a rule of its own (runc's reading of the spec); otherwise
/// all of them must hold.
fn alternatives(args: &[oci::SyscallArg]) -> Result<Vec<Vec<Condition>>, SeccompError> {
    let conditions = args.iter().map(Condition::read).collect::<Result<Vec<_>, _>>()?;
    let repeated =
        conditions.iter().enumerate().any(|(at, one)| conditions[..at].iter().any(|b| b.index == one.index));
    Ok(if repeated { conditions.into_iter().map(|one| vec![one]).collect() } else { vec![conditions] })
}

/// What can be compared here: 32-bit machines have the lower half of each value only. A mask of nothing always matches.
fn on_machine(alternatives: &[Vec<Condition>], machine: &Machine) -> Vec<Vec<Condition>> {
    let width = if machine.wide { u64::MAX } else { u64::from(u32::MAX) };
    let cut = |condition: &Condition| {
        let value = condition.value & width;
        let masked = condition.operator == Operator::MaskedEqual;
        let value_two = if masked { condition.value_two & value } else { 0 };
        (!masked || value != 0).then_some(Condition { value, value_two, ..*condition })
    };
    alternatives.iter().map(|conditions| conditions.iter().filter_map(cut).collect()).collect()
}

/// The same rule for the multiplexer. Its first argument is the operation, so a condition on the call's own first
/// argument is lost, and the others look at the multiplexer's arguments: what is behind its pointer no filter can see.
/// This is libseccomp's reading; a stricter one would take these calls away from every 32-bit program.
fn of_operation(alternatives: &[Vec<Condition>], operation: u32) -> Vec<Vec<Condition>> {
    let first = Condition { index: 0, operator: Operator::Equal, value: u64::from(operation), value_two: 0 };
    let with_first = |conditions: &Vec<Condition>| {
        let rest = conditions.iter().filter(|condition| condition.index != 0);
        std::iter::once(&first).chain(rest).copied().collect()
    };
    alternatives.iter().map(with_first).collect()
}
