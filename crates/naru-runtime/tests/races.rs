//! Paths that change while they are looked at: CVE-2021-30465 (a mount lands where a link led) and CVE-2024-45310 (a
//! missing target is made there). Guards: `path::make_in_root` goes by descriptor beneath the root, and mounts are
//! attached to that descriptor.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{Group, Root, skip, spec, start};
use naru_kernel::path::{Missing, is_char_device, make_in_root, open_in_root};
use naru_kernel::{Errno, pidfd};
use naru_runtime::oci::{Mount, Spec};
use naru_runtime::request::{NetNs, SpawnError, SpawnOptions, SpawnRequest, Stdio};
use rustix::fs::{CWD, Mode, OFlags, RenameFlags, renameat_with};
use std::ffi::CString;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Look-ups against one swapper; a runtime that resolves paths as strings fails within the first hundred.
const LOOKUPS: u32 = 20_000;
/// Swaps that must have happened meanwhile, for the test to have tested something.
const SWAPS_MIN: u32 = 10_000;
/// Containers started against the swapper.
const STARTS: u32 = 200;

/// Runs `work` while `volume/a`, a directory, and `volume/b`, a link to `outside`, change places without pause.
fn while_swapping(volume: &Path, outside: &Path, work: impl FnOnce(&AtomicU32)) {
    std::fs::create_dir(volume.join("a")).unwrap();
    symlink(outside, volume.join("b")).unwrap();
    while_exchanging(&volume.join("a"), &volume.join("b"), work);
}

