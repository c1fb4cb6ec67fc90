//! A private world for one test: own network and mount namespaces, own directories, own cgroup parent, and an image made of
//! the host's static busybox.

use naru_engine::{Engine, EngineConfig};
use naru_image::import::ImportOptions;
use naru_types::image::RunConfig;
use naru_types::spec::ContainerSpec;
use naru_types::{ImageRef, Timestamp};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

const INSIDE: &str = "NARU_ENGINE_TEST_INSIDE";
const BUSYBOX: &str = "/usr/bin/busybox";

/// Runs `body` in a process of its own with private namespaces, or says why not.
pub fn sandboxed<F: Future<Output = ()>>(test: &str, body: impl FnOnce(World) -> F) {
    if !rustix::process::geteuid().is_root() {
        println!("SKIP: needs root");
        return;
    }
    if !Path::new(BUSYBOX).exists() {
        println!("SKIP: needs a static {BUSYBOX}");
        return;
    }
    if std::env::var_os(INSIDE).is_none() {
        let exe = std::env::current_exe().unwrap();
        let status = Command::new("unshare")
            .args(["--net", "--mount", "--propagation", "private"])
            .arg(exe)
            .args([test, "--exact", "--nocapture", "--test-threads=1"])
            .env(INSIDE, "1")
            .status()
            .unwrap();
        assert!(status.success(), "{test} failed in its sandbox");
        return;
    }
    let world = World::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let limit = std::time::Duration::from_mins(2);
        tokio::time::timeout(limit, body(world)).await.expect("the test took too long");
    });
}

pub struct World {
    dir: tempfile::TempDir,
    name: String,
}

impl World {
    fn new() -> Self {
        let name = format!("naru-test-{}", std::process::id());
        Self { dir: tempfile::tempdir().unwrap(), name }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn config(&self) -> EngineConfig {
        EngineConfig {
            root: self.path().join("root"),
            run: self.path().join("run"),
            cgroup_parent: self.name.clone(),
            exe: keeper_exe(),
            userns_remap: false,
            runtimes: std::collections::BTreeMap::new(),
            default_runtime: String::new(),
            registry_mirrors: Vec::new(),
            insecure_registries: Vec::new(),
            certs_dirs: Vec::new(),
            bridge: "narut0".into(),
            default_subnet: "172.31.240.0/24".into(),
            nft_table: "narut".into(),
        }
    }

    /// An engine with the image `busybox`.
    pub async fn open(&self) -> Arc<Engine> {
        let engine = Engine::open(self.config()).await.unwrap();
        if engine.images().get("busybox").is_err() {
            let store = Arc::clone(engine.images());
            tokio::task::spawn_blocking(move || import_busybox(&store)).await.unwrap();
        }
        engine
    }

    /// Removes all containers, ends engine and keeper, and checks that nothing is left.
    pub async fn end(&self, engine: Arc<Engine>) {
        for container in engine.list() {
            let options = naru_engine::RemoveOptions { force: true, volumes: true };
            engine.remove(container.id.as_str(), options).await.unwrap();
        }
        engine.shutdown().await.unwrap();
        for dir in ["root/containers", "run/bundles"] {
            let left: Vec<_> = std::fs::read_dir(self.path().join(dir)).unwrap().flatten().collect();
            assert!(left.is_empty(), "{dir}: {left:?}");
        }
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            let parent = hierarchy.path().join(&self.name);
            let groups = std::fs::read_dir(&parent).into_iter().flatten().flatten();
            let left: Vec<_> = groups.filter(|entry| entry.path().is_dir()).collect();
            assert!(left.is_empty(), "{}: {left:?}", parent.display());
            // Ours alone, by its name.
            let _ = std::fs::remove_dir(&parent);
        }
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        assert!(!mounts.contains(self.path().to_str().unwrap()), "{mounts}");
    }
}

pub fn spec(command: &[&str]) -> ContainerSpec {
    let mut spec = ContainerSpec { image: "busybox".into(), ..ContainerSpec::default() };
    spec.process.cmd = Some(command.iter().map(|&word| word.to_owned()).collect());
    spec
}

pub fn sh(line: &str) -> ContainerSpec {
    spec(&["sh", "-c", line])
}

fn keeper_exe() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let keeper = exe.parent().and_then(Path::parent).unwrap().join("examples/keeper");
    assert!(keeper.exists(), "cargo test builds the example `keeper` at {}", keeper.display());
    keeper
}

fn import_busybox(store: &naru_image::Store) {
    let mut tar = Vec::new();
    let busybox = std::fs::read(BUSYBOX).unwrap();
    let mut add = |path: &str, kind: u8, mode: u32, link: &str, data: &[u8]| {
        let mut header = [0u8; 512];
        header[..path.len()].copy_from_slice(path.as_bytes());
        header[100..108].copy_from_slice(format!("{mode:07o}\0").as_bytes());
        header[108..116].copy_from_slice(b"0000000\0");
        header[116..124].copy_from_slice(b"0000000\0");
        header[124..136].copy_from_slice(format!("{:011o}\0", data.len()).as_bytes());
        header[136..148].copy_from_slice(b"00000000000\0");
        header[156] = kind;
        header[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header[257..265].copy_from_slice(b"ustar\x0000");
        header[148..156].copy_from_slice(b"        ");
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        tar.extend_from_slice(&header);
        tar.extend_from_slice(data);
        tar.resize(tar.len().next_multiple_of(512), 0);
    };
    for dir in ["bin/", "etc/", "tmp/", "data/", "proc/", "sys/", "dev/"] {
        add(dir, b'5', 0o755, "", b"");
    }
    add("bin/busybox", b'0', 0o755, "", &busybox);
    let tools = "sh cat echo sleep true false ls kill id touch mkdir ln tr head dd ps wget nc sync hostname env test printf";
    for tool in tools.split(' ') {
        add(&format!("bin/{tool}"), b'2', 0o777, "busybox", b"");
    }
    add("etc/passwd", b'0', 0o644, "", b"root:x:0:0:root:/:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n");
    add("etc/group", b'0', 0o644, "", b"root:x:0:\nuser:x:1000:\n");
    add("data/seed", b'0', 0o600, "", b"from the image\n");
    tar.resize(tar.len() + 1024, 0);
    let config = RunConfig {
        cmd: Some(vec!["sh".into()]),
        env: vec!["PATH=/bin".into(), "FROM_IMAGE=1".into()],
        ..RunConfig::default()
    };
    let tag = ImageRef::parse("busybox").unwrap().with_default_tag();
    let options = ImportOptions { config, message: None, platform: None, tag: Some(tag), now: Timestamp(1) };
    store.import(&mut tar.as_slice(), options).unwrap();
}
