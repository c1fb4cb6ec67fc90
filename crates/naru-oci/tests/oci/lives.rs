//! Whole lives of containers.

use crate::fixture::{Lab, read, wait_for};
use std::process::Stdio;

pub fn a_whole_life() {
    let lab = Lab::new();
    let id = lab.id("a");
    lab.config("echo started > /tmp/out; exec sleep 1000", |_| {});
    let (pid_file, bundle) = (lab.path("pid"), lab.bundle());
    let bundle = bundle.to_str().unwrap();
    lab.quiet_ok(&["create", "--bundle", bundle, "--pid-file", pid_file.to_str().unwrap(), &id]);
    let state = lab.state(&id);
    assert_eq!(state["status"], "created");
    assert_eq!(state["pid"].to_string(), read(&pid_file));
    assert_eq!(state["annotations"]["org.example.a"], "1");
    assert_eq!(state["bundle"], bundle);
    assert!(!lab.bundle().join("rootfs/tmp/out").exists());
    lab.ok(&["start", &id]);
    assert_eq!(lab.status(&id), "running");
    wait_for(|| read(&lab.bundle().join("rootfs/tmp/out")) == "started\n");
    let list: serde_json::Value = serde_json::from_str(&lab.ok(&["list", "--format=json"])).unwrap();
    assert_eq!((&list[0]["id"], &list[0]["owner"]), (&id.clone().into(), &"root".into()));
    assert_eq!(lab.ok(&["list", "-q"]), format!("{id}\n"));
    assert!(lab.ok(&["list"]).starts_with("ID "));
    lab.ok(&["kill", &id, "KILL"]);
    lab.wait_status(&id, "stopped");
    assert_eq!(lab.state(&id)["pid"], 0);
    lab.ok(&["delete", &id]);
    let gone = lab.run(&["state", &id]);
    assert_eq!(gone.code, 1);
    assert!(gone.stderr.contains("container does not exist"), "{}", gone.stderr);
    assert_eq!(lab.groups(), Vec::<std::path::PathBuf>::new());
}

pub fn run_returns_the_exit_code() {
    let lab = Lab::new();
    let id = lab.id("a");
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$; exit 3", 3)] {
        // A pid namespace's first process does not take signals of its own without a handler.
        let own = !script.starts_with("kill -9");
        lab.config(script, |config| {
            if !own {
                let spaces = config["linux"]["namespaces"].as_array_mut().unwrap();
                spaces.retain(|space| space["type"] != "pid");
            }
        });
        assert_eq!(lab.run(&["run", &id]).code, code, "{script}");
        assert!(!lab.root().join(&id).exists());
    }
    lab.config("echo out; echo err >&2; cat", |_| {});
    let mut child = lab
        .oci(&["run", &id])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"typed").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"out\ntyped"[..], &b"err\n"[..]));
}

pub fn run_keeps_when_asked() {
    let lab = Lab::new();
    let id = lab.id("a");
    lab.config("exit 4", |_| {});
    assert_eq!(lab.run(&["run", "--keep", &id]).code, 4);
    assert_eq!(lab.status(&id), "stopped");
    lab.ok(&["delete", &id]);
}

pub fn detached_runs_and_is_deleted_by_force() {
    let lab = Lab::new();
    let id = lab.id("a");
    lab.config("sleep 1000", |_| {});
    lab.quiet_ok(&["run", "-d", &id]);
    assert_eq!(lab.status(&id), "running");
    let refused = lab.run(&["delete", &id]);
    let words = format!("cannot delete container {id} that is not stopped: running");
    assert!(refused.code == 1 && refused.stderr.contains(&words), "{}", refused.stderr);
    lab.ok(&["delete", &id, "--force"]);
    assert!(!lab.root().join(&id).exists());
    assert!(lab.groups().is_empty());
    lab.ok(&["delete", "--force", &id]);
}

pub fn wrong_moments_are_refused() {
    let lab = Lab::new();
    let id = lab.id("a");
    lab.config("sleep 1000", |_| {});
    lab.quiet_ok(&["create", &id]);
    assert_eq!(lab.quiet(&["create", &id]), 1);
    assert!(read(&lab.path("stderr")).contains("container with given ID already exists"));
    let refused = |args: &[&str], words: &str| {
        let done = lab.run(args);
        assert!(done.code == 1 && done.stderr.contains(words), "{args:?}: {}", done.stderr);
    };
    lab.ok(&["start", &id]);
    refused(&["start", &id], "cannot start an already running container");
    refused(&["resume", &id], "container not paused");
    lab.ok(&["kill", "--all", &id, "9"]);
    lab.wait_status(&id, "stopped");
    refused(&["kill", &id], "container not running");
    lab.ok(&["kill", "-a", &id, "9"]);
    refused(&["start", &id], "cannot start a container that has stopped");
    refused(&["pause", &id], "container not running");
    refused(&["kill", &id, "NOSUCH"], "unknown signal \\\"NOSUCH\\\"");
    lab.ok(&["delete", &id]);
    // A created one is not stopped, and deleted all the same.
    lab.quiet_ok(&["create", &id]);
    lab.ok(&["delete", &id]);
    assert!(lab.groups().is_empty());
}

pub fn a_program_that_is_not_there() {
    let lab = Lab::new();
    let id = lab.id("a");
    lab.config("", |config| config["process"]["args"] = serde_json::json!(["nope"]));
    for verb in ["create", "run"] {
        assert_eq!(lab.quiet(&[verb, &id]), 1, "{verb}");
        let text = read(&lab.path("stderr"));
        assert!(text.contains("executable file not found in $PATH"), "{text}");
        assert!(!lab.root().join(&id).exists());
    }
    assert!(lab.groups().is_empty());
}

pub fn signals_are_passed_on() {
    let lab = Lab::new();
    let id = lab.id("a");
    lab.config("trap 'exit 42' TERM; echo ready > /tmp/ready; while true; do sleep 0.1; done", |_| {});
    let child = lab.oci(&["run", &id]).stdout(Stdio::null()).spawn().unwrap();
    wait_for(|| lab.bundle().join("rootfs/tmp/ready").exists());
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(42));
    assert!(!lab.root().join(&id).exists());
}

pub fn two_hundred_runs_leave_nothing() {
    let lab = Lab::new();
    lab.config("exit 9", |_| {});
    for round in 0..200 {
        let id = lab.id("n");
        assert_eq!(lab.run(&["run", &id]).code, 9, "round {round}");
    }
    assert_eq!(std::fs::read_dir(lab.root()).unwrap().count(), 0);
    assert!(lab.groups().is_empty());
    lab.ids.take();
}

pub fn a_stopped_container_is_told_from_a_reused_pid() {
    let lab = Lab::new();
    let id = lab.id("a");
    lab.config("exit 0", |_| {});
    assert_eq!(lab.run(&["run", "--keep", &id]).code, 0);
    let file = lab.root().join(&id).join("state.json");
    let mut state: serde_json::Value = serde_json::from_str(&read(&file)).unwrap();
    // As if the number had gone to this very process.
    state["init"]["pid"] = std::process::id().into();
    std::fs::write(&file, state.to_string()).unwrap();
    assert_eq!(lab.status(&id), "stopped");
    assert!(lab.run(&["kill", &id, "9"]).stderr.contains("container not running"));
    lab.ok(&["delete", &id]);
}
