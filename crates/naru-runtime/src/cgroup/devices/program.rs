//! A [`Policy`] as an eBPF program: one block of tests for each exception, then the default.

use super::policy::{ALL, Kind, Policy};
use naru_kernel::devbpf::Instruction;

/// linux/bpf.h, struct bpf_cgroup_dev_ctx: access_type (type in the low, access in the high half), major, minor.
pub(super) fn compile(policy: &Policy) -> Vec<Instruction> {
    let mut code = vec![
        // r2 = type, r3 = access, r4 = major, r5 = minor
        insn(LOAD_WORD, 2, 1, 0, 0),
        insn(AND_IMM, 2, 0, 0, 0xffff),
        insn(LOAD_WORD, 3, 1, 0, 0),
        insn(SHIFT_RIGHT_IMM, 3, 0, 0, 16),
        insn(LOAD_WORD, 4, 1, 4, 0),
        insn(LOAD_WORD, 5, 1, 8, 0),
    ];
    for exception in &policy.exceptions {
        let mut block = vec![insn(JUMP_NE_IMM, 2, 0, 0, if exception.kind == Kind::Block { 1 } else { 2 })];
        let bits = i32::from(exception.access);
        if policy.allow_by_default {
            // Any part of the access that is denied denies it all.
            block.extend([
                insn(MOVE_REG, 1, 3, 0, 0),
                insn(AND_IMM, 1, 0, 0, bits),
                insn(JUMP_EQ_IMM, 1, 0, 0, 0),
            ]);
        } else if exception.access != ALL {
            // Every part of the access must be allowed by this one.
            block.extend([
                insn(MOVE_REG, 1, 3, 0, 0),
                insn(AND_IMM, 1, 0, 0, bits),
                insn(JUMP_NE_REG, 1, 3, 0, 0),
            ]);
        }
        for (register, number) in [(4, exception.major), (5, exception.minor)] {
            if let Some(number) = number {
                // JMP32: the 64-bit compare would take the number for a signed one.
                block.push(insn(JUMP32_NE_IMM, register, 0, 0, number.cast_signed()));
            }
        }
        block.extend([insn(MOVE_IMM, 0, 0, 0, i32::from(!policy.allow_by_default)), insn(EXIT, 0, 0, 0, 0)]);
        let len = block.len();
        for (index, instruction) in block.iter_mut().enumerate() {
            if matches!(instruction.code, JUMP_NE_IMM | JUMP_NE_REG | JUMP_EQ_IMM | JUMP32_NE_IMM) {
                instruction.offset = (len - index - 1) as i16;
            }
        }
        code.extend(block);
    }
    code.extend([insn(MOVE_IMM, 0, 0, 0, i32::from(policy.allow_by_default)), insn(EXIT, 0, 0, 0, 0)]);
    code
}

const LOAD_WORD: u8 = 0x61;
const AND_IMM: u8 = 0x54;
const SHIFT_RIGHT_IMM: u8 = 0x74;
const MOVE_IMM: u8 = 0xb7;
const MOVE_REG: u8 = 0xbf;
const JUMP_EQ_IMM: u8 = 0x15;
const JUMP_NE_IMM: u8 = 0x55;
const JUMP_NE_REG: u8 = 0x5d;
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
            let (to, from) = (usize::from(pair & 15), usize::from(pair >> 4));
            let sign_extended = i64::from(immediate) as u64;
            let mut taken = false;
            match operation {
                LOAD_WORD => registers[to] = u64::from(context[offset as usize / 4]),
                AND_IMM => registers[to] = u64::from(registers[to] as u32 & immediate as u32),
                SHIFT_RIGHT_IMM => registers[to] = u64::from(registers[to] as u32 >> immediate),
                MOVE_IMM => registers[to] = sign_extended,
                MOVE_REG => registers[to] = registers[from],
                JUMP_EQ_IMM => taken = registers[to] == sign_extended,
                JUMP_NE_IMM => taken = registers[to] != sign_extended,
                JUMP_NE_REG => taken = registers[to] != registers[from],
                JUMP32_NE_IMM => taken = registers[to] as u32 != immediate as u32,
                EXIT => return registers[0] == 1,
                other => panic!("unknown instruction {other:#x}"),
            }
            // The first register is overwritten only after the context was read.
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
