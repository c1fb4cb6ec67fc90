//! Whether the security tests would notice: takes one guard out at a time and expects the test that it names to fail.
//!
//! Each file of `crates/naru-runtime/tests/guards` is a patch for `git apply`, with a line `test: PACKAGE TARGET… NAME`
//! before the first hunk. Everything happens in a copy of the sources with its own build directory, `target/guards`, so
//! nothing that is being worked on is touched. A patch that does not apply, does not build, or names a test that fails
//! without it or skips itself is an error: then nothing was shown.

use crate::process::{Result, describe, output, read, repository, run};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const PATCHES: &str = "crates/naru-runtime/tests/guards";
/// For one test; the slowest starts some hundred containers.
const TEST_SECONDS_MAX: &str = "120";

struct Guard {
    name: String,
    patch: PathBuf,
    /// Arguments of `cargo test -p`, the test's name last.
    test: Vec<String>,
}

#[derive(PartialEq)]
enum Outcome {
    Passed,
    Failed,
    Skipped,
}

/// `only`: names of patches; none for all.
pub fn check(only: impl Iterator<Item = String>) -> Result<()> {
    let only: Vec<String> = only.collect();
    let copy = repository().join("target/guards/source");
    copy_sources(&copy)?;
    let guards = guards(&only)?;
    if guards.is_empty() {
        return Err("no such guard".into());
    }
    // All tests before any patch: one build serves them all, and each patch then costs one more.
    for guard in &guards {
        if test(guard, &copy)? != Outcome::Passed {
            return Err(format!("{}: the test does not pass with the guard in place", guard.name).into());
        }
    }
    let mut wrong = Vec::new();
    for guard in &guards {
        let words = match one(guard, &copy) {
            Ok(()) => "noticed".to_owned(),
            Err(error) => {
                wrong.push(guard.name.as_str());
                format!("NOT SHOWN: {error}")
            }
        };
        println!("{:<28} {:<66} {words}", guard.name, guard.test[1..].join(" "));
    }
    if wrong.is_empty() { Ok(()) } else { Err(format!("not shown: {}", wrong.join(", ")).into()) }
}

fn guards(only: &[String]) -> Result<Vec<Guard>> {
    let mut guards = Vec::new();
    for entry in std::fs::read_dir(repository().join(PATCHES))? {
        let patch = entry?.path();
        let name = patch.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if patch.extension().is_none_or(|kind| kind != "patch") || !(only.is_empty() || only.contains(&name))
        {
            continue;
        }
        let text = std::fs::read_to_string(&patch)?;
        let line = text.lines().find_map(|line| line.strip_prefix("test: "));
        let test = line.map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        let test = test.filter(|words| words.len() > 2).ok_or_else(|| format!("{name}: no `test:` line"))?;
        guards.push(Guard { name, patch, test });
    }
    guards.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(guards)
}

fn one(guard: &Guard, copy: &Path) -> Result<()> {
    apply(&guard.patch, copy, &[])?;
    let outcome = test(guard, copy);
    apply(&guard.patch, copy, &["--reverse"])?;
    match outcome? {
        Outcome::Failed => Ok(()),
        Outcome::Passed => Err("the test passes without the guard".into()),
        Outcome::Skipped => Err("the test skipped itself".into()),
    }
}

fn apply(patch: &Path, copy: &Path, options: &[&str]) -> Result<()> {
    // Not the repository around the copy: git would take its paths for others.
    let ceiling = copy.parent().unwrap_or(copy);
    read(
        Command::new("git")
            .env("GIT_CEILING_DIRECTORIES", ceiling)
            .current_dir(copy)
            .arg("apply")
            .args(options)
            .arg(patch),
    )
    .map(drop)
}

/// Builds first, so that a build error is not taken for a failing test.
fn test(guard: &Guard, copy: &Path) -> Result<Outcome> {
    let Some((name, target)) = guard.test.split_last() else { return Err("no test".into()) };
    let cargo = || {
        let mut command = Command::new(env!("CARGO"));
        command.current_dir(copy).env("CARGO_TARGET_DIR", repository().join("target/guards/build"));
        // What is built is thrown away again, and the tests wait for the kernel.
        command
            .env("CARGO_PROFILE_DEV_OPT_LEVEL", "0")
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .env("RUST_BACKTRACE", "0");
        command.args(["test", "-q", "-p"]).args(target);
        command
    };
    run(cargo().arg("--no-run").stderr(Stdio::null()))?;
    // timeout(1) ends the whole process group; a test that hangs without its guard has failed.
    let mut command = Command::new("timeout");
    let cargo = cargo();
    command.args(["--kill-after=5", TEST_SECONDS_MAX]).arg(cargo.get_program()).args(cargo.get_args());
    command.current_dir(copy).envs(cargo.get_envs().filter_map(|(key, value)| Some((key, value?))));
    command.args(["--", "--exact", name, "--nocapture"]);
    let words = describe(&command);
    let said = output(&mut command)?;
    let passed = said.status.success();
    let text = [said.stdout, said.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    if text.contains("running 0 tests") && !text.contains("running 1 test") {
        return Err(format!("{words}: no such test").into());
    }
    Ok(match (text.contains("SKIP:"), passed) {
        (true, _) => Outcome::Skipped,
        (false, true) => Outcome::Passed,
        (false, false) => Outcome::Failed,
    })
}

/// The files that git knows or would add, into `copy`; equal ones keep their time, so that cargo builds only changes.
fn copy_sources(copy: &Path) -> Result<()> {
    let mut list = Command::new("git");
    list.current_dir(repository()).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let listed = output(&mut list)?.stdout;
    if let Ok(old) = std::fs::read_dir(copy.join("crates")) {
        // What is gone from the sources must not stay in the copy.
        for dir in old {
            remove_gone(&dir?.path(), copy)?;
        }
    }
    for name in String::from_utf8_lossy(&listed).split('\0').filter(|name| !name.is_empty()) {
        let (from, to) = (repository().join(name), copy.join(name));
        let Ok(content) = std::fs::read(&from) else { continue };
        if std::fs::read(&to).is_ok_and(|old| old == content) {
            continue;
        }
        if let Some(parent) = to.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(&to, content)?;
    }
    Ok(())
}

fn remove_gone(path: &Path, copy: &Path) -> Result<()> {
    if path.is_dir() {
        for entry in std::fs::read_dir(path)? {
            remove_gone(&entry?.path(), copy)?;
        }
    } else if !repository().join(path.strip_prefix(copy)?).exists() {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table beside the patches names each of them, and each names its test.
    #[test]
    fn every_patch_is_in_the_table() {
        let table = std::fs::read_to_string(repository().join(PATCHES).join("README.md")).unwrap();
        for guard in guards(&[]).unwrap() {
            let test = guard.test.last().unwrap().rsplit("::").next().unwrap();
            assert!(table.contains(&format!("`{}`", guard.name)), "{} is not in the table", guard.name);
            assert!(table.contains(&format!("`{test}`")), "{test} is not in the table");
        }
    }
}
