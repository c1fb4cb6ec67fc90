//! Session keyrings (keyctl(2)): a container must not share the keeper's.

use crate::sys::check;
use rustix::io::Errno;
use std::ffi::CStr;

/// The serial number of the calling thread's session keyring.
pub fn session_id() -> Result<i32, Errno> {
    const KEYCTL_GET_KEYRING_ID: libc::c_long = 0;
    const KEY_SPEC_SESSION_KEYRING: libc::c_long = -3;
    // SAFETY: this operation takes numbers only.
    check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0) })
        .map(|serial| serial as i32)
}

/// Joins a new session keyring of that name. Child-safe.
pub fn join_session(name: &CStr) -> Result<(), Errno> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: `name` is a NUL-terminated string that outlives the call.
    check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) }).map(|_| ())
}
