//! Reaping the children that a subreaper (PR_SET_CHILD_SUBREAPER) was given, without the one that is waited for.

use crate::sys::check_int;
use rustix::io::Errno;

/// Reaps every ended child up to `main`: which child has ended is looked at first, so that the status of `main` is never
/// taken away from who waits for it. Children that end behind it are left for the next call.
pub fn reap_all_but(main: i32) {
    while let Ok(Some(pid)) = ended_child() {
        if pid == main || reap(pid).is_err() {
            return;
        }
    }
}

/// A child that has ended, left as it is.
fn ended_child() -> Result<Option<i32>, Errno> {
    // SAFETY: all-zero bytes are a valid siginfo_t, which is plain data.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` is a writable siginfo_t that outlives the call.
    check_int(unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, options) })?;
    // SAFETY: the kernel has filled in the fields of a SIGCHLD, or left the zeros that stand for "none".
    let pid = unsafe { info.si_pid() };
    Ok((pid != 0).then_some(pid))
}

fn reap(pid: i32) -> Result<(), Errno> {
    // SAFETY: a null status is allowed: it is not wanted.
    check_int(unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::WNOHANG) }).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_no_error() {
        // Other tests of this process may have children; none of them is touched as long as the first one is "main".
        if let Ok(Some(pid)) = ended_child() {
            reap_all_but(pid);
        }
    }
}
