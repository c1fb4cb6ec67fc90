//! What the tests share: a store in a temporary directory, a tree with every kind of file, a real
//! registry (Debian's docker-registry), and a proxy before it that can fail.
#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

use naru_image::pack::{self, PackOptions};
use naru_image::{
    Credentials, Progress, PullOptions, PulledImage, PushOptions, PushedImage, Store, StoreConfig,
};
use naru_types::image::{History, ImageConfig};
use naru_types::{Digest, ImageRef, Result};
use rustix::fd::AsFd;
use rustix::fs::{CWD, FileType, Mode, XattrFlags};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;

pub fn is_root() -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    println!("SKIP: needs root");
    false
}

pub struct TestStore {
    pub store: Store,
    pub dir: TempDir,
}

pub fn store() -> TestStore {
    store_with(StoreConfig::default())
}

pub fn store_with(config: StoreConfig) -> TestStore {
    let dir = TempDir::new().unwrap();
    TestStore { store: Store::open(&dir.path().join("store"), config).unwrap(), dir }
}

impl TestStore {
    /// Files in staging and unreferenced layers would be leftovers.
    pub fn assert_nothing_left(&self) {
        for sub in ["staging", "layers", "content/blobs/sha256"] {
            let found: Vec<_> =
                fs::read_dir(self.dir.path().join("store").join(sub)).unwrap().flatten().collect();
            assert!(found.is_empty(), "{sub}: {found:?}");
        }
        assert!(self.store.list().unwrap().is_empty());
    }
}

/// A tree with every kind of file that a layer can hold.
pub fn make_tree(root: &Path) {
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    fs::hard_link(root.join("bin/busybox"), root.join("bin/sh")).unwrap();
    symlink("busybox", root.join("bin/ls")).unwrap();
    symlink("/etc/../no/such", root.join("bin/dangling")).unwrap();
    let long = "n".repeat(200);
    fs::create_dir_all(root.join(&long).join(&long)).unwrap();
    fs::write(root.join(&long).join(&long).join("ä file"), b"deep").unwrap();
    fs::write(root.join("empty"), b"").unwrap();
    fs::write(root.join("setuid"), b"#!/bin/sh\n").unwrap();
    rustix::fs::chown(root.join("setuid"), Some(rustix::fs::Uid::from_raw(3_000_000)), None).unwrap();
    fs::set_permissions(root.join("setuid"), fs::Permissions::from_mode(0o4755)).unwrap();
    rustix::fs::setxattr(root.join("setuid"), "user.note", b"a\0b\n", XattrFlags::empty()).unwrap();
    // VFS_CAP_REVISION_2 with CAP_NET_RAW (capabilities(7)).
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    rustix::fs::setxattr(root.join("bin/busybox"), "security.capability", &capability, XattrFlags::empty())
        .unwrap();
    let device = rustix::fs::makedev(1, 3);
    rustix::fs::mknodat(
        CWD,
        root.join("null"),
        FileType::CharacterDevice,
        Mode::from_raw_mode(0o666),
        device,
    )
    .unwrap();
    rustix::fs::mknodat(CWD, root.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    fs::create_dir(root.join("tmp")).unwrap();
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    let time = rustix::fs::Timespec { tv_sec: 1_234_567_890, tv_nsec: 123_456_789 };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, root.join("empty"), &times, rustix::fs::AtFlags::empty()).unwrap();
}

/// An upper directory that removes `/bin/ls`, empties `/tmp` and adds a file.
pub fn make_upper(root: &Path) {
    fs::create_dir_all(root.join("bin")).unwrap();
    whiteout(&root.join("bin/ls"));
    fs::create_dir_all(root.join("tmp")).unwrap();
    rustix::fs::setxattr(root.join("tmp"), "trusted.overlay.opaque", b"y", XattrFlags::empty()).unwrap();
    fs::write(root.join("tmp/new"), vec![7; 100_000]).unwrap();
}

pub fn whiteout(path: &Path) {
    rustix::fs::mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
}

/// The digest of a tree as an archive: names, kinds, modes, owners, times, links, attributes, content.
pub fn tree_digest(path: &Path) -> Digest {
    let mut bytes = Vec::new();
    let root = naru_image::tree::open_root(path).unwrap();
    let options = PackOptions { whiteouts: true, ..PackOptions::default() };
    pack::tar_tree(root.as_fd(), Path::new("."), &mut bytes, &options).unwrap();
    naru_image::blob::sha256(&bytes)
}

