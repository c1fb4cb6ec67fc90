//! The result of a raw system call. Nothing else: each module makes its own calls.

use rustix::io::Errno;

/// Turns the `-1 and errno` of `libc::syscall` and friends into a `Result`. Child-safe.
pub(crate) fn check(result: libc::c_long) -> Result<libc::c_long, Errno> {
    if result == -1 { Err(last_errno()) } else { Ok(result) }
}

/// As [`check`] for functions that return `c_int`. Child-safe.
pub(crate) fn check_int(result: libc::c_int) -> Result<libc::c_int, Errno> {
    if result == -1 { Err(last_errno()) } else { Ok(result) }
}

/// The calling thread's errno. Child-safe.
pub(crate) fn last_errno() -> Errno {
    // SAFETY: __errno_location has no precondition and returns the calling thread's valid errno address.
    let location = unsafe { libc::__errno_location() };
    // SAFETY: `location` points at this thread's errno, which only this thread writes.
    Errno::from_raw_os_error(unsafe { *location })
}
