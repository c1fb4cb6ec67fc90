//! `cargo xtask guest`: the runtime's tests where a container engine usually lives: Debian's kernel, cgroup v2 and
//! nothing else, systemd as pid 1, AppArmor. Development machines and CI often lack some of these, and a test that
//! skips proves nothing; here a skip for one of them is a failure.

mod machine;
mod payload;
mod report;
mod root;

use crate::process::{Result, repository};
use crate::setup;
use payload::{Built, Job, TestBinary};
use report::Report;
use std::path::PathBuf;
use std::time::Duration;

/// Seconds; one test binary. Emulation makes a program ten to twenty times slower.
const BINARY_SECONDS_MAX: u64 = 1200;
/// The whole run.
const RUN_TIME_MAX: Duration = Duration::from_hours(1);

/// `words`: nothing, or `rootless`, or names of test binaries; after `::` names of tests.
pub fn run(words: impl Iterator<Item = String>) -> Result<()> {
    let asked = Asked::parse(words);
    setup::ensure_guest()?;
    let built = payload::build()?;
    let tests = asked.select(&built)?;
    let built = built.with_naru_for(&tests)?;
    let root = root::ensure()?;
    let work = Work::new()?;
    let job =
        Job { user: asked.user, seconds_max: BINARY_SECONDS_MAX, tests: &tests, filters: &asked.filters };
    let disk = payload::disk(&work.0, &built, &job)?;
    let console = work.0.join("console.log");
    let mut report = Report::default();
    let booted = machine::boot(&root, &disk, &console, RUN_TIME_MAX, &mut |line| {
        println!("{line}");
        report.read(line);
    });
    let judged = report.judge(&tests.iter().map(TestBinary::title).collect::<Vec<_>>());
    booted.and(judged).inspect_err(|_| {
        let said = std::fs::read_to_string(&console).unwrap_or_default();
        let tail: Vec<&str> = said.lines().rev().take(30).collect();
        eprintln!("the console's last lines:");
        tail.into_iter().rev().for_each(|line| eprintln!("  {line}"));
    })
}

/// What the command line says.
struct Asked {
    user: &'static str,
    names: Vec<String>,
    filters: Vec<String>,
}

impl Asked {
    fn parse(words: impl Iterator<Item = String>) -> Self {
        let mut asked = Self { user: "root", names: Vec::new(), filters: Vec::new() };
        for word in words.filter(|word| word != "--" && word != "runtime") {
            match word.strip_prefix("::") {
                Some(filter) => asked.filters.push(filter.to_owned()),
                None if word == "rootless" => asked.user = "student",
                None => asked.names.push(word),
            }
        }
        asked
    }

    /// Tests of the unprivileged user are those whose name begins with `rootless`.
    fn select(&self, built: &Built) -> Result<Vec<TestBinary>> {
        let rootless = self.user != "root";
        let named = |test: &TestBinary| {
            self.names.is_empty() || self.names.iter().any(|name| *name == test.name || *name == test.title())
        };
        let chosen: Vec<_> = (built.tests.iter())
            .filter(|test| test.name.starts_with("rootless") == rootless && named(test))
            .cloned()
            .collect();
        if chosen.is_empty() {
            let known: Vec<String> = built.tests.iter().map(TestBinary::title).collect();
            return Err(format!("no such test binary; known: {}", known.join(" ")).into());
        }
        Ok(chosen)
    }
}

/// A directory for one run, removed after it.
struct Work(PathBuf);

impl Work {
    fn new() -> Result<Self> {
        let dir = repository().join("target/guest").join(std::process::id().to_string());
        std::fs::create_dir_all(&dir)?;
        Ok(Self(dir))
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::Asked;

    #[test]
    fn the_command_line_is_read() {
        let asked = |line: &str| Asked::parse(line.split_whitespace().map(str::to_owned));
        assert_eq!((asked("").user, asked("--").names.len()), ("root", 0));
        assert_eq!(asked("-- rootless").user, "student");
        let some = asked("limits v2 ::freeze");
        assert_eq!(
            (some.names, some.filters),
            (vec!["limits".into(), "v2".into()], vec!["freeze".to_owned()])
        );
    }
}