/// An image of two layers.
pub fn make_image(test: &TestStore, name: &str) -> naru_image::Image {
    let (base, upper) = (test.dir.path().join("base"), test.dir.path().join("upper"));
    for dir in [&base, &upper] {
        let _ = fs::remove_dir_all(dir);
        fs::create_dir(dir).unwrap();
    }
    make_tree(&base);
    make_upper(&upper);
    let lease = test.store.lease();
    let layers = [&base, &upper].map(|dir| test.store.commit_layer(dir, false, &lease).unwrap().diff_id);
    let config = ImageConfig {
        architecture: naru_types::platform::Platform::host().architecture,
        os: "linux".into(),
        created: Some("2024-01-02T03:04:05Z".into()),
        history: vec![
            History { created_by: Some("base".into()), ..History::default() },
            History { created_by: Some("CMD".into()), empty_layer: true, ..History::default() },
            History { created_by: Some("upper".into()), ..History::default() },
        ],
        ..ImageConfig::default()
    };
    test.store.create_image(config, &layers, &[ImageRef::parse(name).unwrap()]).unwrap()
}

pub fn layer_digests(store: &Store, image: &naru_image::Image) -> Vec<Digest> {
    store.layer_dirs(image).unwrap().iter().map(|dir| tree_digest(dir)).collect()
}

pub fn pull_telling(store: &Store, name: &str, progress: &(dyn Fn(Progress) + Sync)) -> Result<PulledImage> {
    let cancel = AtomicBool::new(false);
    let options =
        PullOptions { credentials: Credentials::Anonymous, platform: None, progress, cancel: &cancel };
    store.pull(&ImageRef::parse(name).unwrap(), &options)
}

pub fn pull(store: &Store, name: &str) -> Result<PulledImage> {
    pull_telling(store, name, &|_| {})
}

pub fn push_telling(store: &Store, name: &str, progress: &(dyn Fn(Progress) + Sync)) -> Result<PushedImage> {
    let cancel = AtomicBool::new(false);
    let options = PushOptions { credentials: Credentials::Anonymous, progress, cancel: &cancel };
    store.push(&ImageRef::parse(name).unwrap(), &options)
}

pub fn push(store: &Store, name: &str) -> Result<PushedImage> {
    push_telling(store, name, &|_| {})
}

pub struct Registry {
    child: Child,
    pub address: String,
    pub dir: TempDir,
}

impl Registry {
    /// `None`, with a word about it, where Debian's package isn't installed.
    pub fn start() -> Option<Self> {
        Self::start_with("")
    }

