//! Tests: an interpreter of filter programs, ours and libseccomp's.

#![allow(clippy::panic, reason = "tests")]

use naru_kernel::seccomp::Instruction;

/// One system call as a filter sees it.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub audit: u32,
    pub number: u32,
    pub args: [u64; 6],
}

impl Call {
    /// A word of struct seccomp_data. The instruction pointer is never looked at.
    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.number,
            4 => self.audit,
            16..64 => {
                let arg = self.args[((offset - 16) / 8) as usize];
                let little_endian = self.audit & 0x4000_0000 != 0;
                if (offset - 16).is_multiple_of(8) == little_endian { arg as u32 } else { (arg >> 32) as u32 }
            }
            other => panic!("load from {other}"),
        }
    }
}

/// The program's answer, and how many instructions it took.
pub fn run(program: &[Instruction], call: &Call) -> (u32, usize) {
    let (mut at, mut accumulator, mut steps) = (0usize, 0u32, 0);
    loop {
        let instruction = program[at];
        steps += 1;
        let jump =
            |yes: bool| 1 + usize::from(if yes { instruction.jump_true } else { instruction.jump_false });
        at += match instruction.code {
            0x20 => {
                accumulator = call.word(instruction.value);
                1
            }
            0x54 => {
                accumulator &= instruction.value;
                1
            }
            0x05 => 1 + instruction.value as usize,
            0x15 => jump(accumulator == instruction.value),
            0x25 => jump(accumulator > instruction.value),
            0x35 => jump(accumulator >= instruction.value),
            0x06 => return (instruction.value, steps),
            other => panic!("instruction {other:#x}"),
        };
    }
}
