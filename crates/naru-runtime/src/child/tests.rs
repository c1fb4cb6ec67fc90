//! The child's steps against somebody who changes mounts or names meanwhile: the steps themselves, ten thousand times, in
//! a mount namespace of the test's own.

use super::Slots;
use super::attributes::{write_host_proc, write_label};
use super::mounts::{mask, mount_console, write_sysctl};
use crate::plan::Target;
use naru_kernel::mount::{self, Propagation};
use naru_kernel::path::Missing;
use naru_kernel::{Errno, ns};
use rustix::fs::{CWD, Mode, OFlags};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Writes, and moves of the mount that is in their way, that must have happened for a test to have tested something.
const ROUNDS_MIN: u32 = 10_000;

/// In a thread with mounts and a network of its own, which the threads that it makes share.
fn in_private_mounts(work: impl FnOnce() + Send) {
    if !rustix::process::geteuid().is_root() {
        println!("SKIP: needs root");
        return;
    }
    let ended = std::thread::scope(|scope| {
        let own = scope.spawn(|| {
            ns::unshare(ns::NEWNS | ns::NEWNET).unwrap();
            mount::set_root_propagation(Propagation::Private).unwrap();
            work();
        });
        own.join()
    });
    if let Err(panic) = ended {
        std::panic::resume_unwind(panic);
    }
}

fn directory(path: &Path) -> OwnedFd {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap()
}

fn bind(from: &Path, to: &Path) {
    rustix::mount::mount_bind(from, to).unwrap();
}

/// A procfs of this pid namespace, mounted at `at`.
fn procfs(at: &Path) -> OwnedFd {
    std::fs::create_dir(at).unwrap();
    let made = mount::new_fs(c"proc", Some(c"proc"), std::iter::empty(), 0).unwrap();
    mount::attach(&made, directory(at)).unwrap();
    made
}

/// Calls `write` while the mount at `park` moves to `over` and back without pause. How often it wrote, and how often it
/// found the mount in its way (`EXDEV`); nothing else may happen.
fn while_covering(park: &Path, over: &Path, mut write: impl FnMut() -> Result<(), Errno>) -> (u32, u32) {
    let (stop, moves) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                rustix::mount::mount_move(park, over).unwrap();
                rustix::mount::mount_move(over, park).unwrap();
                moves.fetch_add(2, Ordering::Relaxed);
            }
        });
        let (mut written, mut refused) = (0, 0);
        let mut other = None;
        while other.is_none()
            && (written + refused < ROUNDS_MIN || moves.load(Ordering::Relaxed) < ROUNDS_MIN)
        {
            match write() {
                Ok(()) => written += 1,
                Err(Errno::XDEV) => refused += 1,
                // openat2(2): the kernel could not be sure, as mounts moved, and was asked often enough.
                Err(Errno::AGAIN) => {}
                Err(errno) => other = Some(errno),
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert_eq!(other, None);
        println!("{written} written, {refused} refused, {} moves", moves.load(Ordering::Relaxed));
        (written, refused)
    })
}

/// A file that something is mounted on to begin with: only a mount can be moved.
fn parked(dir: &Path, bait: &Path) -> PathBuf {
    let park = dir.join("park");
    std::fs::write(&park, "").unwrap();
    bind(bait, &park);
    park
}

/// CVE-2019-16884, CVE-2025-52881: the file that takes the security label is covered, by an ordinary file or by another
/// file of procfs, which its magic number does not give away. Guard: RESOLVE_NO_XDEV in `open_in_proc`.
#[test]
fn a_label_is_never_written_to_something_else() {
    in_private_mounts(|| {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("bait");
        std::fs::write(&file, "untouched").unwrap();
        let thread = Path::new("/proc").join(std::fs::read_link("/proc/thread-self").unwrap());
        let other = Path::new("/proc/self/coredump_filter").canonicalize().unwrap();
        // The name of a thread is a file that takes any text; the kernel of a test machine may have no labels.
        let name = thread.join("comm");
        for bait in [&file, &other] {
            let before = std::fs::read(bait).unwrap();
            let park = parked(dir.path(), bait);
            let write = || write_label(c"thread-self/comm", c"thread-self/comm", c"1");
            let (written, refused) = while_covering(&park, &name, write);
            assert!(written > 0 && refused > 0);
            assert_eq!(std::fs::read(bait).unwrap(), before, "{}", bait.display());
            rustix::mount::unmount(&park, rustix::mount::UnmountFlags::DETACH).unwrap();
        }
        assert_eq!(std::fs::read_to_string(name).unwrap(), "1\n");
    });
}

