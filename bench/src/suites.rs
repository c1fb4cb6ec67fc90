//! The two public conformance suites for OCI runtimes, each run as the programs they are.
//!
//! * runtime-tools `validation`: one program per test, prints TAP; finds the runtime through $RUNTIME.
//! * youki's `contest`: one program with groups; prints `1 / 3 : name : ok`.
//!
//! Both keep states, bundles and control groups where they like; `conformance` gives them a mount namespace and a
//! temporary directory of their own and removes what they leave.

use crate::Result;
use naru_kernel::pidfd::{self, ExitStatus};
use naru_kernel::rusage;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Longest time for one program of validation or one group of contest.
const TEST_S_MAX: i64 = 40;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Pass,
    Fail,
    Skip,
}

impl Outcome {
    pub fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Skip => "skip",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        [Self::Pass, Self::Fail, Self::Skip].into_iter().find(|outcome| outcome.name() == name)
    }
}

/// One assertion of a test.
#[derive(Clone, Debug)]
pub struct Case {
    pub group: String,
    pub name: String,
    pub outcome: Outcome,
}

/// What one program printed, and how it ended.
pub struct Ran {
    pub cases: Vec<Case>,
    pub output: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    Validation,
    Contest,
}

impl Suite {
    pub const ALL: [Self; 2] = [Self::Validation, Self::Contest];

    pub fn name(self) -> &'static str {
        match self {
            Self::Validation => "validation",
            Self::Contest => "contest",
        }
    }

    /// The groups to run, from where the suite was installed.
    pub fn groups(self, dir: &Path) -> Result<Vec<String>> {
        let mut groups = match self {
            Self::Validation => {
                let entries = fs::read_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
                let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
                names.filter_map(|name| name.strip_suffix(".t").map(str::to_owned)).collect()
            }
            Self::Contest => {
                let output = Command::new(dir.join("contest")).arg("list").current_dir(dir).output()?;
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                text.lines()
                    .map(|line| line.trim().to_owned())
                    .filter(|line| !line.is_empty())
                    .collect::<Vec<_>>()
            }
        };
        groups.sort();
        Ok(groups)
    }

    /// Runs one group against the runtime at `runtime`.
    pub fn run(self, dir: &Path, group: &str, runtime: (&str, &Path), scratch: &Path) -> Result<Ran> {
        let (name, path) = runtime;
        let mut command = match self {
            Self::Validation => {
                let mut command = Command::new(dir.join(format!("{group}.t")));
                command.env("RUNTIME", path);
                command
            }
            Self::Contest => {
                let mut command = Command::new(dir.join("contest"));
                command.env("RUNTIME_KIND", name).arg("run").arg("--runtime").arg(path);
                command.arg("--runtimetest").arg(dir.join("runtimetest")).arg("--tests").arg(group);
                command
            }
        };
        // Both look for the root file system's archive where they are started.
        command.current_dir(dir).env("TMPDIR", scratch);
        let output_path = scratch.join("output");
        let ended = run_limited(&mut command, &output_path)?;
        let output = String::from_utf8_lossy(&fs::read(&output_path)?).into_owned();
        let mut cases = match self {
            Self::Validation => tap(group, &output),
            Self::Contest => contest(group, &output),
        };
        cases.extend(self.verdict(group, &cases, ended, &output));
        Ok(Ran { cases, output })
    }

    /// A case for the group as a whole: when it ended badly without saying which case failed, and when it has no cases.
    ///
    /// validation's hook tests say nothing when all is well, and print an `"error"` with an exit code of 0 when it isn't.
    fn verdict(self, group: &str, cases: &[Case], ended: Option<ExitStatus>, output: &str) -> Option<Case> {
        let case = |name: &str, outcome| Case { group: group.to_owned(), name: name.to_owned(), outcome };
        let good = ended == Some(ExitStatus::Code(0));
        let told = cases.iter().any(|case| case.outcome == Outcome::Fail);
        match (ended, good) {
            (None, _) => Some(case("ends in time", Outcome::Fail)),
            (Some(_), false) if !told => Some(case("runs to its end", Outcome::Fail)),
            (Some(_), true) if cases.is_empty() => {
                let silent = self == Self::Validation && !output.contains("\"error\":");
                Some(case("raises no objection", if silent { Outcome::Pass } else { Outcome::Fail }))
            }
            _ => None,
        }
    }
}

/// `None`: it did not end in time and was killed. Whatever it left running is killed as well.
fn run_limited(command: &mut Command, output: &Path) -> Result<Option<ExitStatus>> {
    let file = File::create(output)?;
    let child = command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).spawn()?;
    let pid = child.id() as i32;
    let handle = pidfd::open(pid)?;
    let limit = Timespec { tv_sec: TEST_S_MAX, tv_nsec: 0 };
    let in_time = poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&limit))? > 0;
    if !in_time {
        rustix::process::pidfd_send_signal(&handle, Signal::KILL)?;
    }
    let (status, _) = rusage::wait(pid)?;
    kill_orphans()?;
    Ok(in_time.then_some(status))
}

