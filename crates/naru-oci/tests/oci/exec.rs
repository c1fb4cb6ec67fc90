//! `exec`.

use crate::fixture::{Lab, read, wait_for};
use serde_json::json;
use std::path::PathBuf;

pub fn exec_in_every_way() {
    let lab = Lab::new();
    let id = lab.id("a");
    lab.config("sleep 1000", |_| {});
    lab.quiet_ok(&["run", "-d", &id]);
    assert_eq!(lab.ok(&["exec", &id, "echo", "-n", "--hello"]), "--hello");
    assert_eq!(lab.run(&["exec", &id, "sh", "-c", "exit 33"]).code, 33);
    assert_eq!(lab.run(&["exec", &id, "sh", "-c", "kill -9 $$"]).code, 137);
    assert_eq!(
        lab.ok(&["exec", "--cwd", "/tmp", "-e", "A=b c", "--env=D=e", &id, "sh", "-c", "pwd; echo $A $D"]),
        "/tmp\nb c e\n"
    );
    let ids = lab.ok(&["exec", "-u", "1000:1001", "-g", "7", "-g", "8", &id, "id"]);
    assert!(
        ids.contains("uid=1000") && ids.contains("gid=1001") && ids.contains('7') && ids.contains('8'),
        "{ids}"
    );
    let status =
        lab.ok(&["exec", "--cap", "CAP_NET_RAW", "--no-new-privs=false", &id, "cat", "/proc/self/status"]);
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    // A further process never has fewer bonds than the container.
    assert_eq!(field("NoNewPrivs:"), "1");
    assert_ne!(u64::from_str_radix(&field("CapEff:"), 16).unwrap() & 1 << 13, 0);
    let (process, pid) = (lab.path("process.json"), lab.path("pid"));
    let file = json!({ "args": ["sh", "-c", "echo $X > /tmp/x; exec sleep 500"], "cwd": "/", "env": ["X=y", "PATH=/bin"],
        "user": { "uid": 0, "gid": 0 } });
    std::fs::write(&process, file.to_string()).unwrap();
    lab.quiet_ok(&[
        "exec",
        "-d",
        "--pid-file",
        pid.to_str().unwrap(),
        "--process",
        process.to_str().unwrap(),
        &id,
    ]);
    wait_for(|| read(&lab.bundle().join("rootfs/tmp/x")) == "y\n");
    // The shell has written its line before it becomes `sleep`.
    let cmdline = PathBuf::from(format!("/proc/{}/cmdline", read(&pid)));
    wait_for(|| read(&cmdline).starts_with("sleep"));
    let pids: Vec<i32> = serde_json::from_str(&lab.ok(&["ps", "-f", "json", &id])).unwrap();
    assert!(pids.contains(&read(&pid).parse().unwrap()));
}

pub fn exec_is_refused() {
    let lab = Lab::new();
    let id = lab.id("a");
    lab.config("sleep 1000", |_| {});
    lab.quiet_ok(&["create", &id]);
    let refused = |args: &[&str], words: &str| {
        let done = lab.run(args);
        assert!(done.code == 255 && done.stderr.contains(words), "{args:?}: {} {}", done.code, done.stderr);
    };
    assert_eq!(lab.ok(&["exec", &id, "echo", "early"]), "early\n");
    lab.ok(&["start", &id]);
    refused(&["exec", &id], "exec failed: exec args cannot be empty");
    refused(
        &["exec", &id, "nope"],
        "exec failed: unable to start container process: exec: \\\"nope\\\": executable file not found in $PATH",
    );
    refused(&["exec", "-t", "-d", &id, "true"], "without setting console socket");
    refused(&["exec", "-u", "bob", &id, "true"], "bad uid");
    refused(&["exec", "--process", "/nonexistent", &id], "no such file");
    refused(&["exec", "--cgroup", "nope", &id, "true"], "no such file");
    lab.ok(&["pause", &id]);
    refused(&["exec", &id, "true"], "cannot exec in a paused container (use --ignore-paused to override)");
    lab.ok(&["resume", &id]);
    lab.ok(&["kill", &id, "KILL"]);
    lab.wait_status(&id, "stopped");
    refused(&["exec", &id, "true"], "cannot exec in a stopped container");
}

pub fn exec_enters_a_sub_group() {
    let lab = Lab::new();
    let id = lab.id("a");
    lab.config("sleep 1000", |_| {});
    lab.quiet_ok(&["run", "-d", &id]);
    let groups = lab.groups();
    for group in &groups {
        std::fs::create_dir(group.join("sub")).unwrap();
        for file in ["cpuset.cpus", "cpuset.mems"] {
            // v1 makes them empty; on v2 a group without controllers has none.
            if group.join("sub").join(file).exists() {
                std::fs::write(group.join("sub").join(file), read(&group.join(file))).unwrap();
            }
        }
    }
    let shown = lab.ok(&["exec", "--cgroup", "sub", &id, "cat", "/proc/self/cgroup"]);
    assert!(shown.lines().any(|line| line.ends_with(&format!("/{id}/sub"))), "{shown}");
    if groups.iter().any(|group| group.starts_with("/sys/fs/cgroup/pids")) {
        let done = lab.run(&["exec", "--cgroup", "nosuch:sub", &id, "true"]);
        assert!(done.code == 255 && done.stderr.contains("unknown controller"), "{}", done.stderr);
        assert_eq!(lab.run(&["exec", "--cgroup", "pids,memory:sub", &id, "true"]).code, 0);
    }
}
