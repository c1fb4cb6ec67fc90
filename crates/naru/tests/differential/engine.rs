//! One engine under test: naru's daemon or a real dockerd, each alone in network, mount and process namespaces of
//! its own with its own directories and cgroup parent. The process namespace makes the end certain: when its first
//! process goes, so does every shim, keeper and container in it, whatever state they are in.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest time for a start, an end, or anything a step waits for.
pub const SOON: Duration = Duration::from_secs(30);

/// Ends the engine in an orderly way when standard input closes, which it also does when this test dies.
const HOLD: &str =
    "ip link set lo up; \"$@\" >\"$LOG\" 2>&1 & engine=$!; cat; kill -TERM $engine; wait $engine";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Dockerd,
    Naru,
}

#[derive(Debug)]
pub struct Out {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

pub struct Engine {
    pub dir: PathBuf,
    socket: PathBuf,
    cgroup_parent: String,
    namespaces: Child,
}

impl Engine {
    pub fn start(kind: Kind, name: &str) -> Self {
        let cgroup_parent = format!("differential-{name}-{}", std::process::id());
        let dir = std::env::temp_dir().join(&cgroup_parent);
        std::fs::create_dir_all(dir.join("docker-config")).unwrap();
        let socket = dir.join("run/naru.sock");
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        command.args(["sh", "-c", HOLD, "sh"]).env("LOG", dir.join("daemon.log"));
        match kind {
            Kind::Naru => naru(&mut command, &dir, &cgroup_parent),
            Kind::Dockerd => dockerd(&mut command, &dir, &socket, &cgroup_parent),
        }
        let namespaces = command.stdin(Stdio::piped()).spawn().unwrap();
        let mut engine = Self { dir, socket, cgroup_parent, namespaces };
        engine.wait_until_it_answers();
        engine
    }

    /// Inspected for the answer rather than for the socket: the socket exists before the engine serves it.
    fn wait_until_it_answers(&mut self) {
        let deadline = Instant::now() + SOON;
        while self.docker(&["version".into()], b"").code != 0 {
            let ended = self.namespaces.try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "the engine doesn't answer ({ended:?}): {}",
                std::fs::read_to_string(self.dir.join("daemon.log")).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The stock docker CLI. Both engines are asked in the API version of the older one, so that both get the very
    /// same requests.
    pub fn docker(&self, args: &[String], input: &[u8]) -> Out {
        let mut command = Command::new("docker");
        command.arg("-H").arg(format!("unix://{}", self.socket.display())).args(args);
        command.env("DOCKER_CONFIG", self.dir.join("docker-config")).env("DOCKER_BUILDKIT", "0");
        command.env("DOCKER_API_VERSION", API_VERSION).env_remove("DOCKER_HOST");
        collect(command, input)
    }

    /// A raw request: the status is in `code`, the content type in `stderr`, the body in `stdout`.
    pub fn http(&self, method: &str, path: &str, body: &str) -> Out {
        let mut command = Command::new("curl");
        command.args(["-sS", "-m", "20", "-X", method, "-w", "\n%{http_code} %{content_type}"]);
        command.arg("--unix-socket").arg(&self.socket).arg(format!("http://localhost{path}"));
        if method == "HEAD" {
            command.arg("-I");
        }
        if !body.is_empty() {
            command.args(["-H", "Content-Type: application/json", "--data-binary", body]);
        }
        let out = collect(command, b"");
        let (body, status) = out.stdout.rsplit_once('\n').unwrap_or(("", "0 "));
        let (code, content_type) = status.split_once(' ').unwrap_or((status, ""));
        Out {
            code: code.parse().unwrap_or(0),
            stdout: body.to_owned(),
            stderr: content_type.to_owned() + &out.stderr,
        }
    }

    /// A shell command in the engine's network namespace.
    pub fn shell(&self, line: &str) -> Out {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.first_process(), "-n", "--", "sh", "-c", line]).current_dir(&self.dir);
        collect(command, b"")
    }

