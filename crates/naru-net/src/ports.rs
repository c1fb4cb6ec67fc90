//! Host ports: a bound socket holds each published one.
//!
//! It is bound and never listens, without SO_REUSEADDR, so that any other program that asks for the port fails, and we
//! fail when another one has it. Packets never reach it: the firewall rewrites them before.

use crate::error;
use naru_types::Result;
use naru_types::spec::{PortBinding, Proto};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrV4, SocketFlags, SocketType, ipproto};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::model::PublishedPort;

/// Ports for bindings that name none (Linux's default net.ipv4.ip_local_port_range).
const DYNAMIC_FIRST: u16 = 32768;
const DYNAMIC_LAST: u16 = 60999;
/// Bytes a held UDP socket may queue: the least the kernel allows.
const RECEIVE_BUFFER_BYTES: usize = 1;

/// Goes on over calls, so that a port just released is not at once another container's.
static CURSOR: AtomicU16 = AtomicU16::new(DYNAMIC_FIRST);

/// A held host port; dropping it releases the port.
#[derive(Debug)]
pub(crate) struct PortLease {
    pub(crate) port: PublishedPort,
    /// `None`: the kernel has no such protocol (sctp); then the firewall's map is the only register.
    _socket: Option<OwnedFd>,
}

/// Holds a port for `binding`, whose container will have `container_ip`. `held` are ports of this instance.
pub(crate) fn reserve(
    binding: &PortBinding,
    default_ip: Ipv4Addr,
    container_ip: Ipv4Addr,
    held: &dyn Fn(&PublishedPort) -> bool,
) -> Result<PortLease> {
    let host_ip = match binding.host_ip {
        None => default_ip,
        Some(IpAddr::V4(addr)) => addr,
        Some(IpAddr::V6(_)) => return Err(error::ipv6_unsupported()),
    };
    let (first, last) = binding.host_port;
    let candidates: Box<dyn Iterator<Item = u16>> =
        if first == 0 { Box::new(dynamic_ports()) } else { Box::new(first..=last.max(first)) };
    let mut refusal = None;
    for host_port in candidates {
        let port = PublishedPort { container: binding.container, host_ip, host_port };
        match if held(&port) { Err(Errno::ADDRINUSE) } else { hold(port) } {
            Ok(lease) => return Ok(lease),
            Err(errno) => refusal = Some((host_port, errno)),
        }
        if !matches!(refusal, Some((_, Errno::ADDRINUSE))) {
            break;
        }
    }
    let (host_port, errno) = refusal.unwrap_or((first, Errno::ADDRINUSE));
    let host_port = if first == 0 { 0 } else { host_port };
    let container = (container_ip, binding.container.port);
    Err(error::port_taken((host_ip, host_port), container, binding.container.proto, describe(errno)))
}

/// Holds exactly that port; used again after a restart of the daemon.
pub(crate) fn hold(port: PublishedPort) -> Result<PortLease, Errno> {
    let (kind, protocol) = match port.container.proto {
        Proto::Tcp => (SocketType::STREAM, None),
        Proto::Udp => (SocketType::DGRAM, None),
        Proto::Sctp => (SocketType::STREAM, Some(ipproto::SCTP)),
    };
    let socket = match rustix::net::socket_with(AddressFamily::INET, kind, SocketFlags::CLOEXEC, protocol) {
        Err(Errno::PROTONOSUPPORT) if port.container.proto == Proto::Sctp => None,
        other => Some(other?),
    };
    if let Some(socket) = &socket {
        rustix::net::sockopt::set_socket_recv_buffer_size(socket, RECEIVE_BUFFER_BYTES)?;
        rustix::net::bind(socket, &SocketAddrV4::new(port.host_ip, port.host_port))?;
    }
    Ok(PortLease { port, _socket: socket })
}

/// Every dynamic port once, starting behind the last one given out.
fn dynamic_ports() -> impl Iterator<Item = u16> {
    let span = u32::from(DYNAMIC_LAST - DYNAMIC_FIRST) + 1;
    (0..span).map(|_| {
        let next = |port: u16| Some(if port >= DYNAMIC_LAST { DYNAMIC_FIRST } else { port + 1 });
        CURSOR.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or(DYNAMIC_FIRST)
    })
}

fn describe(errno: Errno) -> &'static str {
    match errno {
        Errno::ADDRINUSE => "address already in use",
        Errno::ADDRNOTAVAIL => "cannot assign requested address",
        Errno::ACCESS | Errno::PERM => "permission denied",
        Errno::MFILE | Errno::NFILE => "too many open files",
        _ => "the host refused the port",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use naru_types::spec::PortProto;
    use std::net::{TcpListener, UdpSocket};

    fn binding(proto: Proto, host_port: (u16, u16)) -> PortBinding {
        let host_ip = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        PortBinding { container: PortProto { port: 80, proto }, host_ip, host_port }
    }

    fn try_reserve(binding: &PortBinding) -> Result<PortLease> {
        reserve(binding, Ipv4Addr::UNSPECIFIED, Ipv4Addr::new(172, 17, 0, 2), &|_| false)
    }

    #[test]
    fn a_held_port_is_nobody_elses() {
        let lease = try_reserve(&binding(Proto::Tcp, (0, 0))).unwrap();
        let port = lease.port.host_port;
        assert!((DYNAMIC_FIRST..=DYNAMIC_LAST).contains(&port));
        assert!(TcpListener::bind(("127.0.0.1", port)).is_err());
        let error = try_reserve(&binding(Proto::Tcp, (port, port))).unwrap_err();
        assert_eq!(
            error.message(),
            format!(
                "failed to bind host port for 127.0.0.1:{port}:172.17.0.2:80/tcp: address already in use"
            )
        );
        drop(lease);
        try_reserve(&binding(Proto::Tcp, (port, port))).unwrap();
    }

    #[test]
    fn a_listener_of_the_host_is_seen_and_a_range_goes_on() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = listener.local_addr().unwrap().port();
        assert!(try_reserve(&binding(Proto::Tcp, (taken, taken))).is_err());
        let lease = try_reserve(&binding(Proto::Tcp, (taken, taken.saturating_add(20)))).unwrap();
        assert!(lease.port.host_port > taken);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let taken = socket.local_addr().unwrap().port();
        assert!(try_reserve(&binding(Proto::Udp, (taken, taken))).is_err());
    }

    #[test]
    fn foreign_addresses_and_ipv6_are_refused() {
        let mut foreign = binding(Proto::Tcp, (8080, 8080));
        foreign.host_ip = Some("203.0.113.9".parse().unwrap());
        assert!(try_reserve(&foreign).unwrap_err().message().ends_with("cannot assign requested address"));
        foreign.host_ip = Some("::1".parse().unwrap());
        assert_eq!(try_reserve(&foreign).unwrap_err().kind(), naru_types::Kind::NotImplemented);
    }
}
