//! Differential: the stock docker CLI and raw requests say the same things to a real dockerd and to naru, and the
//! answers are compared: exit code, output, class of error, shape of each JSON document. What may differ is listed
//! in `allowed.rs`, each with its reason; an entry that no difference needs any more fails the run too, so that the
//! list can only say what is true.
//!
//! `cargo test -p naru --test differential -- --self` compares dockerd with a second dockerd: a difference there is
//! a fault of the normalisation. `--show` prints what both answered.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod allowed;
mod class;
mod compare;
mod engine;
mod normal;
mod script;
mod shape;
mod step;

use engine::{Engine, Kind, Out};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use step::{Step, Variables};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let filters: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let chosen =
        |name: &str| filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()));
    let steps = script::steps();
    normal::check();
    shape::check();
    let base = base_image();
    let none_chosen = !steps.iter().any(|step| chosen(step.name));
    if let Some(reason) = engine::missing(&base).or(none_chosen.then(|| "no step has this name".into())) {
        println!("SKIP: differential: {reason}");
        println!("test result: ok. 0 passed; 0 failed; {} ignored; 0 measured; 0 filtered out", steps.len());
        return ExitCode::SUCCESS;
    }
    let itself = args.iter().any(|arg| arg == "--self");
    let second = if itself { Kind::Dockerd } else { Kind::Naru };
    let (reference, candidate) = std::thread::scope(|scope| {
        let reference = scope.spawn(|| observe("reference", Kind::Dockerd, &steps, &base));
        let candidate = scope.spawn(|| observe("candidate", second, &steps, &base));
        (reference.join().unwrap(), candidate.join().unwrap())
    });
    let mut report = Report::default();
    for (index, step) in steps.iter().enumerate().filter(|(_, step)| chosen(step.name)) {
        let outs = [&reference.outs[index], &candidate.outs[index]];
        if args.iter().any(|arg| arg == "--show") {
            println!("{}\n  dockerd {:?}\n  naru {:?}", step.name, outs[0], outs[1]);
        }
        let found = compare::differences(step, outs, [&reference.dir, &candidate.dir]);
        report.step(step, &found, itself);
    }
    report.leftovers([&reference, &candidate]);
    report.finish(filters.is_empty() && !itself, &steps)
}

/// What one engine answered to each step.
struct Observed {
    dir: String,
    outs: Vec<Out>,
    left: Vec<String>,
}

fn observe(name: &str, kind: Kind, steps: &[Step], base: &Path) -> Observed {
    let mut engine = Engine::start(kind, name);
    script::prepare(&engine.dir, base);
    let mut variables = Variables::new(&engine);
    let outs = steps.iter().map(|step| step.run(&engine, &mut variables)).collect();
    Observed { dir: engine.dir.display().to_string(), outs, left: engine.finish() }
}

#[derive(Default)]
struct Report {
    passed: usize,
    failed: Vec<String>,
    used: std::collections::BTreeSet<usize>,
}

impl Report {
    fn step(&mut self, step: &Step, found: &[String], itself: bool) {
        let judged: Vec<_> =
            found.iter().map(|line| (line, allowed::find(step.name, line).filter(|_| !itself))).collect();
        let refused: Vec<_> =
            judged.iter().filter(|(_, entry)| entry.is_none()).map(|(line, _)| line.as_str()).collect();
        self.used.extend(judged.iter().filter_map(|(_, entry)| *entry));
        if !refused.is_empty() {
            println!("{} ... differs: {}", step.name, refused.join("\n    "));
            self.failed.push(step.name.to_owned());
            return;
        }
        self.passed += 1;
        let mut reasons: Vec<_> = judged.iter().filter_map(|(_, entry)| entry.map(allowed::reason)).collect();
        reasons.dedup();
        if reasons.is_empty() {
            println!("{} ... same", step.name);
        } else {
            println!("{} ... allowed: {}", step.name, reasons.join("; "));
        }
    }

    /// Each engine must have gone without a trace; dockerd's parent cgroup is removed for it.
    fn leftovers(&mut self, engines: [&Observed; 2]) {
        for engine in engines {
            for line in &engine.left {
                println!("left behind: {line}");
                self.failed.push("nothing is left behind".to_owned());
            }
        }
    }

    fn finish(mut self, complete: bool, steps: &[Step]) -> ExitCode {
        for (index, entry) in allowed::ALLOWED.iter().enumerate() {
            if complete && !self.used.contains(&index) {
                println!("allowed, but it doesn't differ: {} {}", entry.step, entry.difference);
                self.failed.push("the list of allowed differences is exact".to_owned());
            }
        }
        let [invocations, requests] =
            [Step::is_docker, Step::is_http].map(|is| steps.iter().filter(|step| is(step)).count());
        println!("{invocations} invocations of the docker CLI, {requests} raw requests");
        for name in &self.failed {
            println!("failed: {name}");
        }
        let word = if self.failed.is_empty() { "ok" } else { "FAILED" };
        println!(
            "test result: {word}. {} passed; {} failed; 0 ignored; 0 measured; {} filtered out",
            self.passed,
            self.failed.len(),
            steps.len().saturating_sub(self.passed + self.failed.len())
        );
        if self.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// A root file system made by `cargo xtask images`.
fn base_image() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
    cache.unwrap_or_default().join("naru-base-images/busybox_latest-1.tar")
}
