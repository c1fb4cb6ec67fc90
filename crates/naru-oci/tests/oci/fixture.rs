//! A root directory for containers, bundles of busybox, and the runtime as a command. All of it goes away on drop.

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const BUSYBOX: &str = "/usr/bin/busybox";
const TOOLS: [&str; 12] =
    ["sh", "sleep", "cat", "echo", "true", "ls", "id", "env", "kill", "stty", "readlink", "pwd"];
/// How long anything here may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Lab {
    pub dir: tempfile::TempDir,
    pub ids: std::cell::RefCell<Vec<String>>,
    tag: String,
}

impl Lab {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("bundle/rootfs");
        for name in ["bin", "proc", "dev", "sys", "tmp", "etc"] {
            std::fs::create_dir_all(root.join(name)).unwrap();
        }
        std::fs::copy(BUSYBOX, root.join("bin/busybox")).expect("the tests need a static busybox");
        for tool in TOOLS {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(tool)).unwrap();
        }
        let tag = dir.path().file_name().unwrap().to_string_lossy().replace('.', "");
        Self {
            dir,
            ids: std::cell::RefCell::default(),
            tag: format!("naru-test-{}-{tag}", std::process::id()),
        }
    }

    pub fn root(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub fn bundle(&self) -> PathBuf {
        self.dir.path().join("bundle")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// An id that is deleted at the end.
    pub fn id(&self, name: &str) -> String {
        let id = format!("{}-{name}", self.tag);
        self.ids.borrow_mut().push(id.clone());
        id
    }

    /// Writes the configuration: `sh -c script`, changed by `change`.
    pub fn config(&self, script: &str, change: impl FnOnce(&mut Value)) {
        let mut config = config(script);
        change(&mut config);
        std::fs::write(self.bundle().join("config.json"), config.to_string()).unwrap();
    }

    /// The runtime, in the bundle, with the lab's root.
    pub fn oci(&self, args: &[&str]) -> Command {
        let mut command = self.plain();
        command.arg("--root").arg(self.root()).args(args);
        command
    }

    pub fn plain(&self) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("oci").current_dir(self.bundle()).stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    pub fn run(&self, args: &[&str]) -> Done {
        Done::of(self.oci(args))
    }

    pub fn ok(&self, args: &[&str]) -> String {
        let done = self.run(args);
        assert_eq!(done.code, 0, "{args:?}: {}", done.stderr);
        done.stdout
    }

    /// `create` or `run -d` with its standard streams closed: the container keeps them.
    pub fn quiet(&self, args: &[&str]) -> i32 {
        let errors = std::fs::File::create(self.path("stderr")).unwrap();
        let status = self.oci(args).stdout(Stdio::null()).stderr(errors).status().unwrap();
        status.code().unwrap_or(-1)
    }

    pub fn quiet_ok(&self, args: &[&str]) {
        let code = self.quiet(args);
        assert_eq!(code, 0, "{args:?}: {}", std::fs::read_to_string(self.path("stderr")).unwrap());
    }

    pub fn state(&self, id: &str) -> Value {
        serde_json::from_str(&self.ok(&["state", id])).unwrap()
    }

    pub fn status(&self, id: &str) -> String {
        self.state(id)["status"].as_str().unwrap().to_owned()
    }

    pub fn wait_status(&self, id: &str, wanted: &str) {
        wait_for(|| self.status(id) == wanted);
    }

    /// Control groups that are left of this lab.
    pub fn groups(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut queue = vec![(PathBuf::from("/sys/fs/cgroup"), 0)];
        while let Some((dir, depth)) = queue.pop() {
            for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
                if entry.file_name().to_string_lossy().contains(&self.tag) {
                    found.push(entry.path());
                } else if depth < 1 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    queue.push((entry.path(), depth + 1));
                }
            }
        }
        found
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for id in self.ids.take() {
            let _ =
                self.oci(&["delete", "--force", &id]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
    }
}

#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    pub fn of(mut command: Command) -> Self {
        Self::from(command.output().unwrap())
    }
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Waits for something that another process does.
pub fn wait_for(mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < PATIENCE, "waited for nothing");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn config(script: &str) -> Value {
    let caps = json!(["CAP_KILL", "CAP_CHOWN", "CAP_SETUID", "CAP_SETGID"]);
    json!({
        "ociVersion": "1.2.0",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": ["/bin/sh", "-c", script],
            "env": ["PATH=/bin", "HOME=/"],
            "cwd": "/",
            "capabilities": { "bounding": caps, "effective": caps, "permitted": caps },
            "noNewPrivileges": true
        },
        "root": { "path": "rootfs" },
        "hostname": "box",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
              "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] }
        ],
        "annotations": { "org.example.a": "1" },
        "linux": {
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": [{ "type": "pid" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" }, { "type": "network" }]
        }
    })
}
