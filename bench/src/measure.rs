//! One measured run of a program, and the figures over many.

use crate::Result;
use naru_kernel::pidfd::{self, ExitStatus};
use naru_kernel::{random, rusage};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// A runtime that takes longer than this hangs.
const RUN_MS_MAX: i64 = 20_000;

#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub wall: Duration,
    pub cpu: Duration,
    pub rss_bytes: u64,
}

/// Runs `command` to its end. Its standard error goes to `talk` and is the error when it fails.
pub fn run(command: Command, talk: &Path) -> Result<Sample> {
    run_within(command, talk, RUN_MS_MAX)
}

/// As [`run`], for what may take longer.
pub fn run_within(mut command: Command, talk: &Path, ms_max: i64) -> Result<Sample> {
    command.stderr(File::create(talk)?);
    let started = Instant::now();
    let child = command
        .spawn()
        .map_err(|error| format!("cannot run {}: {error}", command.get_program().display()))?;
    let pid = child.id() as i32;
    let hung = !ends_in_time(pid, ms_max)?;
    if hung {
        let child = pidfd::open(pid)?;
        rustix::process::pidfd_send_signal(&child, rustix::process::Signal::KILL)?;
    }
    let (status, mut usage) = rusage::wait(pid)?;
    let wall = started.elapsed();
    // What the runtime left behind and this process adopted as its subreaper counts too, once it has ended.
    while let Ok(Some(orphan)) = rusage::try_wait_any() {
        usage.user += orphan.user;
        usage.system += orphan.system;
    }
    if hung || status != ExitStatus::Code(0) {
        let said = std::fs::read_to_string(talk).unwrap_or_default();
        let how = if hung { "hangs".to_owned() } else { format!("{status:?}") };
        return Err(format!("{} {how}: {}", command.get_program().display(), said.trim()).into());
    }
    Ok(Sample { wall, cpu: usage.user + usage.system, rss_bytes: usage.rss_bytes_max })
}

/// A peer that fails once in a while doesn't end the bench: the round goes without it.
pub fn tell(sample: Result<Sample>) -> Option<Sample> {
    sample.inspect_err(|error| eprintln!("bench: {error}")).ok()
}

fn ends_in_time(pid: i32, ms_max: i64) -> Result<bool> {
    let child = pidfd::open(pid)?;
    let limit = Timespec { tv_sec: ms_max / 1000, tv_nsec: 0 };
    Ok(poll(&mut [PollFd::new(&child, PollFlags::IN)], Some(&limit))? > 0)
}

/// The order of one round.
pub fn shuffled(count: usize) -> Result<Vec<usize>> {
    let mut order: Vec<usize> = (0..count).collect();
    for last in (1..count).rev() {
        let random = u64::from_ne_bytes(random::bytes::<8>()?);
        order.swap(last, random as usize % (last + 1));
    }
    Ok(order)
}

/// Minimum, quartiles and maximum of some figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub min: f64,
    pub low: f64,
    pub median: f64,
    pub high: f64,
    pub max: f64,
}

impl Spread {
    /// `None` without figures.
    pub fn of(mut figures: Vec<f64>) -> Option<Self> {
        figures.sort_by(f64::total_cmp);
        let at = |part: f64| {
            let place = part * (figures.len().checked_sub(1)? as f64);
            let (below, above) = (figures.get(place.floor() as usize)?, figures.get(place.ceil() as usize)?);
            Some(below + (above - below) * place.fract())
        };
        Some(Self { min: at(0.0)?, low: at(0.25)?, median: at(0.5)?, high: at(0.75)?, max: at(1.0)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_lie_between_the_figures() {
        let spread = Spread::of(vec![4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!(spread, Spread { min: 1.0, low: 1.75, median: 2.5, high: 3.25, max: 4.0 });
        assert_eq!(Spread::of(Vec::new()), None);
    }

    #[test]
    fn a_round_has_everybody_once() {
        let mut order = shuffled(5).unwrap();
        order.sort_unstable();
        assert_eq!(order, [0, 1, 2, 3, 4]);
    }
}
