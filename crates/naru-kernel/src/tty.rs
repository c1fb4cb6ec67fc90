//! Pseudo-terminals: controlling terminal, window size, foreground group.

use crate::sys::check_int;
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd};

/// Makes `tty` the controlling terminal of the calling session leader. Child-safe.
pub fn set_controlling(tty: impl AsFd) -> Result<(), Errno> {
    // SAFETY: TIOCSCTTY takes a number (0: do not steal) and touches no memory.
    check_int(unsafe { libc::ioctl(tty.as_fd().as_raw_fd(), libc::TIOCSCTTY, 0) }).map(|_| ())
}

/// Sets the window size; the foreground group gets SIGWINCH when it changed. Child-safe.
pub fn set_size(tty: impl AsFd, rows: u16, cols: u16) -> Result<(), Errno> {
    let size = libc::winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: `size` is a struct winsize that outlives the call.
    check_int(unsafe { libc::ioctl(tty.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }).map(|_| ())
}

/// The window size as (rows, columns).
pub fn size(tty: impl AsFd) -> Result<(u16, u16), Errno> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: `size` is a writable struct winsize.
    check_int(unsafe { libc::ioctl(tty.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) })?;
    Ok((size.ws_row, size.ws_col))
}

/// Puts a process group into the foreground of the terminal on descriptor 0, if it is one. SIGTTOU must be blocked or
/// ignored. Child-safe.
pub fn set_stdin_foreground(group: i32) -> Result<(), Errno> {
    // SAFETY: `group` is a readable pid_t that outlives the call; a wrong descriptor is an error, not more.
    check_int(unsafe { libc::ioctl(0, libc::TIOCSPGRP, &raw const group) }).map(|_| ())
}
