//! `cargo xtask fuzz`: runs targets for a time and keeps what they find.

use naru_fuzz::{Finding, Limits, Target, cases, run, run_one, targets};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SECONDS_DEFAULT: u64 = 10;
const USAGE: &str = "usage: naru-fuzz [TARGET] [--seconds N] [--seed N] [--case FILE]";

struct Flags {
    target: Option<String>,
    seconds: u64,
    seed: u64,
    case: Option<PathBuf>,
}

fn main() -> ExitCode {
    let flags = match flags(std::env::args().skip(1)) {
        Ok(flags) => flags,
        Err(wrong) => {
            eprintln!("{wrong}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let mut targets = targets::all();
    let known: Vec<&str> = targets.iter().map(|target| target.name()).collect();
    if let Some(name) = flags.target.as_deref().filter(|name| !known.contains(name)) {
        eprintln!("no target {name:?}; there are {}", known.join(", "));
        return ExitCode::from(2);
    }
    let mut code = ExitCode::SUCCESS;
    for target in &mut targets {
        if flags.target.as_deref().is_some_and(|name| name != target.name()) {
            continue;
        }
        if !fuzz(target.as_mut(), &flags) {
            code = ExitCode::FAILURE;
        }
    }
    code
}

fn flags(mut args: impl Iterator<Item = String>) -> Result<Flags, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
    let mut flags = Flags { target: None, seconds: SECONDS_DEFAULT, seed: now, case: None };
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        let number = |text: String| text.parse().map_err(|_| format!("not a number: {text:?}"));
        match arg.as_str() {
            "--seconds" => flags.seconds = number(value()?)?,
            "--seed" => flags.seed = number(value()?)?,
            "--case" => flags.case = Some(value()?.into()),
            name if !name.starts_with('-') && flags.target.is_none() => flags.target = Some(name.to_owned()),
            _ => return Err(format!("unknown argument {arg:?}")),
        }
    }
    if flags.case.is_some() && flags.target.is_none() {
        return Err("--case needs a target".into());
    }
    Ok(flags)
}

/// True: nothing was found.
fn fuzz(target: &mut dyn Target, flags: &Flags) -> bool {
    let name = target.name();
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let outcome = if let Some(path) = &flags.case {
        match std::fs::read(path) {
            Ok(input) => run_one(target, &input).map(|()| format!("{name}: {} holds", path.display())),
            Err(error) => {
                eprintln!("{name}: {}: {error}", path.display());
                return false;
            }
        }
    } else {
        let corpus: Vec<Vec<u8>> = match cases(&home.join("corpus").join(name)) {
            Ok(found) => found.into_iter().map(|(_, input)| input).collect(),
            Err(error) => {
                eprintln!("{name}: the corpus: {error}");
                return false;
            }
        };
        let limits = Limits { seed: flags.seed, cpu: Duration::from_secs(flags.seconds), inputs: u64::MAX };
        let last = std::env::temp_dir().join(format!("naru-fuzz-{name}-{}.last", std::process::id()));
        let mut keep = |input: &[u8]| {
            if let Err(error) = std::fs::write(&last, input) {
                eprintln!("{name}: {}: {error}", last.display());
            }
        };
        let report = run(target, &corpus, limits, &mut keep);
        // It only matters when this process ends before here.
        let _ = std::fs::remove_file(&last);
        report.map(|report| {
            let cpu = report.cpu.as_secs_f32();
            format!("{name}: {} inputs, {cpu:.0} s of CPU, seed {}: no finding", report.inputs, flags.seed)
        })
    };
    match outcome {
        Ok(said) => {
            println!("{said}");
            true
        }
        Err(finding) => {
            report(name, &home.join("findings"), &finding, flags.seed);
            false
        }
    }
}

fn report(name: &str, dir: &Path, finding: &Finding, seed: u64) {
    let path = dir.join(format!("{name}-{seed}"));
    eprintln!("{name}: {finding}");
    match std::fs::create_dir_all(dir).and_then(|()| std::fs::write(&path, &finding.input)) {
        Ok(()) => eprintln!("  the input is in {}", path.display()),
        Err(error) => eprintln!("  the input can't be kept in {}: {error}", path.display()),
    }
}
