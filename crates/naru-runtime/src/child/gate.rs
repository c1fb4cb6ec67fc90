//! The child's side of a start in two halves: it waits for the word, and talks to whoever gave it. Child-safe.

use super::{GO, ReportKind, encode, libc_mode};
use crate::plan::Plan;
use naru_kernel::{Errno, unix};
use rustix::net::SocketFlags;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Reports that all is ready, leaves the parent's socket, and goes on with the connection that brings the word.
pub(super) fn wait(plan: &Plan, report: &mut OwnedFd) -> Result<(), Errno> {
    let Some(gate) = &plan.gate else { return Err(Errno::BADF) };
    unix::send(report.as_fd(), &encode(ReportKind::Created, 0, 0), &[])?;
    loop {
        let connection = match rustix::net::accept_with(gate, SocketFlags::CLOEXEC) {
            Err(Errno::INTR | Errno::CONNABORTED) => continue,
            other => other?,
        };
        if hear(connection.as_fd()).is_ok() {
            // Above the preserved descriptors, where the first report socket is, too.
            let first = 3 + plan.preserve_fds.len() as i32;
            *report = rustix::io::fcntl_dupfd_cloexec(&connection, first)?;
            return Ok(());
        }
    }
}

/// Waits for the one byte; anything else, or a peer that is gone, is `ECANCELED`.
pub(super) fn hear(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut word = [0u8; 1];
    loop {
        match rustix::io::read(socket, &mut word) {
            Err(Errno::INTR) => {}
            Ok(len) if word.get(..len) == Some(GO) => return Ok(()),
            Ok(_) => return Err(Errno::CANCELED),
            Err(errno) => return Err(errno),
        }
    }
}

/// Whether one of the candidates is a file that somebody may execute; the errors are those of execve(2).
pub(super) fn check_program(plan: &Plan) -> Result<(), Errno> {
    const EXECUTE_ANY: u32 = 0o111;
    let mut result = Errno::NOENT;
    for candidate in &plan.program.candidates {
        match rustix::fs::stat(candidate.as_c_str()) {
            Ok(stat) if stat.st_mode & libc_mode::TYPE_MASK == libc_mode::DIRECTORY => result = Errno::ISDIR,
            Ok(stat) if stat.st_mode & EXECUTE_ANY != 0 => return Ok(()),
            Ok(_) => result = Errno::ACCESS,
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(errno) => result = errno,
        }
    }
    Err(result)
}
