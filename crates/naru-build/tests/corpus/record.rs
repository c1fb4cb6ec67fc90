//! Recording: every case is given to a real BuildKit, through buildx.

use crate::case::{self, Case, Outcome};
use crate::common::{BASE, base_context};
use crate::{context, observe};
use naru_image::unpack::{UnpackOptions, unpack};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Output};

pub fn all() {
    let dir = tempfile::tempdir().unwrap();
    base_context(dir.path());
    std::fs::write(dir.path().join("Dockerfile"), BASE).unwrap();
    let built =
        docker(&["buildx", "build", "--provenance=false", "-q", "-t", "base", dir.path().to_str().unwrap()]);
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let base = rootfs(dir.path(), &[]);
    let skip = history("base").len();
    // One topic only, where NARU_RECORD_TOPIC names it.
    let only = std::env::var("NARU_RECORD_TOPIC").ok();
    for (topic, cases) in case::all() {
        if only.as_ref().is_some_and(|only| *only != topic) {
            continue;
        }
        let mut outcomes = BTreeMap::new();
        for case in cases {
            outcomes.insert(case.name.clone(), one(&case, &base, skip));
        }
        let path = case::dir().join(format!("expected/{topic}.json"));
        std::fs::write(path, serde_json::to_string_pretty(&outcomes).unwrap() + "\n").unwrap();
    }
}

fn one(case: &Case, base: &BTreeMap<String, String>, skip: usize) -> Outcome {
    let dir = tempfile::tempdir().unwrap();
    context::write(dir.path(), case);
    let mut flags: Vec<String> = Vec::new();
    for name in ["build-arg", "label"] {
        flags.extend(
            case.options(name)
                .iter()
                .flat_map(|(key, value)| [format!("--{name}"), format!("{key}={value}")]),
        );
    }
    flags.extend(case.option("target").into_iter().flat_map(|target| ["--target".into(), target]));
    let secrets = tempfile::tempdir().unwrap();
    for (id, text) in case.options("secret") {
        let path = secrets.path().join(&id);
        std::fs::write(&path, text).unwrap();
        flags.extend(["--secret".into(), format!("id={id},src={}", path.display())]);
    }
    for (name, value) in case.options("context") {
        let value = if value.contains("://") { value } else { dir.path().join(value).display().to_string() };
        flags.extend(["--build-context".into(), format!("{name}={value}")]);
    }
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let mut outcome = build(case, dir.path(), &flags, base, skip);
    outcome.check = check(dir.path(), &flags);
    outcome
}

fn build(case: &Case, dir: &Path, flags: &[&str], base: &BTreeMap<String, String>, skip: usize) -> Outcome {
    let tag = format!("corpus-{}", case.name);
    let start =
        ["buildx", "build", "--provenance=false", "--progress=plain", "-t", &tag, dir.to_str().unwrap()];
    let built = docker(&[&start[..], flags].concat());
    if !built.status.success() {
        return failure(&String::from_utf8_lossy(&built.stderr));
    }
    let image: Value = serde_json::from_slice(&docker(&["image", "inspect", &tag]).stdout).unwrap();
    let mut history = history(&tag);
    let from_scratch = !history.iter().any(|text| text.starts_with("COPY bin"));
    let nothing = BTreeMap::new();
    let base = if from_scratch { &nothing } else { base };
    let history = history.split_off(if from_scratch { 0 } else { skip });
    Outcome {
        files: observe::changes(base, &rootfs(dir, flags)),
        config: observe::config(&image[0]["Config"], image[0]["Author"].as_str()),
        history,
        ..Outcome::default()
    }
}

/// The line that the excerpt begins with, and the error without what every one of them begins with.
fn failure(stderr: &str) -> Outcome {
    let line = stderr.lines().find_map(|line| line.strip_prefix("Dockerfile:")?.parse().ok()).unwrap_or(0);
    let text = stderr.lines().rev().find_map(|line| line.strip_prefix("ERROR: ")).unwrap_or(stderr);
    let mut text = text;
    for start in ["failed to build: ", "failed to solve: "] {
        text = text.strip_prefix(start).unwrap_or(text);
    }
    if let Some(rest) = text.strip_prefix("dockerfile parse error on line ") {
        text = rest.split_once(": ").map_or(rest, |(_, rest)| rest);
    }
    Outcome { line, error: Some(without_places(text)), ..Outcome::default() }
}

/// Without what is another at each run: where layers lie, and the names of snapshots.
fn without_places(text: &str) -> String {
    let mut text = text.to_owned();
    while let Some(end) = text.find("/merged/").map(|at| at + "/merged".len()) {
        let start = text[..end].rfind(' ').map_or(0, |at| at + 1);
        text.replace_range(start..end, "");
    }
    match text.split_once("failed to calculate checksum of ref ") {
        Some((_, rest)) => rest.split_once(": ").map_or(String::new(), |(_, rest)| rest.to_owned()),
        None => text,
    }
}

fn rootfs(dir: &Path, flags: &[&str]) -> BTreeMap<String, String> {
    let out = tempfile::tempdir().unwrap();
    let tar = out.path().join("rootfs.tar");
    let output = format!("type=tar,dest={}", tar.display());
    let start = ["buildx", "build", "--provenance=false", "-q", "--output", &output, dir.to_str().unwrap()];
    let built = docker(&[&start[..], flags].concat());
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let root = out.path().join("rootfs");
    std::fs::create_dir(&root).unwrap();
    let fd = File::open(&root).unwrap();
    unpack(fd.as_fd(), &mut naru_tar::Reader::new(File::open(&tar).unwrap()), &UnpackOptions::plain())
        .unwrap();
    observe::tree(&root)
}

/// Oldest first, without BuildKit's mark.
fn history(image: &str) -> Vec<String> {
    let listed = docker(&["history", "--no-trunc", "--format", "{{json .CreatedBy}}", image]);
    let text = String::from_utf8(listed.stdout).unwrap();
    let entry = |line: &str| {
        let text: String = serde_json::from_str(line).unwrap();
        text.strip_suffix(" # buildkit").unwrap_or(&text).to_owned()
    };
    text.lines().rev().map(entry).collect()
}

fn check(dir: &Path, flags: &[&str]) -> Vec<String> {
    let start = ["buildx", "build", "--call=check,format=json", dir.to_str().unwrap()];
    let checked = docker(&[&start[..], flags].concat());
    let Ok(found) = serde_json::from_slice::<Value>(&checked.stdout) else { return Vec::new() };
    let warning = |warning: &Value| {
        let line = &warning["location"]["ranges"][0]["start"]["line"];
        format!("{} {line} {}", warning["ruleName"].as_str().unwrap(), warning["detail"].as_str().unwrap())
    };
    let mut warnings: Vec<String> = found["warnings"].as_array().into_iter().flatten().map(warning).collect();
    warnings.sort();
    warnings
}

fn docker(args: &[&str]) -> Output {
    Command::new("docker").args(args).output().unwrap()
}
