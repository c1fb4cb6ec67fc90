//! Asking the host's name servers: which ones, and one question under way over UDP.

use super::packet::{self, Query};
use crate::files::ResolvConf;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

const DNS_PORT: u16 = 53;
/// Name servers asked for one question (resolv.conf(5), MAXNS).
const SERVERS_MAX: usize = 3;
/// Rounds over all servers.
const ROUNDS: usize = 2;
/// How long one server has, before the next is asked.
const TRY_TIMEOUT: Duration = Duration::from_secs(2);

/// The servers to ask: `--dns` ones, or those of the host's file, read anew each time since it changes with the network.
/// Loopback ones are fine: they are asked from the host's namespace.
pub(crate) fn servers(given: &[IpAddr], resolv_conf: &Path) -> Vec<SocketAddr> {
    let addresses = if given.is_empty() {
        ResolvConf::parse(&std::fs::read_to_string(resolv_conf).unwrap_or_default()).servers
    } else {
        given.to_vec()
    };
    addresses.into_iter().take(SERVERS_MAX).map(|addr| SocketAddr::new(addr, DNS_PORT)).collect()
}

/// A question under way.
#[derive(Debug)]
pub(crate) struct Forward {
    pub(crate) query: Query,
    pub(crate) socket: UdpSocket,
    pub(crate) deadline: Instant,
    bytes: Vec<u8>,
    id: u16,
    servers: Vec<SocketAddr>,
    tries: usize,
}

impl Forward {
    /// Sends to the first server. An own socket and a random id per question make answers hard to forge.
    pub(crate) fn start(query: Query, mut bytes: Vec<u8>, servers: Vec<SocketAddr>) -> io::Result<Self> {
        let id = u16::from_ne_bytes(naru_kernel::random::bytes()?);
        packet::set_id(&mut bytes, id);
        let socket = open_socket(servers.first())?;
        let mut forward = Self { query, socket, deadline: Instant::now(), bytes, id, servers, tries: 0 };
        forward.send()?;
        Ok(forward)
    }

    /// Asks the next server; an error when all had their turns.
    pub(crate) fn retry(&mut self) -> io::Result<()> {
        self.socket = open_socket(self.servers.get(self.tries % self.servers.len().max(1)))?;
        self.send()
    }

    /// The answer, with the asker's own id, once it is there. Strangers' packets are passed over.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Vec<u8>>> {
        loop {
            let length = match self.socket.recv(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                other => other?,
            };
            let answer = &mut buffer[..length];
            if Query::is_answered_by(self.query.question(), self.id, answer) {
                packet::set_id(answer, self.query.id);
                return Ok(Some(answer.to_vec()));
            }
        }
    }

    fn send(&mut self) -> io::Result<()> {
        while self.tries < self.servers.len() * ROUNDS {
            self.tries += 1;
            self.deadline = Instant::now() + TRY_TIMEOUT;
            if self.socket.send(&self.bytes).is_ok() {
                return Ok(());
            }
            self.socket = open_socket(self.servers.get(self.tries % self.servers.len().max(1)))?;
        }
        Err(io::ErrorKind::HostUnreachable.into())
    }
}

fn open_socket(server: Option<&SocketAddr>) -> io::Result<UdpSocket> {
    let server = server.ok_or(io::ErrorKind::HostUnreachable)?;
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_nonblocking(true)?;
    // An unreachable server must not fail the question: send() goes on to the next.
    let _ = socket.connect(server);
    Ok(socket)
}
