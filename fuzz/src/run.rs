//! The loop: corpus first, then made inputs until the time or the count is used up.

use crate::Target;
use crate::mutate::mutate;
use crate::random::Random;
use std::fmt;
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// An input that takes longer is a finding.
const INPUT_TIME_MAX: Duration = Duration::from_secs(10);
/// Resident memory that no input of these sizes may need.
const MEMORY_KIB_MAX: u64 = 1 << 20;
/// Inputs between two looks at the memory.
const MEMORY_LOOK_EVERY: u64 = 256;
/// Made inputs that are kept to be changed further.
const POOL_MAX: usize = 64;

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub seed: u64,
    /// CPU time of this thread.
    pub cpu: Duration,
    pub inputs: u64,
}

#[derive(Debug)]
pub struct Report {
    pub inputs: u64,
    pub cpu: Duration,
}

#[derive(Debug)]
pub struct Finding {
    pub what: String,
    pub input: Vec<u8>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (input of {} bytes)", self.what, self.input.len())
    }
}

/// All cases of a target's directory in the corpus, sorted by name; none where there is no directory.
pub fn cases(dir: &Path) -> io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut paths = match fs::read_dir(dir) {
        Ok(items) => items.map(|item| Ok(item?.path())).collect::<io::Result<Vec<_>>>()?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    paths.sort();
    paths.into_iter().map(|path| Ok((path.clone(), fs::read(path)?))).collect()
}

pub fn run_one(target: &mut dyn Target, input: &[u8]) -> Result<(), Finding> {
    let found = |what| Finding { what, input: input.to_vec() };
    let begun = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| target.check(input)));
    let took = begun.elapsed();
    match outcome {
        Ok(Ok(())) if took > INPUT_TIME_MAX => Err(found(format!("took {} s", took.as_secs()))),
        Ok(Ok(())) => Ok(()),
        Ok(Err(broken)) => Err(found(broken)),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err(found(format!("panic: {}", text.unwrap_or_default())))
        }
    }
}

/// Runs the corpus, then made inputs. `keep` gets each input before it runs, so that one that ends the
/// process is known.
pub fn run(
    target: &mut dyn Target,
    corpus: &[Vec<u8>],
    limits: Limits,
    keep: &mut dyn FnMut(&[u8]),
) -> Result<Report, Finding> {
    let begun = cpu_time();
    let mut random = Random::new(limits.seed);
    let mut pool = corpus.to_vec();
    let mut report = Report { inputs: 0, cpu: Duration::ZERO };
    for input in corpus {
        keep(input);
        run_one(target, input)?;
        report.inputs += 1;
    }
    while report.inputs < limits.inputs && report.cpu < limits.cpu {
        let mut input = match random.below(4) {
            0 if !pool.is_empty() => pool[random.below(pool.len())].clone(),
            _ => target.generate(&mut random),
        };
        // Half of what a generator makes stays whole, so that the deep parts are reached as well.
        if random.one_in(2) {
            mutate(&mut input, target.words(), &mut random);
        }
        keep(&input);
        run_one(target, &input)?;
        report.inputs += 1;
        if random.one_in(32) {
            if pool.len() < POOL_MAX {
                pool.push(input);
            } else {
                let at = random.below(POOL_MAX);
                pool[at] = input;
            }
        }
        if report.inputs % MEMORY_LOOK_EVERY == 0 && peak_memory_kib() > MEMORY_KIB_MAX {
            let what = "more than 1 GiB of memory, by one of the last inputs".to_owned();
            return Err(Finding { what, input: Vec::new() });
        }
        report.cpu = cpu_time().saturating_sub(begun);
    }
    Ok(report)
}

/// Of the whole process, so that what a target does in threads counts.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// `VmHWM` of proc_pid_status(5).
fn peak_memory_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
