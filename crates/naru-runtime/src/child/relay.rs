//! The process in between: joins namespaces that decide who owns the new ones, then makes the real child as its own
//! sibling (CLONE_PARENT), so that this child is the caller's, and ends. Child-safe.
//!
//! It exists only where one clone cannot do: a user namespace to join must be entered before other namespaces are made
//! in it, and namespaces of the host must be joined before a new user namespace takes the rights to do so away.

use super::{ReportKind, encode};
use crate::plan::Plan;
use naru_kernel::ns::{self, NsFlags};
use naru_kernel::process::{self, CloneArgs};
use naru_kernel::{Errno, prctl, unix};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A namespace, or with a pidfd several, to enter.
#[derive(Debug)]
pub(crate) struct Join {
    pub fd: OwnedFd,
    pub flags: NsFlags,
}

#[derive(Debug)]
pub(crate) struct Relay {
    /// At most 32.
    pub joins: Vec<Join>,
}

/// Returns the exit code of the process in between; the child's is that of its plan.
pub(crate) fn run(relay: &Relay, namespaces: NsFlags, plan: &Plan, report: OwnedFd) -> i32 {
    let fail = |report: BorrowedFd<'_>, index: u32, errno: Errno| {
        let _ = unix::send(report, &encode(ReportKind::JoinFailed, index, errno.raw_os_error()), &[]);
        process::PANIC_EXIT_CODE
    };
    let _ = prctl::set_dumpable(false);
    if let Err((index, errno)) = join_all(&relay.joins) {
        return fail(report.as_fd(), index, errno);
    }
    let own = match rustix::io::fcntl_dupfd_cloexec(&report, 3) {
        Ok(own) => own,
        Err(errno) => return fail(report.as_fd(), u32::MAX, errno),
    };
    let args = CloneArgs { namespaces, cgroup: None, sibling: true };
    match process::spawn(&args, move || super::run(plan, report)) {
        Ok(child) => {
            let born = encode(ReportKind::Born, child.pid as u32, 0);
            if unix::send(&own, &born, &[child.pidfd.as_fd()]).is_ok() { 0 } else { process::PANIC_EXIT_CODE }
        }
        Err(errno) => fail(own.as_fd(), u32::MAX, errno),
    }
}

/// First with the rights of the caller, then, what these do not reach, with those in the user namespace.
fn join_all(joins: &[Join]) -> Result<(), (u32, Errno)> {
    let mut done = 0u32;
    for pass in 0..3 {
        for (index, join) in joins.iter().enumerate().take(32) {
            let is_user = join.flags & ns::NEWUSER != 0;
            if done & 1 << index != 0 || is_user != (pass == 1) {
                continue;
            }
            match ns::setns(&join.fd, join.flags) {
                Ok(()) => done |= 1 << index,
                Err(Errno::PERM) if pass == 0 => {}
                Err(errno) => return Err((index as u32, errno)),
            }
        }
    }
    Ok(())
}