fn while_exchanging(a: &Path, b: &Path, work: impl FnOnce(&AtomicU32)) {
    let (stop, swaps) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
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

/// The host afterwards: no mount that has to do with one of these places, and the programs are what they were.
struct Host(Vec<u8>, Vec<u8>);

impl Host {
    fn look() -> Self {
        let read = |path: &Path| std::fs::read(path).unwrap();
        Self(read(&std::env::current_exe().unwrap()), read(Path::new("/bin/busybox")))
    }

    fn is_unchanged(&self, places: &[&Path]) {
        let now = Self::look();
        assert!(now.0 == self.0 && now.1 == self.1, "a program of the host was changed");
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        for place in places {
            assert!(!mounts.contains(&*place.to_string_lossy()), "{} is in\n{mounts}", place.display());
        }
    }
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
    let mut config = spec(&["true"]);
    config.mounts.push(bind(volume.path(), "/vol"));
    config.mounts.push(bind(source.path(), "/vol/a/deep"));
    let host = Host::look();
    while_swapping(volume.path(), outside.path(), |swaps| {
        let mut started = 0;
        let mut tries = 0;
        while tries < STARTS || swaps.load(Ordering::Relaxed) < SWAPS_MIN {
            if let Ok(running) = start(&root, &config, Some(&group)) {
                running.finish();
                started += 1;
            }
            assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
            tries += 1;
        }
        assert!(started > 0, "no container started");
        println!("{started} of {tries} containers started, {} swaps", swaps.load(Ordering::Relaxed));
    });
    host.is_unchanged(&[outside.path(), volume.path(), source.path(), root.dir.path()]);
}

/// CVE-2025-31133, CVE-2025-52565, CVE-2025-52881: /dev is a volume in which somebody exchanges the null device, from
/// which files are masked, for a link to something else. A container starts with its masks empty, or not at all. Guard:
/// `open_null` looks at the descriptor that it then mounts.
#[test]
fn a_null_device_that_changes() {
    if skip() {
        return;
    }
    let (root, group) = (Root::new(), Group::new());
    let volume = tempfile::tempdir().unwrap();
    let (null, other) = (volume.path().join("null"), volume.path().join("other"));
    let device = rustix::fs::makedev(1, 3);
    rustix::fs::mknodat(
        CWD,
        &null,
        rustix::fs::FileType::CharacterDevice,
        Mode::from_raw_mode(0o666),
        device,
    )
    .unwrap();
    symlink("/bin/busybox", &other).unwrap();
    let mut config = spec(&["sh", "-c", "wc -c < /proc/keys; wc -c < /proc/timer_list"]);
    config.mounts.retain(|mount| !mount.destination.starts_with("/dev"));
    config.mounts.push(bind(volume.path(), "/dev"));
    let host = Host::look();
    while_exchanging(&null, &other, |swaps| {
        let (mut tries, mut started) = (0, 0);
        while tries < STARTS || swaps.load(Ordering::Relaxed) < SWAPS_MIN {
            tries += 1;
            if let Ok(running) = start(&root, &config, Some(&group)) {
                let text = running.finish().1;
                // Where the volume's file system allows no devices, the mask cannot even be opened.
                let closed = text.lines().all(|line| line.ends_with(": Permission denied"));
                assert!(text == "0\n0\n" || closed, "{text}");
                started += 1;
            }
        }
        assert!((1..tries).contains(&started), "{started} of {tries} containers started");
        println!("{started} of {tries} containers started, {} swaps", swaps.load(Ordering::Relaxed));
    });
    host.is_unchanged(&[volume.path(), root.dir.path()]);
}

/// The same look-up by itself, often: a descriptor that passed is the device, whatever its name means by now.
#[test]
fn a_device_that_passed_stays_the_device() {
    let dir = tempfile::tempdir().unwrap();
    let (null, other) = (dir.path().join("null"), dir.path().join("other"));
    std::fs::write(dir.path().join("file"), "").unwrap();
    symlink("file", &other).unwrap();
    let device = rustix::fs::makedev(1, 3);
    let kind = rustix::fs::FileType::CharacterDevice;
    if let Err(errno) = rustix::fs::mknodat(CWD, &null, kind, Mode::from_raw_mode(0o666), device) {
        println!("SKIP: no device nodes here: {errno}");
        return;
    }
    let root = rustix::fs::open(dir.path(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
    while_exchanging(&null, &other, |swaps| {
        let (mut looked, mut passed) = (0, 0);
        while looked < LOOKUPS || swaps.load(Ordering::Relaxed) < SWAPS_MIN {
            let fd = open_in_root(&root, c"null", OFlags::NOFOLLOW).unwrap();
            if is_char_device(&fd, 1, 3).unwrap() {
                let place = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap();
                assert!(!place.ends_with("file"), "{}", place.display());
                assert!(is_char_device(&fd, 1, 3).unwrap());
                passed += 1;
            }
            looked += 1;
        }
        assert!(passed > 0 && passed < looked, "{passed} of {looked}");
        println!("{passed} of {looked} look-ups passed, {} swaps", swaps.load(Ordering::Relaxed));
    });
}

/// CVE-2024-45310: targets that are missing are made below a directory that changes places with a link out of the root:
/// every one is a new one, so each look-up makes something. Guard: `IN_ROOT`.
#[test]
fn a_missing_target_is_made_inside_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let root = rustix::fs::open(dir.path(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
    std::fs::create_dir(dir.path().join("vol")).unwrap();
    while_swapping(&dir.path().join("vol"), outside.path(), |swaps| {
        let (mut made, mut number) = (0u32, 0u32);
        while number < LOOKUPS || swaps.load(Ordering::Relaxed) < SWAPS_MIN {
            let names = ["vol".to_owned(), "a".to_owned(), format!("new{number}"), "below".to_owned()];
            let last = if number.is_multiple_of(2) { Missing::File } else { Missing::Directory };
            if let Ok(fd) = make_path(&root, &names, last) {
                let place = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap();
                assert!(place.starts_with(dir.path()), "{}", place.display());
                made += 1;
            }
            number += 1;
        }
        assert!(made > 0, "nothing was made");
        println!("{made} of {number} targets made, {} swaps", swaps.load(Ordering::Relaxed));
    });
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
}

fn make_path(root: &OwnedFd, names: &[String], last: Missing) -> Result<OwnedFd, Errno> {
    let c = |text: &str| CString::new(text).unwrap();
    let prefixes: Vec<CString> = (1..=names.len()).map(|len| c(&names[..len].join("/"))).collect();
    let components: Vec<CString> = names.iter().map(|name| c(name)).collect();
    make_in_root(root, &prefixes, &components, last)
}

/// CVE-2024-45310: the missing target itself becomes a dangling link out of the root just as it is made. Guard:
/// `path::create` takes no link.
#[test]
fn a_target_that_becomes_a_link_as_it_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let root = rustix::fs::open(dir.path(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
    let target = dir.path().join("target");
    let (stop, links) = (AtomicBool::new(false), AtomicU32::new(0));
    let (mut made, mut linked, mut number) = (0u32, 0u32, 0u32);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                // It may be there as what the other thread made.
                if symlink(outside.path().join("made"), &target).is_ok() {
                    links.fetch_add(1, Ordering::Relaxed);
                }
                let _ = std::fs::remove_file(&target);
            }
        });
        while number < LOOKUPS || links.load(Ordering::Relaxed) < SWAPS_MIN {
            let last = if number.is_multiple_of(2) { Missing::File } else { Missing::Directory };
            match make_path(&root, &["target".to_owned()], last) {
                Ok(_) => made += 1,
                Err(_) => linked += 1,
            }
            let _ = std::fs::remove_dir(&target);
            number += 1;
        }
        stop.store(true, Ordering::Relaxed);
    });
    println!("{made} of {number} made, {linked} not, {} links", links.load(Ordering::Relaxed));
    assert!(made > 0 && linked > 0);
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
}

