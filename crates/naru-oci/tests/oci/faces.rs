//! What callers read: help, version, errors, logs, JSON.

use crate::fixture::{Done, Lab, read};
use serde_json::Value;
use std::process::Command;

pub fn help_and_version() {
    let lab = Lab::new();
    let version = lab.ok(&["--version"]);
    assert!(version.starts_with("naru version ") && version.contains("\nspec: 1."), "{version}");
    let help = lab.ok(&["help"]);
    for name in ["create", "checkpoint", "features", "--systemd-cgroup"] {
        assert!(help.contains(name), "{help}");
    }
    assert!(lab.ok(&["create", "-h"]).contains("--console-socket"));
    assert_eq!(lab.ok(&["help", "exec"]), lab.ok(&["exec", "--help"]));
    // Under its own name the program needs no role.
    let link = lab.path("naru-oci");
    std::os::unix::fs::symlink(std::env::current_exe().unwrap(), &link).unwrap();
    assert_eq!(naru_oci::PROGRAM, link.file_name().unwrap().to_str().unwrap());
    let mut command = Command::new(&link);
    command.arg("--version");
    assert_eq!(Done::of(command).stdout, version);
}

pub fn mistakes_are_named() {
    let lab = Lab::new();
    lab.config("exit 0", |_| {});
    let check = |args: &[&str], code: i32, words: &str| {
        let done = lab.run(args);
        assert!(done.code == code && done.stderr.contains(words), "{args:?}: {} {}", done.code, done.stderr);
    };
    check(&["frobnicate"], 3, "no help topic for \\\"frobnicate\\\"");
    check(&["stat", "x"], 3, "did you mean");
    check(&["list", "--bogus"], 1, "flag provided but not defined: -bogus");
    check(&["--bogus", "list"], 1, "flag provided but not defined: -bogus");
    check(&["create"], 1, "requires exactly 1 argument");
    check(&["create", "a", "b"], 1, "requires exactly 1 argument");
    check(&["create", "a/b"], 1, "invalid container ID format");
    check(&["state", ".."], 1, "invalid container ID format");
    check(&["state", ""], 1, "container id cannot be empty");
    check(&["create", "--preserve-fds", "x", "a"], 1, "invalid value");
    check(&["exec", "a", "true"], 255, "exec failed: container does not exist");
    check(&["--log-format", "xml", "list"], 1, "invalid log-format: xml");
    check(&["--cgroup-manager", "x", "list"], 1, "no such manager");
    check(&["create", "--bundle", "/nonexistent", "a"], 1, "chdir /nonexistent: no such file or directory");
    check(&["checkpoint", "a"], 1, "container does not exist");
    check(&["restore", "a"], 1, "hint");
    check(&["list", "-f", "yaml"], 1, "invalid format option");
}

pub fn the_log_is_json() {
    let lab = Lab::new();
    let log = lab.path("log");
    let done = lab.run(&["--log", log.to_str().unwrap(), "--log-format=json", "state", "nope"]);
    assert_eq!((done.code, done.stderr.as_str()), (1, "container does not exist\n"));
    let line: Value = serde_json::from_str(&read(&log)).unwrap();
    assert_eq!((&line["level"], &line["msg"]), (&"error".into(), &"container does not exist".into()));
    assert_eq!(line["time"].as_str().unwrap().len(), "2026-01-01T00:00:00Z".len());
}

pub fn spec_writes_a_bundle_that_runs() {
    let lab = Lab::new();
    let id = lab.id("a");
    lab.ok(&["spec"]);
    let file = lab.bundle().join("config.json");
    let again = lab.run(&["spec"]);
    assert!(again.code == 1 && again.stderr.contains("File config.json exists. Remove it first"));
    let mut spec: Value = serde_json::from_str(&read(&file)).unwrap();
    spec["process"]["terminal"] = false.into();
    spec["process"]["args"] = serde_json::json!(["sh", "-c", "echo hello > /dev/null && exit 5"]);
    std::fs::write(&file, spec.to_string()).unwrap();
    let done = lab.run(&["run", &id]);
    assert_eq!(done.code, 5, "{}", done.stderr);
    std::fs::create_dir(lab.path("other")).unwrap();
    lab.ok(&["spec", "--rootless", "--bundle", lab.path("other").to_str().unwrap()]);
    assert!(read(&lab.path("other/config.json")).contains("uidMappings"));
}

