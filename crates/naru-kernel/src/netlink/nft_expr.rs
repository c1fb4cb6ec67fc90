//! Expressions of nf_tables rules and how each is written (<linux/netfilter/nf_tables.h>, `NFTA_*` of each expression).

use super::message::Message;
use super::nft::{DATA_VALUE, NFPROTO_IPV4};

const DATA_VERDICT: u16 = 2;

/// Registers: `R1` and `R2` are 16 bytes each; `R1_WORD1` is the second word of `R1`, `R1_WORD2` the third.
pub mod register {
    pub const R1: u32 = 1;
    pub const R2: u32 = 2;
    pub const R1_WORD1: u32 = 9;
    pub const R1_WORD2: u32 = 10;
}

/// An expression of a rule.
#[derive(Clone, Debug)]
pub enum Expr<'a> {
    /// `meta <key>` into a register.
    Meta {
        key: Meta,
        into: u32,
    },
    /// Bytes of the network header.
    Network {
        offset: u32,
        len: u32,
        into: u32,
    },
    /// Bytes of the transport header.
    Transport {
        offset: u32,
        len: u32,
        into: u32,
    },
    /// `ct state` as a bit mask.
    CtState {
        into: u32,
    },
    /// `ct status` as a bit mask.
    CtStatus {
        into: u32,
    },
    /// `fib daddr type`.
    FibDaddrType {
        into: u32,
    },
    /// Register := register & mask.
    And {
        register: u32,
        mask: &'a [u8],
    },
    Equal {
        register: u32,
        value: &'a [u8],
    },
    NotEqual {
        register: u32,
        value: &'a [u8],
    },
    /// Matches when the key is in the set (`inverted`: is not).
    InSet {
        register: u32,
        set: &'a str,
        inverted: bool,
    },
    /// Looks the key up in a map; no match ends the rule.
    Map {
        register: u32,
        map: &'a str,
        into: u32,
    },
    Dnat {
        addr: u32,
        port: u32,
    },
    Masquerade,
    Accept,
    Drop,
    Jump(&'a str),
}

/// `enum nft_meta_keys`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meta {
    Iifname = 6,
    Oifname = 7,
    L4proto = 16,
    /// The kind of device (`bridge`, `veth`); a device without one, as a physical card, ends the rule.
    Iifkind = 26,
    Oifkind = 27,
}

pub(super) fn encode(message: Message, expr: &Expr<'_>) -> Message {
    let named =
        |name: &str, fill: &dyn Fn(Message) -> Message| message.clone().attr_str(1, name).nest(2, fill);
    let verdict = |code: i32, chain: Option<&str>| {
        named("immediate", &|data| {
            data.attr_be32(1, 0).nest(2, |nest| {
                nest.nest(DATA_VERDICT, |verdict| {
                    let verdict = verdict.attr_be32(1, code as u32);
                    match chain {
                        Some(chain) => verdict.attr_str(2, chain),
                        None => verdict,
                    }
                })
            })
        })
    };
    let payload = |base: u32, offset: u32, len: u32, into: u32| {
        named("payload", &|data| {
            data.attr_be32(1, into).attr_be32(2, base).attr_be32(3, offset).attr_be32(4, len)
        })
    };
    let compare = |operation: u32, register: u32, value: &[u8]| {
        named("cmp", &|data| {
            data.attr_be32(1, register).attr_be32(2, operation).nest(3, |nest| nest.attr(DATA_VALUE, value))
        })
    };
    match *expr {
        Expr::Meta { key, into } => named("meta", &|data| data.attr_be32(1, into).attr_be32(2, key as u32)),
        Expr::Network { offset, len, into } => payload(1, offset, len, into),
        Expr::Transport { offset, len, into } => payload(2, offset, len, into),
        Expr::CtState { into } => named("ct", &|data| data.attr_be32(1, into).attr_be32(2, 0)),
        Expr::CtStatus { into } => named("ct", &|data| data.attr_be32(1, into).attr_be32(2, 2)),
        Expr::FibDaddrType { into } => {
            named("fib", &|data| data.attr_be32(1, into).attr_be32(2, 3).attr_be32(3, 2))
        }
        Expr::And { register, mask } => named("bitwise", &|data| {
            data.attr_be32(1, register)
                .attr_be32(2, register)
                .attr_be32(3, mask.len() as u32)
                .nest(4, |nest| nest.attr(DATA_VALUE, mask))
                .nest(5, |nest| nest.attr(DATA_VALUE, &vec![0; mask.len()]))
        }),
        Expr::Equal { register, value } => compare(0, register, value),
        Expr::NotEqual { register, value } => compare(1, register, value),
        Expr::InSet { register, set, inverted } => named("lookup", &|data| {
            data.attr_str(1, set).attr_be32(2, register).attr_be32(5, u32::from(inverted))
        }),
        Expr::Map { register, map, into } => {
            named("lookup", &|data| data.attr_str(1, map).attr_be32(2, register).attr_be32(3, into))
        }
        Expr::Dnat { addr, port } => named("nat", &|data| {
            data.attr_be32(1, 1).attr_be32(2, u32::from(NFPROTO_IPV4)).attr_be32(3, addr).attr_be32(5, port)
        }),
        Expr::Masquerade => named("masq", &|data| data),
        Expr::Accept => verdict(1, None),
        Expr::Drop => verdict(0, None),
        Expr::Jump(chain) => verdict(-3, Some(chain)),
    }
}
