//! What the guest said: facts about itself, each test binary's counts and exit, and the end. Silence is a failure.

use crate::process::Result;
use crate::test::{Tally, judge};
use std::collections::BTreeMap;

const ALLOWED_SKIPS: &str = ".ci/guest-allowed-skips";

#[derive(Default)]
pub struct Report {
    binaries: BTreeMap<String, Binary>,
    current: Option<String>,
    missing: Vec<String>,
    facts: usize,
    /// The guest's clock when all was done.
    seconds: Option<u64>,
}

#[derive(Default)]
struct Binary {
    tally: Tally,
    /// Lines of tests that passed: all that a harness of its own prints.
    listed: u64,
    exit: Option<i32>,
}

impl Report {
    pub fn read(&mut self, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match (word, &self.current) {
            ("::fact", None) => {
                self.facts += 1;
                self.missing.extend(rest.strip_prefix("missing ").map(str::to_owned));
            }
            ("::begin", None) => {
                self.binaries.insert(rest.to_owned(), Binary::default());
                self.current = Some(rest.to_owned());
            }
            ("::end", Some(current)) => {
                let exit = rest.strip_suffix(current.as_str()).and_then(|code| code.trim().parse().ok());
                if let Some(binary) = self.binaries.get_mut(current).filter(|_| exit.is_some()) {
                    binary.exit = exit;
                    self.current = None;
                }
            }
            ("::done", None) => self.seconds = rest.parse().ok(),
            (_, Some(current)) => {
                if let Some(binary) = self.binaries.get_mut(current) {
                    binary.tally.read(line);
                    binary.listed += u64::from(line.starts_with("test ") && line.contains(" ... ok"));
                }
            }
            _ => {}
        }
    }

    /// The table, and whether all of it is as it must be.
    pub fn judge(&self, expected: &[String]) -> Result<()> {
        let mut wrong: Vec<String> =
            self.missing.iter().map(|fact| format!("the guest lacks: {fact}")).collect();
        println!("{:<36} {:>6} {:>6} {:>5}  exit", "test binary", "passed", "failed", "skips");
        for title in expected {
            let Some(binary) = self.binaries.get(title) else {
                wrong.push(format!("{title} did not run"));
                continue;
            };
            let Tally { failed, skips, said_result, .. } = &binary.tally;
            let passed = if *said_result { binary.tally.passed } else { binary.listed };
            let exit = binary.exit.map_or_else(|| "none".to_owned(), |code| code.to_string());
            println!("{title:<36} {passed:>6} {failed:>6} {:>5}  {exit}", skips.len());
            if binary.exit != Some(0) || *failed > 0 {
                wrong.push(format!("{title}: {failed} failed, exit {exit}"));
            }
            if let Err(error) = judge(skips, ALLOWED_SKIPS) {
                wrong.push(format!("{title}: {error}"));
            }
        }
        match self.seconds {
            Some(seconds) => println!("the guest was up for {seconds} s"),
            None => wrong.push("the guest did not come to its end".into()),
        }
        if self.facts == 0 {
            wrong.push("the guest said nothing about itself".into());
        }
        if wrong.is_empty() { Ok(()) } else { Err(format!("guest:\n  {}", wrong.join("\n  ")).into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(lines: &[&str]) -> std::result::Result<(), String> {
        let mut report = Report::default();
        for line in lines {
            report.read(line);
        }
        report.judge(&["a/b".to_owned()]).map_err(|error| error.to_string())
    }

    const RESULT: &str = "test result: ok. 2 passed; 0 failed; 0 ignored";

    #[test]
    fn only_the_whole_is_a_pass() {
        let all = ["::fact ok x", "::begin a/b", RESULT, "::end 0 a/b", "::done 9"];
        assert_eq!(judged(&all), Ok(()));
        for missing in 0..all.len() {
            let mut lines = all.to_vec();
            lines.remove(missing);
            // A binary with its own harness may have no `test result` line: its exit says it.
            assert_eq!(judged(&lines).is_ok(), missing == 2, "without {:?}", all[missing]);
        }
        assert!(judged(&["::fact missing x", "::begin a/b", RESULT, "::end 0 a/b", "::done 9"]).is_err());
        assert!(judged(&["::fact ok x", "::begin a/b", RESULT, "::end 101 a/b", "::done 9"]).is_err());
    }

    #[test]
    fn nothing_that_the_guest_is_for_may_be_skipped() {
        for reason in [
            "needs the memory controller",
            "needs systemd",
            "needs AppArmor",
            "no user namespaces",
            "needs root",
        ] {
            let skip = format!("SKIP: {reason}");
            let lines = ["::fact ok x", "::begin a/b", &skip, RESULT, "::end 0 a/b", "::done 9"];
            assert!(judged(&lines).is_err(), "{reason}");
        }
    }
}
