//! Containers in scopes of systemd (`--systemd-cgroup`), where systemd is the first process.

use crate::fixture::{Lab, wait_for};
use serde_json::json;
use std::process::Command;

/// What systemd says of a unit.
fn shown(unit: &str, property: &str) -> String {
    let output = Command::new("systemctl").args(["show", "--value", "-p", property, unit]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

pub fn a_life_in_a_scope() {
    if !std::fs::read_to_string("/proc/1/comm").is_ok_and(|name| name.trim() == "systemd") {
        println!("SKIP: systemd is not running");
        return;
    }
    let lab = Lab::new();
    let id = lab.id("a");
    let unit = format!("naru-{id}.scope");
    lab.config("sleep 1000", |config| {
        config["linux"]["cgroupsPath"] = json!(format!("system.slice:naru:{id}"));
        config["linux"]["resources"]["memory"] = json!({ "limit": 64 << 20 });
        config["linux"]["resources"]["pids"] = json!({ "limit": 50 });
        config["annotations"] = json!({
            "org.systemd.property.TimeoutStopSec": "7",
            "org.systemd.property.CollectMode": "'inactive-or-failed'",
        });
    });
    lab.quiet_ok(&["--systemd-cgroup", "run", "-d", &id]);
    let seen =
        ["ActiveState", "Slice", "Delegate", "MemoryMax", "TasksMax", "TimeoutStopUSec", "CollectMode"]
            .map(|property| shown(&unit, property));
    assert_eq!(seen, ["active", "system.slice", "yes", "67108864", "50", "7s", "inactive-or-failed"]);
    let pid = lab.state(&id)["pid"].as_u64().unwrap();
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert!(groups.contains(&format!("/system.slice/{unit}")), "{groups}");
    // None of these is told again who made the group.
    let inside = lab.ok(&["exec", &id, "cat", "/proc/self/cgroup"]);
    assert!(inside.contains("0::/"), "{inside}");
    lab.ok(&["update", "--memory", "96M", "--pids-limit", "70", &id]);
    assert_eq!([shown(&unit, "MemoryMax"), shown(&unit, "TasksMax")], ["100663296", "70"]);
    lab.ok(&["pause", &id]);
    assert_eq!(lab.status(&id), "paused");
    lab.ok(&["resume", &id]);
    assert!(lab.ok(&["events", "--stats", &id]).contains("\"pids\""));
    lab.ok(&["kill", &id, "KILL"]);
    lab.wait_status(&id, "stopped");
    lab.ok(&["delete", &id]);
    wait_for(|| shown(&unit, "LoadState") == "not-found");
    assert!(lab.groups().is_empty());

    lab.config("exit 3", |config| {
        config["linux"]["cgroupsPath"] = json!(format!("system.slice:naru:{id}"));
    });
    assert_eq!(lab.run(&["--systemd-cgroup", "run", &id]).code, 3);
    lab.config("true", |config| {
        config["linux"]["cgroupsPath"] = json!(format!("system.slice:naru:{id}"));
        config["annotations"] = json!({ "org.systemd.property.TimeoutStopSec": "soon" });
    });
    let refused = lab.run(&["--systemd-cgroup", "run", &id]);
    assert!(refused.code == 1 && refused.stderr.contains("TimeoutStopSec"), "{}", refused.stderr);
    wait_for(|| shown(&unit, "LoadState") == "not-found");
}
