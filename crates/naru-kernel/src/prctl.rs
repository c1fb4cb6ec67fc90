//! The few prctl(2) calls that a container's child makes. All child-safe.

use crate::sys::check_int;
use rustix::io::Errno;
use std::ffi::CStr;

/// Whether /proc/self may be opened by others of the same user, and core dumps made. execve sets it again.
pub fn set_dumpable(on: bool) -> Result<(), Errno> {
    number(libc::PR_SET_DUMPABLE, libc::c_ulong::from(on))
}

/// No gain of privileges by execve from here on; cannot be undone.
pub fn set_no_new_privs() -> Result<(), Errno> {
    number(libc::PR_SET_NO_NEW_PRIVS, 1)
}

/// Keep the permitted capabilities when the user id changes; execve resets it.
pub fn set_keep_caps(on: bool) -> Result<(), Errno> {
    number(libc::PR_SET_KEEPCAPS, libc::c_ulong::from(on))
}

/// The signal to get when the parent thread dies; 0: none.
pub fn set_parent_death_signal(signal: i32) -> Result<(), Errno> {
    number(libc::PR_SET_PDEATHSIG, signal as libc::c_ulong)
}

/// Orphaned descendants become our children.
pub fn set_child_subreaper(on: bool) -> Result<(), Errno> {
    number(libc::PR_SET_CHILD_SUBREAPER, libc::c_ulong::from(on))
}

/// The command name in `ps` (15 bytes are kept).
pub fn set_name(name: &CStr) -> Result<(), Errno> {
    // SAFETY: `name` is NUL-terminated; the kernel reads at most 16 bytes up to the NUL.
    check_int(unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) }).map(|_| ())
}

fn number(option: libc::c_int, value: libc::c_ulong) -> Result<(), Errno> {
    // SAFETY: each option used in this module takes a number and touches no memory.
    check_int(unsafe {
        libc::prctl(option, value, 0 as libc::c_ulong, 0 as libc::c_ulong, 0 as libc::c_ulong)
    })
    .map(|_| ())
}
