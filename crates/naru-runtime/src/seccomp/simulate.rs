//! Tests: an interpreter of the programs, against a naive reading of the profile.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::arch::{Arch, I386_MULTIPLEXED, X32_BIT};
use super::{compile, rules};
use crate::oci;
use naru_kernel::seccomp::Instruction;
use std::collections::HashMap;

/// Runs a filter on one call.
fn run(program: &[Instruction], audit: u32, number: u32, args: [u64; 6]) -> u32 {
    let word = |offset: u32| match offset {
        0 => number,
        4 => audit,
        _ => {
            let arg = args[((offset - 16) / 8) as usize];
            if (offset - 16).is_multiple_of(8) { arg as u32 } else { (arg >> 32) as u32 }
        }
    };
    let (mut at, mut accumulator) = (0usize, 0u32);
    loop {
        let instruction = program[at];
        let jump =
            |yes: bool| 1 + usize::from(if yes { instruction.jump_true } else { instruction.jump_false });
        at += match instruction.code {
            0x20 => {
                accumulator = word(instruction.value);
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
            0x06 => return instruction.value,
            other => panic!("instruction {other:#x}"),
        };
    }
}

/// What the profile says, read word by word.
fn naive(profile: &oci::Seccomp, arch: Arch, table: &HashMap<&str, u32>, number: u32, args: [u64; 6]) -> u32 {
    let default = rules::action(&profile.default_action, profile.default_errno_ret).unwrap();
    let mut newest = 0;
    let mut conditional = None;
    let mut always = None;
    for rule in &profile.syscalls {
        let action = rules::action(&rule.action, rule.errno_ret).unwrap();
        for name in &rule.names {
            let own = table.get(name.as_str()).map(|own| own + arch.number_base());
            newest = newest.max(own.unwrap_or(0));
            let multiplexed = arch == Arch::I386
                && rule.args.is_empty()
                && I386_MULTIPLEXED.iter().any(|(known, call, operation)| {
                    known == name && table.get(call) == Some(&number) && args[0] == *operation
                });
            if action == default {
                continue;
            }
            if own == Some(number) && rule.args.is_empty() {
                always.get_or_insert(action);
            } else if multiplexed || (own == Some(number) && holds(&rule.args, args)) {
                conditional.get_or_insert(action);
            }
        }
    }
    if number > newest {
        return 0x0005_0026;
    }
    always.or(conditional).unwrap_or(default)
}

fn holds(list: &[oci::SyscallArg], args: [u64; 6]) -> bool {
    let one = |condition: &oci::SyscallArg| {
        let arg = args[condition.index as usize];
        match condition.op.as_str() {
            "SCMP_CMP_NE" => arg != condition.value,
            "SCMP_CMP_LT" => arg < condition.value,
            "SCMP_CMP_LE" => arg <= condition.value,
            "SCMP_CMP_EQ" => arg == condition.value,
            "SCMP_CMP_GE" => arg >= condition.value,
            "SCMP_CMP_GT" => arg > condition.value,
            "SCMP_CMP_MASKED_EQ" => arg & condition.value == condition.value_two,
            other => panic!("{other}"),
        }
    };
    let repeated = list.iter().enumerate().any(|(at, a)| list[..at].iter().any(|b| b.index == a.index));
    if repeated { list.iter().any(one) } else { list.iter().all(one) }
}

/// Every `step`-th number with every value.
fn compare(profile: &oci::Seccomp, arches: &[Arch], step: usize) {
    let program = compile(profile).unwrap().program.unwrap();
    let values = [
        0u64,
        1,
        2,
        8,
        37,
        38,
        39,
        40,
        41,
        0x20000,
        0x7e02_0000,
        0x7e02_0001,
        0xffff_ffff,
        1 << 32,
        (1 << 32) + 38,
        u64::MAX,
    ];
    for arch in arches {
        let (base, table) = (arch.number_base(), arch.table());
        for number in
            (0..600).step_by(step).chain([983_041, 983_045, 0x3fff_ffff]).map(|number| base + number)
        {
            for value in values {
                for args in [[value, 0, 0, 0, 0, 0], [0, value, 3, 0, 0, value]] {
                    let got = run(&program, arch.audit(), number, args);
                    let want = naive(profile, *arch, &table, number, args);
                    assert_eq!(got, want, "{arch:?} {number:#x} {args:x?}");
                }
            }
        }
    }
    assert_eq!(run(&program, 0x1234, 0, [0; 6]), rules::KILL_PROCESS);
}

fn docker_default(arches: &[&str], caps: &[&str]) -> oci::Seccomp {
    let caps: Vec<String> = caps.iter().map(|cap| format!("CAP_{cap}")).collect();
    let host = crate::lower::SeccompHost { arch: "amd64", kernel: (6, 18) };
    let mut profile = crate::lower::default_seccomp(&caps, &host).unwrap();
    profile.architectures = arches.iter().map(|arch| format!("SCMP_ARCH_{arch}")).collect();
    profile
}

#[test]
fn dockers_profile_on_x86() {
    for caps in [&["CHOWN"][..], &["SYS_ADMIN", "BPF"]] {
        let profile = docker_default(&["X86_64", "X86", "X32"], caps);
        compare(&profile, &[Arch::X86_64, Arch::I386, Arch::X32], 1);
    }
}

#[test]
fn dockers_profile_on_arm() {
    compare(&docker_default(&["AARCH64", "ARM"], &[]), &[Arch::Aarch64, Arch::Arm], 1);
}

#[test]
fn the_program_is_small() {
    let program = compile(&docker_default(&["X86_64", "X86", "X32"], &[])).unwrap().program.unwrap();
    assert!(program.len() < 800, "{} instructions", program.len());
}

#[test]
fn x32_is_killed_when_not_listed() {
    let program = compile(&docker_default(&["X86_64"], &[])).unwrap().program.unwrap();
    assert_eq!(run(&program, Arch::X86_64.audit(), X32_BIT, [0; 6]), rules::KILL_PROCESS);
    assert_eq!(run(&program, Arch::X86_64.audit(), 0, [0; 6]), rules::ALLOW);
}

#[test]
fn every_operator_and_repeated_arguments() {
    let arg = |index, op: &str, value, value_two| oci::SyscallArg {
        index,
        value,
        value_two,
        op: format!("SCMP_CMP_{op}"),
    };
    for op in ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"] {
        for value in [0, 38, 0xffff_ffff, 1 << 32, (1 << 32) + 38] {
            let lists = [
                vec![arg(0, op, value, value & 8)],
                vec![arg(0, op, value, 0), arg(1, "GT", 1, 0)],
                vec![arg(0, op, value, 0), arg(0, "EQ", 2, 0)],
            ];
            for args in lists {
                let rule = oci::SyscallRule {
                    names: vec!["read".into()],
                    action: "SCMP_ACT_ALLOW".into(),
                    args,
                    errno_ret: None,
                };
                let profile = oci::Seccomp {
                    default_action: "SCMP_ACT_ERRNO".into(),
                    architectures: vec!["SCMP_ARCH_X86_64".into()],
                    syscalls: vec![rule],
                    ..oci::Seccomp::default()
                };
                compare(&profile, &[Arch::X86_64], 100);
            }
        }
    }
}

#[test]
fn an_allowing_profile_needs_no_program() {
    let profile = oci::Seccomp { default_action: "SCMP_ACT_ALLOW".into(), ..oci::Seccomp::default() };
    assert_eq!(compile(&profile).unwrap().program, None);
    let bad = oci::Seccomp { default_action: "SCMP_ACT_X".into(), ..oci::Seccomp::default() };
    assert_eq!(compile(&bad).unwrap_err().to_string(), "seccomp: unknown action \"SCMP_ACT_X\"");
}
