//! clone3(2) as a function that runs a closure in the child.
//!
//! The child is a copy of the caller (no CLONE_VM), so memory is safe whatever it does; but if the caller has other
//! threads, a lock one of them held stays locked in the child for ever. The closure must therefore be *child-safe*:
//! no allocation, no lock, no panic, only system calls on data that was prepared before. A panic ends the child with
//! [`PANIC_EXIT_CODE`] instead of unwinding into the caller's frames.

use crate::ns::NsFlags;
use crate::sys::{check, check_int};
use rustix::io::Errno;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Exit code of a child whose closure panicked or returned nonsense.
pub const PANIC_EXIT_CODE: i32 = 125;

#[derive(Clone, Copy, Debug, Default)]
pub struct CloneArgs<'a> {
    /// Namespaces to make.
    pub namespaces: NsFlags,
    /// A cgroup v2 directory to start in (CLONE_INTO_CGROUP).
    pub cgroup: Option<BorrowedFd<'a>>,
    /// The child is not ours but our parent's (CLONE_PARENT): who stands between passes it on.
    pub sibling: bool,
}

/// A child made by [`spawn`].
#[derive(Debug)]
pub struct Child {
    pub pid: i32,
    pub pidfd: OwnedFd,
}

/// struct clone_args of linux/sched.h, CLONE_ARGS_SIZE_VER2.
#[repr(C, align(8))]
#[derive(Default)]
struct RawCloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Clones; the child runs `body` and exits with its result. See the module's words on what `body` may do. Child-safe
/// itself.
pub fn spawn(args: &CloneArgs<'_>, body: impl FnOnce() -> i32) -> Result<Child, Errno> {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut pidfd: libc::c_int = -1;
    let mut raw = RawCloneArgs {
        flags: u64::from(args.namespaces) | libc::CLONE_PIDFD as u64,
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..RawCloneArgs::default()
    };
    if args.sibling {
        // The signal at its end is the one that our own end sends (clone(2)).
        raw.flags |= libc::CLONE_PARENT as u64;
        raw.exit_signal = 0;
    }
    if let Some(cgroup) = args.cgroup {
        raw.flags |= CLONE_INTO_CGROUP;
        raw.cgroup = cgroup.as_raw_fd() as u64;
    }
    let pid = clone3(&raw)?;
    if pid == 0 {
        run_child(body);
    }
    // SAFETY: with CLONE_PIDFD the kernel stored a new descriptor in `pidfd` that only we know.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Child { pid: pid as i32, pidfd })
}

/// Forks: `Some(pid)` in the parent, `None` in the child, which goes on with the same code. The old clone(2), because
/// Docker's seccomp profile answers ENOSYS to clone3. Only for a child-safe process that will execve or exit (the tiny
/// init). Child-safe.
pub fn fork_in_child() -> Result<Option<i32>, Errno> {
    // SAFETY: without CLONE_VM and with a null stack the child gets a copy of this very stack; the other arguments are
    // unused without their flags.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) })?;
    Ok((pid != 0).then_some(pid as i32))
}

/// fork(3) of the C library: unlike in a child of [`spawn`], memory may be allocated in this one, since the library
/// takes its own locks around the fork. Other locks that a thread held stay locked. The child runs `body` and exits with
/// its result; the parent gets its pidfd.
pub fn fork(body: impl FnOnce() -> i32) -> Result<Child, Errno> {
    // SAFETY: the child goes on with a copy of this thread only; the contract above says what it may not rely on.
    let pid = check_int(unsafe { libc::fork() })?;
    if pid == 0 {
        run_child(body);
    }
    // Nobody reaps it before us, so the number is still its own.
    crate::pidfd::open(pid).map(|pidfd| Child { pid, pidfd })
}

/// Ends the process at once: no destructors, no exit handlers. Child-safe.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit takes a number and does not return.
    unsafe { libc::_exit(code) }
}

fn clone3(raw: &RawCloneArgs) -> Result<libc::c_long, Errno> {
    // SAFETY: `raw` has the kernel's layout and its size is passed. Without CLONE_VM and with a null stack the child
    // gets a copy of this very stack, as after fork(2). `pidfd`, when set, points at a live c_int of the caller.
    check(unsafe { libc::syscall(libc::SYS_clone3, std::ptr::from_ref(raw), size_of::<RawCloneArgs>()) })
}

fn run_child(body: impl FnOnce() -> i32) -> ! {
    struct ExitOnUnwind;
    impl Drop for ExitOnUnwind {
        fn drop(&mut self) {
            exit_now(PANIC_EXIT_CODE);
        }
    }
    let _guard = ExitOnUnwind;
    let code = body();
    exit_now(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pidfd::{self, ExitStatus};

    #[test]
    fn the_closure_runs_in_a_child() {
        let child = spawn(&CloneArgs::default(), || 42).unwrap();
        assert!(child.pid > 0);
        assert_eq!(pidfd::wait(&child.pidfd), Ok(ExitStatus::Code(42)));
    }
}
