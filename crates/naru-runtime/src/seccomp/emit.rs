//! From decisions to instructions: a binary search over intervals of numbers, leaves that return or test arguments.
//!
//! Classic BPF jumps forward only, and conditional jumps reach 255 instructions; farther ones go through an
//! unconditional jump, which reaches everywhere (linux/filter.h, Documentation/networking/filter.rst).

use super::arch::{Arch, X32_BIT};
use super::rules::{Action, Condition, Decision, Decisions, KILL_PROCESS, Operator};
use naru_kernel::seccomp::Instruction;

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const JUMP_EQ: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_GT: u16 = 0x25;
const JUMP_GE: u16 = 0x35;
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

/// Offsets in struct seccomp_data.
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCH: u32 = 4;
const OFFSET_ARGS: u32 = 16;

type Code = Vec<Instruction>;

/// The whole program: architecture dispatch, then one search tree each.
pub fn program(parts: &[(Arch, Decisions)]) -> Code {
    let mut families: Vec<(u32, Code)> = Vec::new();
    for (arch, decisions) in parts.iter().filter(|(arch, _)| *arch != Arch::X32) {
        let mut body = vec![load(OFFSET_NUMBER)];
        let own = search(&leaves(decisions, 0, if *arch == Arch::X86_64 { X32_BIT - 1 } else { u32::MAX }));
        if *arch == Arch::X86_64 {
            let x32 = parts.iter().find(|(arch, _)| *arch == Arch::X32);
            let above = match x32 {
                Some((_, decisions)) => search(&leaves(decisions, X32_BIT, u32::MAX)),
                // x32 was not asked for: as an unknown architecture.
                None => vec![give(KILL_PROCESS)],
            };
            body.extend(branch(JUMP_GE, X32_BIT, &own, &above));
        } else {
            body.extend(own);
        }
        families.push((arch.audit(), body));
    }
    let mut code = vec![load(OFFSET_ARCH)];
    let mut rest = vec![give(KILL_PROCESS)];
    for (audit, body) in families.into_iter().rev() {
        rest = branch(JUMP_EQ, audit, &rest, &body);
    }
    code.extend(rest);
    code
}

/// An interval that begins at `first` (and ends before the next one), and what happens in it.
struct Leaf {
    first: u32,
    code: Code,
}

/// Cuts `low..=high` into intervals of equal outcome.
fn leaves(decisions: &Decisions, low: u32, high: u32) -> Vec<Leaf> {
    let mut list: Vec<Leaf> = Vec::new();
    let mut push = |first: u32, code: Code| {
        if list.last().is_none_or(|last| last.code != code) {
            list.push(Leaf { first, code });
        }
    };
    let outside = |number: u32| match decisions.unknown_from {
        Some((from, action)) if number >= from => vec![give(action)],
        _ => vec![give(decisions.default)],
    };
    let mut next = low;
    for (number, decision) in decisions.calls.range(low..=high) {
        if *number > next {
            push(next, outside(next));
        }
        push(*number, decide(decision, decisions.default));
        next = number.saturating_add(1);
    }
    if next <= high {
        if let Some((from, _)) = decisions.unknown_from.filter(|(from, _)| *from > next) {
            push(next, outside(next));
            next = from;
        }
        push(next, outside(next));
    }
    list
}

/// A balanced tree of "is the number at least the first of the right half?".
fn search(leaves: &[Leaf]) -> Code {
    match leaves {
        [] => vec![give(KILL_PROCESS)],
        [only] => only.code.clone(),
        _ => {
            let (left, right) = leaves.split_at(leaves.len() / 2);
            branch(JUMP_GE, right[0].first, &search(left), &search(right))
        }
    }
}

/// `if A <op> value { yes } else { no }`, with `no` first.
fn branch(operation: u16, value: u32, no: &[Instruction], yes: &[Instruction]) -> Code {
    let mut code = Vec::with_capacity(no.len() + yes.len() + 2);
    if let Ok(distance) = u8::try_from(no.len()) {
        code.push(test(operation, value, distance, 0));
    } else {
        code.push(test(operation, value, 0, 1));
        code.push(Instruction { code: JUMP, jump_true: 0, jump_false: 0, value: no.len() as u32 });
    }
    code.extend_from_slice(no);
    code.extend_from_slice(yes);
    code
}

