//! Every test, the way CI runs it. Output goes by as it comes; skips are collected and held against one list.

use crate::process::{Result, repository};
use crate::{images, setup, tidy};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

const ALLOWED_SKIPS: &str = ".ci/allowed-skips";

pub fn run() -> Result<()> {
    setup::ensure()?;
    images::ensure_all()?;
    tidy::run()?;
    let mut skips = BTreeSet::new();
    let mut totals = Totals::default();
    // Unit and integration tests may run side by side; each stays in namespaces of its own.
    cargo(
        &["test", "--workspace", "--exclude", "naru", "--no-fail-fast", "--", "--show-output"],
        &mut skips,
        &mut totals,
    )?;
    cargo(&["test", "-p", "naru", "--no-fail-fast"], &mut skips, &mut totals)?;
    println!("{} passed, {} failed", totals.passed, totals.failed);
    judge(&skips)?;
    if totals.failed > 0 { Err(format!("{} tests failed", totals.failed).into()) } else { Ok(()) }
}

#[derive(Default)]
struct Totals {
    passed: u64,
    failed: u64,
}

/// Runs cargo and reads along: `SKIP: …` lines and `test result: …` lines.
fn cargo(args: &[&str], skips: &mut BTreeSet<String>, totals: &mut Totals) -> Result<()> {
    println!("cargo {}", args.join(" "));
    let mut child = Command::new(env!("CARGO"))
        .args(args)
        .current_dir(repository())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let stdout = child.stdout.take().ok_or("no output")?;
    let mut said_result = false;
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        if let Some(at) = line.find("SKIP: ") {
            skips.insert(line[at + 6..].trim().to_owned());
        }
        if let Some(counts) = line.strip_prefix("test result: ") {
            said_result = true;
            totals.passed += number_before(counts, " passed");
            totals.failed += number_before(counts, " failed");
        }
        println!("{line}");
    }
    let status = child.wait()?;
    if !status.success() && (totals.failed == 0 || !said_result) {
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
fn judge(skips: &BTreeSet<String>) -> Result<()> {
    let allowed = std::fs::read_to_string(repository().join(ALLOWED_SKIPS))?;
    let allowed: Vec<&str> =
        allowed.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let unknown: Vec<&String> =
        skips.iter().filter(|skip| !allowed.iter().any(|known| skip.starts_with(known))).collect();
    println!("{} skips, all of them allowed: {}", skips.len(), unknown.is_empty());
    if unknown.is_empty() {
        return Ok(());
    }
    Err(format!("skips that {ALLOWED_SKIPS} doesn't list: {unknown:#?}").into())
}

#[cfg(test)]
mod tests {
    #[test]
    fn counts_are_read() {
        let line = "ok. 14 passed; 2 failed; 0 ignored";
        assert_eq!((super::number_before(line, " passed"), super::number_before(line, " failed")), (14, 2));
    }
}
