//! One daemon in a network namespace of its own, with its own directories and cgroup parent, and the clients that
//! drive it.

use crate::host::{Snapshot, text};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

const NARU: &str = env!("CARGO_BIN_EXE_naru");
/// Longest time for anything that should happen soon.
pub const SOON: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub struct Out {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Out {
    pub fn expect(self, code: i32, what: &str) -> Self {
        assert_eq!(self.code, code, "{what}: stdout {:?}, stderr {:?}", self.stdout, self.stderr);
        self
    }
}

pub struct Lab {
    pub dir: PathBuf,
    pub name: String,
    /// Holds the network namespace while daemons come and go.
    holder: Mutex<Child>,
    daemon: Mutex<Option<Child>>,
}

/// Why the end-to-end tests can't run here.
pub fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("needs root".into());
    }
    for program in ["docker", "ip", "nft", "curl", "unshare", "nsenter"] {
        if text("sh", &["-c", &format!("command -v {program}")]).is_empty() {
            return Some(format!("needs {program}; cargo xtask setup installs it"));
        }
    }
    (!base_image("busybox_latest").exists())
        .then(|| "needs the base images; cargo xtask images makes them".into())
}

/// A root file system made by `cargo xtask images`.
pub fn base_image(name: &str) -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
    cache.unwrap_or_default().join("naru-base-images").join(format!("{name}-1.tar"))
}

impl Lab {
    pub fn start(name: &str) -> Self {
        let name = format!("naru-{name}-{}", std::process::id());
        let dir = std::env::temp_dir().join(&name);
        std::fs::create_dir_all(dir.join("docker-config")).unwrap();
        let holder = Command::new("unshare")
            .args(["--net", "sh", "-c", "ip link set lo up && echo up && exec sleep 100000"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lab = Self { dir, name, holder: Mutex::new(holder), daemon: Mutex::new(None) };
        wait_for("the namespace", || {
            text("nsenter", &["-t", &lab.holder_pid(), "-n", "ip", "-o", "link"]).contains("UP")
        });
        lab.start_daemon();
        lab.docker_in(
            &[
                "import",
                "-c",
                "CMD [\"sh\"]",
                "-c",
                "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "-",
                "busybox:latest",
            ],
            &std::fs::read(base_image("busybox_latest")).unwrap(),
        )
        .expect(0, "importing busybox");
        lab
    }

    pub fn binary(&self) -> &'static Path {
        Path::new(NARU)
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.join("run/naru.sock")
    }

    pub fn start_daemon(&self) {
        let log =
            std::fs::File::options().create(true).append(true).open(self.dir.join("daemon.log")).unwrap();
        let mut command = self.inside(NARU);
        command.arg("daemon").arg("--root").arg(self.dir.join("root")).arg("--run").arg(self.dir.join("run"));
        command.args(["--cgroup-parent", &self.name]);
        if self.config().exists() {
            command.arg("--config").arg(self.config());
        }
        let child =
            command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        *self.daemon.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(child);
        wait_for("the daemon", || self.docker(&["version"]).code == 0);
    }

    /// A `daemon.json` that the next start reads.
    pub fn config(&self) -> PathBuf {
        self.dir.join("daemon.json")
    }

    /// `kill -9`, and not by mistake of another process: the child is ours.
    pub fn kill_daemon(&self) {
        let mut child = self
            .daemon
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take()
            .expect("a daemon runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub fn stop_daemon(&self) {
        let mut daemon = self.daemon.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let child = daemon.as_mut().expect("a daemon runs");
        let pid = child.id().to_string();
        text("kill", &["-TERM", &pid]);
        let deadline = Instant::now() + SOON;
        while child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "the daemon doesn't end; see {}", self.dir.display());
            std::thread::sleep(Duration::from_millis(10));
        }
        *daemon = None;
    }

    pub fn keeper_pid(&self) -> Option<String> {
        let run = self.dir.join("run").display().to_string();
        processes()
            .into_iter()
            .find(|(_, line)| line.contains(" keeper ") && line.contains(&run))
            .map(|(pid, _)| pid)
    }

