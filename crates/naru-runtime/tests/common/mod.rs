//! A busybox root, a container around it, and its output: what every test here needs.
#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use naru_kernel::pidfd::{self, ExitStatus};
use naru_runtime::cgroup::Cgroup;
use naru_runtime::oci::{self, Namespace, NamespaceKind};
use naru_runtime::request::{ExecRequest, NetNs, SpawnError, SpawnOptions, SpawnRequest, Spawned, Stdio};
use naru_runtime::rootfs::Rootfs;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

const BUSYBOX: &str = "/bin/busybox";

/// Docker's default capability set as the kernel prints it.
pub const DOCKER_CAPS: &str = "00000000a80425fb";

/// Prints why and returns true when the test cannot run here.
pub fn skip() -> bool {
    let reason = if !rustix::process::geteuid().is_root() {
        "needs root"
    } else if !Path::new(BUSYBOX).exists() {
        "needs a static /bin/busybox"
    } else {
        return false;
    };
    println!("SKIP: {reason}");
    true
}

/// An overlay over a busybox layer; everything is removed on drop.
pub struct Root {
    pub dir: tempfile::TempDir,
}

impl Root {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let lower = dir.path().join("lower");
        for name in ["bin", "etc", "tmp", "root", "upper", "work"] {
            let base = if matches!(name, "upper" | "work") { dir.path() } else { &lower };
            std::fs::create_dir_all(base.join(name)).unwrap();
        }
        std::fs::copy(BUSYBOX, lower.join("bin/busybox")).unwrap();
        for applet in [
            "sh", "cat", "ls", "id", "true", "sleep", "mount", "touch", "echo", "stty", "head", "dd", "kill",
            "ps", "hostname", "grep", "env", "pwd", "readlink", "mkdir", "ip", "tail", "yes", "stat",
            "mknod", "umount", "wc",
        ] {
            symlink("busybox", lower.join("bin").join(applet)).unwrap();
        }
        std::fs::write(
            lower.join("etc/passwd"),
            "root:x:0:0::/root:/bin/sh\nwww:x:33:33::/var/www:/bin/sh\n",
        )
        .unwrap();
        std::fs::write(lower.join("etc/group"), "root:x:0:\nwww:x:33:\naudio:x:29:www\n").unwrap();
        Self { dir }
    }

    pub fn lower(&self) -> PathBuf {
        self.dir.path().join("lower")
    }

    pub fn upper(&self) -> PathBuf {
        self.dir.path().join("upper")
    }

    pub fn rootfs(&self) -> Rootfs {
        Rootfs::Overlay { lower: vec![self.lower()], upper: self.upper(), work: self.dir.path().join("work") }
    }
}

/// A control group of its own below a parent that names this process; removed on drop.
pub struct Group(pub Cgroup);

impl Group {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = format!("naru-test-{}-{number}", std::process::id());
        Self(Cgroup::create(&path).unwrap())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = self.0.kill_all();
        if let Err(error) = self.0.delete() {
            assert!(std::thread::panicking(), "a control group stays: {error}");
        }
    }
}

/// Docker's defaults with `args` as the program, through the real lowering.
pub fn spec(args: &[&str]) -> oci::Spec {
    let mut container = naru_types::spec::ContainerSpec { image: "busybox".into(), ..Default::default() };
    container.process.cmd = Some(args.iter().map(|arg| (*arg).to_owned()).collect());
    lowered(&container)
}

pub fn lowered(container: &naru_types::spec::ContainerSpec) -> oci::Spec {
    let layout = naru_runtime::cgroup::Layout::detect().unwrap();
    let input = naru_runtime::lower::LowerInput {
        id: "test0123456789".into(),
        cgroup_path: "naru-test/test0123456789".into(),
        cgroup_v2: layout.is_v2_only(),
        host_caps: naru_kernel::caps::permitted(),
        hostname: if container.hostname.is_empty() {
            "test01234567".into()
        } else {
            container.hostname.clone()
        },
        ..Default::default()
    };
    naru_runtime::lower::lower(container, &input).unwrap()
}

