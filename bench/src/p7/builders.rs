//! Who builds: naru by its own command and by docker's stock buildx, BuildKit in dockerd by the same buildx, and buildah.

use super::context::Context;
use super::disk::succeed;
use crate::Result;
use crate::bundle::Lab;
use crate::measure::{Sample, run_within};
use crate::options::Options;
use crate::view::remove_cgroups;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A build that takes longer hangs.
const BUILD_MS_MAX: i64 = 600_000;
const START_S_MAX: u64 = 60;
const POLL_MS: u64 = 20;
const BASE: &str = "bench-base";
const RESULT: &str = "bench-result";
const STAMP: &str = "/app/src/edited.js";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// `naru build`.
    Naru,
    /// `docker buildx build` on naru's socket.
    NaruBuildx,
    BuildKit,
    Buildah,
}

pub struct Builder {
    kind: Kind,
    naru: PathBuf,
    /// Where a dockerd of the peers is, before those of the machine.
    search: std::ffi::OsString,
    plugins: PathBuf,
    /// The machine's own: for dockerd, whose own may not run here, and for buildah, whose crun refuses the hybrid layout.
    runc: PathBuf,
}

pub fn all(options: &Options) -> Vec<Builder> {
    let unpacked = options.peers.join("plugins/x/usr");
    let mut search = std::ffi::OsString::new();
    for dir in ["sbin", "bin"] {
        search.push(unpacked.join(dir));
        search.push(":");
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let runc = std::env::split_paths(&path).map(|dir| dir.join("runc")).find(|runc| runc.exists());
    search.push(path);
    let plugins = unpacked.join("libexec/docker/cli-plugins");
    let plugins = if plugins.exists() { plugins } else { PathBuf::from("/usr/libexec/docker/cli-plugins") };
    [Kind::Naru, Kind::NaruBuildx, Kind::BuildKit, Kind::Buildah]
        .map(|kind| Builder {
            kind,
            naru: options.naru.clone(),
            search: search.clone(),
            plugins: plugins.clone(),
            runc: runc.clone().unwrap_or_default(),
        })
        .into()
}

impl Builder {
    pub fn name(&self) -> &'static str {
        match self.kind {
            Kind::Naru => "naru",
            Kind::NaruBuildx => "naru by buildx",
            Kind::BuildKit => "BuildKit",
            Kind::Buildah => "buildah",
        }
    }

    /// A place of its own that holds the base image, with a daemon where one is needed.
    pub fn start<'a>(&'a self, lab: &Lab, disk: &Path) -> Result<Place<'a>> {
        let dir = disk.join("builder");
        fs::create_dir_all(dir.join("config"))?;
        std::os::unix::fs::symlink(&self.plugins, dir.join("config/cli-plugins"))?;
        // buildah reads the same file, and wants it to be there.
        fs::write(dir.join("config/config.json"), "{}\n")?;
        fs::create_dir_all(dir.join("bin"))?;
        std::os::unix::fs::symlink(&self.runc, dir.join("bin/runc"))?;
        let group = Group::make(&format!("{}-build", lab.cgroup))?;
        let mut place = Place { builder: self, dir, group, daemon: None };
        place.daemon = place.daemon()?;
        place.wait()?;
        place.import(&lab.rootfs())?;
        Ok(place)
    }
}

/// Where one builder keeps things; taken away when dropped.
pub struct Place<'a> {
    builder: &'a Builder,
    dir: PathBuf,
    group: Group,
    daemon: Option<Child>,
}

