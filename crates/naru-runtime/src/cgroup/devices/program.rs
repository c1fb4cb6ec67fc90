//! A [`Policy`] as an eBPF program: the exceptions by kind and major number, so that a request meets few of them. The
//! kernel follows every path of a program when it is loaded, at each start of a container, which one test after the other
//! made three times as long.

use super::policy::{ALL, Exception, Kind, Policy};
use naru_kernel::devbpf::Instruction;

/// linux/bpf.h: struct bpf_cgroup_dev_ctx has access_type (type in the low, access in the high half), major, minor.
pub(super) fn compile(policy: &Policy) -> Vec<Instruction> {
    let mut code = Code { list: Vec::new(), to_verdict: Vec::new(), policy };
    code.list.extend([
        insn(LOAD_WORD, TYPE, CONTEXT, 0, 0),
        insn(LOAD_WORD, ACCESS, CONTEXT, 0, 0),
        insn(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        insn(LOAD_WORD, MINOR, CONTEXT, 8, 0),
        insn(AND_IMM, TYPE, 0, 0, 0xffff),
        insn(SHIFT_RIGHT_IMM, ACCESS, 0, 0, 16),
    ]);
    let fork = code.list.len();
    code.list.push(insn(JUMP32_NE_IMM, TYPE, 0, 0, CHARACTER));
    code.kind(Kind::Char);
    code.land(fork);
    code.kind(Kind::Block);
    code.finish()
}

struct Code<'a> {
    list: Vec<Instruction>,
    /// Jumps to the end, where the request is an exception.
    to_verdict: Vec<usize>,
    policy: &'a Policy,
}

impl Code<'_> {
    fn kind(&mut self, kind: Kind) {
        let exceptions = || self.policy.exceptions.iter().filter(move |exception| exception.kind == kind);
        let mut majors: Vec<u32> = exceptions().filter_map(|exception| exception.major).collect();
        majors.sort_unstable();
        majors.dedup();
        for exception in exceptions().filter(|exception| exception.major.is_none()) {
            self.exception(exception);
        }
        for major in majors {
            let group = self.list.len();
            self.list.push(insn(JUMP32_NE_IMM, MAJOR, 0, 0, major.cast_signed()));
            for exception in exceptions().filter(|exception| exception.major == Some(major)) {
                self.exception(exception);
            }
            // No other group has this major number.
            self.exit(self.policy.allow_by_default);
            self.land(group);
        }
        self.exit(self.policy.allow_by_default);
    }

    /// Goes to the verdict if this exception decides; kind and major number are known to be its own. Each jump depends on
    /// something, since the kernel refuses code that cannot be reached.
    fn exception(&mut self, exception: &Exception) {
        let bits = i32::from(exception.access);
        let others = i32::from(ALL & !exception.access);
        match (self.policy.allow_by_default, exception.minor) {
            // Any part of the access that is denied denies it all.
            (true, None) => self.verdict(insn(JUMP_SET_IMM, ACCESS, 0, 0, bits)),
            (true, Some(minor)) => {
                self.list.push(insn(JUMP32_NE_IMM, MINOR, 0, 1, minor.cast_signed()));
                self.verdict(insn(JUMP_SET_IMM, ACCESS, 0, 0, bits));
            }
            // Every part of the access must be allowed by this one.
            (false, None) if others == 0 => self.verdict(insn(JUMP32_NE_IMM, ACCESS, 0, 0, 0)),
            (false, minor) => {
                if others != 0 {
                    self.list.push(insn(JUMP_SET_IMM, ACCESS, 0, 1, others));
                }
                self.verdict(match minor {
                    // JMP32: the 64-bit compare would take the number for a signed one.
                    Some(minor) => insn(JUMP32_EQ_IMM, MINOR, 0, 0, minor.cast_signed()),
                    None => insn(JUMP_ALWAYS, 0, 0, 0, 0),
                });
            }
        }
    }

    fn verdict(&mut self, jump: Instruction) {
        self.to_verdict.push(self.list.len());
        self.list.push(jump);
    }

    fn exit(&mut self, allow: bool) {
        self.list.extend([insn(MOVE_IMM, RESULT, 0, 0, i32::from(allow)), insn(EXIT, 0, 0, 0, 0)]);
    }

    /// The jump at `index` leads to what comes next. With RULES_MAX exceptions a program has less than i16::MAX
    /// instructions: at most five for each, and a dozen around them.
    fn land(&mut self, index: usize) {
        let distance = (self.list.len() - index - 1) as i16;
        if let Some(jump) = self.list.get_mut(index) {
            jump.offset = distance;
        }
    }

    fn finish(mut self) -> Vec<Instruction> {
        let jumps = std::mem::take(&mut self.to_verdict);
        for index in &jumps {
            self.land(*index);
        }
        if !jumps.is_empty() {
            self.exit(!self.policy.allow_by_default);
        }
        self.list
    }
}

