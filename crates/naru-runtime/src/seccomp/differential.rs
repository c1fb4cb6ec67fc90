//! The compiler against libseccomp, on sampled calls: Docker's profile, podman's, and random ones with all operators.
//!
//! Both programs run in the same interpreter. libseccomp stands behind `oracle.c`, compiled when the test runs, so it is
//! in no build of the product. runc's ENOSYS rule, which is runc's own code, is put in front of the oracle here.
//! libseccomp 2.5 itself errs in some random profiles: where conditional rules for one call share a comparison of 64-bit
//! halves it merges their trees and loses a branch (db.c, `_db_tree_add`), and a rule that is right in a filter of its own
//! can go wrong beside many others. Such a difference counts as libseccomp's only when ours is what the profile says word
//! by word, for a call that has conditions; none may appear with a profile that is in use.
//! Left out of the comparison, and counted: samples to which two rules with different actions apply (libseccomp's
//! answer hangs on the order of its tree), and profiles that libseccomp refuses to build.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests")]

use super::arch::{Arch, Machine, X32_BIT};
use super::rules::{Decision, Rules};
use super::simulate::{Call, run};
use super::table::Row;
use super::tests::{arg, docker_default, profile, rule};
use super::words::{Action, Condition, ENOSYS, ERRNO, Operator};
use super::{OPERATORS, compile, words};
use crate::lower::{LowerInput, SeccompHost, lower};
use crate::oci;
use naru_kernel::seccomp::Instruction;
use naru_types::spec::{ContainerSpec, Seccomp};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

const SAMPLES_PROFILE: usize = 30_000;
const PROFILES_RANDOM: usize = 600;
const SAMPLES_RANDOM: usize = 200;

/// Tokens of seccomp.h: AUDIT_ARCH_*, but x32 has one of its own.
fn token(machine: &Machine) -> u32 {
    if machine.arch == Arch::X32 { 0x4000_003e } else { machine.audit }
}

struct Oracle {
    process: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    _directory: tempfile::TempDir,
}

impl Oracle {
    /// `None`, with a word about it, where libseccomp's headers or a C compiler are missing.
    #[allow(clippy::disallowed_methods, reason = "the oracle is a program")]
    fn start() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("oracle");
        let source = directory.path().join("oracle.c");
        std::fs::write(&source, include_str!("oracle.c")).unwrap();
        let built = Command::new("cc").arg("-o").arg(&program).arg(&source).arg("-lseccomp").output();
        if !built.is_ok_and(|built| built.status.success()) {
            println!("SKIP: needs cc and libseccomp-dev");
            return None;
        }
        let mut process =
            Command::new(&program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let requests = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().unwrap());
        Some(Self { process, requests, answers, _directory: directory })
    }

    fn say(&mut self, text: &str) {
        self.requests.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn number(&mut self, machine: &Machine, name: &str) -> Option<u32> {
        self.say(&format!("n {:x} {name}\n", token(machine)));
        let number: i32 = self.line().parse().unwrap();
        u32::try_from(number).ok()
    }

    /// Those of `arches` that this libseccomp has.
    fn known(&mut self, arches: Vec<Arch>) -> Vec<Arch> {
        let (known, unknown): (Vec<_>, Vec<_>) =
            arches.into_iter().partition(|arch| self.number(arch.machine(), "openat").is_some());
        if !unknown.is_empty() {
            println!("this libseccomp does not have {unknown:?}");
        }
        known
    }

    /// The program for `arches`, built as runc does.
    fn compile(&mut self, spec: &oci::Seccomp, arches: &[Arch]) -> Option<Vec<Instruction>> {
        let default = words::action(&spec.default_action, spec.default_errno_ret).unwrap();
        let mut text = format!("i {default:x}\n");
        if !arches.contains(&Arch::native()) {
            text.push_str("d\n");
        }
        for arch in arches {
            writeln!(text, "a {:x}", token(arch.machine())).unwrap();
        }
        if spec.syscalls.iter().map(|rule| rule.names.len()).sum::<usize>() > 32 {
            text.push_str("o\n");
        }
        for rule in &spec.syscalls {
            let action = words::action(&rule.action, rule.errno_ret).unwrap();
            for name in rule.names.iter().filter(|_| action != default) {
                add_rule(&mut text, action, name, &rule.args);
            }
        }
        text.push_str("e\n");
        self.say(&text);
        for _ in arches {
            self.line();
        }
        let answer = self.line();
        let mut bytes = vec![0; answer.strip_prefix("ok ")?.parse().unwrap()];
        self.answers.read_exact(&mut bytes).unwrap();
        // libseccomp writes in the byte order of the architecture.
        let big_endian = arches.iter().all(|arch| arch.machine().big_endian);
        let instruction = |raw: &[u8]| {
            let (code, value) = ([raw[0], raw[1]], [raw[4], raw[5], raw[6], raw[7]]);
            let (code, value) = if big_endian {
                (u16::from_be_bytes(code), u32::from_be_bytes(value))
            } else {
                (u16::from_le_bytes(code), u32::from_le_bytes(value))
            };
            let value = if big_endian && code == 0x06 { action_of(value) } else { value };
            Instruction { code, jump_true: raw[2], jump_false: raw[3], value }
        };
        Some(bytes.chunks_exact(8).map(instruction).collect())
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        self.requests.take();
        let _ = self.process.wait();
    }
}

