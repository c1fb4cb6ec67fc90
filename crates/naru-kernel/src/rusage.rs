//! What a child cost: wait4(2), which reaps and tells the resources used in one call.
//!
//! `rustix` waits without the usage, and getrusage(2) only knows the sum over all children.

use crate::pidfd::{ExitStatus, from_wait_status};
use crate::sys::check_int;
use rustix::io::Errno;
use std::mem::MaybeUninit;
use std::time::Duration;

/// What a process and the descendants that it waited for have used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub user: Duration,
    pub system: Duration,
    /// The largest resident set of any one of them. The kernel counts what the process was before execve too, so a
    /// child of a large parent can't show less than that parent.
    pub rss_bytes_max: u64,
}

/// Waits for the child `pid` to end, reaps it and tells what it used.
pub fn wait(pid: i32) -> Result<(ExitStatus, Usage), Errno> {
    let (_, status, usage) = wait4(pid, 0)?;
    Ok((status, usage))
}

/// Reaps one child that has ended already, if there is one.
pub fn try_wait_any() -> Result<Option<Usage>, Errno> {
    let (pid, _, usage) = wait4(-1, libc::WNOHANG)?;
    Ok((pid != 0).then_some(usage))
}

fn wait4(pid: i32, options: i32) -> Result<(i32, ExitStatus, Usage), Errno> {
    let mut status = 0;
    // SAFETY: an all-zero rusage is valid: it has only integers.
    let mut usage: libc::rusage = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: both out-parameters are valid for writes for the duration of the call.
    let reaped = check_int(unsafe { libc::wait4(pid, &raw mut status, options, &raw mut usage) })?;
    Ok((reaped, from_wait_status(status), Usage::from(usage)))
}

impl From<libc::rusage> for Usage {
    fn from(raw: libc::rusage) -> Self {
        const KIB: u64 = 1024;
        let duration = |time: libc::timeval| {
            Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
        };
        Self {
            user: duration(raw.ru_utime),
            system: duration(raw.ru_stime),
            rss_bytes_max: raw.ru_maxrss as u64 * KIB,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_worked_shows_its_time_and_its_code() {
        let child = std::process::Command::new("/bin/sh")
            .args(["-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; exit 7"])
            .spawn()
            .unwrap();
        let (status, usage) = wait(child.id() as i32).unwrap();
        assert_eq!(status, ExitStatus::Code(7));
        assert!(usage.user + usage.system > Duration::ZERO);
        assert!(usage.rss_bytes_max > 0);
    }
}
