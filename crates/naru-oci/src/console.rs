//! Terminals: the caller's own, in raw mode while a container uses it, and the socket that a caller hands the master of
//! a detached container's terminal to.

use crate::error::OciError;
use naru_kernel::unix;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcsetattr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// What runc says the descriptor is; containerd and conmon read the name and use only the descriptor.
const MASTER_NAME: &[u8] = b"/dev/ptmx";

/// Connects before the container is made, so that a wrong path costs nothing.
pub(crate) fn connect(path: &str) -> Result<OwnedFd, OciError> {
    let connected = SocketAddrUnix::new(path).and_then(|address| {
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        rustix::net::connect(&socket, &address)?;
        Ok(socket)
    });
    connected.map_err(|errno| OciError::file("connect to the console socket", Path::new(path), errno))
}

pub(crate) fn send_master(socket: &OwnedFd, master: &OwnedFd) -> Result<(), OciError> {
    unix::send(socket, MASTER_NAME, &[master.as_fd()])
        .map_err(|errno| OciError::kernel("send the terminal over the console socket", errno))
}

/// `--pidfd-socket`: runc sends the process by descriptor, under this name.
pub(crate) fn send_pidfd(path: &str, pidfd: &OwnedFd) -> Result<(), OciError> {
    let socket = connect(path)?;
    unix::send(&socket, b"pidfd", &[pidfd.as_fd()])
        .map_err(|errno| OciError::kernel("send the process over the pidfd socket", errno))
}

/// The caller's terminal, raw; as it was before when this goes.
#[derive(Debug)]
pub(crate) struct Raw {
    terminal: BorrowedFd<'static>,
    before: Termios,
}

impl Raw {
    /// Of the first standard descriptor that is a terminal.
    pub fn enter() -> Result<Self, OciError> {
        let candidates = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
        let Some(terminal) = candidates.into_iter().find(|fd| isatty(fd)) else {
            return Err(OciError::Refused(
                "cannot allocate tty: none of the standard descriptors is a terminal (hint: use --detach with \
                 --console-socket)"
                    .into(),
            ));
        };
        let failed = |errno| OciError::kernel("set the terminal to raw mode", errno);
        let before = tcgetattr(terminal).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(terminal, OptionalActions::Now, &raw).map_err(failed)?;
        Ok(Self { terminal, before })
    }

    /// (rows, columns).
    pub fn size(&self) -> (u16, u16) {
        naru_kernel::tty::size(self.terminal).unwrap_or_default()
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // The terminal may be gone; then there is nothing to restore.
        let _ = tcsetattr(self.terminal, OptionalActions::Now, &self.before);
    }
}
