//! A file or directory watch (inotify(7)). Events are only wake-ups: the reader looks at the file itself.

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

pub use rustix::fs::inotify::WatchFlags as Watch;

/// Bytes read at once; holds at least a dozen events with names.
const BUFFER_BYTES: usize = 4096;

/// One inotify instance, non-blocking and close-on-exec, so that it can be polled beside other descriptors.
#[derive(Debug)]
pub struct Inotify {
    fd: OwnedFd,
}

impl Inotify {
    pub fn new() -> io::Result<Self> {
        Ok(Self { fd: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)? })
    }

    /// Watches `path`; the same inode watched twice keeps one watch whose flags are replaced.
    pub fn add(&self, path: &Path, flags: WatchFlags) -> io::Result<i32> {
        Ok(inotify::add_watch(&self.fd, path, flags)?)
    }

    pub fn remove(&self, watch: i32) -> io::Result<()> {
        Ok(inotify::remove_watch(&self.fd, watch)?)
    }

    /// Takes every queued event away; true if there was one.
    pub fn drain(&self) -> io::Result<bool> {
        let mut any = false;
        let mut buffer = [0u8; BUFFER_BYTES];
        loop {
            match rustix::io::read(&self.fd, &mut buffer) {
                Ok(0) | Err(rustix::io::Errno::AGAIN) => return Ok(any),
                Ok(_) => any = true,
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Waits until there is an event or the time is over (`None`: for ever), then drains. True if there was one.
    pub fn wait(&self, timeout_ms: Option<u32>) -> io::Result<bool> {
        let timeout = timeout_ms.map(|ms| rustix::event::Timespec {
            tv_sec: i64::from(ms / 1000),
            tv_nsec: i64::from(ms % 1000) * 1_000_000,
        });
        let mut polled = [rustix::event::PollFd::new(&self.fd, rustix::event::PollFlags::IN)];
        match rustix::event::poll(&mut polled, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => self.drain(),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl AsFd for Inotify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_wakes() {
        let path = std::env::temp_dir().join(format!("naru-inotify-{}", std::process::id()));
        std::fs::write(&path, "a").unwrap();
        let inotify = Inotify::new().unwrap();
        inotify.add(&path, Watch::MODIFY).unwrap();
        assert!(!inotify.drain().unwrap());
        std::fs::write(&path, "b").unwrap();
        assert!(inotify.wait(Some(5000)).unwrap());
        std::fs::remove_file(&path).unwrap();
    }
}
