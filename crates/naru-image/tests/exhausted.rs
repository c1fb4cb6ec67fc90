//! A full disk, no inodes, no descriptors: at whatever step of a pull, load, commit or import it happens, the error says
//! so, nothing half-made is listed or left, and with room again the same operation works.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{Registry, is_root, make_image, make_tree, make_upper, pull, push, store};
use naru_image::import::ImportOptions;
use naru_image::{Store, StoreConfig};
use naru_types::{ImageRef, Result, Timestamp};
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::process::{Resource, Rlimit};
use std::ffi::CString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Steps from nothing to enough.
const SIZES: u64 = 24;
/// Enough for each of the operations here: bytes and inodes of the file system.
const BYTES_ENOUGH: u64 = 12 << 20;
const INODES_ENOUGH: u64 = 96;
/// More descriptors than any operation here holds at a time.
const DESCRIPTORS_ENOUGH: u64 = 64;
/// For threads of a pull that end after it, in seconds.
const SETTLED_SECS: u64 = 20;

const OPERATIONS: [&str; 4] = ["pull", "load", "commit", "import"];

/// What can be done with a store; each makes the image `app:1` or the registry's.
struct Operations {
    _registry: Registry,
    name: String,
    archive: Vec<u8>,
    upper: PathBuf,
    layer_tar: Vec<u8>,
    _dir: TempDir,
}

impl Operations {
    fn prepare() -> Option<Self> {
        let registry = Registry::start()?;
        let side = store();
        let name = format!("{}/app:1", registry.address);
        make_image(&side, &name);
        push(&side.store, &name).unwrap();
        let (mut archive, mut layer_tar) = (Vec::new(), Vec::new());
        side.store.save(&[name.clone()], &mut archive).unwrap();
        let image = side.store.get(&name).unwrap();
        naru_image::split::write_tar(
            side.store.layer_dirs(&image).unwrap()[1].parent().unwrap(),
            &mut layer_tar,
        )
        .unwrap();
        let dir = TempDir::new().unwrap();
        let upper = dir.path().join("upper");
        fs::create_dir(&upper).unwrap();
        make_tree(&upper);
        make_upper(&upper.join("tmp"));
        Some(Self { _registry: registry, name, archive, upper, layer_tar, _dir: dir })
    }

    fn run(&self, what: &str, store: &Store) -> Result<()> {
        match what {
            "pull" => pull(store, &self.name).map(drop),
            "load" => store.load(&mut &self.archive[..], &|_| {}).map(drop),
            "commit" => {
                let lease = store.lease();
                let layer = store.commit_layer(&self.upper, false, &lease)?;
                let config = naru_types::image::ImageConfig::default();
                store.create_image(config, &[layer.diff_id], &[ImageRef::parse("app:1").unwrap()]).map(drop)
            }
            _ => {
                let options = ImportOptions {
                    config: naru_types::image::RunConfig::default(),
                    message: None,
                    platform: None,
                    tag: Some(ImageRef::parse("app:1").unwrap()),
                    now: Timestamp::from_parts(1, 0),
                };
                store.import(&mut &self.layer_tar[..], options).map(drop)
            }
        }
    }
}

/// A small file system in memory; unmounts itself.
struct Small {
    dir: TempDir,
}

impl Small {
    fn mount(options: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let options = CString::new(options).unwrap();
        rustix::mount::mount("small", dir.path(), "tmpfs", MountFlags::empty(), options.as_c_str()).unwrap();
        Self { dir }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    fn grow(&self) {
        let options = CString::new("size=64m,nr_inodes=10000").unwrap();
        rustix::mount::mount_remount(self.dir.path(), MountFlags::empty(), options.as_c_str()).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.dir.path(), UnmountFlags::DETACH);
    }
}

fn open(path: &Path) -> Result<Store> {
    Store::open(path, StoreConfig::default())
}

