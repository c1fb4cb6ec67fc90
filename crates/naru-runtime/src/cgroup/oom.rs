//! Waking up when the kernel kills for memory.

use super::{CgroupError, files};
use naru_kernel::inotify::{Inotify, Watch};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Wakes a poller on out-of-memory events: an eventfd on v1, an inotify instance on v2.
#[derive(Debug)]
pub struct OomWatch {
    source: OomSource,
}

#[derive(Debug)]
enum OomSource {
    V1(OwnedFd),
    V2(Inotify),
}

impl OomWatch {
    /// Watches the group `directory`, of v2 or of v1's memory hierarchy.
    pub(super) fn new(directory: &Path, v2: bool) -> Result<Self, CgroupError> {
        if v2 {
            let file = directory.join("memory.events");
            let failed = |error: io::Error| CgroupError::io("watch", &file, &error);
            let inotify = Inotify::new().map_err(failed)?;
            inotify.add(&file, Watch::MODIFY).map_err(failed)?;
            return Ok(OomWatch { source: OomSource::V2(inotify) });
        }
        // cgroup-v1/memory.rst, "OOM Control": "<eventfd> <fd of memory.oom_control>" into cgroup.event_control.
        let file = directory.join("memory.oom_control");
        let control = std::fs::File::open(&file).map_err(|error| CgroupError::io("open", &file, &error))?;
        let flags = rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK;
        let event =
            rustix::event::eventfd(0, flags).map_err(|errno| CgroupError::kernel("watch", &file, errno))?;
        let line = format!("{} {}", event.as_raw_fd(), control.as_raw_fd());
        files::write(&directory.join("cgroup.event_control"), &line)?;
        Ok(OomWatch { source: OomSource::V1(event) })
    }

    /// Takes the wake-up away, so that the descriptor can be polled again.
    pub fn drain(&self) {
        match &self.source {
            OomSource::V1(fd) => {
                let mut counter = [0u8; 8];
                // Nothing to read is fine: somebody drained before.
                let _ = rustix::io::read(fd, &mut counter);
            }
            OomSource::V2(inotify) => {
                let _ = inotify.drain();
            }
        }
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.source {
            OomSource::V1(fd) => fd.as_fd(),
            OomSource::V2(inotify) => inotify.as_fd(),
        }
    }
}
