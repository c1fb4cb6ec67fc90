//! Unix sockets that carry file descriptors: SOCK_SEQPACKET messages with SCM_RIGHTS (unix(7)).
//!
//! One message is one packet: boundaries are kept, so nothing here frames. A packet that does not fit the
//! receiver's buffer, or carries more descriptors than it expects, is an error and never silently cut.

use crate::sys::check_int;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Most descriptors in one message, here; the kernel's own limit (SCM_MAX_FD) is 253.
pub const FDS_MAX: usize = 16;

const CONTROL_BYTES: usize = rustix::cmsg_space!(ScmRights(FDS_MAX));

/// A connected pair of SOCK_SEQPACKET sockets, close-on-exec, blocking.
pub fn seqpacket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    pair(SocketType::SEQPACKET)
}

/// A connected pair of SOCK_STREAM sockets, close-on-exec, blocking.
pub fn stream_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    pair(SocketType::STREAM)
}

/// Listens for SOCK_SEQPACKET connections at `path` (which must not exist); close-on-exec.
pub fn seqpacket_listen(path: &Path, backlog: i32) -> io::Result<OwnedFd> {
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let (address, _directory) = address(path)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, backlog)?;
    Ok(socket)
}

/// Connects to a SOCK_SEQPACKET listener; close-on-exec.
pub fn seqpacket_connect(path: &Path) -> io::Result<OwnedFd> {
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let (address, _directory) = address(path)?;
    rustix::net::connect(&socket, &address)?;
    Ok(socket)
}

/// Bytes of memory that the kernel holds for what the peer of a stream socket hasn't read yet (SIOCOUTQ, unix(7)): not
/// the count of bytes written, but 0 exactly when all of them were read.
pub fn unread_by_peer(socket: &impl AsFd) -> io::Result<usize> {
    let mut held: libc::c_int = 0;
    // SAFETY: SIOCOUTQ, which has TIOCOUTQ's number, writes one int to the address given, and `held` is one.
    check_int(unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut held) })?;
    Ok(usize::try_from(held).unwrap_or(0))
}

/// The address of `path`, by way of its opened directory when the path does not fit `sun_path` (108 bytes, unix(7)):
/// dockerd's state directories with a container's id of 64 letters in them don't. The descriptor must live as long as
/// the address is used.
fn address(path: &Path) -> io::Result<(SocketAddrUnix, Option<OwnedFd>)> {
    match SocketAddrUnix::new(path) {
        Err(Errno::NAMETOOLONG) => {}
        address => return Ok((address?, None)),
    }
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Errno::NAMETOOLONG.into());
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags, Mode::empty())?;
    let short = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
    Ok((SocketAddrUnix::new(&short)?, Some(directory)))
}

/// Accepts a connection; the new socket is close-on-exec.
pub fn accept(listener: impl AsFd) -> io::Result<OwnedFd> {
    Ok(rustix::net::accept_with(listener, SocketFlags::CLOEXEC)?)
}

/// The peer's (pid, uid, gid) at connect time (SO_PEERCRED).
pub fn peer_credentials(socket: impl AsFd) -> io::Result<(i32, u32, u32)> {
    let cred = rustix::net::sockopt::socket_peercred(socket)?;
    Ok((cred.pid.as_raw_nonzero().get(), cred.uid.as_raw(), cred.gid.as_raw()))
}

/// Sends one message with `fds`. Never raises SIGPIPE. Child-safe.
pub fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    send_flags(socket, bytes, fds, SendFlags::NOSIGNAL)
}