/// This process is a subreaper: what a test left behind has become its child.
fn kill_orphans() -> Result<()> {
    const ROUNDS_MAX: usize = 50;
    const WAIT_MS: u64 = 10;
    for _ in 0..ROUNDS_MAX {
        while let Ok(Some(_)) = rusage::try_wait_any() {}
        let own = rustix::process::getpid().as_raw_nonzero();
        let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children"))?;
        let children: Vec<Pid> =
            children.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect();
        if children.is_empty() {
            return Ok(());
        }
        for child in children {
            crate::view::thaw(child.as_raw_nonzero().get());
            let _ = rustix::process::kill_process(child, Signal::KILL);
        }
        std::thread::sleep(std::time::Duration::from_millis(WAIT_MS));
    }
    Err("a test left a process that can't be killed".into())
}

/// `ok 1 - text`, `not ok 2 - text`, `ok 3 # SKIP why` (testanything.org, version 13).
fn tap(group: &str, output: &str) -> Vec<Case> {
    let parse = |line: &str| {
        let (rest, failed) = match line.strip_prefix("not ok") {
            Some(rest) => (rest, true),
            None => (line.strip_prefix("ok")?, false),
        };
        let text = rest.trim_start().trim_start_matches(|letter: char| letter.is_ascii_digit());
        let text = text.trim_start().trim_start_matches("- ").trim();
        let skipped = text.to_ascii_uppercase().contains("# SKIP");
        let outcome = match (skipped, failed) {
            (true, _) => Outcome::Skip,
            (false, true) => Outcome::Fail,
            (false, false) => Outcome::Pass,
        };
        Some(Case { group: group.to_owned(), name: text.to_owned(), outcome })
    };
    output.lines().filter_map(parse).collect()
}

/// `1 / 3 : name : ok`, `… : not ok`, `… : skipped`.
fn contest(group: &str, output: &str) -> Vec<Case> {
    let parse = |line: &str| {
        let mut parts = line.splitn(3, " : ");
        let (number, name, said) = (parts.next()?, parts.next()?, parts.next()?);
        number.split_once(" / ")?.0.trim().parse::<usize>().ok()?;
        let outcome = match said.trim() {
            "ok" => Outcome::Pass,
            "skipped" => Outcome::Skip,
            _ => Outcome::Fail,
        };
        Some(Case { group: group.to_owned(), name: name.trim().to_owned(), outcome })
    };
    output.lines().filter_map(parse).collect()
}

/// Names of control groups that the suites make at the top of a hierarchy.
pub fn is_left_over(name: &str) -> bool {
    const KNOWN: [&str; 3] = ["cgrouptest", "testdir", "runtime-test"];
    const UUID_LENGTH: usize = 36;
    let uuid =
        name.len() == UUID_LENGTH && name.chars().all(|letter| letter == '-' || letter.is_ascii_hexdigit());
    uuid || KNOWN.contains(&name)
}

/// Where a suite lies below the directory of the peers.
pub fn directory(peers: &Path, suite: Suite) -> PathBuf {
    peers.join(suite.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes(cases: &[Case]) -> Vec<(&str, Outcome)> {
        cases.iter().map(|case| (case.name.as_str(), case.outcome)).collect()
    }

    #[test]
    fn tap_lines_are_read() {
        let cases = tap(
            "mounts",
            "TAP version 13\nok 1 - a mount\nnot ok 2 - another\n  ---\nok 3 # SKIP no\n1..3\n",
        );
        let expected = [("a mount", Outcome::Pass), ("another", Outcome::Fail), ("# SKIP no", Outcome::Skip)];
        assert_eq!(outcomes(&cases), expected);
    }

    #[test]
    fn a_group_without_cases_passes_only_when_it_is_content() {
        let verdict = |suite: Suite, ended, output: &str| {
            suite.verdict("poststart", &[], ended, output).map(|case| case.outcome)
        };
        let good = Some(ExitStatus::Code(0));
        let silent = "TAP version 13\n1..0\n";
        assert_eq!(verdict(Suite::Validation, good, silent), Some(Outcome::Pass));
        assert_eq!(verdict(Suite::Validation, good, "  ---\n    \"error\": \"why\"\n"), Some(Outcome::Fail));
        assert_eq!(verdict(Suite::Validation, Some(ExitStatus::Code(1)), silent), Some(Outcome::Fail));
        assert_eq!(verdict(Suite::Validation, None, silent), Some(Outcome::Fail));
        assert_eq!(verdict(Suite::Contest, good, ""), Some(Outcome::Fail));
    }

    #[test]
    fn contest_lines_are_read() {
        let output = "# Start group x\n1 / 2 : first : ok\n2 / 2 : second : not ok\n\tError: 1 : 2 : 3\n# End group x\n";
        assert_eq!(outcomes(&contest("x", output)), [("first", Outcome::Pass), ("second", Outcome::Fail)]);
    }
}