    /// The first process inside the namespaces: the only child of unshare(1).
    fn first_process(&self) -> String {
        let pid = self.namespaces.id();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        children.unwrap_or_default().trim().to_owned()
    }

    /// Ends it and removes what is its own; answers with what it would have left.
    pub fn finish(&mut self) -> Vec<String> {
        let mut left = Vec::new();
        drop(self.namespaces.stdin.take());
        let deadline = Instant::now() + SOON;
        while self.namespaces.try_wait().unwrap().is_none() {
            if Instant::now() > deadline {
                left.push("the engine had to be killed".to_owned());
                let _ = self.namespaces.kill();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        for root in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            remove_cgroup(&root.path().join(&self.cgroup_parent));
        }
        remove_cgroup(&Path::new("/sys/fs/cgroup").join(&self.cgroup_parent));
        left.extend(left_on_host(&self.cgroup_parent));
        if self.dir.exists()
            && let Err(error) = std::fs::remove_dir_all(&self.dir)
        {
            left.push(format!("{}: {error}", self.dir.display()));
        }
        left
    }
}

/// After a failed start too nothing stays.
impl Drop for Engine {
    fn drop(&mut self) {
        self.finish();
    }
}

/// API version of Debian's dockerd 20.10.
pub const API_VERSION: &str = "1.41";

fn naru(command: &mut Command, dir: &Path, cgroup_parent: &str) {
    command.arg(env!("CARGO_BIN_EXE_naru")).arg("daemon").arg("--root").arg(dir.join("root"));
    command.arg("--run").arg(dir.join("run")).args(["--cgroup-parent", cgroup_parent]);
}

fn dockerd(command: &mut Command, dir: &Path, socket: &Path, cgroup_parent: &str) {
    std::fs::create_dir_all(dir.join("run")).unwrap();
    // It would write /etc/docker/key.json otherwise.
    let config = format!("{{\"deprecated-key-path\": \"{}\"}}", dir.join("key.json").display());
    std::fs::write(dir.join("daemon.json"), config).unwrap();
    command.arg("dockerd").arg("-H").arg(format!("unix://{}", socket.display()));
    command.arg("--config-file").arg(dir.join("daemon.json")).arg("--data-root").arg(dir.join("root"));
    command.arg("--exec-root").arg(dir.join("exec")).arg("--pidfile").arg(dir.join("pid"));
    command.args(["--cgroup-parent", &format!("/{cgroup_parent}")]);
    command.args(["--exec-opt", "native.cgroupdriver=cgroupfs"]);
}

/// dockerd leaves its parent cgroup behind by design; an emptied one is removed bottom-up.
fn remove_cgroup(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    let _ = std::fs::remove_dir(dir);
}

/// Mounts, cgroups and processes that carry this engine's name.
fn left_on_host(name: &str) -> Vec<String> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut left: Vec<String> =
        mounts.lines().filter(|line| line.contains(name)).map(|line| format!("mount {line}")).collect();
    for root in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
        let dir = root.path().join(name);
        if dir.exists() {
            left.push(format!("cgroup {}", dir.display()));
        }
    }
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(name) {
            left.push(format!("process {}: {line}", entry.file_name().display()));
        }
    }
    left
}

fn collect(mut command: Command, input: &[u8]) -> Out {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A program that ends without reading closes the pipe; that is its right.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    let _ = writer.join();
    Out {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Why the comparison can't be made here.
pub fn missing(base: &Path) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("needs root".into());
    }
    let path = std::env::var("PATH").unwrap_or_default();
    for program in ["dockerd", "containerd", "runc", "docker", "ip", "iptables", "curl", "unshare", "nsenter"]
    {
        if !std::env::split_paths(&path).any(|dir| dir.join(program).exists()) {
            return Some(format!("needs {program} (Debian's docker.io has dockerd)"));
        }
    }
    (!base.exists()).then(|| "needs the base images; cargo xtask images makes them".into())
}
