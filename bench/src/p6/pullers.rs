//! Who pulls: naru and containerd with daemons of their own, podman and skopeo without.

use crate::Result;
use crate::bundle::Lab;
use crate::measure::{Sample, run_within};
use crate::options::Options;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A pull that takes longer hangs.
const PULL_MS_MAX: i64 = 300_000;
const START_S_MAX: u64 = 30;
const POLL_MS: u64 = 20;
/// Of the times in `/proc/<pid>/stat` (proc(5): clock ticks, USER_HZ, which is 100 everywhere).
const TICKS_PER_S: f64 = 100.0;

pub enum Puller {
    Naru(PathBuf),
    Containerd,
    Podman,
    Skopeo,
}

pub fn all(options: &Options) -> Vec<Puller> {
    vec![Puller::Naru(options.naru.clone()), Puller::Containerd, Puller::Podman, Puller::Skopeo]
}

impl Puller {
    pub fn name(&self) -> &'static str {
        match self {
            Puller::Naru(_) => "naru",
            Puller::Containerd => "containerd",
            Puller::Podman => "podman",
            Puller::Skopeo => "skopeo",
        }
    }

    /// An empty place of its own, with a daemon where one is needed.
    pub fn start<'a>(&'a self, lab: &'a Lab) -> Result<Place<'a>> {
        let dir = lab.dir.join(self.name());
        fs::create_dir_all(&dir)?;
        let daemon = match self {
            Puller::Naru(program) => Some(naru_daemon(program, &dir, lab)),
            Puller::Containerd => Some(containerd(&dir)?),
            Puller::Podman | Puller::Skopeo => None,
        };
        let log = fs::File::create(dir.join("log"))?;
        let daemon = match daemon {
            Some(mut command) => {
                Some(command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?)
            }
            None => None,
        };
        let place = Place { puller: self, dir, daemon };
        place.wait()?;
        Ok(place)
    }
}

fn naru_daemon(program: &Path, dir: &Path, lab: &Lab) -> Command {
    let mut command = Command::new(program);
    command.arg("daemon").arg("--root").arg(dir.join("root")).arg("--run").arg(dir.join("run"));
    command.args(["--cgroup-parent", &lab.cgroup, "--nft-table", "naru-bench", "--bridge", "narubench0"]);
    command
}

fn containerd(dir: &Path) -> Result<Command> {
    let config = dir.join("config.toml");
    // The CRI plug-in would look for the machine's network configuration; a pull by ctr doesn't need it.
    fs::write(&config, "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n")?;
    let mut command = Command::new("containerd");
    command.arg("--config").arg(config).arg("--root").arg(dir.join("root"));
    command.arg("--state").arg(dir.join("state")).arg("--address").arg(dir.join("socket"));
    Ok(command)
}

/// Where one puller puts things; taken away when dropped.
pub struct Place<'a> {
    puller: &'a Puller,
    dir: PathBuf,
    daemon: Option<Child>,
}

impl Place<'_> {
    /// Pulls once: the client's and the daemon's CPU time.
    pub fn pull(&mut self, image: &str) -> Result<Sample> {
        let before = self.daemon_cpu()?;
        let mut sample = run_within(self.client(image), &self.dir.join("talk"), PULL_MS_MAX)?;
        sample.cpu += self.daemon_cpu()?.saturating_sub(before);
        Ok(sample)
    }

    fn client(&self, image: &str) -> Command {
        let (root, run) = (self.dir.join("root"), self.dir.join("run"));
        let mut command = match self.puller {
            Puller::Naru(program) => {
                let mut command = Command::new(program);
                command.env("DOCKER_HOST", format!("unix://{}", run.join("naru.sock").display()));
                command.args(["pull", image]);
                command
            }
            Puller::Containerd => {
                let mut command = Command::new("ctr");
                command.arg("--address").arg(self.dir.join("socket"));
                command.args(["image", "pull", "--plain-http", image]);
                command
            }
            Puller::Podman => {
                let mut command = Command::new("podman");
                command
                    .arg("--root")
                    .arg(root)
                    .arg("--runroot")
                    .arg(run)
                    .arg("--tmpdir")
                    .arg(self.dir.join("tmp"));
                command.args(["--storage-driver", "overlay", "--cgroup-manager", "cgroupfs"]);
                command.args(["pull", "--quiet", "--tls-verify=false", image]);
                command
            }
            Puller::Skopeo => {
                let mut command = Command::new("skopeo");
                command.args(["copy", "--quiet", "--insecure-policy", "--src-tls-verify=false"]);
                let storage = format!("overlay@{}+{}", root.display(), run.display());
                command.arg(format!("docker://{image}"));
                command.arg(format!("containers-storage:[{storage}]{image}"));
                command
            }
        };
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    fn daemon_cpu(&self) -> Result<Duration> {
        let Some(daemon) = &self.daemon else { return Ok(Duration::ZERO) };
        let stat = fs::read_to_string(format!("/proc/{}/stat", daemon.id()))?;
        // proc(5): what follows the name in parentheses begins with field 3; utime to cstime are 14 to 17.
        let fields = stat.rsplit_once(") ").map(|(_, rest)| rest).unwrap_or_default();
        let ticks: u64 =
            fields.split(' ').skip(11).take(4).filter_map(|field| field.parse::<u64>().ok()).sum();
        Ok(Duration::from_secs_f64(ticks as f64 / TICKS_PER_S))
    }

    fn wait(&self) -> Result<()> {
        let socket = match self.puller {
            Puller::Naru(_) => self.dir.join("run/naru.sock"),
            Puller::Containerd => self.dir.join("socket"),
            Puller::Podman | Puller::Skopeo => return Ok(()),
        };
        let deadline = Instant::now() + Duration::from_secs(START_S_MAX);
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            if Instant::now() > deadline {
                let said = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
                return Err(format!("{} does not answer: {}", self.puller.name(), said.trim()).into());
            }
            std::thread::sleep(Duration::from_millis(POLL_MS));
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        if let Some(mut daemon) = self.daemon.take() {
            if let Some(pid) = rustix::process::Pid::from_raw(daemon.id() as i32) {
                rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
            }
            daemon.wait()?;
        }
        // The storage library of podman and skopeo leaves the root of its overlays mounted on itself.
        for mounted in ["root/overlay", "root"] {
            let _ = rustix::mount::unmount(self.dir.join(mounted), rustix::mount::UnmountFlags::DETACH);
        }
        Ok(fs::remove_dir_all(&self.dir)?)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("bench: ending {}: {error}", self.puller.name());
        }
    }
}