/// libseccomp swaps the bytes of a return twice when it copies it nearer (gen_bpf.c, `_gen_bpf_build_jmp_ret`), which only
/// shows in programs for the other byte order.
fn action_of(value: u32) -> Action {
    let known = |value: u32| match value & !words::DATA_MASK {
        ERRNO | words::TRACE => true,
        action => {
            value == action
                && [words::KILL_THREAD, words::KILL_PROCESS, words::TRAP, words::LOG, words::ALLOW]
                    .contains(&action)
        }
    };
    if known(value) { value } else { value.swap_bytes() }
}

fn add_rule(text: &mut String, action: Action, name: &str, args: &[oci::SyscallArg]) {
    let repeated = args.iter().enumerate().any(|(at, a)| args[..at].iter().any(|b| b.index == a.index));
    let lists: Vec<&[oci::SyscallArg]> = if repeated { args.chunks(1).collect() } else { vec![args] };
    for list in lists {
        write!(text, "r {action:x} {name} {}", list.len()).unwrap();
        for arg in list {
            let operator = OPERATORS.iter().position(|word| *word == arg.op).unwrap() + 1;
            write!(text, " {} {operator} {:x} {:x}", arg.index, arg.value, arg.value_two).unwrap();
        }
        text.push('\n');
    }
}

/// xorshift64*: the same samples on every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 33) as usize % bound
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }
}

#[derive(Default, Debug)]
struct Tally {
    profiles: usize,
    compared: usize,
    overlapping: usize,
    refused: usize,
    conditional: usize,
    libseccomp_wrong: usize,
}

struct Comparison<'a> {
    spec: &'a oci::Seccomp,
    rules: Rules,
    arches: &'a [Arch],
    values: Vec<u64>,
}