    pub fn start_with(more: &str) -> Option<Self> {
        if !is_root() {
            return None;
        }
        if !Path::new("/usr/bin/docker-registry").exists() {
            println!("SKIP: docker-registry is not installed");
            return None;
        }
        let dir = TempDir::new().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:{port}\n{more}",
            dir.path().join("data").display()
        );
        let path = dir.path().join("config.yml");
        fs::write(&path, config).unwrap();
        let child = Command::new("/usr/bin/docker-registry")
            .arg("serve")
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let registry = Self { child, address: format!("127.0.0.1:{port}"), dir };
        // The process offers no event for "listening"; connecting is the only question it answers.
        for _ in 0..500 {
            if TcpStream::connect(&registry.address).is_ok() {
                return Some(registry);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("docker-registry does not listen");
    }

    /// Flips a byte in the middle of the largest stored blob.
    pub fn corrupt_largest_blob(&self) {
        let mut stack = vec![self.dir.path().join("data")];
        let mut files = Vec::new();
        while let Some(dir) = stack.pop() {
            for item in fs::read_dir(dir).unwrap().flatten() {
                if item.file_type().unwrap().is_dir() {
                    stack.push(item.path());
                } else {
                    files.push(item.path());
                }
            }
        }
        let largest = files.into_iter().max_by_key(|path| fs::metadata(path).unwrap().size()).unwrap();
        let mut bytes = fs::read(&largest).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x55;
        fs::write(&largest, bytes).unwrap();
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Forwards TCP to a registry. Each connection is cut after `budget` answered bytes in all are used up.
pub struct Proxy {
    pub address: String,
    pub budget: Arc<AtomicI64>,
    /// Connections accepted so far.
    pub connections: Arc<AtomicI64>,
    /// After the budget is used up: `false` gives each new connection `refill` bytes, `true` none.
    pub dead: Arc<AtomicBool>,
    /// The paths of all GET requests so far.
    pub gets: Arc<Mutex<Vec<String>>>,
    /// Connections that have not ended, one for each direction.
    open: Arc<AtomicI64>,
}

/// Bytes that no test uses up.
pub const NO_LIMIT: i64 = i64::MAX / 2;

impl Proxy {
    /// Forgets the requests of a process that has ended, after the last of them was seen.
    pub fn forget(&self) {
        for _ in 0..3000 {
            if self.open.load(Ordering::SeqCst) == 0 {
                self.gets.lock().unwrap().clear();
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("connections of a process that has ended are open");
    }

    /// How often each blob was asked for.
    pub fn blob_gets(&self) -> BTreeMap<String, usize> {
        let mut counted = BTreeMap::new();
        for path in self.gets.lock().unwrap().iter() {
            if let Some((_, digest)) = path.split_once("/blobs/") {
                *counted.entry(digest.to_owned()).or_default() += 1;
            }
        }
        counted
    }

    pub fn start(target: &str, budget: i64, refill: i64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Self {
            address: listener.local_addr().unwrap().to_string(),
            budget: Arc::new(AtomicI64::new(budget)),
            connections: Arc::default(),
            dead: Arc::default(),
            gets: Arc::default(),
            open: Arc::default(),
        };
        let open = Arc::clone(&proxy.open);
        let gets = Arc::clone(&proxy.gets);
        let (budget, connections, dead) =
            (Arc::clone(&proxy.budget), Arc::clone(&proxy.connections), Arc::clone(&proxy.dead));
        let target = target.to_owned();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                connections.fetch_add(1, Ordering::SeqCst);
                if budget.load(Ordering::SeqCst) <= 0 && !dead.load(Ordering::SeqCst) {
                    budget.store(refill, Ordering::SeqCst);
                }
                let Ok(server) = TcpStream::connect(&target) else { continue };
                let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let gets = Arc::clone(&gets);
                open.fetch_add(2, Ordering::SeqCst);
                let (forth, back) = (Arc::clone(&open), Arc::clone(&open));
                std::thread::spawn(move || {
                    let mut seen = Vec::new();
                    let mut buffer = [0; 4096];
                    while let Ok(got @ 1..) = from.read(&mut buffer) {
                        seen.extend_from_slice(&buffer[..got]);
                        note_gets(&mut seen, &gets);
                        if to.write_all(&buffer[..got]).is_err() {
                            break;
                        }
                    }
                    let _ = to.shutdown(std::net::Shutdown::Both);
                    forth.fetch_sub(1, Ordering::SeqCst);
                });
                let budget = Arc::clone(&budget);
                std::thread::spawn(move || {
                    forward(server, client, &budget);
                    back.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        proxy
    }
}

/// Takes whole lines off `seen` and notes those that begin a GET request.
fn note_gets(seen: &mut Vec<u8>, gets: &Mutex<Vec<String>>) {
    while let Some(end) = seen.iter().position(|byte| *byte == b'\n') {
        let line: Vec<u8> = seen.drain(..=end).collect();
        let line = String::from_utf8_lossy(&line);
        if let Some(path) = line.strip_prefix("GET ").and_then(|rest| rest.split(' ').next()) {
            gets.lock().unwrap().push(path.to_owned());
        }
    }
}

fn forward(mut server: TcpStream, mut client: TcpStream, budget: &AtomicI64) {
    let mut buffer = [0; 4096];
    while let Ok(got @ 1..) = server.read(&mut buffer) {
        if budget.fetch_sub(got as i64, Ordering::SeqCst) <= 0 || client.write_all(&buffer[..got]).is_err() {
            break;
        }
    }
    let _ = client.shutdown(std::net::Shutdown::Both);
    let _ = server.shutdown(std::net::Shutdown::Both);
}