    /// A command inside the daemon's network namespace.
    pub fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.holder_pid(), "-n", "--"]).arg(program);
        command
    }

    pub fn sh(&self, script: &str) -> Out {
        let mut command = self.inside("sh");
        command.args(["-c", script]);
        collect(command, b"")
    }

    fn holder_pid(&self) -> String {
        self.holder.lock().unwrap_or_else(std::sync::PoisonError::into_inner).id().to_string()
    }

    /// The stock docker CLI against naru's socket.
    pub fn docker(&self, args: &[&str]) -> Out {
        self.docker_in(args, b"")
    }

    pub fn docker_in(&self, args: &[&str], input: &[u8]) -> Out {
        collect(self.docker_command(args), input)
    }

    pub fn docker_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.arg("-H").arg(format!("unix://{}", self.socket().display())).args(args);
        command
            .env("DOCKER_CONFIG", self.dir.join("docker-config"))
            .env("DOCKER_BUILDKIT", "0")
            .env_remove("DOCKER_HOST");
        command
    }

    /// Runs it, expects success, returns standard output without the last line feed.
    pub fn ok(&self, args: &[&str]) -> String {
        let out = self.docker(args).expect(0, &format!("docker {}", args.join(" ")));
        out.stdout.trim_end().to_owned()
    }

    pub fn naru(&self, args: &[&str], dir: &Path) -> Out {
        let mut command = Command::new(NARU);
        command.arg("-H").arg(format!("unix://{}", self.socket().display())).args(args).current_dir(dir);
        // Neither the logins nor the helpers of who runs the tests.
        command.env("DOCKER_CONFIG", self.dir.join("docker-config"));
        collect(command, b"")
    }

    /// What an API client sees: status and body.
    pub fn api(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let socket = self.socket().display().to_string();
        let url = format!("http://localhost{path}");
        let mut args =
            vec!["-sS", "-m", "20", "--unix-socket", &socket, "-X", method, "-w", "\n%{http_code}", &url];
        if !body.is_empty() {
            args.extend(["-H", "Content-Type: application/json", "--data-binary", body]);
        }
        let answer = text("curl", &args);
        let (body, status) = answer.rsplit_once('\n').unwrap_or(("", "0"));
        (status.parse().unwrap_or(0), body.to_owned())
    }

    /// After a failed test: the next one finds no strangers.
    pub fn remove_everything(&self) {
        let ids = self.docker(&["ps", "-aq"]).stdout;
        for id in ids.split_whitespace() {
            self.docker(&["rm", "-f", "-v", id]);
        }
        self.docker(&["network", "prune", "-f"]);
        self.docker(&["volume", "prune", "-f", "-a"]);
    }

    /// Ends the daemon and shows that the host is as it was.
    pub fn finish(&self, before: &Snapshot) {
        self.remove_everything();
        self.stop_daemon();
        let run = self.dir.display().to_string();
        wait_for("all processes to end", || {
            !processes().iter().any(|(_, line)| line.contains(&run) && !line.contains("tests/e2e"))
        });
        let links = text("nsenter", &["-t", &self.holder_pid(), "-n", "ip", "-o", "link"]);
        assert_eq!(links.lines().count(), 1, "links left in the daemon's namespace: {links}");
        let tables = text("nsenter", &["-t", &self.holder_pid(), "-n", "nft", "list", "tables"]);
        assert_eq!(tables, "", "nft tables left");
        let mut holder = self.holder.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        holder.kill().unwrap();
        holder.wait().unwrap();
        let added = Snapshot::take().added_since(before);
        assert!(added.is_empty(), "left on the host: {added:#?}");
        let bundles = std::fs::read_dir(self.dir.join("run/bundles")).map_or(0, Iterator::count);
        assert_eq!(bundles, 0, "bundles left");
        let containers = std::fs::read_dir(self.dir.join("root/containers")).map_or(0, Iterator::count);
        assert_eq!(containers, 0, "container directories left");
        std::fs::remove_dir_all(&self.dir).unwrap();
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(mut child) = self.daemon.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
        {
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Some(pid) = self.keeper_pid() {
            text("kill", &["-9", &pid]);
        }
        let mut holder = self.holder.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let _ = holder.kill();
        let _ = holder.wait();
    }
}

/// (pid, command line) of every process.
fn processes() -> Vec<(String, String)> {
    let mut list = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_string_lossy().into_owned();
        if pid.bytes().all(|byte| byte.is_ascii_digit()) {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            list.push((pid, String::from_utf8_lossy(&line).replace('\0', " ")));
        }
    }
    list
}

pub fn collect(mut command: Command, input: &[u8]) -> Out {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    let _ = writer.join();
    Out {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Waits for a condition; names it when it doesn't come true.
pub fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + SOON;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