/// CVE-2025-52565: /dev is a volume in which the place of the console changes into a link out of the root, and that of the
/// terminals into a link elsewhere. What is mounted there is the terminal or nothing. Guards: the terminal's other end
/// comes by TIOCGPTPEER, and `open_mount_point` resolves in the root.
#[test]
fn a_console_that_changes() {
    if skip() {
        return;
    }
    let (root, group) = (Root::new(), Group::new());
    let (volume, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for name in ["pts", "fake"] {
        std::fs::create_dir(volume.path().join(name)).unwrap();
    }
    std::fs::write(volume.path().join("fake/0"), "").unwrap();
    std::fs::write(volume.path().join("console"), "").unwrap();
    symlink(outside.path().join("made"), volume.path().join("link")).unwrap();
    symlink("fake", volume.path().join("pts-link")).unwrap();
    let mut config = spec(&["cat", "/proc/self/mountinfo"]);
    config.process.terminal = true;
    config.linux.masked_paths.clear();
    config.mounts.retain(|mount| mount.destination != "/dev");
    config.mounts.insert(0, bind(volume.path(), "/dev"));
    let host = Host::look();
    let place = |name: &str| volume.path().join(name);
    while_exchanging(&place("console"), &place("link"), |consoles| {
        while_exchanging(&place("pts"), &place("pts-link"), |terminals| {
            let swaps = || consoles.load(Ordering::Relaxed).min(terminals.load(Ordering::Relaxed));
            let (mut tries, mut started) = (0, 0);
            while tries < STARTS || swaps() < SWAPS_MIN {
                if let Ok(text) = run_on_terminal(&root, &config, &group) {
                    // Fields of proc_pid_mountinfo(5): 4 is what of the file system is mounted, 5 where.
                    let bound = |line: &&str| line.contains(" - devpts ") && !line.contains(" / /");
                    let consoles: Vec<&str> = text.lines().filter(bound).collect();
                    assert!(matches!(consoles[..], [one] if one.contains(" /0 /")), "{text}");
                    started += 1;
                }
                assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
                tries += 1;
            }
            assert!(started > 0, "no container started");
            println!("{started} of {tries} containers started, {} swaps", swaps());
        });
    });
    host.is_unchanged(&[outside.path(), volume.path(), root.dir.path()]);
}

/// What a container says that has a terminal.
fn run_on_terminal(root: &Root, config: &Spec, group: &Group) -> Result<String, SpawnError> {
    let rootfs = root.rootfs();
    let spawned = naru_runtime::spawn::spawn(SpawnRequest {
        spec: config,
        rootfs: &rootfs,
        cgroup: Some(&group.0),
        netns: NetNs::New,
        stdio: Stdio::Pty { rows: 24, cols: 80 },
        options: SpawnOptions::default(),
    })?;
    let mut text = Vec::new();
    // A terminal that nobody has open any more is EIO, not an end (pty(7)).
    let _ = std::fs::File::from(spawned.pty_master.unwrap()).read_to_end(&mut text);
    pidfd::wait(&spawned.pidfd).unwrap();
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn bind(source: &Path, destination: &str) -> Mount {
    Mount {
        destination: destination.into(),
        kind: "bind".into(),
        source: source.display().to_string(),
        options: vec!["rbind".into(), "rprivate".into()],
        ..Mount::default()
    }
}
