//! End to end: the real daemon, keeper and proxy, driven by the stock docker CLI and by naru's own, in a network
//! namespace of its own. A harness of our own because the tests share one daemon and the last one looks at what is
//! left over after it ended.

mod bad_input;
mod bootstrap;
mod build;
mod build_cves;
mod buildx;
mod clients;
mod copies;
mod crash;
mod host;
mod host_files;
mod insight;
mod lab;
mod limits;
mod networks;
mod own_cli;
mod project;
mod registries;
mod rootless;
mod round_trips;
mod runtimes;
mod storm;
mod userns;
mod verbs;

use lab::Lab;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

type Test = (&'static str, fn(&Lab));

/// In this order: the cheap and telling ones first. Each stands alone and cleans up after itself.
fn tests() -> Vec<Test> {
    [
        verbs::TESTS,
        clients::TESTS,
        limits::TESTS,
        host_files::TESTS,
        own_cli::TESTS,
        networks::TESTS,
        bootstrap::TESTS,
        build::TESTS,
        insight::TESTS,
        build_cves::TESTS,
        buildx::TESTS,
        registries::TESTS,
        round_trips::TESTS,
        copies::TESTS,
        bad_input::TESTS,
        project::TESTS,
        rootless::TESTS,
        userns::TESTS,
        runtimes::TESTS,
        crash::TESTS,
        storm::TESTS,
    ]
    .concat()
}

fn main() -> ExitCode {
    let filters: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    if let Some(reason) = lab::missing() {
        println!("SKIP: e2e: {reason}");
        println!("test result: ok. 0 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out");
        return ExitCode::SUCCESS;
    }
    let before = host::Snapshot::take();
    let lab = Lab::start("e2e");
    let (mut passed, mut failed) = (0, Vec::new());
    for (name, test) in tests() {
        if !filters.is_empty() && !filters.iter().any(|filter| name.contains(filter.as_str())) {
            continue;
        }
        let started = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| test(&lab)));
        let seconds = started.elapsed().as_secs_f32();
        match outcome {
            Ok(()) => {
                passed += 1;
                println!("test {name} ... ok ({seconds:.1} s)");
            }
            Err(_) => {
                failed.push(name);
                println!("test {name} ... FAILED ({seconds:.1} s)");
                lab.remove_everything();
            }
        }
    }
    let leftovers = catch_unwind(AssertUnwindSafe(|| lab.finish(&before)));
    match leftovers {
        Ok(()) => {
            passed += 1;
            println!("test nothing_is_left_behind ... ok");
        }
        Err(_) => failed.push("nothing_is_left_behind"),
    }
    for name in &failed {
        println!("failed: {name}");
    }
    let word = if failed.is_empty() { "ok" } else { "FAILED" };
    println!(
        "test result: {word}. {passed} passed; {} failed; 0 ignored; 0 measured; 0 filtered out",
        failed.len()
    );
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
