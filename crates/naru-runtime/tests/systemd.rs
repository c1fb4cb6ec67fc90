//! Scopes of systemd as control groups: limits, update, nesting, and that nothing is left. Where systemd is not the first
//! process there is nothing to test.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{Root, skip, spec};
use naru_runtime::cgroup::Cgroup;
use naru_runtime::oci;
use naru_runtime::request::{NetNs, SpawnOptions, SpawnRequest, Stdio};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;

fn no_systemd() -> bool {
    if std::fs::read_to_string("/proc/1/comm").is_ok_and(|name| name.trim() == "systemd") {
        return skip();
    }
    println!("SKIP: systemd is not running");
    true
}

/// Stopped on drop.
struct Scope(Cgroup);

impl Scope {
    fn start(slice: &str, resources: &oci::Resources) -> Self {
        let name = format!("{slice}:naru-test-{}:{}", std::process::id(), slice.len());
        let path = Cgroup::place_scope(&name, "id", false).unwrap();
        let cgroup = Cgroup::start_scope(&path, false, resources, &BTreeMap::new()).unwrap();
        cgroup.apply(resources).unwrap();
        Self(cgroup)
    }

    fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.v2_directory().unwrap().join(name)).unwrap().trim().to_owned()
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        let _ = self.0.kill_all();
        if let Err(error) = self.0.delete() {
            assert!(std::thread::panicking(), "a scope stays: {error}");
        }
    }
}

fn null() -> OwnedFd {
    std::fs::OpenOptions::new().read(true).write(true).open("/dev/null").unwrap().into()
}

#[test]
fn a_scope_has_its_limits_and_leaves_nothing() {
    if no_systemd() {
        return;
    }
    let root = Root::new();
    let config = spec(&["sleep", "1000"]);
    let mut resources = config.linux.resources.clone();
    resources.memory.limit = Some(64 << 20);
    resources.pids.limit = Some(1);
    resources.cpu.quota = Some(12_345);
    resources.cpu.period = Some(100_000);
    let scope = Scope::start("", &resources);
    let spawned = naru_runtime::spawn::spawn(SpawnRequest {
        spec: &config,
        rootfs: &root.rootfs(),
        cgroup: Some(&scope.0),
        netns: NetNs::of_spec(&config).unwrap(),
        stdio: Stdio::Pipes { stdin: null(), stdout: null(), stderr: null() },
        options: SpawnOptions::default(),
    })
    .unwrap();
    scope.0.settle(&resources).unwrap();
    assert_eq!(scope.0.pids().unwrap(), [spawned.pid]);
    assert!(scope.0.path().starts_with("system.slice/naru-test-"), "{}", scope.0.path());
    let seen = ["memory.max", "pids.max", "cpu.max"].map(|name| scope.file(name));
    assert_eq!(seen, ["67108864", "1", "13000 100000"]);
    let mut change = oci::Resources::default();
    change.memory.limit = Some(96 << 20);
    change.pids.limit = Some(40);
    scope.0.apply(&change).unwrap();
    assert_eq!([scope.file("memory.max"), scope.file("pids.max")], ["100663296", "40"]);
    scope.0.kill_all().unwrap();
    naru_kernel::pidfd::wait(&spawned.pidfd).unwrap();
    let (directory, unit) = (scope.0.v2_directory().unwrap(), scope.0.path().to_owned());
    drop(scope);
    assert!(!directory.exists());
    let unit = unit.rsplit('/').next().unwrap().to_owned();
    assert!(!Path::new("/run/systemd/transient").join(unit).exists());
}

#[test]
fn slices_lie_in_slices() {
    if no_systemd() {
        return;
    }
    let slice = format!("narutest{}-a-b.slice", std::process::id());
    let scope = Scope::start(&slice, &oci::Resources::default());
    assert_eq!(scope.0.path().split('/').count(), 4);
    assert_eq!(scope.0.pids().unwrap().len(), 1, "the placeholder");
    let mut again = Cgroup::open_scope(scope.0.path(), false).unwrap();
    assert_eq!(again.pids().unwrap(), scope.0.pids().unwrap());
    assert!(
        Cgroup::start_scope(scope.0.path(), false, &oci::Resources::default(), &BTreeMap::new()).is_err()
    );
    again = scope.0.clone();
    again.delete().unwrap();
    again.delete().unwrap();
}