impl Comparison<'_> {
    fn sample(&self, random: &mut Random) -> (Arch, Call) {
        let arch = random.pick(self.arches);
        let machine = arch.machine();
        let names: Vec<&str> =
            self.spec.syscalls.iter().flat_map(|rule| &rule.names).map(String::as_str).collect();
        let base = machine.number(Row::find("openat").unwrap()).unwrap() & !0x3ff;
        let number = match random.below(8) {
            0 => random.pick(&[
                0,
                X32_BIT - 1,
                X32_BIT,
                0x7fff_ffff,
                0x8000_0000,
                0xbfff_ffff,
                0xc000_0000,
                u32::MAX,
            ]),
            1 | 2 => base + random.below(1024) as u32,
            3 => random.pick(&[102, 117, 4102, 4117]),
            _ => match Row::find(random.pick(&names)).and_then(|row| machine.number(row)) {
                Some(number) => number,
                None => base + random.below(512) as u32,
            },
        };
        let mut value = || match random.below(6) {
            0 => random.below(32) as u64,
            1 => random.next(),
            2 => random.pick(&self.values).wrapping_add(1),
            3 => random.pick(&self.values).wrapping_sub(1),
            _ => random.pick(&self.values),
        };
        let args = [value(), value(), value(), value(), value(), value()];
        (arch, Call { audit: machine.audit, number, args })
    }

    /// What the profile says, read without any program: the different actions of all rules that apply, and how many
    /// alternatives the call has.
    fn applying(&self, arch: Arch, call: &Call) -> (BTreeSet<Action>, usize) {
        let decisions = self.rules.decisions(arch.machine());
        let Ok(at) = decisions.calls.binary_search_by_key(&call.number, |(number, _)| *number) else {
            return (BTreeSet::new(), 0);
        };
        match &decisions.calls[at].1 {
            Decision::Always(action) => (BTreeSet::from([*action]), 0),
            Decision::Conditional(list) => {
                let applies = |(conditions, _): &&(Vec<Condition>, Action)| {
                    conditions
                        .iter()
                        .all(|one| holds(one, call.args[one.index as usize], arch.machine().wide))
                };
                (list.iter().filter(applies).map(|(_, action)| *action).collect(), list.len())
            }
        }
    }

    fn run(&self, oracle: &mut Oracle, random: &mut Random, samples: usize, tally: &mut Tally) {
        let ours = compile(self.spec).unwrap().program.unwrap();
        tally.profiles += 1;
        let Some(theirs) = oracle.compile(self.spec, self.arches) else {
            tally.refused += 1;
            return;
        };
        for _ in 0..samples {
            let (arch, call) = self.sample(random);
            // On the x86_64 line a number decides whose it is.
            let arch = match (arch, call.number & X32_BIT != 0) {
                (Arch::X86_64, true) => Arch::X32,
                (Arch::X32, false) => Arch::X86_64,
                _ => arch,
            };
            let (actions, alternatives) = self.applying(arch, &call);
            let (got, _) = run(&ours, &call);
            if actions.len() > 1 {
                tally.overlapping += 1;
                assert!(actions.contains(&got), "{arch:?} {call:x?}: {got:#x} of {actions:x?}");
                continue;
            }
            let want = self.unknown(arch, &call).unwrap_or_else(|| run(&theirs, &call).0);
            let said = actions.first().copied().unwrap_or(self.rules.default);
            tally.compared += 1;
            tally.conditional += usize::from(alternatives > 0);
            if got != want && alternatives > 0 && got == said {
                tally.libseccomp_wrong += 1;
                continue;
            }
            assert_eq!(
                got, want,
                "{arch:?} {call:x?}: ours {got:#x}, libseccomp's {want:#x}, profile {said:#x}\n{:?}",
                self.spec
            );
        }
    }

    /// runc's patchbpf/enosys_linux.go: what is beyond the newest call of the profile.
    fn unknown(&self, arch: Arch, call: &Call) -> Option<Action> {
        if !self.arches.contains(&arch) {
            return None;
        }
        let permissive = ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"];
        let machine = arch.machine();
        let rows = self.spec.syscalls.iter().flat_map(|rule| &rule.names).filter_map(|name| Row::find(name));
        // Where runc knows a multiplexed call by no number it takes the profile to be older than it is.
        let numbers =
            rows.flat_map(|row| [machine.number(row), machine.multiplexed(row).map(|(number, _)| number)]);
        let newest = numbers.flatten().max().filter(|newest| *newest > 0)?;
        let s390_zero = matches!(arch, Arch::S390 | Arch::S390X) && call.number == 0;
        let unknown =
            !permissive.contains(&self.spec.default_action.as_str()) && (call.number > newest || s390_zero);
        unknown.then_some(ERRNO | ENOSYS)
    }
}

