//! nf_tables over nfnetlink: a batch builder for tables, chains, sets, elements and rules.
//!
//! Numbers and layouts are those of <linux/netfilter/nf_tables.h>. A [`Batch`] is one transaction: all of it or
//! nothing. Family is always ip. Names are the caller's; nothing here knows what a rule is for.

pub use super::nft_expr::{Expr, Meta, register};

use super::Socket;
use super::message::{Message, attribute, text, u32_be};
use super::nft_expr::encode;
use std::io;

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEWTABLE: u16 = 0;
const GETTABLE: u16 = 1;
const DELTABLE: u16 = 2;
const NEWCHAIN: u16 = 3;
const GETCHAIN: u16 = 4;
const NEWRULE: u16 = 6;
const NEWSET: u16 = 9;
const NEWSETELEM: u16 = 12;
const GETSETELEM: u16 = 13;
const DELSETELEM: u16 = 14;
const NFPROTO_UNSPEC: u8 = 0;
const NFPROTO_INET: u8 = 1;
pub(super) const NFPROTO_IPV4: u8 = 2;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;
const LIST_ELEM: u16 = 1;
pub(super) const DATA_VALUE: u16 = 1;
/// NFTNL_UDATA_SET_KEYBYTEORDER of libnftnl, and nft(8)'s BYTEORDER_HOST_ENDIAN.
const UDATA_KEY_BYTE_ORDER: u8 = 0;
const BYTE_ORDER_HOST: u8 = 1;
const SET_INTERVAL: u32 = 4;
const SET_MAP: u32 = 8;
const SET_CONCAT: u32 = 0x80;
/// Elements in one message: an attribute's length is 16 bits.
const ELEMENTS_PER_MESSAGE: usize = 400;

/// Where a base chain hangs (`enum nf_inet_hooks`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    Prerouting = 0,
    Forward = 2,
    Output = 3,
    Postrouting = 4,
}

/// Types of set fields as nft(8) numbers them, so that it can print our sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldType {
    Ipv4 = 7,
    Proto = 12,
    Port = 13,
    Ifname = 41,
}

impl FieldType {
    fn bytes(self) -> u32 {
        match self {
            Self::Ipv4 => 4,
            Self::Proto => 1,
            Self::Port => 2,
            Self::Ifname => 16,
        }
    }
}

/// A set (`data` empty) or a map. `ranges`: keys are intervals per field.
#[derive(Clone, Copy, Debug)]
pub struct Set<'a> {
    pub name: &'a str,
    pub key: &'a [FieldType],
    pub data: &'a [FieldType],
    pub ranges: bool,
}

/// One element; `key_end` for sets with ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    pub key: Vec<u8>,
    pub key_end: Option<Vec<u8>>,
    pub data: Option<Vec<u8>>,
}

/// A transaction being written.
#[derive(Debug, Default)]
pub struct Batch {
    messages: Vec<Message>,
}

impl Batch {
    /// Creates the table if it is not there.
    pub fn table(&mut self, table: &str) {
        self.messages.push(message(NEWTABLE, NLM_F_CREATE).attr_str(1, table).attr_be32(2, 0));
    }

    /// Deletes the table with everything in it. It must exist.
    pub fn delete_table(&mut self, table: &str) {
        self.messages.push(message(DELTABLE, 0).attr_str(1, table));
    }

    pub fn chain(&mut self, table: &str, chain: &str) {
        self.messages.push(message(NEWCHAIN, NLM_F_CREATE).attr_str(1, table).attr_str(3, chain));
    }

    /// A base chain with policy accept; `kind` is `filter` or `nat`.
    pub fn base_chain(&mut self, table: &str, chain: &str, kind: &str, hook: Hook, priority: i32) {
        self.messages.push(
            message(NEWCHAIN, NLM_F_CREATE)
                .attr_str(1, table)
                .attr_str(3, chain)
                .nest(4, |nest| nest.attr_be32(1, hook as u32).attr_be32(2, priority as u32))
                .attr_be32(5, 1)
                .attr_str(7, kind),
        );
    }

