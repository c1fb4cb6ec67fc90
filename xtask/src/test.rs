//! Every test, the way CI runs it. Output goes by as it comes; skips are collected and held against one list.

use crate::process::{Result, repository};
use crate::{images, setup, tidy};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

const ALLOWED_SKIPS: &str = ".ci/allowed-skips";
/// R1, R3 and R5 of PROMISES.md as far as every run of the tests can pay for them (about three minutes).
const CHAOS: [(&str, &str); 4] = [
    ("NARU_CHAOS_CYCLES", "200"),
    ("NARU_RESTARTS", "10"),
    ("NARU_RESTART_CONTAINERS", "50"),
    ("NARU_SHORT_LIVES", "200"),
];

pub fn run() -> Result<()> {
    setup::ensure()?;
    images::ensure_all()?;
    tidy::run()?;
    let mut tally = Tally::default();
    // Unit and integration tests may run side by side; each stays in namespaces of its own.
    cargo(
        &["test", "--workspace", "--exclude", "naru", "--no-fail-fast", "--", "--show-output"],
        &[],
        &mut tally,
    )?;
    cargo(&["test", "-p", "naru", "--no-fail-fast"], &[], &mut tally)?;
    cargo(&["test", "-p", "naru", "--test", "chaos"], &CHAOS, &mut tally)?;
    println!("{} passed, {} failed", tally.passed, tally.failed);
    // Once more at the end, which is all that is kept of a long log.
    for line in &tally.failures {
        println!("failed: {line}");
    }
    judge(&tally.skips, ALLOWED_SKIPS)?;
    if tally.failed > 0 { Err(format!("{} tests failed", tally.failed).into()) } else { Ok(()) }
}

/// What test binaries said.
#[derive(Default)]
pub struct Tally {
    pub passed: u64,
    pub failed: u64,
    /// The reasons after `SKIP: `.
    pub skips: BTreeSet<String>,
    /// The lines that name a failed test, or a binary with one.
    pub failures: Vec<String>,
    /// A binary came as far as its `test result: ` line.
    pub said_result: bool,
}

impl Tally {
    /// Reads along: `SKIP: …` lines and `test result: …` lines.
    pub fn read(&mut self, line: &str) {
        if let Some(at) = line.find("SKIP: ") {
            self.skips.insert(line[at + 6..].trim().to_owned());
        }
        if line.starts_with("FAIL ") || line.starts_with("test ") && line.ends_with(" FAILED") {
            self.failures.push(line.to_owned());
        }
        if let Some(counts) = line.strip_prefix("test result: ") {
            self.said_result = true;
            self.passed += number_before(counts, " passed");
            self.failed += number_before(counts, " failed");
        }
    }
}

/// Runs cargo and reads along.
fn cargo(args: &[&str], variables: &[(&str, &str)], tally: &mut Tally) -> Result<()> {
    println!("cargo {}", args.join(" "));
    let mut child = Command::new(env!("CARGO"))
        .args(args)
        .envs(variables.iter().copied())
        .current_dir(repository())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let stdout = child.stdout.take().ok_or("no output")?;
    tally.said_result = false;
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        tally.read(&line);
        println!("{line}");
    }
    let status = child.wait()?;
    if !status.success() && (tally.failed == 0 || !tally.said_result) {
        return Err(format!("cargo {}: {status}", args.join(" ")).into());
    }
    Ok(())
}

fn number_before(text: &str, word: &str) -> u64 {
    text.split(word)
        .next()
        .and_then(|before| before.rsplit([' ', '.']).next())
        .and_then(|n| n.parse().ok())
        .unwrap_or(0)
}

/// A skip that nobody agreed to is a failure: a test that can't fail proves nothing.
pub fn judge(skips: &BTreeSet<String>, list: &str) -> Result<()> {
    let allowed = std::fs::read_to_string(repository().join(list))?;
    let allowed: Vec<&str> =
        allowed.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let unknown: Vec<&String> =
        skips.iter().filter(|skip| !allowed.iter().any(|known| skip.starts_with(known))).collect();
    println!("{} skips, all of them allowed: {}", skips.len(), unknown.is_empty());
    if unknown.is_empty() {
        return Ok(());
    }
    Err(format!("skips that {list} doesn't list: {unknown:#?}").into())
}

#[cfg(test)]
mod tests {
    #[test]
    fn counts_are_read() {
        let line = "ok. 14 passed; 2 failed; 0 ignored";
        assert_eq!((super::number_before(line, " passed"), super::number_before(line, " failed")), (14, 2));
    }
}
