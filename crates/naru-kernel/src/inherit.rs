//! Descriptors that are kept over execve(2), and how the new program takes them.
//!
//! Everything that is opened in this workspace is close-on-exec from its first moment. So a descriptor without that flag
//! was left by whoever executed this program, and has no owner yet: [`take`] relies on exactly that, and gives the
//! flag, so that no number can be taken twice.

use rustix::io::{Errno, FdFlags, fcntl_getfd, fcntl_setfd};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// The standard descriptors belong to nobody in particular.
const FIRST: RawFd = 3;

/// Leaves `fd` open for the next program.
pub fn keep(fd: impl AsFd) -> Result<(), Errno> {
    fcntl_setfd(fd, FdFlags::empty())
}

/// Takes [`keep`] back.
pub fn close_on_exec(fd: impl AsFd) -> Result<(), Errno> {
    fcntl_setfd(fd, FdFlags::CLOEXEC)
}

/// Takes a descriptor that the program before this one kept. `EBADF`: there is none under this number, or it has an
/// owner in this process.
pub fn take(number: RawFd) -> Result<OwnedFd, Errno> {
    if number < FIRST {
        return Err(Errno::BADF);
    }
    // SAFETY: the borrow lives for the two calls below, which fail with EBADF should the number not be open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    if fcntl_getfd(borrowed)?.contains(FdFlags::CLOEXEC) {
        return Err(Errno::BADF);
    }
    close_on_exec(borrowed)?;
    // SAFETY: the number is open, and had no owner in this process: owners' descriptors are close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::{AsRawFd, IntoRawFd};

    #[test]
    fn only_what_was_kept_can_be_taken_and_only_once() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(take(file.as_raw_fd()).map(drop), Err(Errno::BADF));
        assert_eq!(take(0).map(drop), Err(Errno::BADF));
        assert_eq!(take(i32::MAX).map(drop), Err(Errno::BADF));
        let number = file.into_raw_fd();
        // SAFETY: the number was given up by its owner above and is open.
        keep(unsafe { BorrowedFd::borrow_raw(number) }).unwrap();
        let taken = take(number).unwrap();
        assert_eq!(taken.as_raw_fd(), number);
        assert_eq!(take(number).map(drop), Err(Errno::BADF));
    }
}
