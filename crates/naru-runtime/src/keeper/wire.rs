//! One message and its descriptors as one SOCK_SEQPACKET packet: packets keep their borders, so there is no
//! framing to get wrong, and SCM_RIGHTS belongs to exactly one message (unix(7)).

use super::protocol::{Envelope, FDS_MAX, FdRole, MESSAGE_LEN_MAX};
use naru_kernel::{Errno, unix};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

#[derive(Debug, thiserror::Error)]
pub enum WireError {
    #[error("the message has {len} bytes, {MESSAGE_LEN_MAX} are allowed")]
    TooLong { len: usize },
    #[error("{count} descriptors, {FDS_MAX} are allowed")]
    TooManyFds { count: usize },
    #[error("the message is not understood")]
    Malformed(#[source] serde_json::Error),
    #[error("the message names {named} descriptors and carries {carried}")]
    FdsDiffer { named: usize, carried: usize },
    #[error("cannot send the message")]
    Send(#[source] Errno),
    #[error("cannot receive a message")]
    Receive(#[source] io::Error),
}

/// What came beside a message, by role.
#[derive(Debug, Default)]
pub struct Fds(Vec<(FdRole, OwnedFd)>);

impl Fds {
    pub fn from_parts(parts: Vec<(FdRole, OwnedFd)>) -> Self {
        Self(parts)
    }

    pub fn take(&mut self, role: FdRole) -> Option<OwnedFd> {
        let at = self.0.iter().position(|(found, _)| *found == role)?;
        Some(self.0.swap_remove(at).1)
    }
}

/// Whether to wait for a peer that is slow: the client may, the keeper never.
#[derive(Clone, Copy, Debug)]
pub enum Patience {
    Wait,
    Never,
}

/// What one receive gave.
#[derive(Debug)]
pub enum Received<T> {
    Message(Envelope<T>, Fds),
    /// The peer has gone.
    Closed,
}

pub fn send<T: Serialize>(
    socket: BorrowedFd<'_>,
    patience: Patience,
    seq: u64,
    body: &T,
    fds: &[(FdRole, BorrowedFd<'_>)],
) -> Result<(), WireError> {
    if fds.len() > FDS_MAX {
        return Err(WireError::TooManyFds { count: fds.len() });
    }
    let envelope = Envelope { seq, fds: fds.iter().map(|(role, _)| *role).collect(), body };
    let bytes = serde_json::to_vec(&envelope).map_err(WireError::Malformed)?;
    if bytes.len() > MESSAGE_LEN_MAX {
        return Err(WireError::TooLong { len: bytes.len() });
    }
    let raw: Vec<BorrowedFd<'_>> = fds.iter().map(|(_, fd)| *fd).collect();
    let sent = match patience {
        Patience::Wait => unix::send(socket, &bytes, &raw),
        Patience::Never => unix::send_nonblocking(socket, &bytes, &raw),
    };
    sent.map_err(WireError::Send)
}

/// Receives one message into `buffer`, which is grown to [`MESSAGE_LEN_MAX`] once and can be kept by the caller.
pub fn receive<T: DeserializeOwned>(
    socket: BorrowedFd<'_>,
    patience: Patience,
    buffer: &mut Vec<u8>,
) -> Result<Received<T>, WireError> {
    buffer.resize(MESSAGE_LEN_MAX, 0);
    let received = match patience {
        Patience::Wait => unix::recv(socket, buffer),
        Patience::Never => unix::recv_nonblocking(socket, buffer),
    };
    let unix::Received { len, fds: carried } = received.map_err(WireError::Receive)?;
    if len == 0 {
        return Ok(Received::Closed);
    }
    let envelope: Envelope<T> = serde_json::from_slice(&buffer[..len]).map_err(WireError::Malformed)?;
    if envelope.fds.len() != carried.len() {
        return Err(WireError::FdsDiffer { named: envelope.fds.len(), carried: carried.len() });
    }
    let fds = Fds(envelope.fds.iter().copied().zip(carried).collect());
    Ok(Received::Message(envelope, fds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::SendFlags;
    use std::os::fd::AsFd;

    fn put(
        socket: &OwnedFd,
        seq: u64,
        body: &str,
        fds: &[(FdRole, BorrowedFd<'_>)],
    ) -> Result<(), WireError> {
        send(socket.as_fd(), Patience::Wait, seq, &body, fds)
    }

    fn get(socket: &OwnedFd) -> Result<Received<String>, WireError> {
        receive(socket.as_fd(), Patience::Never, &mut Vec::new())
    }

    #[test]
    fn a_message_takes_its_descriptors_along() {
        let (a, b) = unix::seqpacket_pair().unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        put(&a, 7, "hello", &[(FdRole::Pidfd, null.as_fd()), (FdRole::Stdin, null.as_fd())]).unwrap();
        let Received::Message(envelope, mut fds) = get(&b).unwrap() else { panic!("closed") };
        assert_eq!((envelope.seq, envelope.body.as_str()), (7, "hello"));
        assert!(
            fds.take(FdRole::Stdin).is_some()
                && fds.take(FdRole::Stdin).is_none()
                && fds.take(FdRole::Pidfd).is_some()
        );
        assert!(
            matches!(get(&b), Err(WireError::Receive(error)) if error.kind() == io::ErrorKind::WouldBlock)
        );
        drop(a);
        assert!(matches!(get(&b), Ok(Received::Closed)));
    }

    #[test]
    fn the_longest_message_fits_and_a_longer_one_is_refused() {
        let (a, b) = unix::seqpacket_pair().unwrap();
        let overhead = r#"{"seq":1,"fds":[],"body":""}"#.len();
        let longest = "x".repeat(MESSAGE_LEN_MAX - overhead);
        put(&a, 1, &longest, &[]).unwrap();
        let Received::Message(envelope, _) = get(&b).unwrap() else { panic!("closed") };
        assert_eq!(envelope.body, longest);
        assert!(matches!(put(&a, 1, &(longest + "x"), &[]), Err(WireError::TooLong { .. })));
        rustix::net::send(&a, &vec![b'x'; MESSAGE_LEN_MAX + 1], SendFlags::empty()).unwrap();
        assert!(matches!(get(&b), Err(WireError::Receive(_))));
        rustix::net::send(&a, b"}{", SendFlags::empty()).unwrap();
        assert!(matches!(get(&b), Err(WireError::Malformed(_))));
    }
}