    pub fn set(&mut self, table: &str, set: Set<'_>) {
        let id = self.messages.len() as u32 + 1;
        let flags = if set.data.is_empty() { 0 } else { SET_MAP }
            | if set.ranges { SET_INTERVAL } else { 0 }
            | if set.ranges && set.key.len() > 1 { SET_CONCAT } else { 0 };
        let mut message = message(NEWSET, NLM_F_CREATE)
            .attr_str(1, table)
            .attr_str(2, set.name)
            .attr_be32(3, flags)
            .attr_be32(4, concat_type(set.key))
            .attr_be32(5, concat_bytes(set.key));
        if !set.data.is_empty() {
            message = message.attr_be32(6, concat_type(set.data)).attr_be32(7, concat_bytes(set.data));
        }
        if set.ranges && set.key.len() > 1 {
            message = message.nest(9, |desc| {
                desc.nest(2, |concat| {
                    set.key
                        .iter()
                        .fold(concat, |all, field| all.nest(LIST_ELEM, |one| one.attr_be32(1, field.bytes())))
                })
            });
        }
        if let [FieldType::Ifname] = set.key {
            // For nft(8) only: the key is in host byte order; without it names print as "".
            message = message.attr(13, &[UDATA_KEY_BYTE_ORDER, 4, BYTE_ORDER_HOST, 0, 0, 0]);
        }
        self.messages.push(message.attr_be32(10, id));
    }

    pub fn add_elements(&mut self, table: &str, set: &str, elements: &[Element]) {
        self.elements(NEWSETELEM, NLM_F_CREATE, table, set, elements);
    }

    /// Every element must be there.
    pub fn delete_elements(&mut self, table: &str, set: &str, elements: &[Element]) {
        self.elements(DELSETELEM, 0, table, set, elements);
    }

    /// Appends a rule.
    pub fn rule(&mut self, table: &str, chain: &str, expressions: &[Expr<'_>]) {
        self.messages.push(
            message(NEWRULE, NLM_F_CREATE | NLM_F_APPEND).attr_str(1, table).attr_str(2, chain).nest(
                4,
                |list| {
                    expressions.iter().fold(list, |all, expr| all.nest(LIST_ELEM, |one| encode(one, expr)))
                },
            ),
        );
    }

    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    fn elements(&mut self, kind: u16, flags: u16, table: &str, set: &str, elements: &[Element]) {
        for part in elements.chunks(ELEMENTS_PER_MESSAGE) {
            let body = message(kind, flags).attr_str(1, table).attr_str(2, set);
            self.messages.push(body.nest(3, |list| {
                part.iter().fold(list, |all, element| all.nest(LIST_ELEM, |one| encode_element(one, element)))
            }));
        }
    }
}

/// A foreign base chain, as far as a firewall check needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseChain {
    pub family: &'static str,
    pub table: String,
    pub chain: String,
    /// `enum nf_inet_hooks`.
    pub hook: u32,
    pub drops: bool,
}

/// An nfnetlink conversation with the namespace that the opening thread was in.
#[derive(Debug)]
pub struct NftSocket {
    socket: Socket,
}

impl NftSocket {
    pub fn open() -> io::Result<Self> {
        Ok(Self { socket: Socket::netfilter()? })
    }

