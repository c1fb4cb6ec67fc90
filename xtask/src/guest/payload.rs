//! What a run brings into the guest: test binaries and naru, built on the host, at the same places as there.
//!
//! The binaries are static, so the guest needs none of the host's libraries; they know paths of the repository
//! (fixtures, each other), so the guest has these paths too, as links into the payload's disk.

use super::root::make_ext4;
use crate::process::{Result, repository};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Whose tests are the runtime's part.
const PACKAGES: [&str; 3] = ["naru-kernel", "naru-runtime", "naru-oci"];
/// Whose tests run naru's own binary.
const RUN_NARU: [&str; 1] = ["naru-oci"];

const RUN: &str = include_str!("run.sh");

/// MiB that tests may write on the payload's disk.
const SPARE_MIB: u64 = 64;

/// A test binary.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TestBinary {
    pub package: String,
    /// The target's name; a package's unit tests have the package's.
    pub name: String,
    file: PathBuf,
    /// The package's directory, in which cargo runs tests.
    dir: PathBuf,
}

/// Everything that cargo built.
#[derive(Default)]
pub struct Built {
    pub tests: BTreeSet<TestBinary>,
    programs: BTreeSet<PathBuf>,
}

/// Builds the tests of the runtime's part.
pub fn build() -> Result<Built> {
    let members = std::fs::read_to_string(repository().join("Cargo.lock"))?;
    let known = |name: &&&str| members.contains(&format!("name = \"{name}\"\n"));
    let mut test = vec!["test", "--no-run"];
    test.extend(PACKAGES.iter().filter(known).flat_map(|name| ["--package", *name]));
    let mut built = Built::default();
    cargo(&test, &mut built)?;
    Ok(built)
}

impl Built {
    /// Builds naru if one of `tests` runs it.
    pub fn with_naru_for(mut self, tests: &[TestBinary]) -> Result<Self> {
        let needed = |test: &TestBinary| {
            RUN_NARU.contains(&test.package.as_str()) || test.name.starts_with("rootless")
        };
        if tests.iter().any(needed) {
            cargo(&["build", "--package", "naru"], &mut self)?;
        }
        Ok(self)
    }
}

fn cargo(args: &[&str], built: &mut Built) -> Result<()> {
    let output = Command::new(env!("CARGO"))
        .args(args)
        .arg("--message-format=json-render-diagnostics")
        .current_dir(repository())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("cargo {}: {}", args.join(" "), output.status).into());
    }
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        read_artifact(&serde_json::from_str(line)?, built);
    }
    Ok(())
}

fn read_artifact(message: &Value, built: &mut Built) {
    let Some(file) = message["executable"].as_str().map(PathBuf::from) else { return };
    let manifest = Path::new(message["manifest_path"].as_str().unwrap_or_default());
    let dir = manifest.parent().unwrap_or(manifest).to_owned();
    if message["profile"]["test"] != true {
        built.programs.insert(file);
        return;
    }
    let name = message["target"]["name"].as_str().unwrap_or_default().replace('_', "-");
    let package = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    built.tests.insert(TestBinary { package, name, file, dir });
}

impl TestBinary {
    /// As people say it: `naru-runtime/limits`.
    pub fn title(&self) -> String {
        format!("{}/{}", self.package, self.name)
    }
}

/// What the guest runs, and as whom.
pub struct Job<'a> {
    pub user: &'a str,
    /// Seconds for one binary.
    pub seconds_max: u64,
    pub tests: &'a [TestBinary],
    /// Given to each binary: names of tests.
    pub filters: &'a [String],
}

/// The disk: `/run.sh`, `/job` (what to run), `/files` (a tree of absolute paths).
pub fn disk(work: &Path, built: &Built, job: &Job<'_>) -> Result<PathBuf> {
    let tree = work.join("payload");
    let files = tree.join("files");
    let mut bytes = 0;
    let tests = job.tests.iter().map(|test| test.file.as_path());
    for file in tests.chain(built.programs.iter().map(PathBuf::as_path)) {
        bytes += copy(file, &files)?;
    }
    for dir in job.tests.iter().map(|test| &test.dir).collect::<BTreeSet<_>>() {
        bytes += copy_tree(dir, &files)?;
    }
    std::fs::write(tree.join("run.sh"), RUN)?;
    std::fs::write(tree.join("job"), job_text(job, built))?;
    let image = work.join("payload.img");
    make_ext4(&tree, &image, &format!("{}M", bytes * 11 / 10 / (1 << 20) + SPARE_MIB))?;
    std::fs::remove_dir_all(&tree)?;
    Ok(image)
}

/// Lines for run.sh: `file PATH`, then `user NAME`, `seconds N`, `filter NAME…` and `test TITLE DIR BINARY`.
fn job_text(job: &Job<'_>, built: &Built) -> String {
    let mut text = String::new();
    let mut line = |words: &[&str]| {
        text.push_str(&words.join(" "));
        text.push('\n');
    };
    let paths: BTreeSet<&Path> = (built.programs.iter().map(PathBuf::as_path))
        .chain(job.tests.iter().flat_map(|test| [test.file.as_path(), test.dir.as_path()]))
        .collect();
    for path in paths {
        line(&["file", &path.to_string_lossy()]);
    }
    line(&["user", job.user]);
    line(&["seconds", &job.seconds_max.to_string()]);
    line(&["filter", &job.filters.join(" ")]);
    for test in job.tests {
        line(&["test", &test.title(), &test.dir.to_string_lossy(), &test.file.to_string_lossy()]);
    }
    text
}

fn copy_tree(dir: &Path, below: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() && entry.file_name() != "target" {
            bytes += copy_tree(&entry.path(), below)?;
        } else if kind.is_file() {
            bytes += copy(&entry.path(), below)?;
        }
    }
    Ok(bytes)
}

fn copy(file: &Path, below: &Path) -> Result<u64> {
    let target = below.join(file.strip_prefix("/").unwrap_or(file));
    if let Some(parent) = target.parent() {
        std::fs::create_dir_all(parent)?;
    }
    Ok(std::fs::copy(file, &target).map_err(|error| format!("{}: {error}", file.display()))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_names_what_it_built() {
        let mut built = Built::default();
        for line in [
            r#"{"reason":"compiler-artifact","manifest_path":"/r/crates/naru-runtime/Cargo.toml","target":{"kind":["test"],"name":"limits"},"profile":{"test":true},"executable":"/r/target/limits-1"}"#,
            r#"{"reason":"compiler-artifact","manifest_path":"/r/crates/naru-runtime/Cargo.toml","target":{"kind":["lib"],"name":"naru_runtime"},"profile":{"test":true},"executable":"/r/target/naru_runtime-2"}"#,
            r#"{"reason":"compiler-artifact","manifest_path":"/r/crates/naru/Cargo.toml","target":{"kind":["bin"],"name":"naru"},"profile":{"test":false},"executable":"/r/target/naru"}"#,
            r#"{"reason":"compiler-artifact","manifest_path":"/r/x/Cargo.toml","target":{"kind":["lib"],"name":"x"},"profile":{"test":false},"executable":null}"#,
            r#"{"reason":"build-finished","success":true}"#,
        ] {
            read_artifact(&serde_json::from_str(line).unwrap(), &mut built);
        }
        let titles: Vec<String> = built.tests.iter().map(TestBinary::title).collect();
        assert_eq!(titles, ["naru-runtime/limits", "naru-runtime/naru-runtime"]);
        assert_eq!(built.programs.len(), 1);
    }
}