/// The same for what lies over all of /proc: another file system, or a directory of procfs.
#[test]
fn proc_is_the_root_of_a_procfs() {
    in_private_mounts(|| {
        let name = c"thread-self/comm";
        assert_eq!(write_host_proc(name, c"first"), Ok(()));
        let fake = tempfile::tempdir().unwrap();
        std::fs::create_dir(fake.path().join("thread-self")).unwrap();
        std::fs::write(fake.path().join("thread-self/comm"), "untouched").unwrap();
        let procfs = directory(Path::new("/proc/sys"));
        bind(fake.path(), Path::new("/proc"));
        assert_eq!(write_host_proc(name, c"second"), Err(Errno::XDEV));
        assert_eq!(std::fs::read_to_string(fake.path().join("thread-self/comm")).unwrap(), "untouched");
        let part = mount::clone_tree(&procfs, c"", false).unwrap();
        mount::attach(&part, directory(Path::new("/proc"))).unwrap();
        assert_eq!(write_host_proc(name, c"second"), Err(Errno::XDEV));
    });
}

/// CVE-2025-52881: a mount comes over a sysctl as it is written. Guard: RESOLVE_NO_XDEV in `write_sysctl`.
#[test]
fn a_covered_sysctl_is_not_written() {
    in_private_mounts(|| {
        let dir = tempfile::tempdir().unwrap();
        let bait = dir.path().join("bait");
        std::fs::write(&bait, "untouched").unwrap();
        let park = parked(dir.path(), &bait);
        let at = dir.path().join("proc");
        let mut slots = Slots { proc: Some(procfs(&at)), ..Slots::default() };
        let name = c"sys/net/ipv4/ping_group_range";
        let over = at.join(name.to_str().unwrap());
        let write = || write_sysctl(&mut slots, name, c"0 0");
        let (written, refused) = while_covering(&park, &over, write);
        assert!(written > 0 && refused > 0);
        assert_eq!(std::fs::read_to_string(bait).unwrap(), "untouched");
    });
}

/// CVE-2023-27561: whoever shares the root puts a link in the place of /proc after it was mounted. Guard:
/// `open_protected` looks things up in that very procfs.
#[test]
fn what_protects_proc_lies_on_the_procfs() {
    in_private_mounts(|| {
        let dir = tempfile::tempdir().unwrap();
        let (real, decoy) = (dir.path().join("real"), dir.path().join("decoy"));
        std::fs::create_dir(&decoy).unwrap();
        std::fs::write(decoy.join("uptime"), "decoy").unwrap();
        symlink("decoy", dir.path().join("proc")).unwrap();
        let null = rustix::fs::open("/dev/null", OFlags::PATH, Mode::empty()).unwrap();
        let mut slots = Slots { proc: Some(procfs(&real)), null: Some(null), ..Slots::default() };
        mask(directory(dir.path()).as_fd(), &mut slots, c"proc/uptime").unwrap();
        assert_eq!(std::fs::read_to_string(real.join("uptime")).unwrap(), "");
        assert_eq!(std::fs::read_to_string(decoy.join("uptime")).unwrap(), "decoy");
    });
}

/// CVE-2025-52565: a link at /dev/console has the terminal mounted over a file of procfs, such as one that takes labels.
/// Guard: `open_mount_point`.
#[test]
fn the_console_is_not_mounted_on_proc() {
    in_private_mounts(|| {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("proc");
        let slots = Slots {
            proc: Some(procfs(&at)),
            terminal: Some(rustix::fs::open("/dev/null", OFlags::PATH, Mode::empty()).unwrap()),
            ..Slots::default()
        };
        std::fs::create_dir(dir.path().join("dev")).unwrap();
        symlink("../proc/uptime", dir.path().join("dev/console")).unwrap();
        let target = Target::new("/dev/console", Missing::File).unwrap();
        let root = rustix::fs::openat(CWD, dir.path(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty());
        assert_eq!(mount_console(root.unwrap().as_fd(), &slots, &target), Err(Errno::LOOP));
        assert_ne!(std::fs::read_to_string(at.join("uptime")).unwrap(), "");
    });
}
