//! Namespaces: entering (setns(2)), leaving (unshare(2)) and making one without leaving one's own.

use crate::sys::check_int;
use rustix::io::Errno;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// CLONE_NEW* bits, as clone3, unshare and setns take them.
pub type NsFlags = u32;

pub const NEWCGROUP: NsFlags = libc::CLONE_NEWCGROUP as u32;
pub const NEWIPC: NsFlags = libc::CLONE_NEWIPC as u32;
pub const NEWNET: NsFlags = libc::CLONE_NEWNET as u32;
pub const NEWNS: NsFlags = libc::CLONE_NEWNS as u32;
pub const NEWPID: NsFlags = libc::CLONE_NEWPID as u32;
pub const NEWTIME: NsFlags = 0x80;
pub const NEWUSER: NsFlags = libc::CLONE_NEWUSER as u32;
pub const NEWUTS: NsFlags = libc::CLONE_NEWUTS as u32;

/// Moves the calling thread into new namespaces. Child-safe.
pub fn unshare(flags: NsFlags) -> Result<(), Errno> {
    // SAFETY: unshare of namespaces touches no memory of ours; CLONE_FILES and CLONE_FS are not in `NsFlags`' constants
    // but would be harmless to memory safety as well.
    check_int(unsafe { libc::unshare(flags as libc::c_int) }).map(|_| ())
}

/// Moves the calling thread into the namespace `fd` refers to, or, if `fd` is a pidfd, into all of that process's
/// namespaces named in `flags`. Child-safe.
pub fn setns(fd: impl AsFd, flags: NsFlags) -> Result<(), Errno> {
    // SAFETY: the descriptor is open for the call; setns touches no memory of ours.
    check_int(unsafe { libc::setns(fd.as_fd().as_raw_fd(), flags as libc::c_int) }).map(|_| ())
}

/// Opens a namespace file (`/proc/<pid>/ns/net`), close-on-exec.
pub fn open(path: &str) -> io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    let path = CString::new(path).map_err(|_| Errno::INVAL)?;
    Ok(rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Opens the calling thread's own namespace of that kind (`net`, `mnt`, `pid` …).
pub fn open_own(kind: &str) -> io::Result<OwnedFd> {
    open(&format!("/proc/thread-self/ns/{kind}"))
}

/// Whether the caller's user namespace is not the machine's own: where `/proc/self/uid_map` is not the identity over all
/// numbers (user_namespaces(7)). Without a readable map the kernel has no user namespaces.
pub fn in_user_namespace() -> bool {
    std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| !is_identity(&map))
}

fn is_identity(map: &str) -> bool {
    const ALL: &str = "4294967295";
    map.split_whitespace().eq(["0", "0", ALL])
}

/// Makes a new network namespace and returns it; the caller stays where it is. A short-lived thread does the unshare,
/// since the namespace is a property of a thread.
pub fn new_netns() -> io::Result<OwnedFd> {
    let worker = std::thread::Builder::new().name("netns".into()).stack_size(64 << 10);
    let handle = worker.spawn(|| -> io::Result<OwnedFd> {
        unshare(NEWNET)?;
        open_own("net")
    })?;
    handle.join().map_err(|_| io::Error::other("the namespace thread died"))?
}

/// Runs `work` on a thread inside the namespace `fd` (of kind `flags`), and waits for it.
pub fn run_in<T: Send>(fd: impl AsFd, flags: NsFlags, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let fd = fd.as_fd();
    std::thread::scope(|scope| {
        let handle = scope.spawn(move || -> io::Result<T> {
            setns(fd, flags)?;
            Ok(work())
        });
        handle.join().map_err(|_| io::Error::other("the namespace thread died"))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_own_map_is_the_identity() {
        assert!(is_identity("         0          0 4294967295\n"));
        assert!(!is_identity("         0       1000          1\n"));
        assert!(!is_identity("0 1000 1\n1 100000 65536\n"));
    }

    #[test]
    fn a_new_netns_is_another_one() {
        if !rustix::process::geteuid().is_root() {
            println!("SKIP: needs root");
            return;
        }
        let inode = |fd: &OwnedFd| rustix::fs::fstat(fd).unwrap().st_ino;
        let made = new_netns().unwrap();
        assert_ne!(inode(&made), inode(&open_own("net").unwrap()));
        let inside = run_in(&made, NEWNET, || open_own("net").map(|fd| inode(&fd))).unwrap().unwrap();
        assert_eq!(inside, inode(&made));
    }
}