pub fn namespace(spec: &mut oci::Spec, kind: NamespaceKind, path: Option<String>) {
    spec.linux.namespaces.retain(|namespace| namespace.kind != kind);
    spec.linux.namespaces.push(Namespace { kind, path });
}

/// A running container with its output pipe.
pub struct Running {
    pub spawned: Spawned,
    output: std::io::PipeReader,
}

impl Running {
    pub fn new(spawned: Spawned, output: std::io::PipeReader) -> Self {
        Self { spawned, output }
    }

    /// Waits for the end: how it ended, and everything it wrote.
    pub fn finish(mut self) -> (ExitStatus, String) {
        let mut text = String::new();
        self.output.read_to_string(&mut text).unwrap();
        (pidfd::wait(&self.spawned.pidfd).unwrap(), text)
    }

    /// Reads until the output contains `mark`.
    pub fn wait_for(&mut self, mark: &str) -> String {
        let mut text = String::new();
        let mut byte = [0u8; 1];
        while !text.contains(mark) {
            assert_eq!(self.output.read(&mut byte).unwrap(), 1, "end before {mark:?} in {text:?}");
            text.push(byte[0] as char);
        }
        text
    }
}

pub fn pipes() -> (Stdio, std::io::PipeReader) {
    let (output, writer) = std::io::pipe().unwrap();
    let stdin = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    let writer = OwnedFd::from(writer);
    let stderr = writer.try_clone().unwrap();
    (Stdio::Pipes { stdin, stdout: writer, stderr }, output)
}

pub fn start(root: &Root, spec: &oci::Spec, group: Option<&Group>) -> Result<Running, SpawnError> {
    start_with(root, spec, group, false)
}

pub fn start_with(
    root: &Root,
    spec: &oci::Spec,
    group: Option<&Group>,
    init: bool,
) -> Result<Running, SpawnError> {
    let (stdio, output) = pipes();
    let rootfs = root.rootfs();
    let cgroup = group.map(|group| &group.0);
    let request = SpawnRequest {
        spec,
        rootfs: &rootfs,
        cgroup,
        netns: NetNs::New,
        stdio,
        options: SpawnOptions { init, ..SpawnOptions::default() },
    };
    naru_runtime::spawn::spawn(request).map(|spawned| Running { spawned, output })
}

/// With a network of its own and any options.
pub fn start_options(
    root: &Root,
    spec: &oci::Spec,
    group: Option<&Group>,
    options: SpawnOptions<'_>,
) -> Result<Running, SpawnError> {
    let (stdio, output) = pipes();
    let rootfs = root.rootfs();
    let cgroup = group.map(|group| &group.0);
    let netns = NetNs::of_spec(spec)?;
    let request = SpawnRequest { spec, rootfs: &rootfs, cgroup, netns, stdio, options };
    naru_runtime::spawn::spawn(request).map(|spawned| Running { spawned, output })
}

/// Gives everything below to a user, as image layers in a user namespace are.
pub fn give(path: &Path, uid: u32) {
    std::os::unix::fs::lchown(path, Some(uid), Some(uid)).unwrap();
    if path.is_dir() && !path.is_symlink() {
        for entry in std::fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path(), uid);
        }
    }
}

pub fn exec(
    spec: &oci::Spec,
    process: &oci::Process,
    running: &Running,
    group: Option<&Group>,
    privileged: bool,
) -> Result<Running, SpawnError> {
    let (stdio, output) = pipes();
    let request = ExecRequest {
        spec,
        process,
        init_pidfd: running.spawned.pidfd.as_fd(),
        init_pid: running.spawned.pid,
        cgroup: group.map(|group| &group.0),
        stdio,
        privileged,
        preserve_fds: Vec::new(),
        state: None,
    };
    naru_runtime::exec::exec(request).map(|spawned| Running { spawned, output })
}

/// Runs `sh -c script` with Docker's defaults; the exit code and the output.
pub fn shell(script: &str) -> (ExitStatus, String) {
    run(&spec(&["sh", "-c", script]))
}

pub fn run(spec: &oci::Spec) -> (ExitStatus, String) {
    let (root, group) = (Root::new(), Group::new());
    start(&root, spec, Some(&group)).unwrap().finish()
}
