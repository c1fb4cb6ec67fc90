//! From a profile's rules to one decision per system call number.

use super::SeccompError;
use super::arch::{Arch, I386_MULTIPLEXED};
use crate::oci;
use std::collections::BTreeMap;

/// SECCOMP_RET_* of linux/seccomp.h.
pub const ALLOW: u32 = 0x7fff_0000;
pub const KILL_PROCESS: u32 = 0x8000_0000;
const KILL_THREAD: u32 = 0;
const TRAP: u32 = 0x0003_0000;
const ERRNO: u32 = 0x0005_0000;
const TRACE: u32 = 0x7ff0_0000;
const LOG: u32 = 0x7ffc_0000;
const DATA_MASK: u32 = 0xffff;

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// A filter's return value.
pub type Action = u32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    NotEqual,
    Less,
    LessOrEqual,
    Equal,
    GreaterOrEqual,
    Greater,
    /// `argument & value == value_two`.
    MaskedEqual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    pub index: u32,
    pub operator: Operator,
    pub value: u64,
    pub value_two: u64,
}

/// What happens to one call: the first alternative whose conditions all hold, else the default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Always(Action),
    Conditional(Vec<(Vec<Condition>, Action)>),
}

/// All decisions of one architecture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decisions {
    /// By number, the architecture's base included.
    pub calls: BTreeMap<u32, Decision>,
    pub default: Action,
    /// From this number on: calls that are newer than the profile.
    pub unknown_from: Option<(u32, Action)>,
}

/// Reads an action word.
pub fn action(name: &str, errno: Option<u32>) -> Result<Action, SeccompError> {
    let data = |default| errno.unwrap_or(default) & DATA_MASK;
    Ok(match name {
        "SCMP_ACT_ALLOW" => ALLOW,
        "SCMP_ACT_ERRNO" => ERRNO | data(EPERM),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => KILL_THREAD,
        "SCMP_ACT_KILL_PROCESS" => KILL_PROCESS,
        "SCMP_ACT_TRAP" => TRAP,
        "SCMP_ACT_TRACE" => TRACE | data(EPERM),
        "SCMP_ACT_LOG" => LOG,
        "SCMP_ACT_NOTIFY" => return Err(SeccompError::Notify),
        other => return Err(SeccompError::Action(other.to_owned())),
    })
}

/// The decisions of `profile` for `arch`. Names that the architecture does not have are left out.
pub fn decisions(profile: &oci::Seccomp, arch: Arch, default: Action) -> Result<Decisions, SeccompError> {
    let table = arch.table();
    let base = arch.number_base();
    let mut calls = BTreeMap::new();
    let mut newest = None;
    for rule in &profile.syscalls {
        let action = action(&rule.action, rule.errno_ret)?;
        let alternatives = alternatives(&rule.args)?;
        for name in &rule.names {
            if let Some(number) = table.get(name.as_str()) {
                newest = newest.max(Some(base + number));
                if action != default {
                    add(&mut calls, base + number, &alternatives, action);
                }
            }
            if arch == Arch::I386 && action != default {
                add_multiplexed(&mut calls, &table, name, &rule.args, action);
            }
        }
    }
    // As runc: a refusing profile answers ENOSYS for calls that its author cannot have known, unless it says so itself.
    let refuses = !matches!(default & !DATA_MASK, ALLOW | LOG | TRACE) && default != (ERRNO | ENOSYS);
    let unknown_from = newest.filter(|_| refuses).map(|number| (number + 1, ERRNO | ENOSYS));
    Ok(Decisions { calls, default, unknown_from })
}

/// Several conditions on one argument are alternatives, each a rule of its own (runc's reading of the spec); otherwise
/// all of them must hold. The empty list is "always".
fn alternatives(args: &[oci::SyscallArg]) -> Result<Vec<Vec<Condition>>, SeccompError> {
    let conditions = args.iter().map(condition).collect::<Result<Vec<_>, _>>()?;
    let repeated =
        conditions.iter().enumerate().any(|(at, one)| conditions[..at].iter().any(|b| b.index == one.index));
    Ok(if repeated { conditions.into_iter().map(|one| vec![one]).collect() } else { vec![conditions] })
}

fn condition(arg: &oci::SyscallArg) -> Result<Condition, SeccompError> {
    if arg.index > 5 {
        return Err(SeccompError::ArgumentIndex(arg.index));
    }
    let operator = match arg.op.as_str() {
        "SCMP_CMP_NE" => Operator::NotEqual,
        "SCMP_CMP_LT" => Operator::Less,
        "SCMP_CMP_LE" => Operator::LessOrEqual,
        "SCMP_CMP_EQ" => Operator::Equal,
        "SCMP_CMP_GE" => Operator::GreaterOrEqual,
        "SCMP_CMP_GT" => Operator::Greater,
        "SCMP_CMP_MASKED_EQ" => Operator::MaskedEqual,
        other => return Err(SeccompError::Operator(other.to_owned())),
    };
    Ok(Condition { index: arg.index, operator, value: arg.value, value_two: arg.value_two })
}

fn add(calls: &mut BTreeMap<u32, Decision>, number: u32, alternatives: &[Vec<Condition>], action: Action) {
    let entry = calls.entry(number).or_insert_with(|| Decision::Conditional(Vec::new()));
    for conditions in alternatives {
        match entry {
            // An unconditional rule leaves nothing for later ones.
            Decision::Always(_) => {}
            _ if conditions.is_empty() => *entry = Decision::Always(action),
            Decision::Conditional(list) => list.push((conditions.clone(), action)),
        }
    }
}

/// Only unconditional rules: the arguments of a multiplexed call are behind a pointer that a filter cannot follow.
fn add_multiplexed(
    calls: &mut BTreeMap<u32, Decision>,
    table: &std::collections::HashMap<&'static str, u32>,
    name: &str,
    args: &[oci::SyscallArg],
    action: Action,
) {
    let Some((_, multiplexer, operation)) = I386_MULTIPLEXED.iter().find(|(known, _, _)| *known == name)
    else {
        return;
    };
    if let (Some(number), true) = (table.get(multiplexer), args.is_empty()) {
        let condition = Condition { index: 0, operator: Operator::Equal, value: *operation, value_two: 0 };
        add(calls, *number, &[vec![condition]], action);
    }
}
