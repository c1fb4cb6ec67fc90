//! What can go wrong with a network, and how it reads at the public face.
//!
//! Texts that Docker's clients match on are Docker's own; each is built here and nowhere else.

use naru_types::spec::Proto;
use naru_types::{Error, Kind};
use std::io;
use std::net::Ipv4Addr;

/// A failed step of the kernel side: what was done, to what, and the kernel's answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetError {
    #[error("{step} {subject}")]
    Step { step: &'static str, subject: String, source: io::Error },
    #[error("the bridge port {device} did not start to forward within {timeout_ms} ms")]
    PortNotForwarding { device: String, timeout_ms: u64 },
}

/// Gives an `io::Error` the step that failed and its subject.
pub(crate) trait Context<T> {
    fn step(self, step: &'static str, subject: impl ToString) -> Result<T, NetError>;
}

impl<T> Context<T> for io::Result<T> {
    fn step(self, step: &'static str, subject: impl ToString) -> Result<T, NetError> {
        self.map_err(|source| NetError::Step { step, subject: subject.to_string(), source })
    }
}

impl From<NetError> for Error {
    fn from(error: NetError) -> Self {
        let permission = match &error {
            NetError::Step { source, .. } => source.kind() == io::ErrorKind::PermissionDenied,
            NetError::PortNotForwarding { .. } => false,
        };
        let message = match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        let plain = Error::internal(message).with_source(error);
        if permission {
            plain.with_hint("networks need root with CAP_NET_ADMIN and CAP_SYS_ADMIN")
        } else {
            plain
        }
    }
}

pub(crate) fn ipv6_unsupported() -> Error {
    Error::not_implemented("IPv6 networks are not supported")
        .with_hint("leave --ipv6 and IPv6 subnets and addresses out; containers get IPv4 addresses")
}

pub(crate) fn pool_overlap() -> Error {
    Error::new(Kind::Forbidden, "invalid pool request: Pool overlaps with other one on this address space")
        .with_hint("`naru network ls` and `ip route` show which subnets are taken; choose another --subnet")
}

pub(crate) fn pools_exhausted() -> Error {
    Error::invalid("all predefined address pools have been fully subnetted")
        .with_hint("remove unused networks with `naru network prune`, or give one with --subnet")
}

pub(crate) fn no_address_left(subnet: crate::cidr::Ipv4Net) -> Error {
    Error::unavailable(format!("no available IPv4 addresses on this network's address pools: {subnet}"))
}

/// `host_ip:host_port:container_ip:container_port/proto`, as Docker names a binding.
pub(crate) fn port_taken(
    host: (Ipv4Addr, u16),
    container: (Ipv4Addr, u16),
    proto: Proto,
    why: &str,
) -> Error {
    Error::internal(format!(
        "failed to bind host port for {}:{}:{}:{}/{}: {why}",
        host.0,
        host.1,
        container.0,
        container.1,
        proto.as_str()
    ))
    .with_hint("another program or container uses that port; stop it or publish another one")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bind_error_is_dockers() {
        let error = port_taken(
            (Ipv4Addr::UNSPECIFIED, 8080),
            (Ipv4Addr::new(172, 17, 0, 2), 80),
            Proto::Tcp,
            "address already in use",
        );
        assert_eq!(
            error.message(),
            "failed to bind host port for 0.0.0.0:8080:172.17.0.2:80/tcp: address already in use"
        );
    }
}
