//! Each target for a moment, with a fixed seed: a guard against faults that come back, no search for new ones.

use naru_fuzz::random::Random;
use naru_fuzz::{Limits, Target, cases, run, run_one, targets};
use std::path::Path;
use std::time::Duration;

const SEED: u64 = 4;
const INPUTS: u64 = 2_000;
/// On a busy machine fewer inputs are run.
const CPU_MAX: Duration = Duration::from_secs(4);

#[test]
fn every_target_for_a_moment() {
    for mut target in targets::all() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name());
        let corpus: Vec<Vec<u8>> = cases(&dir).unwrap().into_iter().map(|(_, input)| input).collect();
        let limits = Limits { seed: SEED, cpu: CPU_MAX, inputs: INPUTS };
        match run(target.as_mut(), &corpus, limits, &mut |_| {}) {
            Ok(report) => println!("{}: {} inputs", target.name(), report.inputs),
            Err(finding) => {
                panic!("{}: {finding}: {:?}", target.name(), finding.input.escape_ascii().to_string())
            }
        }
    }
}

struct Faulty;

impl Target for Faulty {
    fn name(&self) -> &'static str {
        "faulty"
    }

    fn generate(&mut self, random: &mut Random) -> Vec<u8> {
        random.bytes(4)
    }

    fn words(&self) -> &'static [&'static [u8]] {
        &[b"wh"]
    }

    fn check(&mut self, input: &[u8]) -> Result<(), String> {
        assert!(!input.windows(2).any(|two| two == b"wh"), "planted");
        if input.len() > 60 { Err("long".into()) } else { Ok(()) }
    }
}

#[test]
fn a_planted_fault_is_found() {
    let limits = Limits { seed: SEED, cpu: CPU_MAX, inputs: 100_000 };
    let found = run(&mut Faulty, &[], limits, &mut |_| {}).unwrap_err();
    assert!(found.what == "panic: planted" || found.what == "long", "{found}");
    assert!(run_one(&mut Faulty, &found.input).is_err(), "the kept input shows the fault again");
}
