//! What the public conformance suites ask for (bench/conformance.md) and no other case here has.

use crate::fixture::{Lab, read};
use naru_kernel::unix;
use serde_json::{Value, json};
use std::os::unix::net::UnixListener;

/// The agent of a filter with SCMP_ACT_NOTIFY is told while `create` runs, not when somebody asks for `start`.
pub fn an_agent_has_its_listener_before_start() {
    let lab = Lab::new();
    let id = lab.id("a");
    let path = lab.path("agent");
    let agent = UnixListener::bind(&path).unwrap();
    lab.config("busybox mkdir /x 2> /tmp/said; exec sleep 1000", |config| {
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "listenerPath": path,
            "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY" }],
        });
    });
    let teller = std::thread::spawn(move || {
        let (stream, _) = agent.accept().unwrap();
        let mut buffer = vec![0u8; 64 << 10];
        let received = unix::recv(&stream, &mut buffer).unwrap();
        assert_eq!(received.fds.len(), 1);
        serde_json::from_slice::<Value>(&buffer[..received.len]).unwrap()
    });
    lab.quiet_ok(&["create", &id]);
    // It has let go of the listener by now: notified calls fail with ENOSYS (seccomp_unotify(2)).
    let told = teller.join().unwrap();
    assert_eq!(told["state"]["id"], json!(id));
    assert_eq!((&told["pid"], &told["state"]["status"]), (&lab.state(&id)["pid"], &json!("creating")));
    lab.ok(&["start", &id]);
    crate::fixture::wait_for(|| {
        read(&lab.bundle().join("rootfs/tmp/said")).contains("Function not implemented")
    });
}

pub fn an_initial_affinity_is_in_the_log() {
    let lab = Lab::new();
    let id = lab.id("a");
    lab.config("sleep 1000", |config| {
        config["process"]["execCPUAffinity"] = json!({ "initial": "0" });
    });
    lab.quiet_ok(&["run", "-d", &id]);
    let exec = |globals: &[&str]| {
        let args = [globals, &["exec", &id, "true"]].concat();
        let done = lab.run(&args);
        assert_eq!(done.code, 0, "{}", done.stderr);
        done.stderr
    };
    assert!(exec(&["--debug"]).contains("initial CPU affinity: 0x1\""));
    assert_eq!(exec(&[]), "");
}

/// A created container whose start is bound to fail helps nobody.
pub fn create_refuses_what_start_could_not_do() {
    let lab = Lab::new();
    let id = lab.id("a");
    let refused = |words: &str| {
        assert_eq!(lab.quiet(&["create", &id]), 1, "{words}");
        let said = read(&lab.path("stderr"));
        assert!(said.contains(words), "{said}");
        assert!(!lab.root().join(&id).exists() && lab.groups().is_empty(), "{words}");
    };
    lab.config("true", |config| {
        config["process"]["capabilities"] =
            json!({ "permitted": ["CAP_SYS_ADMIN"], "inheritable": ["CAP_SYS_ADMIN"] });
    });
    refused("CAP_SYS_ADMIN inheritable, which the bounding set does not have: operation not permitted");
    lab.config("true", |_| {});
    let proc = lab.bundle().join("rootfs/proc");
    std::fs::remove_dir(&proc).unwrap();
    std::os::unix::fs::symlink("tmp", &proc).unwrap();
    refused("filesystem \\\"proc\\\" must be mounted on ordinary directory");
}

/// No more and no fewer than `additionalGids`: the primary group is not silently one of them, and twice is twice.
pub fn groups_are_those_of_the_spec() {
    let lab = Lab::new();
    let id = lab.id("a");
    lab.config("while read -r line; do echo $line; done < /proc/self/status", |config| {
        config["process"]["user"] = json!({ "uid": 10, "gid": 11, "additionalGids": [150, 20, 150] });
    });
    let status = lab.ok(&["run", &id]);
    let groups = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap().trim();
    // The kernel sorts them (setgroups(2)).
    assert_eq!(groups, "20 150 150", "{status}");
}

/// "If a namespace type is not specified in the namespaces array, the container MUST inherit the runtime namespace of that
/// type" (config-linux.md, "Namespaces"). What that puts into the caller's mount table, `delete` takes out again.
pub fn a_mount_namespace_is_inherited() {
    let lab = Lab::new();
    let id = lab.id("a");
    let table = || read(std::path::Path::new("/proc/self/mountinfo"));
    let inside =
        |text: &str| text.lines().filter(|line| line.contains(lab.dir.path().to_str().unwrap())).count();
    let top = |text: &str| text.lines().find(|line| line.contains(" / / ")).map(str::to_owned);
    let before = top(&table());
    let shared = |config: &mut Value| {
        config["linux"]["namespaces"]
            .as_array_mut()
            .unwrap()
            .retain(|namespace| namespace["type"] != "mount");
        config["linux"]["maskedPaths"] = json!(["/proc/kcore"]);
    };
    std::fs::write(lab.bundle().join("rootfs/etc/mine"), "mine").unwrap();
    lab.config("exec sleep 1000", shared);
    lab.quiet_ok(&["create", &id]);
    lab.ok(&["start", &id]);
    let pid = lab.state(&id)["pid"].to_string();
    let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/mnt")).unwrap();
    assert_eq!(namespace(&pid), namespace("self"));
    // The container's root, for an exec too.
    assert_eq!(lab.ok(&["exec", &id, "cat", "/etc/mine"]), "mine");
    assert_eq!(lab.ok(&["exec", &id, "ls", "/"]), "bin\ndev\netc\nproc\nsys\ntmp\n");
    assert!(inside(&table()) >= 4, "{}", table());
    lab.ok(&["delete", "--force", &id]);
    assert_eq!((inside(&table()), top(&table())), (0, before.clone()));
    // A create that fails half-way leaves nothing.
    lab.config("true", |config| {
        shared(config);
        config["process"]["args"] = json!(["/nowhere"]);
    });
    assert_eq!(lab.quiet(&["create", &id]), 1);
    assert_eq!((inside(&table()), top(&table())), (0, before.clone()));
    // Who took the root off already is not surprised by it.
    lab.config("exec sleep 1000", shared);
    lab.quiet_ok(&["create", &id]);
    rustix::mount::unmount(lab.bundle().join("rootfs"), rustix::mount::UnmountFlags::DETACH).unwrap();
    lab.ok(&["delete", "--force", &id]);
    assert_eq!((inside(&table()), top(&table())), (0, before));
    lab.config("true", |config| {
        shared(config);
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
        let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 1000 }]);
        (config["linux"]["uidMappings"], config["linux"]["gidMappings"]) = (map.clone(), map);
    });
    assert_eq!(lab.quiet(&["create", &id]), 1);
    assert!(read(&lab.path("stderr")).contains("a user namespace needs a mount namespace beside it"));
}
