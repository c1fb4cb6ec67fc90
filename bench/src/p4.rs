//! P4: what supervision costs in memory: naru's one keeper with more and more containers, beside one conmon (podman)
//! and one containerd-shim for each container.
//!
//! All of it runs in a network namespace of its own and in directories of its own; no other daemon is touched.

use crate::Result;
use crate::bundle::Lab;
use crate::options::Options;
use crate::view::remove_cgroups;
use naru_kernel::{loopback, ns};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const START_S_MAX: u64 = 30;
const POLL_MS: u64 = 20;
const KIB_PER_MB: f64 = 1000.0;
const SLEEP: [&str; 2] = ["/bin/sleep", "1000000"];

pub fn run(options: &Options) -> Result<()> {
    ns::unshare(ns::NEWNET).map_err(|error| format!("cannot make a network namespace: {error}"))?;
    loopback::up()?;
    let lab = Lab::new()?;
    println!("## P4: memory of supervision\n");
    println!(
        "| supervisor | containers | processes | PSS | private | PSS per container | private per container |"
    );
    println!("|---|---|---|---|---|---|---|");
    keeper(options, &lab)?;
    for (name, measured) in [("conmon", conmon(options, &lab)), ("containerd-shim", shim(options, &lab))] {
        match measured {
            Ok(memory) => print(name, options.peer_containers, memory, Memory::default()),
            Err(error) => eprintln!("bench: without {name}: {error}"),
        }
    }
    println!();
    Ok(())
}

/// One daemon; containers are added between the measurements.
fn keeper(options: &Options, lab: &Lab) -> Result<()> {
    let daemon = Naru::start(options, lab)?;
    let mut started = 0;
    let mut empty = None;
    for &wanted in &options.containers {
        while started < wanted {
            daemon.naru(&["run", "--detach", "--network", "none", "busybox:latest", SLEEP[0], SLEEP[1]])?;
            started += 1;
        }
        let memory = Memory::of(&processes_with(&["keeper", path_text(&daemon.run_dir)])?)?;
        print("naru keeper", wanted, memory, *empty.get_or_insert(memory));
    }
    Ok(())
}

fn print(name: &str, containers: usize, memory: Memory, empty: Memory) {
    let each = |all: u64, base: u64| match containers {
        0 => "–".to_owned(),
        _ => format!("{:.1} kB", all.saturating_sub(base) as f64 / containers as f64),
    };
    println!(
        "| {name} | {containers} | {} | {:.2} MB | {:.2} MB | {} | {} |",
        memory.processes,
        memory.pss_kib as f64 / KIB_PER_MB,
        memory.private_kib as f64 / KIB_PER_MB,
        each(memory.pss_kib, empty.pss_kib),
        each(memory.private_kib, empty.private_kib),
    );
}

/// Sums over some processes, of `/proc/<pid>/smaps_rollup`.
#[derive(Clone, Copy, Debug, Default)]
struct Memory {
    processes: usize,
    pss_kib: u64,
    private_kib: u64,
}

impl Memory {
    fn of(pids: &[i32]) -> Result<Self> {
        let mut sum = Self::default();
        for pid in pids {
            let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
            let field = |name: &str| -> u64 {
                let line = rollup.lines().find_map(|line| line.strip_prefix(name));
                line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
            };
            sum.processes += 1;
            sum.pss_kib += field("Pss:");
            sum.private_kib += field("Private_Dirty:") + field("Private_Clean:");
        }
        if pids.is_empty() { Err("no such process".into()) } else { Ok(sum) }
    }
}

/// Processes whose command line has all of `words` in it.
fn processes_with(words: &[&str]) -> Result<Vec<i32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if words.iter().all(|word| line.contains(word)) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// A naru daemon with one image, ended with all that it started when dropped.
struct Naru {
    program: PathBuf,
    child: Child,
    run_dir: PathBuf,
    cgroup: String,
}

impl Naru {
    fn start(options: &Options, lab: &Lab) -> Result<Self> {
        let run_dir = lab.dir.join("naru-run");
        let log = fs::File::create(lab.dir.join("naru.log"))?;
        let mut command = Command::new(&options.naru);
        command.arg("daemon").arg("--root").arg(lab.dir.join("naru-root")).arg("--run").arg(&run_dir);
        command.args(["--cgroup-parent", &lab.cgroup, "--nft-table", "naru-bench", "--bridge", "narubench0"]);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn()?;
        let daemon = Self { program: options.naru.clone(), child, run_dir, cgroup: lab.cgroup.clone() };
        until("naru's daemon", || daemon.naru(&["version"]).is_ok())?;
        let image = lab.dir.join("busybox.tar");
        capture(Command::new("tar").arg("-cf").arg(&image).arg("-C").arg(lab.rootfs()).arg("."))?;
        daemon.naru(&["import", path_text(&image), "busybox:latest"])?;
        Ok(daemon)
    }