    /// Carries the batch out: all or nothing. The error is that of the first message that failed.
    pub fn commit(&mut self, batch: Batch) -> io::Result<()> {
        let count = batch.messages.len();
        let begin = 1;
        let mut bytes = control(BATCH_BEGIN).finish(NLM_F_REQUEST, begin)?;
        for (index, message) in batch.messages.into_iter().enumerate() {
            let ack = if index + 1 == count { NLM_F_ACK } else { 0 };
            bytes.extend(message.finish(NLM_F_REQUEST | ack, begin + 1 + index as u32)?);
        }
        bytes.extend(control(BATCH_END).finish(NLM_F_REQUEST, begin + 1 + count as u32)?);
        self.socket.send(&bytes)?;
        let (mut outcome, mut answered) = (Ok(()), count == 0);
        self.socket.drain(|reply| {
            if reply.kind == super::NLMSG_ERROR {
                answered = true;
                if outcome.is_ok() {
                    outcome = reply.errno();
                }
            }
        })?;
        match (outcome, answered) {
            (Err(errno), _) => Err(errno.into()),
            (Ok(()), true) => Ok(()),
            (Ok(()), false) => Err(io::Error::other("the kernel did not answer an nf_tables batch")),
        }
    }

    pub fn table_exists(&mut self, table: &str) -> io::Result<bool> {
        match self.socket.get(message(GETTABLE, 0).attr_str(1, table), |_, _| ()) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            other => other.map(|()| true),
        }
    }

    pub fn chain_exists(&mut self, table: &str, chain: &str) -> io::Result<bool> {
        match self.socket.get(message(GETCHAIN, 0).attr_str(1, table).attr_str(3, chain), |_, _| ()) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            other => other.map(|()| true),
        }
    }

    /// Number of elements of a set, counted by a dump.
    pub fn count_elements(&mut self, table: &str, set: &str) -> io::Result<usize> {
        let request = message(GETSETELEM, 0).attr_str(1, table).attr_str(2, set);
        let counts = self.socket.dump(&request, |_, payload| {
            let list = attribute(payload.get(4..)?, 3)?;
            Some(super::message::attributes(list).count())
        })?;
        Ok(counts.into_iter().sum())
    }

    /// Base chains of the families ip and inet.
    pub fn base_chains(&mut self) -> io::Result<Vec<BaseChain>> {
        let request = Message::new(kind(GETCHAIN), 0, &[NFPROTO_UNSPEC, 0, 0, 0]);
        self.socket.dump(&request, |_, payload| {
            let (header, rest) = payload.split_first_chunk::<4>()?;
            let family = match header[0] {
                NFPROTO_INET => "inet",
                NFPROTO_IPV4 => "ip",
                _ => return None,
            };
            Some(BaseChain {
                family,
                table: text(attribute(rest, 1)?),
                chain: text(attribute(rest, 3)?),
                hook: u32_be(attribute(attribute(rest, 4)?, 1)?)?,
                drops: attribute(rest, 5).and_then(u32_be) == Some(0),
            })
        })
    }
}

fn kind(message: u16) -> u16 {
    SUBSYSTEM << 8 | message
}

fn message(which: u16, flags: u16) -> Message {
    Message::new(kind(which), flags, &[NFPROTO_IPV4, 0, 0, 0])
}

/// Begin and end of a batch carry the subsystem in `res_id`, big-endian.
fn control(which: u16) -> Message {
    Message::new(which, 0, &[NFPROTO_UNSPEC, 0, 0, SUBSYSTEM as u8])
}

/// nft(8) numbers a concatenation by six bits per field.
fn concat_type(fields: &[FieldType]) -> u32 {
    fields.iter().fold(0, |all, field| all << 6 | *field as u32)
}

/// Fields are padded to registers of four bytes when there are several.
fn concat_bytes(fields: &[FieldType]) -> u32 {
    match fields {
        [one] => one.bytes(),
        many => many.iter().map(|field| field.bytes().next_multiple_of(4)).sum(),
    }
}

fn encode_element(message: Message, element: &Element) -> Message {
    let mut message = message.nest(1, |key| key.attr(DATA_VALUE, &element.key));
    if let Some(end) = &element.key_end {
        message = message.nest(10, |key| key.attr(DATA_VALUE, end));
    }
    match &element.data {
        Some(data) => message.nest(2, |value| value.attr(DATA_VALUE, data)),
        None => message,
    }
}
