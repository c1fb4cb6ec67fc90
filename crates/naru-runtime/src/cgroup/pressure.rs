//! Waking up when a group gets short of memory, before the kernel kills.

use super::{Cgroup, CgroupError, files};
use naru_kernel::Errno;
use rustix::event::PollFlags;
use rustix::fs::{Mode, OFlags};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// The words of v1's memory.pressure_level; on v2 the share of a window in which tasks waited for memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PressureLevel {
    Low,
    Medium,
    Critical,
}

/// A PSI trigger looks at windows of this length.
const WINDOW: Duration = Duration::from_secs(2);

impl PressureLevel {
    fn word(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::Critical => "critical",
        }
    }

    /// `some|full <stall> <window>` in microseconds (accounting/psi.rst): 10 %, 50 % of the window somebody waits, or
    /// half of it all do.
    fn trigger(self) -> String {
        let window = WINDOW.as_micros();
        match self {
            Self::Low => format!("some {} {window}", window / 10),
            Self::Medium => format!("some {} {window}", window / 2),
            Self::Critical => format!("full {} {window}", window / 2),
        }
    }
}

/// A descriptor to poll for [`PressureWatch::flags`].
#[derive(Debug)]
pub struct PressureWatch {
    fd: OwnedFd,
    v2: bool,
}

impl Cgroup {
    /// Wakes when memory gets short: an eventfd of v1, a PSI trigger of v2.
    pub fn pressure_watch(&self, level: PressureLevel) -> Result<PressureWatch, CgroupError> {
        if let Some(hierarchy) = self.layout.v1_with("memory") {
            let directory = self.directory_in(hierarchy);
            // cgroup-v1/memory.rst, "Memory Pressure": "<eventfd> <fd of memory.pressure_level> <level>".
            let file = directory.join("memory.pressure_level");
            let control = rustix::fs::open(&file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|errno| CgroupError::kernel("open", &file, errno))?;
            let flags = rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK;
            let fd = rustix::event::eventfd(0, flags)
                .map_err(|errno| CgroupError::kernel("watch", &file, errno))?;
            let line = format!("{} {} {}", fd.as_raw_fd(), control.as_raw_fd(), level.word());
            files::write(&directory.join("cgroup.event_control"), &line)?;
            return Ok(PressureWatch { fd, v2: false });
        }
        let directory = self.v2_directory().ok_or_else(|| self.absent("memory"))?;
        let file = directory.join("memory.pressure");
        let fd = rustix::fs::open(&file, OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())
            .map_err(|errno| CgroupError::kernel("open", &file, errno))?;
        // The kernel wants the final zero byte in the same write.
        let trigger = format!("{}\0", level.trigger());
        rustix::io::write(&fd, trigger.as_bytes()).map_err(|errno| match errno {
            Errno::OPNOTSUPP => CgroupError::Invalid("a memory pressure watch: PSI is off (psi=1)".into()),
            errno => CgroupError::kernel("watch", &file, errno),
        })?;
        Ok(PressureWatch { fd, v2: true })
    }
}

impl PressureWatch {
    /// What poll(2) has to wait for.
    pub fn flags(&self) -> PollFlags {
        if self.v2 { PollFlags::PRI } else { PollFlags::IN }
    }

    /// Takes the wake-up away; a PSI trigger does that by itself.
    pub fn drain(&self) {
        if !self.v2 {
            let mut counter = [0u8; 8];
            // Nothing to read is fine: somebody drained before.
            let _ = rustix::io::read(&self.fd, &mut counter);
        }
    }
}

impl AsFd for PressureWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
