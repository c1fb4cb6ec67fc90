//! Signal masks, dispositions, signalfd, and the waits of a tiny init.

use crate::pidfd::{ExitStatus, from_wait_status};
use crate::sys::{check, check_int};
use rustix::io::Errno;
use std::os::fd::{FromRawFd, OwnedFd};

/// Bit n−1 is signal n, as the kernel's sigset_t.
pub type SignalBits = u64;

/// Highest signal number.
pub const MAX: i32 = 64;

/// All signals.
pub const ALL: SignalBits = u64::MAX;

/// The set of these signals.
pub fn bits(signals: &[i32]) -> SignalBits {
    signals.iter().fold(0, |set, signal| set | 1 << (signal - 1))
}

/// Replaces the calling thread's mask and returns the old one. Child-safe.
pub fn set_mask(mask: SignalBits) -> Result<SignalBits, Errno> {
    let mut old: SignalBits = 0;
    // SAFETY: both sets are 8 bytes, the size that is passed; the raw call is used since the libc's sigset_t is larger.
    check(unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const mask,
            &raw mut old,
            size_of::<u64>(),
        )
    })?;
    Ok(old)
}

/// Gives every signal its default disposition: execve keeps ignored ones ignored (a Rust parent ignores SIGPIPE).
/// Child-safe.
pub fn reset_dispositions() {
    for signal in 1..=MAX {
        if signal == libc::SIGKILL || signal == libc::SIGSTOP {
            continue;
        }
        // The kernel's struct sigaction, all zero: SIG_DFL, no flags, empty mask. 32 bytes on x86_64 and aarch64.
        let default = [0u64; 4];
        let none = std::ptr::null_mut::<u64>();
        // SAFETY: `default` is as large as the kernel's struct sigaction; the mask size is right; no old value wanted.
        let _ = unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), none, size_of::<u64>())
        };
    }
}

/// Waits for one of the blocked signals in `set`; its number. Child-safe.
pub fn wait(set: SignalBits) -> Result<i32, Errno> {
    let none = std::ptr::null::<u8>();
    // SAFETY: `set` is 8 bytes as passed; null siginfo and null timeout are allowed.
    check(unsafe { libc::syscall(libc::SYS_rt_sigtimedwait, &raw const set, none, none, size_of::<u64>()) })
        .map(|signal| signal as i32)
}

/// Sends a signal to a process or group, as kill(2). Child-safe.
pub fn kill(pid: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: kill takes numbers only.
    check_int(unsafe { libc::kill(pid, signal) }).map(|_| ())
}

/// Reaps any ended child without waiting: its pid and how it ended. `ECHILD` when there is none. Child-safe.
pub fn reap_any() -> Result<Option<(i32, ExitStatus)>, Errno> {
    let mut status: libc::c_int = 0;
    // SAFETY: `status` is writable; a null rusage is what waitpid passes.
    let pid = check_int(unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) })?;
    Ok((pid > 0).then(|| (pid, from_wait_status(status))))
}

/// A descriptor that reads the blocked signals of `set` (signalfd(2)); non-blocking and close-on-exec.
pub fn signalfd(set: SignalBits) -> Result<OwnedFd, Errno> {
    let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
    // SAFETY: `set` is 8 bytes as passed; −1 asks for a new descriptor.
    let fd =
        check(unsafe { libc::syscall(libc::SYS_signalfd4, -1, &raw const set, size_of::<u64>(), flags) })?;
    // SAFETY: the kernel just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
}
