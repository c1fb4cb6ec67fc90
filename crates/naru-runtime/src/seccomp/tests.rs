//! Tests of the compiler by itself: programs run by the interpreter against what the profile says, and their cost.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests")]

use super::arch::{Arch, X32_BIT};
use super::simulate::{Call, run};
use super::words::{ALLOW, ENOSYS, ERRNO, KILL_THREAD, LOG, NOTIFY, TRACE, TRAP};
use super::{Filter, Listener, SeccompError, cached, compile, words};
use crate::oci;
use std::time::{Duration, Instant};

const UNKNOWN: u32 = ERRNO | ENOSYS;
const REFUSED: u32 = ERRNO | 1;

pub fn arg(index: u32, op: &str, value: u64, value_two: u64) -> oci::SyscallArg {
    oci::SyscallArg { index, value, value_two, op: format!("SCMP_CMP_{op}") }
}

pub fn rule(names: &[&str], action: &str, args: Vec<oci::SyscallArg>) -> oci::SyscallRule {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    oci::SyscallRule { names, action: format!("SCMP_ACT_{action}"), errno_ret: None, args }
}

pub fn profile(default: &str, arches: &[&str], syscalls: Vec<oci::SyscallRule>) -> oci::Seccomp {
    let architectures = arches.iter().map(|arch| format!("SCMP_ARCH_{arch}")).collect();
    oci::Seccomp {
        default_action: format!("SCMP_ACT_{default}"),
        architectures,
        syscalls,
        ..oci::Seccomp::default()
    }
}

pub fn docker_default(arches: &[&str], caps: &[&str]) -> oci::Seccomp {
    let caps: Vec<String> = caps.iter().map(|cap| format!("CAP_{cap}")).collect();
    let host = crate::lower::SeccompHost { arch: "amd64", kernel: (6, 18) };
    let mut profile = crate::lower::default_seccomp(&caps, &host).unwrap();
    profile.architectures = arches.iter().map(|arch| format!("SCMP_ARCH_{arch}")).collect();
    profile
}

fn answer(profile: &oci::Seccomp, arch: Arch, number: u32, args: [u64; 6]) -> u32 {
    let program = compile(profile).unwrap().program.unwrap();
    run(&program, &Call { audit: arch.machine().audit, number, args }).0
}

/// A call by name with one argument.
fn by_name(profile: &oci::Seccomp, arch: Arch, name: &str, first: u64) -> u32 {
    let row = super::table::Row::find(name).unwrap();
    answer(profile, arch, arch.machine().number(row).unwrap(), [first, 0, 0, 0, 0, 0])
}

#[test]
fn every_action_and_errno() {
    for (action, errno, value) in [
        ("KILL", None, KILL_THREAD),
        ("KILL_THREAD", None, KILL_THREAD),
        ("KILL_PROCESS", None, 0x8000_0000),
        ("TRAP", None, TRAP),
        ("ERRNO", None, REFUSED),
        ("ERRNO", Some(95), ERRNO | 95),
        ("ERRNO", Some(0), ERRNO),
        ("TRACE", None, TRACE | 1),
        ("TRACE", Some(7), TRACE | 7),
        ("LOG", None, LOG),
    ] {
        let mut spec = profile("ALLOW", &[], vec![rule(&["read"], action, vec![])]);
        spec.syscalls[0].errno_ret = errno;
        assert_eq!(by_name(&spec, Arch::native(), "read", 0), value, "{action} {errno:?}");
        assert_eq!(by_name(&spec, Arch::native(), "write", 0), ALLOW);
        let mut spec = profile(action, &[], vec![rule(&["write", "execveat"], "ALLOW", vec![])]);
        spec.default_errno_ret = errno;
        assert_eq!(by_name(&spec, Arch::native(), "read", 0), value, "{action} {errno:?}");
        assert_eq!(by_name(&spec, Arch::native(), "write", 0), ALLOW);
    }
    let mut spec = profile("ALLOW", &[], vec![rule(&["read"], "KILL", vec![])]);
    spec.syscalls[0].errno_ret = Some(1);
    assert_eq!(
        compile(&spec).unwrap_err().to_string(),
        "seccomp: SCMP_ACT_KILL has no errno, but the profile gives it 1"
    );
    assert_eq!(
        compile(&profile("X", &[], vec![])).unwrap_err().to_string(),
        "seccomp: unknown action \"SCMP_ACT_X\""
    );
}

