//! Commands that are killed, or race each other.

use crate::fixture::{Lab, read, wait_for};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

pub fn only_one_create_wins() {
    let lab = Lab::new();
    let id = lab.id("a");
    lab.config("sleep 1000", |_| {});
    for round in 0..10 {
        let children: Vec<_> = (0..8)
            .map(|_| lab.oci(&["create", &id]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
            .collect();
        let codes: Vec<_> =
            children.into_iter().map(|mut child| child.wait().unwrap().code().unwrap()).collect();
        assert_eq!(codes.iter().filter(|code| **code == 0).count(), 1, "round {round}: {codes:?}");
        assert_eq!(lab.status(&id), "created");
        lab.ok(&["delete", "--force", &id]);
    }
    assert!(lab.groups().is_empty());
}

pub fn a_killed_create_leaves_nothing() {
    let lab = Lab::new();
    let id = lab.id("a");
    let (hook, here) = (lab.path("hook"), lab.path("here"));
    std::fs::write(&hook, format!("#!/bin/sh\necho x > {}\nexec sleep 30\n", here.display())).unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    let hooks = serde_json::json!({ "createRuntime": [{ "path": hook }] });
    for again in ["create", "delete", "force"] {
        lab.config("sleep 1000", |config| config["hooks"] = hooks.clone());
        let mut child =
            lab.oci(&["create", &id]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait_for(|| here.exists());
        child.kill().unwrap();
        child.wait().unwrap();
        std::fs::remove_file(&here).unwrap();
        assert_eq!(lab.status(&id), "creating");
        lab.config("sleep 1000", |_| {});
        match again {
            "create" => {
                lab.quiet_ok(&["create", &id]);
                lab.ok(&["start", &id]);
                lab.ok(&["delete", "--force", &id]);
            }
            "delete" => drop(lab.ok(&["delete", &id])),
            _ => drop(lab.ok(&["delete", "-f", &id])),
        }
        assert!(!lab.root().join(&id).exists());
        assert!(lab.groups().is_empty(), "{again}");
    }
}

pub fn a_damaged_state_is_removed_by_force() {
    let lab = Lab::new();
    let id = lab.id("a");
    let dir = lab.root().join(&id);
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("state.json"), "{garbage").unwrap();
    let done = lab.run(&["delete", &id]);
    assert!(done.code == 1 && done.stderr.contains("damaged"), "{}", done.stderr);
    lab.ok(&["list"]);
    lab.ok(&["delete", "--force", &id]);
    assert!(!dir.exists());
    // A directory without a state: runc's words, and it goes away.
    std::fs::create_dir_all(&dir).unwrap();
    let done = lab.run(&["delete", &id]);
    assert!(done.code == 1 && done.stderr.contains("container does not exist") && !dir.exists());
    assert_eq!(read(&lab.path("nothing")), "");
}