/// As [`send`], but fails with `EAGAIN` instead of waiting for a slow peer.
pub fn send_nonblocking(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    send_flags(socket, bytes, fds, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
}

/// A received message: its length within the buffer, and the descriptors, close-on-exec.
#[derive(Debug)]
pub struct Received {
    /// Zero: the peer closed (seqpacket peers of ours never send empty messages).
    pub len: usize,
    pub fds: Vec<OwnedFd>,
}

/// Receives one message into `buffer`. A message longer than the buffer is `EMSGSIZE`; one whose descriptors did not
/// all arrive is `ETOOMANYREFS`.
pub fn recv(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<Received> {
    recv_flags(socket, buffer, RecvFlags::CMSG_CLOEXEC)
}

/// As [`recv`], but fails with `EAGAIN` when nothing is there.
pub fn recv_nonblocking(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<Received> {
    recv_flags(socket, buffer, RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT)
}

fn pair(kind: SocketType) -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?)
}

fn send_flags(
    socket: impl AsFd,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> Result<(), Errno> {
    let mut space = [MaybeUninit::<u8>::uninit(); CONTROL_BYTES];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::TOOMANYREFS);
    }
    loop {
        match rustix::net::sendmsg(socket.as_fd(), &[IoSlice::new(bytes)], &mut control, flags) {
            Ok(sent) if sent == bytes.len() => return Ok(()),
            Ok(_) => return Err(Errno::MSGSIZE),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

fn recv_flags(socket: impl AsFd, buffer: &mut [u8], flags: RecvFlags) -> io::Result<Received> {
    let mut space = [MaybeUninit::<u8>::uninit(); CONTROL_BYTES];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = loop {
        match rustix::net::recvmsg(socket.as_fd(), &mut [IoSliceMut::new(buffer)], &mut control, flags) {
            Err(Errno::INTR) => {}
            other => break other?,
        }
    };
    let fds = control
        .drain()
        .flat_map(|part| match part {
            RecvAncillaryMessage::ScmRights(fds) => fds.collect::<Vec<_>>(),
            _ => Vec::new(),
        })
        .collect();
    if message.flags.contains(ReturnFlags::TRUNC) {
        return Err(Errno::MSGSIZE.into());
    }
    if message.flags.contains(ReturnFlags::CTRUNC) {
        return Err(Errno::TOOMANYREFS.into());
    }
    Ok(Received { len: message.bytes, fds })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_peer_has_read() {
        let (ours, theirs) = stream_pair().unwrap();
        assert_eq!(unread_by_peer(&ours).unwrap(), 0);
        rustix::io::write(&ours, b"words").unwrap();
        assert!(unread_by_peer(&ours).unwrap() > 0);
        let mut buffer = [0; 8];
        assert_eq!(rustix::io::read(&theirs, &mut buffer).unwrap(), 5);
        assert_eq!(unread_by_peer(&ours).unwrap(), 0);
    }

    use std::io::{Read, Write};

    #[test]
    fn a_path_may_be_longer_than_the_address() {
        let dir = std::env::temp_dir().join(format!("naru-test-{}-{}", std::process::id(), "x".repeat(120)));
        std::fs::create_dir(&dir).unwrap();
        let path = dir.join("socket");
        let listener = seqpacket_listen(&path, 1).unwrap();
        let client = seqpacket_connect(&path).unwrap();
        let server = accept(&listener).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        send(&client, b"far", &[]).unwrap();
        let mut buffer = [0u8; 8];
        assert_eq!(recv(&server, &mut buffer).unwrap().len, 3);
    }

    #[test]
    fn a_descriptor_travels_with_its_message() {
        let (left, right) = seqpacket_pair().unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        send(&left, b"hello", &[writer.as_fd()]).unwrap();
        drop(writer);
        let mut buffer = [0u8; 64];
        let mut received = recv(&right, &mut buffer).unwrap();
        assert_eq!(&buffer[..received.len], b"hello");
        let mut file = std::fs::File::from(received.fds.pop().unwrap());
        file.write_all(b"x").unwrap();
        drop(file);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "x");
    }

    #[test]
    fn a_message_is_never_cut() {
        let (left, right) = seqpacket_pair().unwrap();
        send(&left, b"too long", &[]).unwrap();
        let error = recv(&right, &mut [0u8; 3]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
        assert_eq!(
            recv_nonblocking(&right, &mut [0u8; 3]).unwrap_err().kind(),
            std::io::ErrorKind::WouldBlock
        );
        drop(left);
        assert_eq!(recv(&right, &mut [0u8; 3]).unwrap().len, 0);
    }
}