#[test]
fn notify_names_its_listener() {
    let mut spec = profile("ALLOW", &[], vec![rule(&["mkdir"], "NOTIFY", vec![])]);
    assert_eq!(compile(&spec), Err(SeccompError::NotifyWithoutListener));
    spec.listener_path = "/run/agent.sock".into();
    spec.listener_metadata = "x".into();
    let filter = compile(&spec).unwrap();
    assert_eq!(filter.listener, Some(Listener { path: "/run/agent.sock".into(), metadata: "x".into() }));
    assert_eq!(filter.flags, words::FLAG_SPEC_ALLOW | words::FLAG_NEW_LISTENER);
    assert_eq!(by_name(&spec, Arch::native(), "mkdir", 0), NOTIFY);
    spec.flags = Some(vec!["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV".into()]);
    assert_eq!(compile(&spec).unwrap().flags, words::FLAG_WAIT_KILLABLE_RECV | words::FLAG_NEW_LISTENER);
    spec.syscalls[0].action = "SCMP_ACT_ERRNO".into();
    let filter = compile(&spec).unwrap();
    assert_eq!(
        (filter.listener, filter.flags),
        (None, 0),
        "without a notified call the listener means nothing"
    );
    spec.listener_path.clear();
    assert_eq!(compile(&spec), Err(SeccompError::MetadataWithoutListener));
    spec = profile("NOTIFY", &[], vec![]);
    assert_eq!(compile(&spec), Err(SeccompError::NotifyDefault));
    spec = profile("ALLOW", &[], vec![rule(&["write"], "NOTIFY", vec![])]);
    assert_eq!(compile(&spec), Err(SeccompError::NotifyWrite));
}

#[test]
fn flags() {
    let flags = |words: &[&str]| {
        let mut spec = profile("ALLOW", &[], vec![]);
        spec.flags = Some(words.iter().map(|word| format!("SECCOMP_FILTER_FLAG_{word}")).collect());
        compile(&spec).map(|filter| filter.flags)
    };
    assert_eq!(flags(&[]), Ok(0));
    assert_eq!(flags(&["TSYNC", "LOG"]), Ok(words::FLAG_LOG));
    assert_eq!(flags(&["LOG", "SPEC_ALLOW"]), Ok(words::FLAG_LOG | words::FLAG_SPEC_ALLOW));
    assert_eq!(flags(&["X"]), Err(SeccompError::Flag("SECCOMP_FILTER_FLAG_X".into())));
    assert_eq!(compile(&profile("ALLOW", &[], vec![])).unwrap().flags, words::FLAG_SPEC_ALLOW);
}

#[test]
fn an_empty_profile_loads_nothing() {
    let empty = Filter { program: None, flags: 0, listener: None };
    assert_eq!(compile(&oci::Seccomp::default()), Ok(empty));
}

#[test]
fn calls_newer_than_the_profile_do_not_exist() {
    let spec = profile("ERRNO", &["X32", "S390X"], vec![rule(&["read", "statx"], "ALLOW", vec![])]);
    for (number, want) in [
        (0, ALLOW),
        (1, REFUSED),
        (332, ALLOW),
        (333, UNKNOWN),
        (X32_BIT, ALLOW),
        (X32_BIT + 331, REFUSED),
        (X32_BIT + 333, UNKNOWN),
        (u32::MAX, UNKNOWN),
    ] {
        assert_eq!(answer(&spec, Arch::X86_64, number, [0; 6]), want, "{number:#x}");
    }
    assert_eq!(answer(&spec, Arch::S390X, 0, [0; 6]), UNKNOWN, "how s390 shows unknown calls");
    assert_eq!(answer(&spec, Arch::S390X, 1, [0; 6]), REFUSED);
    for permissive in ["ALLOW", "LOG", "TRACE"] {
        let spec = profile(permissive, &[], vec![rule(&["read"], "ERRNO", vec![])]);
        assert_ne!(answer(&spec, Arch::native(), 10_000, [0; 6]), UNKNOWN, "{permissive}");
    }
}

