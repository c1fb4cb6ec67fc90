//! Limits, freezing, statistics, signals to all.

use crate::fixture::{Lab, read, wait_for};
use serde_json::{Value, json};
use std::io::Write;
use std::process::Stdio;

/// A file of the container's control group, of v1 or v2.
fn file(lab: &Lab, names: [&str; 2]) -> String {
    let groups = lab.groups();
    let found = groups.iter().flat_map(|group| names.map(|name| group.join(name))).find(|path| path.exists());
    read(&found.unwrap_or_default()).trim().to_owned()
}

pub fn update_is_seen_in_the_group() {
    let lab = Lab::new();
    let id = lab.id("a");
    lab.config("sleep 1000", |config| {
        config["linux"]["resources"]["memory"] = json!({ "limit": 64 << 20 });
        config["linux"]["resources"]["pids"] = json!({ "limit": 50 });
    });
    lab.quiet_ok(&["run", "-d", &id]);
    let memory = || file(&lab, ["memory.limit_in_bytes", "memory.max"]);
    let pids = || file(&lab, ["pids.max", "pids.max"]);
    assert_eq!((memory(), pids()), ((64 << 20).to_string(), "50".to_owned()));
    lab.ok(&["update", "--memory", "96M", "--pids-limit", "70", &id]);
    assert_eq!((memory(), pids()), ((96 << 20).to_string(), "70".to_owned()));
    lab.ok(&["update", &id, "--cpu-quota=50000", "--cpu-period", "100000"]);
    let quota = file(&lab, ["cpu.cfs_quota_us", "cpu.max"]);
    assert!(quota.starts_with("50000"), "{quota}");
    let mut child = lab.oci(&["update", "--resources=-", &id]).stdin(Stdio::piped()).spawn().unwrap();
    let text = json!({ "memory": { "limit": 80 << 20 }, "pids": { "limit": 33 }, "cpu": null, "devices": [{ "allow": false }] });
    child.stdin.take().unwrap().write_all(text.to_string().as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!((memory(), pids()), ((80 << 20).to_string(), "33".to_owned()));
    // The devices have not been touched.
    assert_eq!(lab.run(&["exec", &id, "sh", "-c", "echo x > /dev/null"]).code, 0);
    let bad = lab.run(&["update", "--memory", "lots", &id]);
    assert!(bad.code == 1 && bad.stderr.contains("-memory"), "{}", bad.stderr);
}

pub fn pause_and_resume() {
    let lab = Lab::new();
    let id = lab.id("a");
    lab.config("sleep 1000", |_| {});
    lab.quiet_ok(&["run", "-d", &id]);
    lab.ok(&["pause", &id]);
    assert_eq!(lab.status(&id), "paused");
    lab.ok(&["resume", &id]);
    assert_eq!(lab.status(&id), "running");
    lab.ok(&["pause", &id]);
    lab.ok(&["kill", &id, "SIGKILL"]);
    lab.wait_status(&id, "stopped");
    lab.ok(&["delete", &id]);
    lab.quiet_ok(&["run", "-d", &id]);
    lab.ok(&["pause", &id]);
    lab.ok(&["delete", "-f", &id]);
    assert!(lab.groups().is_empty());
}

pub fn events_and_ps() {
    let lab = Lab::new();
    let id = lab.id("a");
    lab.config("sleep 1000", |_| {});
    lab.quiet_ok(&["run", "-d", &id]);
    let event: Value = serde_json::from_str(&lab.ok(&["events", "--stats", &id])).unwrap();
    assert_eq!((&event["type"], &event["id"]), (&json!("stats"), &json!(id)));
    assert!(event["data"]["pids"]["current"].as_u64().unwrap() >= 1, "{event}");
    assert!(event["data"]["memory"]["usage"]["usage"].as_u64().unwrap() > 0, "{event}");
    let follower = lab.oci(&["events", "--interval", "20ms", &id]).stdout(Stdio::piped()).spawn().unwrap();
    let table = lab.ok(&["ps", &id]);
    assert!(table.starts_with("UID ") && table.contains("sleep 1000"), "{table}");
    assert!(lab.run(&["ps", &id, "aux"]).stderr.contains("hint"));
    std::thread::sleep(std::time::Duration::from_millis(200));
    lab.ok(&["kill", &id, "9"]);
    let output = follower.wait_with_output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).lines().count() >= 2);
    assert!(lab.run(&["events", &id]).stderr.contains("is not running"));
    assert!(
        lab.run(&["events", "--interval", "0s", &id])
            .stderr
            .contains("duration interval must be greater than 0")
    );
}

pub fn kill_all_without_a_pid_namespace() {
    let lab = Lab::new();
    let id = lab.id("a");
    lab.config("sleep 1000 & sleep 1001 & echo x > /tmp/up; exec sleep 1002", |config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().retain(|space| space["type"] != "pid");
    });
    let pids = || serde_json::from_str::<Vec<i32>>(&lab.ok(&["ps", "-f", "json", &id])).unwrap();
    lab.quiet_ok(&["run", "-d", &id]);
    wait_for(|| pids().len() == 3);
    lab.ok(&["kill", "--all", &id, "TERM"]);
    wait_for(|| pids().is_empty());
    lab.wait_status(&id, "stopped");
    lab.ok(&["delete", &id]);
    lab.quiet_ok(&["run", "-d", &id]);
    wait_for(|| pids().len() == 3);
    let all = pids();
    lab.ok(&["delete", "--force", &id]);
    wait_for(|| all.iter().all(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists()));
    assert!(lab.groups().is_empty());
}
