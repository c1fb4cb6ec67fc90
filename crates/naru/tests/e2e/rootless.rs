//! An ordinary user without any rights types `naru run`: nothing was set up for that user before.

use crate::host::text;
use crate::lab::{Lab, Out, base_image, collect, wait_for};
use std::path::{Path, PathBuf};
use std::process::Command;

pub const TESTS: &[(&str, fn(&Lab))] = &[("rootless_life", life)];

/// A user that Debian reserves for nobody (`/etc/adduser.conf`: dynamic users end at 59999) and that has no sub-ranges.
const UID: u32 = 61_234;

/// That user's home, with a copy of the binary, since the build directory may be closed to others.
struct User {
    home: PathBuf,
}

impl User {
    fn new(lab: &Lab) -> Self {
        let home = std::env::temp_dir().join(format!("naru-user-{}", std::process::id()));
        std::fs::create_dir_all(&home).unwrap();
        std::fs::copy(lab.binary(), home.join("naru")).unwrap();
        std::fs::copy(base_image("busybox_latest"), home.join("busybox.tar")).unwrap();
        text("chown", &["-R", &format!("{UID}:{UID}"), &home.display().to_string()]);
        Self { home }
    }

    fn naru(&self, args: &[&str]) -> Out {
        let id = UID.to_string();
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--"]);
        command.arg(self.home.join("naru")).args(args);
        command.env_clear().env("HOME", &self.home).env("XDG_RUNTIME_DIR", self.home.join("run"));
        command.env("PATH", "/usr/bin:/bin").current_dir(&self.home);
        collect(command, b"")
    }

    fn ok(&self, args: &[&str]) -> String {
        self.naru(args).expect(0, &format!("naru {}", args.join(" "))).stdout.trim_end().to_owned()
    }

    fn processes(&self) -> String {
        text("pgrep", &["-u", &UID.to_string()])
    }
}

impl Drop for User {
    fn drop(&mut self) {
        text("pkill", &["-KILL", "-u", &UID.to_string()]);
        let _ = std::fs::remove_dir_all(&self.home);
    }
}

fn life(lab: &Lab) {
    if Path::new("/proc/sys/user/max_user_namespaces").exists()
        && text("cat", &["/proc/sys/user/max_user_namespaces"]).trim() == "0"
    {
        println!("SKIP: rootless: this host has no user namespaces");
        return;
    }
    let user = User::new(lab);
    std::fs::create_dir(user.home.join("run")).unwrap();
    text("chown", &[&format!("{UID}:{UID}"), &user.home.join("run").display().to_string()]);
    user.ok(&["import", "busybox.tar", "busybox:latest"]);
    assert_eq!(user.ok(&["run", "--rm", "busybox", "id", "-u"]), "0", "root inside");
    let run = |script: &str| user.ok(&["run", "--rm", "busybox", "sh", "-c", script]);
    assert_eq!(run("awk '{print $1,$2,$3}' /proc/self/uid_map"), format!("0 {UID} 1"));
    assert_eq!(run("echo $$"), "1", "an own process namespace");
    assert!(run("ip addr show eth0").contains("172.17.0."), "an own network namespace");
    assert_eq!(run("cat /proc/1/status | grep Seccomp: | cut -f2"), "2");
    for kind in ["user", "mnt", "net", "pid"] {
        let inside = run(&format!("readlink /proc/self/ns/{kind}"));
        let outside = text("readlink", &[&format!("/proc/self/ns/{kind}")]);
        assert_ne!(inside, outside.trim(), "{kind}");
    }
    // Files that it writes belong to the user, and the volume keeps them.
    run("true");
    user.ok(&["run", "--rm", "-v", "data:/data", "busybox", "sh", "-c", "echo kept > /data/file"]);
    assert_eq!(user.ok(&["run", "--rm", "-v", "data:/data", "busybox", "cat", "/data/file"]), "kept");
    // What cannot be limited here is said, and the container runs all the same.
    let limited = user.naru(&["run", "--rm", "-m", "64m", "busybox", "true"]).expect(0, "a limit");
    if !cgroups_are_delegated() {
        assert!(limited.stderr.contains("memory"), "{limited:?}");
    }
    let info = user.ok(&["info", "--format", "{{json .SecurityOptions}}"]);
    assert!(info.contains("name=rootless"), "{info}");

    // The next daemon finds the first one's namespaces, and the container in them.
    user.ok(&[
        "run",
        "-d",
        "--name",
        "web",
        "busybox",
        "sh",
        "-c",
        "trap 'exit 4' TERM; while :; do sleep 0.1; done",
    ]);
    let address =
        |user: &User| user.ok(&["exec", "web", "sh", "-c", "ip -4 -o addr show eth0 | cut -d' ' -f7"]);
    let before = address(&user);
    text("pkill", &["-KILL", "-u", &UID.to_string(), "-f", "naru daemon"]);
    assert_eq!(user.ok(&["ps", "--format", "{{.Names}}"]), "web");
    assert_eq!(address(&user), before);
    user.ok(&["run", "--rm", "busybox", "ping", "-c1", "-W2", before.split('/').next().unwrap()]);
    user.ok(&["stop", "web"]);
    assert_eq!(user.ok(&["inspect", "-f", "{{.State.ExitCode}}", "web"]), "4");
    user.ok(&["rm", "web"]);
    user.ok(&["system", "stop"]);
    wait_for("the user's processes to end", || user.processes().is_empty());
}

/// Whether the user could make control groups at all: never on cgroup v1.
fn cgroups_are_delegated() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}
