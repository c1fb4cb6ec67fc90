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
    // PROC_USER_INIT_INO of linux/proc_ns.h: the usual case costs one system call.
    const INITIAL: u64 = 0xEFFF_FFFD;
    if rustix::fs::stat(c"/proc/self/ns/user").is_ok_and(|stat| stat.st_ino == INITIAL) {
        return false;
    }
    std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| !is_identity(&map))
}

fn is_identity(map: &str) -> bool {
    const ALL: &str = "4294967295";
    map.split_whitespace().eq(["0", "0", ALL])
}

/// The highest group that can be named: the kernel's limit, or less in a user namespace (user_namespaces(7), gid_map).
pub fn highest_group() -> u32 {
    const GROUP_MAX: u32 = i32::MAX as u32;
    let map = std::fs::read_to_string("/proc/self/gid_map").unwrap_or_default();
    last_mapped(&map).map_or(GROUP_MAX, |last| last.min(GROUP_MAX))
}

/// The last number of the run of mapped numbers that begins with 0.
fn last_mapped(map: &str) -> Option<u32> {
    let mut runs: Vec<(u32, u32)> = map
        .lines()
        .filter_map(|line| {
            let mut numbers = line.split_whitespace().map(|number| number.parse::<u32>().ok());
            Some((numbers.next()??, numbers.nth(1)??))
        })
        .collect();
    runs.sort_unstable();
    let end = runs.iter().fold(
        0_u32,
        |end, (first, count)| {
            if *first == end { end.saturating_add(*count) } else { end }
        },
    );
    end.checked_sub(1)
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

/// Makes a new network namespace that belongs to the user namespace `userns`; the caller stays where it is. Only a
/// process with one thread can enter a user namespace, so a child does, and lives until the namespace has been opened.
pub fn new_netns_in(userns: impl AsFd) -> io::Result<OwnedFd> {
    let userns = userns.as_fd();
    let (ready_reader, ready_writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let (done_reader, done_writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let child = crate::process::spawn(&crate::process::CloneArgs::default(), || {
        let entered = setns(userns, NEWUSER).and_then(|()| unshare(NEWNET));
        let errno = entered.err().map_or(0, Errno::raw_os_error);
        // The parent's copy of this end is not the last one: the child must not keep its own open while it waits.
        let told = rustix::io::write(&ready_writer, &errno.to_ne_bytes());
        if told.is_ok() && errno == 0 {
            // Until the parent writes; it always does before it waits.
            let _ = rustix::io::read(&done_reader, &mut [0u8; 1]);
        }
        0
    })?;
    let mut errno = [0; 4];
    let heard = rustix::io::read(&ready_reader, &mut errno);
    let errno = i32::from_ne_bytes(errno);
    let opened = match heard {
        Ok(4) if errno == 0 => open(&format!("/proc/{}/ns/net", child.pid)),
        Ok(4) => Err(Errno::from_raw_os_error(errno).into()),
        Ok(_) => Err(io::Error::other("the child that makes the network namespace died")),
        Err(errno) => Err(errno.into()),
    };
    let _ = rustix::io::write(&done_writer, b"d");
    let _ = crate::pidfd::wait(&child.pidfd);
    opened
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
    fn the_highest_group_of_a_map() {
        assert_eq!(last_mapped("0 0 4294967295"), Some(4_294_967_294));
        assert_eq!(last_mapped("         0       1000          1\n"), Some(0));
        assert_eq!(last_mapped("1 100000 65536\n0 1000 1\n70000 5 5\n"), Some(65_536));
        assert_eq!(last_mapped(""), None);
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
