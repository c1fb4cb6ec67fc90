//! Processes by descriptor (pidfd_open(2)): a pid can be reused, a pidfd cannot.

use crate::sys::check;
use naru_types::signal::Signal;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    Code(i32),
    Signal(i32),
}

/// Opens a descriptor for `pid`, close-on-exec.
pub fn open(pid: i32) -> Result<OwnedFd, Errno> {
    let pid = Pid::from_raw(pid).ok_or(Errno::SRCH)?;
    rustix::process::pidfd_open(pid, PidfdFlags::empty())
}

/// Sends any signal, real-time ones included (pidfd_send_signal(2)).
pub fn send_signal(pidfd: impl AsFd, signal: Signal) -> Result<(), Errno> {
    // SAFETY: the descriptor is open for the call; a null siginfo is allowed and means "as kill(2)".
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_fd().as_raw_fd(),
            libc::c_int::from(signal.0),
            std::ptr::null::<libc::siginfo_t>(),
            0u32,
        )
    };
    check(result).map(|_| ())
}

/// The process's number, 0 in another pid namespace, −1 once it was reaped; an error for a descriptor that is no pidfd
/// (`Pid:` in /proc/self/fdinfo, proc_pid_fdinfo(5)).
pub fn number(pidfd: impl AsFd) -> std::io::Result<i32> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_fd().as_raw_fd()))?;
    let number = info.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok());
    number.ok_or_else(|| Errno::BADF.into())
}

/// Whether the process has ended (is a zombie or gone), without reaping it.
pub fn has_exited(pidfd: impl AsFd) -> Result<bool, Errno> {
    let pidfd = pidfd.as_fd();
    let mut polled = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
    let zero = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    Ok(rustix::event::poll(&mut polled, Some(&zero))? > 0)
}

/// Waits for a child and reaps it.
pub fn wait(pidfd: impl AsFd) -> Result<ExitStatus, Errno> {
    loop {
        match try_wait_with(pidfd.as_fd(), WaitIdOptions::EXITED) {
            Ok(Some(status)) => return Ok(status),
            Ok(None) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Reaps a child if it has ended. `ECHILD` when it is not our child.
pub fn try_wait(pidfd: impl AsFd) -> Result<Option<ExitStatus>, Errno> {
    try_wait_with(pidfd.as_fd(), WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
}

/// The exit status of a process that anybody may have reaped already (PIDFD_GET_INFO with PIDFD_INFO_EXIT, Linux 6.15).
/// `None`: still running, or the kernel cannot tell.
pub fn exit_info(pidfd: impl AsFd) -> Option<ExitStatus> {
    // struct pidfd_info of linux/pidfd.h, first published size (PIDFD_INFO_SIZE_VER0 = 64).
    #[repr(C)]
    #[derive(Default)]
    struct PidfdInfo {
        mask: u64,
        cgroupid: u64,
        pid: u32,
        tgid: u32,
        ppid: u32,
        ids: [u32; 8],
        exit_code: i32,
    }
    const PIDFD_INFO_EXIT: u64 = 1 << 3;
    // _IOWR(0xFF, 11, struct pidfd_info)
    const PIDFD_GET_INFO: libc::c_ulong =
        (3 << 30) | ((size_of::<PidfdInfo>() as libc::c_ulong) << 16) | (0xFF << 8) | 11;
    let mut info = PidfdInfo { mask: PIDFD_INFO_EXIT, ..PidfdInfo::default() };
    // SAFETY: `info` is a writable struct of exactly the size that is encoded in the request.
    let result = unsafe { libc::ioctl(pidfd.as_fd().as_raw_fd(), PIDFD_GET_INFO, &raw mut info) };
    (result == 0 && info.mask & PIDFD_INFO_EXIT != 0).then(|| from_wait_status(info.exit_code))
}

/// Splits the status word of wait(2).
pub fn from_wait_status(status: i32) -> ExitStatus {
    match status & 0x7f {
        0 => ExitStatus::Code((status >> 8) & 0xff),
        signal => ExitStatus::Signal(signal),
    }
}

fn try_wait_with(
    pidfd: std::os::fd::BorrowedFd<'_>,
    options: WaitIdOptions,
) -> Result<Option<ExitStatus>, Errno> {
    let status = rustix::process::waitid(WaitId::PidFd(pidfd), options)?;
    Ok(status.and_then(|status| match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Some(ExitStatus::Code(code)),
        (None, Some(signal)) => Some(ExitStatus::Signal(signal)),
        (None, None) => None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_words() {
        assert_eq!(from_wait_status(42 << 8), ExitStatus::Code(42));
        assert_eq!(from_wait_status(9), ExitStatus::Signal(9));
        assert_eq!(from_wait_status(0x80 | 11), ExitStatus::Signal(11));
    }

    #[test]
    fn own_process_runs() {
        let pidfd = open(std::process::id() as i32).unwrap();
        assert!(!has_exited(&pidfd).unwrap());
        assert_eq!(number(&pidfd).unwrap(), std::process::id() as i32);
        assert!(number(std::fs::File::open("/dev/null").unwrap()).is_err());
        assert_eq!(exit_info(&pidfd), None);
        assert_eq!(try_wait(&pidfd), Err(Errno::CHILD));
    }
}