fn holds(condition: &Condition, argument: u64, wide: bool) -> bool {
    let argument = if wide { argument } else { argument & 0xffff_ffff };
    match condition.operator {
        Operator::NotEqual => argument != condition.value,
        Operator::Less => argument < condition.value,
        Operator::LessOrEqual => argument <= condition.value,
        Operator::Equal => argument == condition.value,
        Operator::GreaterOrEqual => argument >= condition.value,
        Operator::Greater => argument > condition.value,
        Operator::MaskedEqual => argument & condition.value == condition.value_two,
    }
}

/// Only the names that both tables have, with the same numbers: an older libseccomp knows fewer.
fn shared(oracle: &mut Oracle, arches: &[Arch], spec: &mut oci::Seccomp) {
    let mut left_out = BTreeSet::new();
    for rule in &mut spec.syscalls {
        rule.names.retain(|name| {
            let row = Row::find(name);
            let same = arches.iter().all(|arch| {
                let machine = arch.machine();
                let ours = row.and_then(|row| machine.number(row));
                let theirs = oracle.number(machine, name);
                // libseccomp gives multiplexed calls no number by name.
                ours == theirs || row.and_then(|row| machine.multiplexed(row)).is_some()
            });
            if !same {
                left_out.insert(name.clone());
            }
            same
        });
    }
    if !left_out.is_empty() {
        println!("not in this libseccomp, or with another number: {left_out:?}");
    }
}

fn values(spec: &oci::Seccomp) -> Vec<u64> {
    let args = spec.syscalls.iter().flat_map(|rule| &rule.args);
    let mut values: Vec<u64> =
        args.flat_map(|arg| [arg.value, arg.value_two, arg.value & arg.value_two]).collect();
    values.extend([0, 1, 5, 0xffff_ffff, 1 << 32, (1 << 32) + 5, 0x8000_0000, u64::MAX, 1 << 63]);
    values
}

fn compare(
    oracle: &mut Oracle,
    spec: &oci::Seccomp,
    arches: &[Arch],
    samples: usize,
    random: &mut Random,
    tally: &mut Tally,
) {
    let comparison = Comparison { spec, rules: Rules::read(spec).unwrap(), arches, values: values(spec) };
    comparison.run(oracle, random, samples, tally);
}

fn little_endian(oracle: &mut Oracle) -> Vec<Arch> {
    let all = Arch::names().map(|name| Arch::parse(&name).unwrap());
    let list = all.filter(|arch| !arch.machine().big_endian).collect();
    oracle.known(list)
}

fn big_endian(oracle: &mut Oracle) -> Vec<Arch> {
    let all = Arch::names().map(|name| Arch::parse(&name).unwrap());
    let list = all.filter(|arch| arch.machine().big_endian).collect();
    oracle.known(list)
}

fn words_of(arches: &[Arch]) -> Vec<String> {
    let word = |arch: &Arch| Arch::names().find(|name| Arch::parse(name).unwrap() == *arch).unwrap();
    arches.iter().map(word).collect()
}

/// A profile in Docker's format, as a container gets it.
fn lowered(json: String) -> oci::Seccomp {
    let mut container = ContainerSpec::default();
    container.process.cmd = Some(vec!["true".into()]);
    container.security.seccomp = Seccomp::Profile(json);
    let seccomp_host = SeccompHost { arch: "amd64", kernel: (6, 18) };
    let input = LowerInput { host_caps: u64::MAX, seccomp_host, ..LowerInput::default() };
    lower(&container, &input).unwrap().linux.seccomp.unwrap()
}

#[test]
fn profiles_of_docker_and_podman() {
    let Some(mut oracle) = Oracle::start() else { return };
    let mut profiles =
        vec![docker_default(&[], &["CHOWN"]), docker_default(&[], &["SYS_ADMIN", "BPF", "SYS_CHROOT"])];
    let podman = "/usr/share/containers/seccomp.json";
    match std::fs::read_to_string(podman) {
        Ok(json) => profiles.push(lowered(json)),
        Err(_) => println!("SKIP: podman's profile needs golang-github-containers-common"),
    }
    let (mut random, mut tally) = (Random(0x6e61_7275), Tally::default());
    let sets = [
        vec![Arch::X86_64],
        vec![Arch::X86_64, Arch::X86, Arch::X32],
        little_endian(&mut oracle),
        big_endian(&mut oracle),
    ];
    for mut spec in profiles {
        for arches in &sets {
            spec.architectures = words_of(arches);
            let mut spec = spec.clone();
            shared(&mut oracle, arches, &mut spec);
            compare(&mut oracle, &spec, arches, SAMPLES_PROFILE, &mut random, &mut tally);
        }
    }
    println!("{tally:?}");
    assert!(tally.compared >= 100_000 && tally.refused == 0 && tally.libseccomp_wrong == 0, "{tally:?}");
}

