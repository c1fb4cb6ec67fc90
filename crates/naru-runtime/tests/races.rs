//! Paths that change while they are looked at: CVE-2021-30465 (a mount lands where a link led) and CVE-2024-45310 (a
//! missing target is made there). Guards: `path::make_in_root` goes by descriptor beneath the root, and mounts are
//! attached to that descriptor.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{Group, Root, skip, spec, start};
use naru_kernel::path::{Missing, make_in_root};
use naru_runtime::oci::Mount;
use rustix::fs::{CWD, Mode, OFlags, RenameFlags, renameat_with};
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Look-ups against one swapper; a runtime that resolves paths as strings fails within the first hundred.
const LOOKUPS: u32 = 20_000;
/// Swaps that must have happened meanwhile, for the test to have tested something.
const SWAPS_MIN: u32 = 10_000;
/// How long containers are started against the swapper.
const STARTS_FOR: Duration = Duration::from_secs(5);

/// Runs `work` while `volume/a`, a directory, and `volume/b`, a link to `outside`, change places without pause.
fn while_swapping(volume: &Path, outside: &Path, work: impl FnOnce(&AtomicU32)) {
    std::fs::create_dir(volume.join("a")).unwrap();
    symlink(outside, volume.join("b")).unwrap();
    let (stop, swaps) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let (a, b) = (volume.join("a"), volume.join("b"));
                renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE).unwrap();
                swaps.fetch_add(1, Ordering::Relaxed);
            }
        });
        // A failing assertion must not leave the swapper running.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&swaps)));
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
}

#[test]
fn a_swapped_directory_never_leads_out() {
    let dir = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let root = rustix::fs::open(dir.path(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
    std::fs::create_dir(dir.path().join("vol")).unwrap();
    while_swapping(&dir.path().join("vol"), outside.path(), |swaps| {
        let (mut found, mut number) = (0u32, 0u32);
        while number < LOOKUPS || swaps.load(Ordering::Relaxed) < SWAPS_MIN {
            let (last, missing) = match number % 3 {
                0 => (c"file".to_owned(), Missing::File),
                1 => (c"dir".to_owned(), Missing::Directory),
                _ => (std::ffi::CString::new(format!("new{}", number % 1000)).unwrap(), Missing::File),
            };
            let full = [b"vol/a/", last.as_bytes()].concat();
            let prefixes = [c"vol".to_owned(), c"vol/a".to_owned(), std::ffi::CString::new(full).unwrap()];
            let components = [c"vol".to_owned(), c"a".to_owned(), last];
            if let Ok(fd) = make_in_root(&root, &prefixes, &components, missing) {
                let place = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap();
                assert!(place.starts_with(dir.path()), "{}", place.display());
                found += 1;
            }
            number += 1;
        }
        assert!(found > 0, "the directory was never there");
        println!("{number} look-ups, {found} found, {} swaps", swaps.load(Ordering::Relaxed));
    });
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn containers_that_share_a_volume() {
    if skip() {
        return;
    }
    let (root, group) = (Root::new(), Group::new());
    let (volume, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let source = tempfile::tempdir().unwrap();
    let bind = |source: &Path, destination: &str| Mount {
        destination: destination.into(),
        kind: "bind".into(),
        source: source.display().to_string(),
        options: vec!["rbind".into(), "rprivate".into()],
    };
    let mut config = spec(&["true"]);
    config.mounts.push(bind(volume.path(), "/vol"));
    config.mounts.push(bind(source.path(), "/vol/a/deep"));
    while_swapping(volume.path(), outside.path(), |_| {
        let end = Instant::now() + STARTS_FOR;
        let mut started = 0;
        while Instant::now() < end {
            if let Ok(running) = start(&root, &config, Some(&group)) {
                running.finish();
                started += 1;
            }
            assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
        }
        assert!(started > 0, "no container started");
        println!("{started} containers started");
    });
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&*outside.path().to_string_lossy()));
}
