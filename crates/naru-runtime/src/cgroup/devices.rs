//! Which devices a container may open: the device list of v1, or an eBPF program on v2.

use super::{Cgroup, CgroupError, files};
use crate::oci::DeviceRule;
use naru_kernel::Errno;
use naru_kernel::devbpf::{self, Instruction};

pub(super) fn apply(
    cgroup: &Cgroup,
    rules: &[DeviceRule],
    warnings: &mut Vec<String>,
) -> Result<(), CgroupError> {
    if rules.is_empty() {
        return Ok(());
    }
    if let Some(hierarchy) = cgroup.layout().v1_with("devices") {
        let directory = cgroup.directory_in(hierarchy);
        for rule in rules {
            let file = if rule.allow { "devices.allow" } else { "devices.deny" };
            files::write(&directory.join(file), &v1_line(rule))?;
        }
        return Ok(());
    }
    // A hybrid host keeps the controller in v1, so this is v2 only. Everything allowed needs no program.
    let (Some(directory), false) = (cgroup.v2_directory(), allows_everything(rules)) else { return Ok(()) };
    let fd = files::open_directory(&directory)?;
    match devbpf::attach(fd, &program(rules)) {
        Ok(()) => Ok(()),
        // Inside another container's sandbox bpf(2) may be forbidden; its own device rules hold then anyway.
        Err(Errno::PERM) => {
            warnings.push("device access is not limited: the kernel refuses to load the BPF program".into());
            Ok(())
        }
        Err(errno) => Err(CgroupError::kernel("attach the device program to", &directory, errno)),
    }
}

fn allows_everything(rules: &[DeviceRule]) -> bool {
    rules.last().is_some_and(|rule| rule.allow && kind(rule) == 'a')
}

fn kind(rule: &DeviceRule) -> char {
    rule.kind.chars().next().unwrap_or('a')
}

/// `c 1:3 rwm`; `a` alone stands for everything.
fn v1_line(rule: &DeviceRule) -> String {
    let number = |value: Option<i64>| value.filter(|n| *n >= 0).map_or("*".to_owned(), |n| n.to_string());
    match kind(rule) {
        'a' => "a".into(),
        other => format!("{other} {}:{} {}", number(rule.major), number(rule.minor), rule.access),
    }
}

/// The last rule that matches wins, so the program tests from the last to the first. linux/bpf.h,
/// struct bpf_cgroup_dev_ctx: access_type (type in the low, access in the high half), major, minor.
fn program(rules: &[DeviceRule]) -> Vec<Instruction> {
    let mut code = vec![
        // r2 = type, r3 = access, r4 = major, r5 = minor
        insn(LOAD_WORD, 2, 1, 0, 0),
        insn(AND_IMM, 2, 0, 0, 0xffff),
        insn(LOAD_WORD, 3, 1, 0, 0),
        insn(SHIFT_RIGHT_IMM, 3, 0, 0, 16),
        insn(LOAD_WORD, 4, 1, 4, 0),
        insn(LOAD_WORD, 5, 1, 8, 0),
    ];
    for rule in rules.iter().rev() {
        let block = rule_block(rule);
        let catches_all = block.len() == 2;
        code.extend(block);
        if catches_all {
            return code;
        }
    }
    code.extend([insn(MOVE_IMM, 0, 0, 0, 0), insn(EXIT, 0, 0, 0, 0)]);
    code
}

/// Tests one rule; each test jumps behind the block when it does not match.
fn rule_block(rule: &DeviceRule) -> Vec<Instruction> {
    let mut tests: Vec<Vec<Instruction>> = Vec::new();
    match kind(rule) {
        'b' => tests.push(vec![insn(JUMP_NE_IMM, 2, 0, 0, 1)]),
        'c' => tests.push(vec![insn(JUMP_NE_IMM, 2, 0, 0, 2)]),
        _ => {}
    }
    let bits = rule.access.chars().fold(0, |bits, letter| {
        bits | match letter {
            'm' => 1,
            'r' => 2,
            'w' => 4,
            _ => 0,
        }
    });
    if kind(rule) != 'a' && bits != 7 {
        // Every requested access must be in the rule: (access & bits) == access.
        tests.push(vec![
            insn(MOVE_REG, 1, 3, 0, 0),
            insn(AND_IMM, 1, 0, 0, bits),
            insn(JUMP_NE_REG, 1, 3, 0, 0),
        ]);
    }
    if kind(rule) != 'a' {
        for (register, value) in [(4, rule.major), (5, rule.minor)] {
            if let Some(number) = value.filter(|number| *number >= 0) {
                tests.push(vec![insn(JUMP_NE_IMM, register, 0, 0, number as i32)]);
            }
        }
    }
    let mut code: Vec<Instruction> = tests.concat();
    code.extend([insn(MOVE_IMM, 0, 0, 0, i32::from(rule.allow)), insn(EXIT, 0, 0, 0, 0)]);
    let len = code.len();
    for (index, instruction) in code.iter_mut().enumerate() {
        if matches!(instruction.code, JUMP_NE_IMM | JUMP_NE_REG) {
            instruction.offset = (len - index - 1) as i16;
        }
    }
    code
}

const LOAD_WORD: u8 = 0x61;
const AND_IMM: u8 = 0x54;
const SHIFT_RIGHT_IMM: u8 = 0x74;
const MOVE_IMM: u8 = 0xb7;
const MOVE_REG: u8 = 0xbf;
const JUMP_NE_IMM: u8 = 0x55;
const JUMP_NE_REG: u8 = 0x5d;
const EXIT: u8 = 0x95;

fn insn(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: destination | source << 4, offset, immediate }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(allow: bool, kind: &str, major: Option<i64>, minor: Option<i64>, access: &str) -> DeviceRule {
        DeviceRule { allow, kind: kind.into(), major, minor, access: access.into() }
    }

    #[test]
    fn v1_lines() {
        assert_eq!(v1_line(&rule(false, "a", None, None, "rwm")), "a");
        assert_eq!(v1_line(&rule(true, "c", Some(136), None, "rwm")), "c 136:* rwm");
        assert_eq!(v1_line(&rule(true, "b", None, None, "m")), "b *:* m");
    }

    #[test]
    fn jumps_land_behind_their_block() {
        let block = rule_block(&rule(true, "c", Some(1), Some(3), "rw"));
        for (index, instruction) in block.iter().enumerate().filter(|(_, i)| i.offset != 0) {
            assert_eq!(index + 1 + instruction.offset as usize, block.len());
        }
        let whole = program(&[rule(false, "a", None, None, "rwm"), rule(true, "c", Some(1), Some(3), "rwm")]);
        assert_eq!(whole.last().unwrap().code, EXIT);
    }
}