pub fn features_is_json() {
    let lab = Lab::new();
    let features: Value = serde_json::from_str(&lab.ok(&["features"])).unwrap();
    assert_eq!(features["ociVersionMin"], "1.0.0");
    assert!(features["linux"]["seccomp"]["actions"].as_array().unwrap().len() > 5);
    assert!(features["linux"]["capabilities"].as_array().unwrap().iter().any(|name| name == "CAP_BPF"));
}

/// The keys that runc prints are printed.
pub fn the_same_shapes_as_runc() {
    let lab = Lab::new();
    let runc = |args: &[&str]| {
        let mut command = Command::new("runc");
        command.arg("--root").arg(lab.path("runc")).args(args).current_dir(lab.bundle());
        Done::of(command)
    };
    if Command::new("runc").arg("--version").output().is_err() {
        println!("SKIP: no runc");
        return;
    }
    let id = lab.id("a");
    lab.config("sleep 1000", |config| config["ociVersion"] = "1.0.2".into());
    lab.quiet_ok(&["run", "-d", &id]);
    let theirs = format!("{id}-runc");
    let mut command = Command::new("runc");
    command.arg("--root").arg(lab.path("runc")).args(["run", "-d", &theirs]).current_dir(lab.bundle());
    let null = std::process::Stdio::null;
    let started = command.stdin(null()).stdout(null()).stderr(null()).status().unwrap();
    if !started.success() {
        println!("SKIP: runc cannot run here");
        return;
    }
    let keys = |text: &str| -> Vec<String> {
        let value: Value = serde_json::from_str(text).unwrap_or_else(|_| panic!("{text}"));
        let value = if value.is_array() { value[0].clone() } else { value };
        let mut keys: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
        if let Some(data) = value["data"].as_object() {
            keys.extend(data.keys().map(|key| format!("data.{key}")));
        }
        keys
    };
    for args in [&["state"][..], &["events", "--stats"]] {
        let (mut ours, mut runcs) = (args.to_vec(), args.to_vec());
        ours.push(&id);
        runcs.push(&theirs);
        let theirs = runc(&runcs);
        assert_eq!(theirs.code, 0, "{}", theirs.stderr);
        assert_eq!(keys(&lab.ok(&ours)), keys(&theirs.stdout), "{args:?}");
    }
    assert_eq!(keys(&lab.ok(&["list", "-f", "json"])), keys(&runc(&["list", "-f", "json"]).stdout));
    let pids: Vec<i32> = serde_json::from_str(&lab.ok(&["ps", "--format", "json", &id])).unwrap();
    assert_eq!(
        pids.len(),
        serde_json::from_str::<Vec<i32>>(&runc(&["ps", "-f", "json", &theirs]).stdout).unwrap().len()
    );
    let head = |text: String| text.split_whitespace().take(6).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(head(lab.ok(&["list"])), head(runc(&["list"]).stdout));
    for args in [&["state", "nope"][..], &["kill", "nope"], &["delete", "nope"], &["start", "nope"]] {
        let words = |text: &str| text.split("msg=").nth(1).map(str::to_owned);
        let (ours, runcs) = (lab.run(args), runc(args));
        assert_eq!((ours.code, words(&ours.stderr)), (runcs.code, words(&runcs.stderr)), "{args:?}");
    }
    assert_eq!(runc(&["delete", "--force", &theirs]).code, 0);
}

pub fn garbage_is_refused() {
    let lab = Lab::new();
    let id = lab.id("a");
    let missing = lab.run(&["create", &id]);
    assert!(missing.code == 1 && missing.stderr.contains("JSON specification file config.json not found"));
    let texts = [
        "",
        "null",
        "[]",
        "{",
        "{\"ociVersion\":\"9.0.0\"}",
        "{\"ociVersion\":\"1.0.0\"}",
        "\u{0}",
        "{\"process\":7}",
    ];
    for text in texts {
        std::fs::write(lab.bundle().join("config.json"), text).unwrap();
        let done = lab.run(&["create", &id]);
        assert!(done.code == 1 && done.stderr.contains("level=error"), "{text}: {}", done.stderr);
        assert!(!lab.root().join(&id).exists(), "{text}");
    }
    for (pointer, value) in
        [("/process/cwd", ""), ("/process/cwd", "x"), ("/root/path", "nowhere"), ("/process/args", "")]
    {
        lab.config("exit 0", |config| {
            *config.pointer_mut(pointer).unwrap() = if value.is_empty() && pointer.ends_with("args") {
                serde_json::json!([])
            } else {
                value.into()
            };
        });
        let done = lab.run(&["run", &id]);
        assert_eq!(done.code, 1, "{pointer}");
        assert!(!lab.root().join(&id).exists());
    }
    assert!(lab.groups().is_empty());
}
