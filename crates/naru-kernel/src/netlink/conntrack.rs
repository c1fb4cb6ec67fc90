//! Connection tracking entries over ctnetlink (<linux/netfilter/nfnetlink_conntrack.h>).
//!
//! A UDP flow keeps the translation it got with its first packet, for as long as packets come. So when a port's target
//! changes, its entries have to go.

use super::Socket;
use super::message::{Message, attribute};
use std::io;
use std::net::Ipv4Addr;

const GET: u16 = 1 << 8 | 1;
const DELETE: u16 = 1 << 8 | 2;
const NFPROTO_IPV4: u8 = 2;
const NLA_F_NESTED: u16 = 0x8000;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_ZONE: u16 = 18;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_DST: u16 = 2;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_DST_PORT: u16 = 3;
const IPPROTO_UDP: u8 = 17;

/// Forgets IPv4 UDP flows whose first packet went to an address and port that `matches`. Returns how many.
pub fn forget_udp(matches: impl Fn(Ipv4Addr, u16) -> bool) -> io::Result<usize> {
    let mut socket = Socket::netfilter()?;
    let request = Message::new(GET, 0, &[NFPROTO_IPV4, 0, 0, 0]);
    let found = socket.dump(&request, |_, payload| {
        let body = payload.get(4..)?;
        let tuple = attribute(body, CTA_TUPLE_ORIG)?;
        let protocol = attribute(tuple, CTA_TUPLE_PROTO)?;
        let port =
            attribute(protocol, CTA_PROTO_DST_PORT)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))?;
        let addr = attribute(attribute(tuple, CTA_TUPLE_IP)?, CTA_IP_V4_DST)?.first_chunk::<4>().copied()?;
        let is_udp = attribute(protocol, CTA_PROTO_NUM)?.first() == Some(&IPPROTO_UDP);
        (is_udp && matches(addr.into(), port))
            .then(|| (tuple.to_vec(), attribute(body, CTA_ZONE).map(<[u8]>::to_vec)))
    })?;
    let mut forgotten = 0;
    for (tuple, zone) in found {
        let mut message =
            Message::new(DELETE, 0, &[NFPROTO_IPV4, 0, 0, 0]).attr(CTA_TUPLE_ORIG | NLA_F_NESTED, &tuple);
        if let Some(zone) = zone {
            message = message.attr(CTA_ZONE, &zone);
        }
        match socket.request(message) {
            Ok(()) => forgotten += 1,
            // It ended by itself in between.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(forgotten)
}