#[test]
fn other_architectures_are_killed_but_a_skipped_call_is_not() {
    let spec = docker_default(&["X86_64"], &[]);
    assert_eq!(answer(&spec, Arch::X86_64, X32_BIT, [0; 6]), KILL_THREAD);
    assert_eq!(answer(&spec, Arch::X86_64, u32::MAX, [0; 6]), REFUSED);
    assert_eq!(answer(&spec, Arch::X86, 3, [0; 6]), KILL_THREAD);
    assert_eq!(answer(&spec, Arch::X86_64, 0, [0; 6]), ALLOW);
    let foreign = profile("ERRNO", &["S390X"], vec![rule(&["read"], "ALLOW", vec![])]);
    assert_eq!(answer(&foreign, Arch::native(), 0, [0; 6]) == ALLOW, Arch::native() == Arch::X86_64);
}

#[test]
fn both_halves_of_big_endian_arguments() {
    let spec = profile(
        "ERRNO",
        &["S390X", "S390"],
        vec![rule(&["dup"], "ALLOW", vec![arg(0, "GT", 1 << 32, 0)]), rule(&["statx"], "ALLOW", vec![])],
    );
    for (value, wide, narrow) in [
        (1, REFUSED, ALLOW),
        (1 << 32, REFUSED, REFUSED),
        ((1 << 32) + 1, ALLOW, ALLOW),
        (2 << 32, ALLOW, REFUSED),
    ] {
        assert_eq!(by_name(&spec, Arch::S390X, "dup", value), wide, "{value:#x}");
        assert_eq!(by_name(&spec, Arch::S390, "dup", value), narrow, "{value:#x}");
    }
}

#[test]
fn of_two_rules_the_first_decides_but_one_without_conditions_before_all() {
    let low = || vec![arg(0, "LT", 10, 0)];
    let spec = profile(
        "ALLOW",
        &[],
        vec![
            rule(&["dup", "read"], "ERRNO", low()),
            rule(&["dup"], "TRAP", vec![arg(0, "LT", 20, 0)]),
            rule(&["read"], "LOG", vec![]),
            rule(&["read"], "TRAP", vec![]),
        ],
    );
    assert_eq!(by_name(&spec, Arch::native(), "dup", 5), REFUSED);
    assert_eq!(by_name(&spec, Arch::native(), "dup", 15), TRAP);
    assert_eq!(by_name(&spec, Arch::native(), "dup", 25), ALLOW);
    assert_eq!(by_name(&spec, Arch::native(), "read", 5), LOG);
}

#[test]
fn all_architectures_fit_one_program() {
    let words: Vec<String> = Arch::names().collect();
    let mut spec = docker_default(&[], &["SYS_ADMIN"]);
    spec.architectures.clone_from(&words);
    let program = compile(&spec).unwrap().program.unwrap();
    for word in &words {
        let arch = Arch::parse(word).unwrap();
        assert_eq!(by_name(&spec, arch, "openat", 0), ALLOW, "{word}");
        let row = super::table::Row::find("reboot").unwrap();
        let number = arch.machine().number(row).unwrap();
        assert_eq!(answer(&spec, arch, number, [0; 6]), REFUSED, "{word}");
    }
    println!("{} instructions for {} architectures", program.len(), words.len());
}

#[test]
fn the_program_is_small() {
    let spec = docker_default(&["X86_64", "X86", "X32"], &[]);
    let program = compile(&spec).unwrap().program.unwrap();
    assert!(program.len() < 800, "{} instructions", program.len());
    let audit = Arch::X86_64.machine().audit;
    let steps: usize = (0..470).map(|number| run(&program, &Call { audit, number, args: [0; 6] }).1).sum();
    assert!(steps < 470 * 20, "{steps} instructions for 470 decisions");
}

/// The numbers behind keeping the cache in memory only. Generous, as tests run beside others and unoptimised.
#[test]
fn bench() {
    let spec = docker_default(&["X86_64", "X86", "X32"], &[]);
    let best = |work: &dyn Fn()| {
        let times = (0..50).map(|_| {
            let start = Instant::now();
            work();
            start.elapsed()
        });
        times.min().unwrap()
    };
    let compiled = best(&|| drop(compile(&spec).unwrap()));
    cached(&spec).unwrap();
    let found = best(&|| drop(cached(&spec).unwrap()));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), [0u8; 8 * 600]).unwrap();
    let read = best(&|| drop(std::fs::read(file.path()).unwrap()));
    let json = best(&|| drop(serde_json::to_vec(&spec).unwrap()));
    println!(
        "compile {compiled:?}, from the cache {found:?}; a file: read {read:?}, key of the profile {json:?} and its hash"
    );
    assert!(compiled < Duration::from_millis(5), "{compiled:?}");
}
