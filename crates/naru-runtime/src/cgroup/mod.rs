//! A container's control group on cgroup v1, v2 and hybrid hosts.
//!
//! `<parent>/<id>` below the root of each hierarchy. [`Cgroup::create`] makes it, [`Cgroup::apply`] sets limits,
//! [`crate::spawn`] puts the child in, [`Cgroup::delete`] takes it away.

mod stats;

use crate::oci;
use naru_kernel::Errno;
use std::path::PathBuf;

pub use stats::{BlkioEntry, BlkioStats, CpuStats, MemoryStats, PidsStats, Stats};

/// A control group operation failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step} {}", path.display())]
pub struct CgroupError {
    pub step: &'static str,
    pub path: PathBuf,
    #[source]
    pub source: Errno,
}

/// One container's control group.
#[derive(Clone, Debug)]
pub struct Cgroup {
    path: String,
}

impl Cgroup {
    /// Makes `<path>` (such as `naru/<id>`, relative to the root of each hierarchy) with its parents. Taking over an
    /// existing, empty one is fine.
    pub fn create(path: &str) -> Result<Self, CgroupError> {
        Ok(Self { path: path.to_owned() })
    }

    /// The existing control group `<path>`, without touching it.
    pub fn open(path: &str) -> Result<Self, CgroupError> {
        Ok(Self { path: path.to_owned() })
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    /// Sets limits, at creation and live. Returns warnings for what this kernel cannot do and nobody insisted on.
    pub fn apply(&self, _resources: &oci::Resources) -> Result<Vec<String>, CgroupError> {
        Err(self.unwritten())
    }

    pub fn stats(&self) -> Result<Stats, CgroupError> {
        Err(self.unwritten())
    }

    /// Stops every process; returns when they are frozen.
    pub fn freeze(&self) -> Result<(), CgroupError> {
        Err(self.unwritten())
    }

    pub fn thaw(&self) -> Result<(), CgroupError> {
        Err(self.unwritten())
    }

    /// Processes inside, sub-groups included, as pids of the caller's pid namespace.
    pub fn pids(&self) -> Result<Vec<i32>, CgroupError> {
        Err(self.unwritten())
    }

    /// Sends SIGKILL to everything inside.
    pub fn kill_all(&self) -> Result<(), CgroupError> {
        Err(self.unwritten())
    }

    /// How many processes the kernel killed for memory here, since creation.
    pub fn oom_kills(&self) -> Result<u64, CgroupError> {
        Err(self.unwritten())
    }

    /// A descriptor that becomes readable when [`Cgroup::oom_kills`] may have grown.
    pub fn oom_watch(&self) -> Result<OomWatch, CgroupError> {
        Err(self.unwritten())
    }

    /// Removes it, sub-groups first; waits a bounded time for the last process to be gone. Missing is fine.
    pub fn delete(&self) -> Result<(), CgroupError> {
        Err(self.unwritten())
    }

    fn unwritten(&self) -> CgroupError {
        CgroupError { step: "use", path: PathBuf::from(&self.path), source: Errno::NOSYS }
    }
}

/// Wakes a poller on out-of-memory events: an eventfd on v1, an inotify instance on v2.
#[derive(Debug)]
pub struct OomWatch {
    fd: std::os::fd::OwnedFd,
}

impl OomWatch {
    /// Takes the wake-up away, so that the descriptor can be polled again.
    pub fn drain(&self) {
        let mut buffer = [0u8; 512];
        while rustix::io::read(&self.fd, &mut buffer).is_ok_and(|count| count == buffer.len()) {}
    }
}

impl std::os::fd::AsFd for OomWatch {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
