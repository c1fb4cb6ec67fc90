//! Netlink (netlink(7)): a blocking socket, and encoders for what naru says over it.
//!
//! [`message`] writes and reads messages and attributes, [`route`] speaks rtnetlink (devices, addresses, routes),
//! [`nft`] nfnetlink/nf_tables, [`conntrack`] ctnetlink. The kernel handles a request inside `sendmsg`, so answers are there when it returns.
//! A socket belongs to the network namespace of the thread that opened it.

pub mod conntrack;
pub mod message;
pub mod nft;
mod nft_expr;
pub mod route;
pub mod transfer;

use message::{Message, Reply};
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Bytes of one receive; the kernel's largest dump skb is 32 kB (NLMSG_GOODSIZE and netlink_dump's max_recvmsg_len).
const RECEIVE_BYTES: usize = 64 << 10;
/// Bytes of the send buffer: a batch must fit one socket buffer.
const SEND_BUFFER_BYTES: usize = 32 << 20;
/// Bytes of the receive buffer: the errors of a whole failed batch must fit.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;

pub(crate) const NLMSG_ERROR: u16 = 2;
pub(crate) const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_DUMP_INTR: u16 = 0x10;
/// A dump that the kernel had to interrupt is asked for again, this many times.
const DUMP_TRIES_MAX: u32 = 8;

/// A netlink socket.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

impl Socket {
    /// rtnetlink; `groups` is the bit mask of multicast groups to hear (0: none).
    pub fn route(groups: u32) -> io::Result<Self> {
        Self::open(None, groups)
    }

    /// nfnetlink.
    pub fn netfilter() -> io::Result<Self> {
        Self::open(Some(rustix::net::netlink::NETFILTER), 0)
    }

    fn open(protocol: Option<Protocol>, groups: u32) -> io::Result<Self> {
        let fd = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            protocol,
        )?;
        rustix::net::bind(&fd, &SocketAddrNetlink::new(0, groups))?;
        // Needs CAP_NET_ADMIN over the initial user namespace; without it batches are limited to the default size.
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(&fd, RECEIVE_BUFFER_BYTES);
        Ok(Self { fd, sequence: 0 })
    }

    /// Sends one request and waits for its acknowledgement.
    pub fn request(&mut self, message: Message) -> io::Result<()> {
        self.exchange(vec![message])
    }

    /// Sends requests in one go; each is acknowledged. The first error is returned; later requests were still carried
    /// out (rtnetlink knows no transactions).
    pub fn exchange(&mut self, messages: Vec<Message>) -> io::Result<()> {
        let mut waiting = 0;
        let mut bytes = Vec::new();
        for message in messages {
            self.sequence = self.sequence.wrapping_add(1);
            waiting += 1;
            bytes.extend(message.finish(NLM_F_REQUEST | NLM_F_ACK, self.sequence)?);
        }
        self.send(&bytes)?;
        let first = self.sequence.wrapping_sub(waiting - 1);
        let mut outcome = Ok(());
        while waiting > 0 {
            self.receive(RecvFlags::empty(), |reply| {
                if reply.kind == NLMSG_ERROR
                    && reply.sequence.wrapping_sub(first) <= self.sequence.wrapping_sub(first)
                {
                    waiting -= 1;
                    if let Err(errno) = reply.errno() {
                        outcome = std::mem::replace(&mut outcome, Ok(())).and(Err(errno));
                    }
                }
            })?;
        }
        outcome.map_err(io::Error::from)
    }

    /// Asks for one object and hands its answer (kind, payload) to `read`.
    pub fn get<T>(&mut self, message: Message, read: impl FnOnce(u16, &[u8]) -> T) -> io::Result<T> {
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        self.send(&message.finish(NLM_F_REQUEST, sequence)?)?;
        let mut read = Some(read);
        let mut outcome = None;
        while outcome.is_none() {
            self.receive(RecvFlags::empty(), |reply| {
                if reply.sequence != sequence {
                    return;
                }
                if reply.kind == NLMSG_ERROR {
                    outcome = reply.errno().err().map(Err);
                } else if let Some(read) = read.take() {
                    outcome = Some(Ok(read(reply.kind, reply.payload)));
                }
            })?;
        }
        outcome.unwrap_or(Err(Errno::IO)).map_err(io::Error::from)
    }

    /// Asks for all objects and collects what `read` makes of each (kind, payload).
    pub fn dump<T>(
        &mut self,
        request: &Message,
        read: impl Fn(u16, &[u8]) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        for _ in 0..DUMP_TRIES_MAX {
            if let Some(all) = self.dump_once(request.clone(), &read)? {
                return Ok(all);
            }
        }
        Err(Errno::INTR.into())
    }

    fn dump_once<T>(
        &mut self,
        request: Message,
        read: impl Fn(u16, &[u8]) -> Option<T>,
    ) -> io::Result<Option<Vec<T>>> {
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        self.send(&request.finish(NLM_F_REQUEST | NLM_F_DUMP, sequence)?)?;
        let (mut all, mut interrupted, mut end) = (Vec::new(), false, None);
        while end.is_none() {
            self.receive(RecvFlags::empty(), |reply| {
                if reply.sequence != sequence {
                    return;
                }
                interrupted |= reply.flags & NLM_F_DUMP_INTR != 0;
                match reply.kind {
                    NLMSG_DONE => end = Some(Ok(())),
                    NLMSG_ERROR => end = Some(reply.errno()),
                    kind => all.extend(read(kind, reply.payload)),
                }
            })?;
        }
        match end {
            Some(Err(Errno::INTR)) => Ok(None),
            Some(Err(errno)) => Err(errno.into()),
            Some(Ok(())) | None => Ok((!interrupted).then_some(all)),
        }
    }

    /// Sends prepared bytes whose answers [`Socket::drain`] collects.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() > RECEIVE_BYTES {
            let _ = rustix::net::sockopt::set_socket_send_buffer_size_force(&self.fd, SEND_BUFFER_BYTES);
        }
        loop {
            match rustix::net::sendto(&self.fd, bytes, SendFlags::empty(), &SocketAddrNetlink::new(0, 0)) {
                Err(Errno::INTR) => {}
                other => return Ok(other.map(|_| ())?),
            }
        }
    }

    /// Takes what is queued, without waiting, and hands each message to `each`.
    pub(crate) fn drain(&mut self, mut each: impl FnMut(&Reply<'_>)) -> io::Result<()> {
        loop {
            match self.receive(RecvFlags::DONTWAIT, &mut each) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                other => other?,
            }
        }
    }

    fn receive(&self, flags: RecvFlags, mut each: impl FnMut(&Reply<'_>)) -> io::Result<()> {
        let mut buffer = vec![0u8; RECEIVE_BYTES];
        let (_, length) = loop {
            match rustix::net::recv(&self.fd, &mut buffer[..], flags | RecvFlags::TRUNC) {
                Err(Errno::INTR) => {}
                other => break other?,
            }
        };
        let bytes = buffer.get(..length).ok_or(Errno::MSGSIZE)?;
        for reply in message::replies(bytes) {
            each(&reply);
        }
        Ok(())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