/// linux/bpf.h, BPF_DEVCG_DEV_CHAR.
const CHARACTER: i32 = 2;

const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const TYPE: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

const LOAD_WORD: u8 = 0x61;
const AND_IMM: u8 = 0x54;
const SHIFT_RIGHT_IMM: u8 = 0x74;
const MOVE_IMM: u8 = 0xb7;
const JUMP_ALWAYS: u8 = 0x05;
const JUMP_SET_IMM: u8 = 0x45;
const JUMP32_EQ_IMM: u8 = 0x16;
const JUMP32_NE_IMM: u8 = 0x56;
const EXIT: u8 = 0x95;

fn insn(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: destination | source << 4, offset, immediate }
}

#[cfg(test)]
mod tests {
    use super::super::policy::Exception;
    use super::*;

    /// An access as the kernel asks for it.
    #[derive(Clone, Copy, Debug)]
    struct Access {
        kind: Kind,
        major: u32,
        minor: u32,
        access: u8,
    }

    /// The words of devcgroup_legacy_check_permission, written without a look at the compiler above.
    fn reference(policy: &Policy, asked: Access) -> bool {
        let concerns = |exception: &&Exception| {
            exception.kind == asked.kind
                && exception.major.is_none_or(|major| major == asked.major)
                && exception.minor.is_none_or(|minor| minor == asked.minor)
        };
        let mut concerned = policy.exceptions.iter().filter(concerns);
        if policy.allow_by_default {
            concerned.all(|exception| exception.access & asked.access == 0)
        } else {
            concerned.any(|exception| exception.access & asked.access == asked.access)
        }
    }

    /// Runs a program as the kernel would; only the instructions that the compiler knows.
    fn run(code: &[Instruction], asked: Access) -> bool {
        let kind = if asked.kind == Kind::Block { 1 } else { 2 };
        let context = [kind | u32::from(asked.access) << 16, asked.major, asked.minor];
        let mut registers = [0u64; 11];
        let mut at = 0;
        loop {
            let Instruction { code: operation, registers: pair, offset, immediate } = code[at];
            let to = usize::from(pair & 15);
            let sign_extended = i64::from(immediate) as u64;
            let mut taken = false;
            match operation {
                LOAD_WORD => registers[to] = u64::from(context[offset as usize / 4]),
                AND_IMM => registers[to] = u64::from(registers[to] as u32 & immediate as u32),
                SHIFT_RIGHT_IMM => registers[to] = u64::from(registers[to] as u32 >> immediate),
                MOVE_IMM => registers[to] = sign_extended,
                JUMP_ALWAYS => taken = true,
                JUMP_SET_IMM => taken = registers[to] & sign_extended != 0,
                JUMP32_EQ_IMM => taken = registers[to] as u32 == immediate as u32,
                JUMP32_NE_IMM => taken = registers[to] as u32 != immediate as u32,
                EXIT => return registers[0] == 1,
                other => panic!("unknown instruction {other:#x}"),
            }
            at += 1 + if taken { offset as usize } else { 0 };
        }
    }

    /// xorshift64: the same cases on every run.
    struct Random(u64);

    impl Random {
        fn below(&mut self, end: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % end
        }
    }

    #[test]
    fn programs_decide_as_v1_does() {
        const NUMBERS: [u32; 4] = [0, 1, 5, u32::MAX];
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        for _ in 0..3000 {
            let mut policy = Policy { allow_by_default: random.below(2) == 0, exceptions: Vec::new() };
            for _ in 0..random.below(6) {
                let kind = if random.below(2) == 0 { Kind::Block } else { Kind::Char };
                let mut number = || Some(NUMBERS[random.below(4) as usize]).filter(|_| random.below(3) > 0);
                let (major, minor) = (number(), number());
                policy.exceptions.push(Exception { kind, major, minor, access: 1 + random.below(7) as u8 });
            }
            let code = compile(&policy);
            for kind in [Kind::Block, Kind::Char] {
                for (major, minor) in NUMBERS.iter().flat_map(|major| NUMBERS.map(|minor| (*major, minor))) {
                    for access in 1..=ALL {
                        let asked = Access { kind, major, minor, access };
                        assert_eq!(run(&code, asked), reference(&policy, asked), "{policy:?} {asked:?}");
                    }
                }
            }
        }
    }
}