impl Place<'_> {
    /// Builds once, and sees that the image holds the last edit.
    pub fn build(&self, context: &Context) -> Result<Sample> {
        let before = self.group.cpu()?;
        let mut sample = run_within(self.client(&context.dir), &self.dir.join("talk"), BUILD_MS_MAX)?;
        sample.cpu = self.group.cpu()?.saturating_sub(before);
        let found = self.look()?;
        if found != context.stamp() {
            return Err(
                format!("{}: the image holds {found:?}, not the last edit", self.builder.name()).into()
            );
        }
        Ok(sample)
    }

    fn client(&self, context: &Path) -> Command {
        let flags = ["--network", "none", "-t", RESULT];
        let mut command = match self.builder.kind {
            Kind::Naru => {
                let mut command = self.inside(&self.builder.naru);
                command.arg("build");
                command
            }
            Kind::NaruBuildx | Kind::BuildKit => {
                let mut command = self.inside(Path::new("docker"));
                command.args(["buildx", "build", "--progress", "plain", "--provenance=false"]);
                command
            }
            Kind::Buildah => {
                let mut command = self.inside(Path::new("buildah"));
                command.args(self.storage()).args([
                    "build",
                    "--layers",
                    "--pull=never",
                    "--isolation",
                    "oci",
                ]);
                command
            }
        };
        command.args(flags).arg(context).stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    fn daemon(&self) -> Result<Option<Child>> {
        let mut command = match self.builder.kind {
            Kind::Naru | Kind::NaruBuildx => {
                let mut command = self.inside(&self.builder.naru);
                command
                    .arg("daemon")
                    .arg("--root")
                    .arg(self.dir.join("root"))
                    .arg("--run")
                    .arg(self.dir.join("run"));
                command.args(["--cgroup-parent", &self.group.name, "--nft-table", "naru-bench"]);
                command.args(["--bridge", "narubench0"]);
                command
            }
            Kind::BuildKit => {
                let mut command = self.inside(Path::new("dockerd"));
                command.arg("-H").arg(format!("unix://{}", self.socket().display()));
                command
                    .arg("--data-root")
                    .arg(self.dir.join("root"))
                    .arg("--exec-root")
                    .arg(self.dir.join("run"));
                command.arg("--pidfile").arg(self.dir.join("pid"));
                command.arg("--cgroup-parent").arg(format!("/{}", self.group.name));
                command.args(["--storage-driver", "overlay2", "--bridge", "none", "--iptables=false"]);
                command.arg("--ip6tables=false");
                command
            }
            Kind::Buildah => return Ok(None),
        };
        let log = fs::File::create(self.dir.join("log"))?;
        Ok(Some(command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?))
    }

    /// `program` in this place's control group from its first instruction on.
    fn inside(&self, program: &Path) -> Command {
        let mut command = Command::new("sh");
        command
            .args(["-c", "echo 0 > \"$0\" && exec \"$@\""])
            .arg(self.group.dir.join("cgroup.procs"))
            .arg(program);
        self.dress(&mut command);
        command
    }

    fn outside(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        self.dress(&mut command);
        command
    }

    fn dress(&self, command: &mut Command) {
        let mut search = self.dir.join("bin").into_os_string();
        search.push(":");
        search.push(&self.builder.search);
        command.env("PATH", search).env("DOCKER_CONFIG", self.dir.join("config"));
        command.env("DOCKER_HOST", format!("unix://{}", self.socket().display()));
        command.env("BUILDX_METADATA_WARNINGS", "0").env("BUILDAH_RUNTIME", &self.builder.runc);
    }

    fn socket(&self) -> PathBuf {
        match self.builder.kind {
            Kind::Naru | Kind::NaruBuildx => self.dir.join("run/naru.sock"),
            Kind::BuildKit | Kind::Buildah => self.dir.join("docker.sock"),
        }
    }

    fn storage(&self) -> Vec<String> {
        let path = |name: &str| self.dir.join(name).display().to_string();
        [
            "--root".into(),
            path("root"),
            "--runroot".into(),
            path("run"),
            "--storage-driver".into(),
            "overlay".into(),
        ]
        .into()
    }

    /// The base image, from an archive of `root`.
    fn import(&self, root: &Path) -> Result<()> {
        let archive = self.dir.join("base.tar");
        succeed(Command::new("tar").arg("-C").arg(root).arg("-cf").arg(&archive).arg("."))?;
        if self.builder.kind != Kind::Buildah {
            succeed(self.outside(Path::new("docker")).arg("import").arg(&archive).arg(BASE))?;
            return Ok(());
        }
        fs::write(self.dir.join("Base"), "FROM scratch\nADD base.tar /\n")?;
        let mut command = self.outside(Path::new("buildah"));
        command.args(self.storage()).args(["build", "--quiet", "-t", BASE, "-f"]).arg(self.dir.join("Base"));
        succeed(command.arg(&self.dir)).map(drop)
    }

    /// The edited file as it is in the image.
    fn look(&self) -> Result<String> {
        if self.builder.kind != Kind::Buildah {
            let mut command = self.outside(Path::new("docker"));
            return succeed(command.args([
                "run",
                "--rm",
                "--network",
                "none",
                RESULT,
                "busybox",
                "cat",
                STAMP,
            ]));
        }
        let buildah =
            |words: &[&str]| succeed(self.outside(Path::new("buildah")).args(self.storage()).args(words));
        let container = buildah(&["from", "--pull=never", RESULT])?;
        let found = buildah(&["run", "--isolation", "chroot", container.trim(), "busybox", "cat", STAMP]);
        buildah(&["rm", container.trim()])?;
        found
    }

    fn wait(&self) -> Result<()> {
        if self.daemon.is_none() {
            return Ok(());
        }
        let deadline = Instant::now() + Duration::from_secs(START_S_MAX);
        while succeed(self.outside(Path::new("docker")).arg("version")).is_err() {
            if Instant::now() > deadline {
                let said = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
                return Err(format!("{} does not answer: {}", self.builder.name(), said.trim()).into());
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
        // buildah's storage leaves the root of its overlays mounted on itself.
        for mounted in ["root/overlay", "root"] {
            let _ = rustix::mount::unmount(self.dir.join(mounted), rustix::mount::UnmountFlags::DETACH);
        }
        Ok(fs::remove_dir_all(&self.dir)?)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("bench: ending {}: {error}", self.builder.name());
        }
    }
}

/// A control group that counts CPU time, on either layout.
struct Group {
    name: String,
    dir: PathBuf,
    is_v1: bool,
}

impl Group {
    fn make(name: &str) -> Result<Self> {
        let v1 = Path::new("/sys/fs/cgroup/cpuacct");
        let is_v1 = v1.exists();
        let above = if is_v1 { v1 } else { Path::new("/sys/fs/cgroup") };
        let dir = above.join(name);
        fs::create_dir_all(&dir)?;
        Ok(Self { name: name.to_owned(), dir, is_v1 })
    }

    /// Of all processes that are or were in it, and beneath it.
    fn cpu(&self) -> Result<Duration> {
        if self.is_v1 {
            return Ok(Duration::from_nanos(
                fs::read_to_string(self.dir.join("cpuacct.usage"))?.trim().parse()?,
            ));
        }
        let stat = fs::read_to_string(self.dir.join("cpu.stat"))?;
        let usage = stat
            .lines()
            .find_map(|line| line.strip_prefix("usage_usec "))
            .ok_or("cpu.stat has no usage_usec")?;
        Ok(Duration::from_micros(usage.parse()?))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        remove_cgroups(&self.name);
    }
}