fn random_profile(random: &mut Random) -> oci::Seccomp {
    const NAMES: [&str; 16] = [
        "read",
        "dup",
        "socket",
        "connect",
        "accept4",
        "shmat",
        "semop",
        "send",
        "clone",
        "personality",
        "ioctl",
        "mmap",
        "kill",
        "prctl",
        "openat",
        "faccessat2",
    ];
    const VALUES: [u64; 12] = [
        0,
        1,
        5,
        0x7fff_ffff,
        0x8000_0000,
        0xffff_ffff,
        1 << 32,
        (1 << 32) + 5,
        (1 << 40) + 1,
        1 << 63,
        u64::MAX,
        0xff00,
    ];
    let actions = ["ALLOW", "ERRNO", "TRAP", "LOG", "KILL_PROCESS", "TRACE"];
    let default = random.pick(&actions);
    // Half of the profiles have one action beside the default, so that overlaps cannot hide what is compared.
    let several = random.below(2) == 0;
    let other = random.pick(&actions);
    let many = if random.below(8) == 0 { 60 } else { 10 };
    let count = 1 + random.below(many);
    let rules = (0..count).map(|_| {
        let names: Vec<&str> = (0..=random.below(2)).map(|_| random.pick(&NAMES)).collect();
        let args = (0..random.below(4)).map(|_| {
            let indices = if random.below(3) == 0 { 6 } else { 2 };
            let index = random.below(indices) as u32;
            let operator = random.pick(&["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"]);
            arg(index, operator, random.pick(&VALUES), random.pick(&VALUES))
        });
        let args = args.collect();
        let action = if several { random.pick(&actions) } else { other };
        rule(&names, action, args)
    });
    let rules = rules.collect();
    profile(default, &[], rules)
}

#[test]
fn random_profiles() {
    let Some(mut oracle) = Oracle::start() else { return };
    let (mut random, mut tally) = (Random(0x5ecc), Tally::default());
    let little = little_endian(&mut oracle);
    let big = big_endian(&mut oracle);
    for at in 0..PROFILES_RANDOM {
        let arches = match at % 4 {
            0 => &[Arch::X86_64][..],
            1 => &[Arch::X86_64, Arch::X86, Arch::X32][..],
            2 => &little[..],
            _ => &big[..],
        };
        let mut spec = random_profile(&mut random);
        spec.architectures = words_of(arches);
        compare(&mut oracle, &spec, arches, SAMPLES_RANDOM, &mut random, &mut tally);
    }
    println!("{tally:?}");
    assert!(tally.compared >= 50_000 && tally.refused < PROFILES_RANDOM / 2, "{tally:?}");
    assert!(tally.libseccomp_wrong < tally.compared / 100, "{tally:?}");
}

/// Every name that libseccomp has is in our table with its number.
#[test]
fn the_tables_agree() {
    let Some(mut oracle) = Oracle::start() else { return };
    let mut arches = little_endian(&mut oracle);
    arches.extend(big_endian(&mut oracle));
    let (mut same, mut different) = (0, Vec::new());
    for arch in arches {
        let machine = arch.machine();
        for (row, name) in Row::all() {
            let (Some(theirs), None) = (oracle.number(machine, name), machine.multiplexed(row)) else {
                continue;
            };
            match machine.number(row) {
                Some(ours) if ours == theirs => same += 1,
                ours => different.push((arch, name, ours, theirs)),
            }
        }
    }
    println!("{same} numbers agree; different: {different:?}");
    assert!(same > 5000 && different.len() < 30, "{same} {different:?}");
}
