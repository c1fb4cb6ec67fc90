//! The two words that are said to systemd, without its library: keep these descriptors for me (sd_notify(3),
//! `FDSTORE=1`), and which ones have you kept (sd_listen_fds(3)).
//!
//! The unit needs `FileDescriptorStoreMax=`. Without systemd all of this does nothing.

use crate::{inherit, unix};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::os::fd::{BorrowedFd, OwnedFd};

/// The first descriptor that is passed (SD_LISTEN_FDS_START).
const FIRST: i32 = 3;
/// Most descriptors taken back: far beyond any `FileDescriptorStoreMax`.
const STORED_MAX: i32 = 1 << 16;

/// Whether somebody listens to [`store`].
pub fn is_there() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// Hands duplicates to systemd under `name`, which may hold several. They stay until [`forget`], also across a kill.
/// `FDPOLL=0`: without it systemd drops a pidfd when its process ends, and a pipe when its other end closes.
pub fn store(name: &str, fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    notify(&format!("FDSTORE=1\nFDPOLL=0\nFDNAME={name}"), fds)
}

/// Drops everything that was stored under `name`.
pub fn forget(name: &str) -> Result<(), Errno> {
    notify(&format!("FDSTOREREMOVE=1\nFDNAME={name}"), &[])
}

/// Takes what an earlier process of this unit stored, with its names. To be called once, at the start.
pub fn take_stored() -> Vec<(String, OwnedFd)> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<i32>().ok();
    if number("LISTEN_PID") != Some(std::process::id() as i32) {
        return Vec::new();
    }
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let count = number("LISTEN_FDS").unwrap_or(0).clamp(0, STORED_MAX);
    let fds = (FIRST..FIRST + count).map(inherit::take);
    fds.zip(names.split(':')).filter_map(|(fd, name)| Some((name.to_owned(), fd.ok()?))).collect()
}

fn notify(text: &str, fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let address = match path.as_encoded_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddrUnix::new_abstract_name(name)?,
        None => SocketAddrUnix::new(path.as_os_str())?,
    };
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    rustix::net::connect(&socket, &address)?;
    // A manager that hangs must not hang us; what it misses is lost only should it and we be killed too.
    unix::send_nonblocking(&socket, text.as_bytes(), fds)
}