/// Nothing listed and nothing left, now and after the next start.
fn assert_untouched(store: &Store, root: &Path, when: &str) {
    assert!(store.list().unwrap().is_empty(), "{when}: an image is listed");
    store.wait_for_sweep();
    let left = || -> Vec<String> {
        let list = |sub: &str| fs::read_dir(root.join(sub)).into_iter().flatten().flatten();
        ["staging", "layers"]
            .into_iter()
            .flat_map(list)
            .map(|item| item.path().display().to_string())
            .collect()
    };
    // A download of a failed pull ends on its own thread.
    let deadline = Instant::now() + Duration::from_secs(SETTLED_SECS);
    while !left().is_empty() && Instant::now() < deadline {
        // Deleting a tree takes descriptors as well: what could not be deleted then is with the next change.
        store.collect(&|_| false).unwrap();
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(left().is_empty(), "{when}: {:?} are left", left());
}

/// Runs every operation on ever larger file systems: each is full at a later step.
fn full_at_every_step(options: impl Fn(u64) -> String) {
    let Some(operations) = Operations::prepare() else { return };
    for what in OPERATIONS {
        let (mut failed, mut succeeded) = (0, 0);
        for step in 1..=SIZES {
            let small = Small::mount(&options(step));
            let when = format!("{what} with {}", options(step));
            let store = match open(&small.path()) {
                Ok(store) => store,
                Err(error) => {
                    assert!(error.to_string().contains("No space left"), "{when}: {error}");
                    continue;
                }
            };
            match operations.run(what, &store) {
                Ok(()) => succeeded += 1,
                Err(error) => {
                    failed += 1;
                    assert!(error.to_string().contains("No space left"), "{when}: {error}");
                    assert_untouched(&store, &small.path(), &when);
                    small.grow();
                    operations
                        .run(what, &store)
                        .unwrap_or_else(|error| panic!("{when}, then with room: {error}"));
                }
            }
            assert!(store.verify(&[], &|_| {}).unwrap().is_sound(), "{when}");
        }
        println!("{what}: full {failed} times, enough {succeeded} times");
        assert!(failed > 2 && succeeded > 0, "{what}: full {failed} times, enough {succeeded} times");
    }
}

#[test]
fn a_full_disk() {
    if is_root() {
        full_at_every_step(|step| format!("size={}", BYTES_ENOUGH * step / SIZES));
    }
}

#[test]
fn no_inodes() {
    if is_root() {
        full_at_every_step(|step| format!("size=64m,nr_inodes={}", INODES_ENOUGH * step / SIZES));
    }
}

const ALONE: &str = "NARU_EXHAUSTED_ALONE";

/// The limit is the whole process's, so this one has a process of its own.
#[test]
fn no_descriptors() {
    if !is_root() {
        return;
    }
    if std::env::var_os(ALONE).is_some() {
        return with_few_descriptors();
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "no_descriptors", "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    print!("{said}");
}

fn with_few_descriptors() {
    let Some(operations) = Operations::prepare() else { return };
    for what in OPERATIONS {
        let dir = TempDir::new().unwrap();
        let root = dir.path().join("store");
        let store = open(&root).unwrap();
        store.wait_for_sweep();
        let open_now = descriptors();
        let mut failed = 0;
        for extra in 0..DESCRIPTORS_ENOUGH {
            let when = format!("{what} with {extra} descriptors");
            let result = limited(open_now + extra, || operations.run(what, &store));
            let Err(error) = result else { break };
            failed += 1;
            assert!(error.to_string().contains("Too many open files"), "{when}: {error}");
            assert_untouched(&store, &root, &when);
        }
        println!("{what}: {failed} times without descriptors");
        assert!((2..DESCRIPTORS_ENOUGH).contains(&failed), "{what} failed {failed} times");
        assert!(store.verify(&[], &|_| {}).unwrap().is_sound(), "{what}");
        // A kept connection to the registry is no leak.
        let deadline = Instant::now() + Duration::from_secs(SETTLED_SECS);
        while descriptors() > open_now + 3 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(descriptors() <= open_now + 3, "{what}: {} descriptors, {open_now} before", descriptors());
    }
}

/// How many are open. New ones get the lowest free numbers, so a limit of as many leaves none (but for gaps).
fn descriptors() -> u64 {
    let numbers = fs::read_dir("/proc/self/fd").unwrap().flatten();
    numbers.filter_map(|item| item.file_name().to_str()?.parse::<u64>().ok()).count() as u64
}

fn limited<T>(limit: u64, work: impl FnOnce() -> T) -> T {
    let before = rustix::process::getrlimit(Resource::Nofile);
    let lowered = Rlimit { current: Some(limit), maximum: before.maximum };
    rustix::process::setrlimit(Resource::Nofile, lowered).unwrap();
    let result = work();
    rustix::process::setrlimit(Resource::Nofile, before).unwrap();
    result
}
