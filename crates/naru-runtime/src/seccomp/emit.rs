//! From decisions to instructions: a binary search over intervals of numbers, leaves that return or test arguments.
//!
//! Classic BPF jumps forward only, and conditional jumps reach 255 instructions; farther ones go through an
//! unconditional jump, which reaches everywhere (linux/filter.h, Documentation/networking/filter.rst). So the program is
//! built from its end: what an instruction jumps to is always there already, and equal endings are shared.

use super::arch::{Arch, Machine, X32_BIT};
use super::intervals::{self, BAD_ARCHITECTURE, Intervals, Outcome};
use super::rules::Rules;
use super::words::{Action, Condition, Operator};
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

/// A conditional jump reaches 255 instructions; some room for the two unconditional ones that may come between.
const REACH: usize = 250;
/// From farther away a return of its own costs no more than the jump to one.
const RETURN_REACH: usize = 200;

/// The whole program: architecture dispatch, then one search tree each.
pub fn program(rules: &Rules, arches: &[Arch]) -> Vec<Instruction> {
    let mut code = Code::default();
    let mut families: Vec<(u32, Place)> = Vec::new();
    // The first architecture is the machine's own; it comes last here, so that it is nearest to the dispatch.
    for machine in arches.iter().rev().map(|arch| arch.machine()) {
        if families.iter().any(|(audit, _)| *audit == machine.audit) {
            continue;
        }
        let form = |machine: &Machine| Form::new(rules, machine);
        let tree = if machine.audit == Arch::X86_64.machine().audit {
            let (own, x32) = intervals::of_x86_64(rules, arches);
            let x32 = code.search(&x32, &form(Arch::X32.machine()));
            let own = code.search(&own, &form(Arch::X86_64.machine()));
            code.test(JUMP_GE, X32_BIT, x32, own)
        } else {
            code.search(&intervals::of_machine(rules, machine), &form(machine))
        };
        debug_assert_eq!(tree + 1, code.reversed.len(), "the load falls through to the tree");
        families.push((machine.audit, code.load(OFFSET_NUMBER)));
    }
    let mut next = code.give(BAD_ARCHITECTURE);
    for (audit, body) in families {
        next = code.test(JUMP_EQ, audit, body, next);
    }
    code.load(OFFSET_ARCH);
    code.reversed.reverse();
    code.reversed
}

/// How an architecture's arguments lie, and what a call gets that no condition fits.
#[derive(Clone, Copy, PartialEq)]
struct Form {
    wide: bool,
    big_endian: bool,
    default: Action,
}

impl Form {
    fn new(rules: &Rules, machine: &Machine) -> Self {
        Self { wide: machine.wide, big_endian: machine.big_endian, default: rules.default }
    }
}

/// An instruction, counted from the program's end.
type Place = usize;

/// A program in the making, its last instruction first.
#[derive(Default)]
struct Code {
    reversed: Vec<Instruction>,
    /// The latest return of each action.
    returns: Vec<(Action, Place)>,
    /// Tests of arguments, which are the same for many calls and architectures.
    tests: Vec<(Form, Outcome, Place)>,
}

impl Code {
    /// A balanced tree of "is the number at least the first of the upper half?".
    fn search(&mut self, intervals: &Intervals, form: &Form) -> Place {
        let place = self.subtree(intervals, form);
        // What loads the number has to stand right before the tree.
        if place + 1 == self.reversed.len() { place } else { self.jump(place) }
    }

    fn subtree(&mut self, intervals: &[(u32, Outcome)], form: &Form) -> Place {
        match intervals {
            [] => self.give(form.default),
            [(_, outcome)] => self.decide(outcome, form),
            _ => {
                let (lower, upper) = intervals.split_at(intervals.len() / 2);
                let yes = self.subtree(upper, form);
                let no = self.subtree(lower, form);
                self.test(JUMP_GE, upper[0].0, yes, no)
            }
        }
    }

    fn decide(&mut self, outcome: &Outcome, form: &Form) -> Place {
        let alternatives = match outcome {
            Outcome::Action(action) => return self.give(*action),
            Outcome::Conditional(alternatives) => alternatives,
        };
        if let Some((.., place)) = self.tests.iter().find(|(of, tests, _)| of == form && tests == outcome) {
            return *place;
        }
        let mut next = self.give(form.default);
        for (conditions, action) in alternatives.iter().rev() {
            let fails = next;
            next = self.give(*action);
            for condition in conditions.iter().rev() {
                next = self.condition(condition, form, next, fails);
            }
        }
        self.tests.push((*form, outcome.clone(), next));
        next
    }

