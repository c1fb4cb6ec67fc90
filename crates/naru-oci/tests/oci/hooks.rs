//! Hooks, as the commands run them.

use crate::fixture::{Lab, read, wait_for};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;

fn hook(lab: &Lab, name: &str, body: &str) -> Value {
    let path = lab.path(name);
    std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    json!([{ "path": path, "env": ["PATH=/usr/bin:/bin"] }])
}

pub fn hooks_run_at_their_points() {
    let lab = Lab::new();
    let id = lab.id("a");
    let log = lab.path("log");
    let tell =
        |name: &str| hook(&lab, name, &format!("state=$(cat); echo {name} $state >> {}", log.display()));
    lab.config("sleep 1000", |config| {
        config["hooks"] = json!({
            "prestart": tell("prestart"),
            "createRuntime": tell("createRuntime"),
            "poststart": tell("poststart"),
            "poststop": tell("poststop"),
            "startContainer": [{ "path": "/bin/sh", "args": ["sh", "-c", "cat > /tmp/started"] }],
        });
    });
    let told = || -> Vec<(String, Value)> {
        let line = |line: &str| {
            let (name, state) = line.split_once(' ').unwrap();
            (name.to_owned(), serde_json::from_str(state).unwrap())
        };
        read(&log).lines().map(line).collect()
    };
    lab.quiet_ok(&["create", &id]);
    let names = || told().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names(), ["prestart", "createRuntime"]);
    assert_eq!((&told()[0].1["id"], &told()[0].1["bundle"]), (&json!(id), &json!(lab.bundle())));
    assert_eq!(told()[0].1["pid"], lab.state(&id)["pid"]);
    lab.ok(&["start", &id]);
    assert_eq!(names(), ["prestart", "createRuntime", "poststart"]);
    wait_for(|| read(&lab.bundle().join("rootfs/tmp/started")).contains(&id));
    lab.ok(&["delete", "--force", &id]);
    assert_eq!(names().last().unwrap(), "poststop");
    assert_eq!(told().last().unwrap().1["status"], "stopped");
}

pub fn a_failing_hook_fails_the_create() {
    let lab = Lab::new();
    let id = lab.id("a");
    for point in ["createRuntime", "prestart", "poststart"] {
        lab.config("sleep 1000", |config| {
            config["hooks"] = json!({ point: hook(&lab, "bad", "echo no >&2; exit 3") });
        });
        assert_eq!(lab.quiet(&["run", "-d", &id]), 1, "{point}");
        let text = read(&lab.path("stderr"));
        assert!(text.contains(&format!("error running {point} hook #0")), "{text}");
        assert!(!lab.root().join(&id).exists(), "{point}");
        assert!(lab.groups().is_empty(), "{point}");
    }
    // Of a created container, `start` fails and stops it (runtime.md, "Lifecycle", 7): it can be deleted at once.
    let stopped = lab.path("stopped");
    let poststop = hook(&lab, "after", &format!("echo stopped >> {}", stopped.display()));
    lab.config("sleep 1000", |config| {
        config["hooks"] =
            json!({ "startContainer": [{ "path": "/bin/sh", "args": ["sh", "-c", "exit 3"] }], "poststop": poststop });
    });
    lab.quiet_ok(&["create", &id]);
    let done = lab.run(&["start", &id]);
    assert!(
        done.code == 1 && done.stderr.contains("error running startContainer hook #0"),
        "{}",
        done.stderr
    );
    lab.ok(&["delete", &id]);
    assert_eq!(read(&stopped), "stopped\n");
}
