//! The supervisor's side of a seccomp filter with a listener (seccomp_unotify(2)): hears of one call and answers it. The
//! runtime hands its descriptors to agents, so only tests do this themselves.

use crate::sys::check_int;
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd};

/// A call that waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notification {
    pub id: u64,
    pub pid: u32,
    pub number: i32,
    pub args: [u64; 6],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Fail(Errno),
    Return(i64),
    /// The kernel goes on with the call as if there was no filter.
    Continue,
}

/// Waits for the next call.
pub fn receive(listener: impl AsFd) -> Result<Notification, Errno> {
    // SAFETY: all-zero is a valid value of this plain structure, and the one that the kernel asks for.
    let mut raw: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    let listener = listener.as_fd().as_raw_fd();
    // SAFETY: the kernel writes one seccomp_notif, which `raw` is.
    check_int(unsafe { libc::ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut raw) })?;
    Ok(Notification { id: raw.id, pid: raw.pid, number: raw.data.nr, args: raw.data.args })
}

pub fn respond(listener: impl AsFd, id: u64, answer: Answer) -> Result<(), Errno> {
    let (val, error, flags) = match answer {
        Answer::Fail(errno) => (0, -errno.raw_os_error(), 0),
        Answer::Return(value) => (value, 0, 0),
        Answer::Continue => (0, 0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32),
    };
    let mut raw = libc::seccomp_notif_resp { id, val, error, flags };
    let listener = listener.as_fd().as_raw_fd();
    // SAFETY: the kernel reads one seccomp_notif_resp, which `raw` is.
    check_int(unsafe { libc::ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut raw) }).map(|_| ())
}