    fn naru(&self, args: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.program);
        command.env("DOCKER_HOST", format!("unix://{}", path_text(&self.run_dir.join("naru.sock"))));
        capture(command.args(args))
    }

    fn end(&mut self) -> Result<()> {
        let all = self.naru(&["ps", "--all", "--quiet"])?;
        let ids: Vec<&str> = all.lines().collect();
        if !ids.is_empty() {
            self.naru(&[&["rm", "--force"], ids.as_slice()].concat())?;
        }
        terminate(self.child.id() as i32)?;
        self.child.wait()?;
        // With nothing to hold, the daemon's end is the keeper's too; should it be late, it is told so.
        for pid in processes_with(&["keeper", path_text(&self.run_dir)])? {
            terminate(pid)?;
        }
        remove_cgroups(&self.cgroup);
        Ok(())
    }
}

impl Drop for Naru {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("bench: ending naru's daemon: {error}");
        }
    }
}

/// podman starts one conmon for each container.
fn conmon(options: &Options, lab: &Lab) -> Result<Memory> {
    let dir = lab.dir.join("podman");
    let runtime = options.peers.join("bin/runc");
    let podman = |args: &[&str]| {
        let mut command = Command::new("podman");
        command.arg("--root").arg(dir.join("root")).arg("--runroot").arg(dir.join("run"));
        command.arg("--tmpdir").arg(dir.join("tmp")).arg("--runtime").arg(&runtime);
        command.args(["--cgroup-manager", "cgroupfs", "--storage-driver", "vfs"]).args(args);
        capture(&mut command)
    };
    let start = || -> Result<Memory> {
        for at in 0..options.peer_containers {
            let name = format!("bench{at}");
            let parent = format!("--cgroup-parent=/{}", lab.cgroup);
            podman(&[
                "run",
                "--detach",
                "--ulimit",
                "host",
                "--name",
                &name,
                &parent,
                "--network",
                "none",
                "--log-driver",
                "k8s-file",
                "--rootfs",
                path_text(&lab.rootfs()),
                SLEEP[0],
                SLEEP[1],
            ])?;
        }
        Memory::of(&processes_with(&["conmon", path_text(&dir)])?)
    };
    let memory = start();
    podman(&["rm", "--all", "--force", "--time", "0"])?;
    memory
}

/// containerd starts one shim for each container.
fn shim(options: &Options, lab: &Lab) -> Result<Memory> {
    let dir = lab.dir.join("containerd");
    fs::create_dir_all(&dir)?;
    let config = dir.join("config.toml");
    // The CRI plug-in would look for the machine's network configuration; the shims don't need it.
    fs::write(&config, "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n")?;
    let socket = dir.join("containerd.sock");
    let log = fs::File::create(dir.join("log"))?;
    let mut daemon = Command::new("containerd")
        .arg("--config")
        .arg(&config)
        .arg("--root")
        .arg(dir.join("root"))
        .arg("--state")
        .arg(dir.join("state"))
        .arg("--address")
        .arg(&socket)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    let ctr = |args: &[&str]| capture(Command::new("ctr").arg("--address").arg(&socket).args(args));
    let start = || -> Result<Memory> {
        until("containerd", || ctr(&["version"]).is_ok())?;
        for at in 0..options.peer_containers {
            let cgroup = format!("/{}/shim{at}", lab.cgroup);
            let name = format!("bench{at}");
            ctr(&[
                "run",
                "--detach",
                "--cgroup",
                &cgroup,
                "--rootfs",
                path_text(&lab.rootfs()),
                &name,
                SLEEP[0],
                SLEEP[1],
            ])?;
        }
        Memory::of(&processes_with(&["containerd-shim", path_text(&socket)])?)
    };
    let memory = start();
    for at in 0..options.peer_containers {
        let name = format!("bench{at}");
        let _ = ctr(&["task", "delete", "--force", &name]);
        let _ = ctr(&["container", "delete", &name]);
    }
    terminate(daemon.id() as i32)?;
    daemon.wait()?;
    memory
}

/// The program's standard output; its standard error is the error.
fn capture(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(format!("{}: {}: {}", command.get_program().display(), output.status, said.trim()).into())
}

fn until(what: &str, mut ready: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(START_S_MAX);
    while !ready() {
        if Instant::now() > deadline {
            return Err(format!("{what} does not answer").into());
        }
        std::thread::sleep(Duration::from_millis(POLL_MS));
    }
    Ok(())
}

fn terminate(pid: i32) -> Result<()> {
    let pid = rustix::process::Pid::from_raw(pid).ok_or("not a process id")?;
    Ok(rustix::process::kill_process(pid, rustix::process::Signal::TERM)?)
}

fn path_text(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}