    /// One comparison: in two 32-bit halves, the high one first, or of the low half only.
    fn condition(&mut self, condition: &Condition, form: &Form, yes: Place, no: Place) -> Place {
        use Operator::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, MaskedEqual, NotEqual};
        match condition.operator {
            Greater => self.ordered(condition, form, JUMP_GT, yes, no),
            GreaterOrEqual => self.ordered(condition, form, JUMP_GE, yes, no),
            LessOrEqual => self.ordered(condition, form, JUMP_GT, no, yes),
            Less => self.ordered(condition, form, JUMP_GE, no, yes),
            Equal => self.equal(condition, form, yes, no),
            NotEqual => self.equal(condition, form, no, yes),
            MaskedEqual => self.masked(condition, form, yes, no),
        }
    }

    fn ordered(
        &mut self,
        condition: &Condition,
        form: &Form,
        operation: u16,
        yes: Place,
        no: Place,
    ) -> Place {
        let (low, high) = halves(condition, form);
        self.test(operation, condition.value as u32, yes, no);
        let lower = self.load(low);
        if !form.wide {
            return lower;
        }
        let upper = (condition.value >> 32) as u32;
        let same = self.test(JUMP_EQ, upper, lower, no);
        self.test(JUMP_GT, upper, yes, same);
        self.load(high)
    }

    fn equal(&mut self, condition: &Condition, form: &Form, yes: Place, no: Place) -> Place {
        let (low, high) = halves(condition, form);
        self.test(JUMP_EQ, condition.value as u32, yes, no);
        let lower = self.load(low);
        if !form.wide {
            return lower;
        }
        self.test(JUMP_EQ, (condition.value >> 32) as u32, lower, no);
        self.load(high)
    }

    fn masked(&mut self, condition: &Condition, form: &Form, yes: Place, no: Place) -> Place {
        let (low, high) = halves(condition, form);
        self.test(JUMP_EQ, condition.value_two as u32, yes, no);
        self.push(AND, condition.value as u32);
        let lower = self.load(low);
        let upper = (condition.value >> 32) as u32;
        if upper == 0 {
            return lower;
        }
        self.test(JUMP_EQ, (condition.value_two >> 32) as u32, lower, no);
        self.push(AND, upper);
        self.load(high)
    }

    fn give(&mut self, action: Action) -> Place {
        let here = self.reversed.len();
        match self.returns.iter_mut().find(|(of, _)| *of == action) {
            Some((_, place)) if here - *place <= RETURN_REACH => return *place,
            Some((_, place)) => *place = here,
            None => self.returns.push((action, here)),
        }
        self.push(RETURN, action)
    }

    fn load(&mut self, offset: u32) -> Place {
        self.push(LOAD, offset)
    }

    fn jump(&mut self, target: Place) -> Place {
        self.push(JUMP, (self.reversed.len() - target - 1) as u32)
    }

    /// `if A <operation> value { yes } else { no }`.
    fn test(&mut self, operation: u16, value: u32, yes: Place, no: Place) -> Place {
        let (yes, no) = (self.near(yes), self.near(no));
        let here = self.reversed.len();
        let distance = |target: Place| (here - target - 1) as u8;
        let (jump_true, jump_false) = (distance(yes), distance(no));
        self.reversed.push(Instruction { code: operation, jump_true, jump_false, value });
        here
    }

    /// The target, or a jump to it that a conditional jump can reach.
    fn near(&mut self, target: Place) -> Place {
        if self.reversed.len() - target > REACH { self.jump(target) } else { target }
    }

    fn push(&mut self, code: u16, value: u32) -> Place {
        self.reversed.push(Instruction { code, jump_true: 0, jump_false: 0, value });
        self.reversed.len() - 1
    }
}

/// Where an argument's lower and upper half lie.
fn halves(condition: &Condition, form: &Form) -> (u32, u32) {
    let argument = OFFSET_ARGS + 8 * condition.index;
    if form.big_endian { (argument + 4, argument) } else { (argument, argument + 4) }
}