fn decide(decision: &Decision, default: Action) -> Code {
    match decision {
        Decision::Always(action) => vec![give(*action)],
        Decision::Conditional(alternatives) => {
            let mut code: Code =
                alternatives.iter().flat_map(|(conditions, action)| rule(conditions, *action)).collect();
            code.push(give(default));
            code
        }
    }
}

/// Where a test inside a rule goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum To {
    Next,
    /// This condition holds: on to the following one.
    Holds,
    /// The rule does not match: behind it.
    Fails,
}

/// An instruction whose jumps are not numbers yet.
type Draft = (Instruction, To, To);

/// All conditions, then the action; a condition that fails jumps behind the action.
fn rule(conditions: &[Condition], action: Action) -> Code {
    let drafts: Vec<Vec<Draft>> = conditions.iter().map(condition).collect();
    let total: usize = drafts.iter().map(Vec::len).sum();
    let mut code = Vec::with_capacity(total + 1);
    for draft in drafts {
        let end = code.len() + draft.len();
        for (mut instruction, yes, no) in draft {
            let here = code.len() + 1;
            // A condition has at most six instructions and a rule at most six conditions: far below 255.
            let distance = |to: To| match to {
                To::Next => 0,
                To::Holds => (end - here) as u8,
                To::Fails => (total + 1 - here) as u8,
            };
            if instruction.code != LOAD && instruction.code != AND {
                (instruction.jump_true, instruction.jump_false) = (distance(yes), distance(no));
            }
            code.push(instruction);
        }
    }
    code.push(give(action));
    code
}

/// A 64-bit comparison in two 32-bit halves, the high one first. Little-endian, as all supported machines are.
fn condition(condition: &Condition) -> Vec<Draft> {
    use Operator::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, MaskedEqual, NotEqual};
    use To::{Fails, Holds, Next};
    let low = OFFSET_ARGS + 8 * condition.index;
    let (value_low, value_high) = (condition.value as u32, (condition.value >> 32) as u32);
    let plain = |instruction: Instruction| (instruction, Next, Next);
    let jump = |operation: u16, value: u32, yes: To, no: To| (test(operation, value, 0, 0), yes, no);
    let ordered = |operation: u16, holds: To, fails: To| {
        vec![
            plain(load(low + 4)),
            jump(JUMP_GT, value_high, holds, Next),
            jump(JUMP_EQ, value_high, Next, fails),
            plain(load(low)),
            jump(operation, value_low, holds, fails),
        ]
    };
    match condition.operator {
        Greater => ordered(JUMP_GT, Holds, Fails),
        GreaterOrEqual => ordered(JUMP_GE, Holds, Fails),
        LessOrEqual => ordered(JUMP_GT, Fails, Holds),
        Less => ordered(JUMP_GE, Fails, Holds),
        Equal => vec![
            plain(load(low + 4)),
            jump(JUMP_EQ, value_high, Next, Fails),
            plain(load(low)),
            jump(JUMP_EQ, value_low, Holds, Fails),
        ],
        NotEqual => vec![
            plain(load(low + 4)),
            jump(JUMP_EQ, value_high, Next, Holds),
            plain(load(low)),
            jump(JUMP_EQ, value_low, Fails, Holds),
        ],
        MaskedEqual => vec![
            plain(load(low + 4)),
            plain(and(value_high)),
            jump(JUMP_EQ, (condition.value_two >> 32) as u32, Next, Fails),
            plain(load(low)),
            plain(and(value_low)),
            jump(JUMP_EQ, condition.value_two as u32, Holds, Fails),
        ],
    }
}

fn load(offset: u32) -> Instruction {
    Instruction { code: LOAD, jump_true: 0, jump_false: 0, value: offset }
}

fn and(mask: u32) -> Instruction {
    Instruction { code: AND, jump_true: 0, jump_false: 0, value: mask }
}

fn give(action: Action) -> Instruction {
    Instruction { code: RETURN, jump_true: 0, jump_false: 0, value: action }
}

fn test(operation: u16, value: u32, jump_true: u8, jump_false: u8) -> Instruction {
    Instruction { code: operation, jump_true, jump_false, value }
}
