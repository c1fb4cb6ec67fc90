//! DNS messages (RFC 1035, section 4), as far as a resolver of names to addresses reads and writes them.
//!
//! Reading is strict and bounded: one question, no compression in it (RFC 1035 allows none to point anywhere), labels
//! and names within their limits.

use std::net::Ipv4Addr;

pub(crate) const TYPE_A: u16 = 1;
pub(crate) const TYPE_PTR: u16 = 12;
pub(crate) const TYPE_ANY: u16 = 255;
pub(crate) const CLASS_IN: u16 = 1;
pub(crate) const NOERROR: u8 = 0;
pub(crate) const FORMERR: u8 = 1;
pub(crate) const SERVFAIL: u8 = 2;
pub(crate) const NXDOMAIN: u8 = 3;
pub(crate) const NOTIMP: u8 = 4;
const TYPE_OPT: u16 = 41;
const HEADER_BYTES: usize = 12;
/// RFC 1035 section 2.3.4.
const LABEL_BYTES_MAX: usize = 63;
const NAME_BYTES_MAX: usize = 255;
/// Bytes of an answer over UDP without EDNS.
const PLAIN_UDP_BYTES_MAX: usize = 512;
/// What we say we take over UDP (the DNS flag day 2020 value).
const EDNS_UDP_BYTES: u16 = 1232;
const FLAG_RESPONSE: u16 = 0x8000;
const FLAG_TRUNCATED: u16 = 0x0200;
const FLAG_RECURSION_DESIRED: u16 = 0x0100;
const FLAG_RECURSION_AVAILABLE: u16 = 0x0080;
const OPCODE_MASK: u16 = 0x7800;
/// Seconds an answer may be kept: none, since a container may be another one the next moment.
const TTL_SECS: u32 = 0;

/// A parsed query.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Query {
    pub(crate) id: u16,
    flags: u16,
    /// Lower case, labels joined by dots, no dot at the end. A label with a dot or a control character in it makes the
    /// name `None`: no container has such a name.
    pub(crate) name: Option<String>,
    pub(crate) kind: u16,
    pub(crate) class: u16,
    question: Vec<u8>,
    edns_bytes: Option<u16>,
}

/// What to do with bytes that are no proper query.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reject {
    /// Say nothing: not a query, or no header.
    Silence,
    /// Answer with this whole message.
    Reply(Vec<u8>),
}

/// Data of an answer.
#[derive(Debug)]
pub(crate) enum Record<'a> {
    Address(Ipv4Addr),
    Pointer(&'a str),
}

pub(crate) fn parse(bytes: &[u8]) -> Result<Query, Reject> {
    let word = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    let header = || Some((word(0)?, word(2)?, word(4)?, word(6)?, word(8)?, word(10)?));
    let Some((id, flags, questions, answers, authorities, additionals)) = header() else {
        return Err(Reject::Silence);
    };
    if flags & FLAG_RESPONSE != 0 {
        return Err(Reject::Silence);
    }
    let refuse = |code| Reject::Reply(bare_header(id, flags, code));
    if flags & OPCODE_MASK != 0 {
        return Err(refuse(NOTIMP));
    }
    if questions != 1 || answers != 0 || authorities != 0 {
        return Err(refuse(FORMERR));
    }
    let (name, end) = read_name(bytes, HEADER_BYTES).ok_or_else(|| refuse(FORMERR))?;
    let (kind, class) = word(end).zip(word(end + 2)).ok_or_else(|| refuse(FORMERR))?;
    let question = bytes[HEADER_BYTES..end + 4].to_vec();
    // An OPT record has the root name (RFC 6891 section 6.1.2); other additional records are passed over.
    let is_opt = additionals > 0 && bytes.get(end + 4) == Some(&0) && word(end + 5) == Some(TYPE_OPT);
    let edns_bytes = if is_opt { word(end + 7) } else { None };
    Ok(Query { id, flags, name, kind, class, question, edns_bytes })
}

impl Query {
    /// A whole answer. Over UDP (`udp`) what does not fit is left out and marked as truncated.
    pub(crate) fn respond(&self, code: u8, records: &[Record<'_>], udp: bool) -> Vec<u8> {
        let encoded: Vec<Vec<u8>> = records.iter().map(encode_record).collect();
        let opt: &[u8] = if self.edns_bytes.is_some() { &opt_record() } else { &[] };
        let fixed = HEADER_BYTES + self.question.len() + opt.len();
        let limit = if udp {
            usize::from(self.edns_bytes.unwrap_or(0)).clamp(PLAIN_UDP_BYTES_MAX, usize::from(EDNS_UDP_BYTES))
        } else {
            usize::from(u16::MAX)
        };
        let mut room = limit.saturating_sub(fixed);
        let fitting: Vec<&Vec<u8>> = encoded
            .iter()
            .take_while(|record| match room.checked_sub(record.len()) {
                Some(left) => {
                    room = left;
                    true
                }
                None => false,
            })
            .collect();
        let truncated = if udp && fitting.len() < encoded.len() { FLAG_TRUNCATED } else { 0 };
        let flags = response_flags(self.flags, code) | truncated;
        let counts = [1, fitting.len() as u16, 0, u16::from(self.edns_bytes.is_some())];
        let mut bytes = header(self.id, flags, counts);
        bytes.extend_from_slice(&self.question);
        for record in fitting {
            bytes.extend_from_slice(record);
        }
        bytes.extend_from_slice(opt);
        bytes
    }

    /// The same question in `bytes`, which must be an answer to the query id `id`.
    pub(crate) fn is_answered_by(question: &[u8], id: u16, bytes: &[u8]) -> bool {
        let head = bytes.first_chunk::<HEADER_BYTES>();
        head.is_some_and(|head| {
            u16::from_be_bytes([head[0], head[1]]) == id && head[2] & 0x80 != 0 && head[4..6] == [0, 1]
        }) && bytes
            .get(HEADER_BYTES..HEADER_BYTES + question.len())
            .is_some_and(|found| found.eq_ignore_ascii_case(question))
    }

    pub(crate) fn question(&self) -> &[u8] {
        &self.question
    }

    /// The address that a PTR question for `d.c.b.a.in-addr.arpa` asks about.
    pub(crate) fn reverse_address(&self) -> Option<Ipv4Addr> {
        let digits = self.name.as_deref()?.strip_suffix(".in-addr.arpa")?;
        let mut octets = [0u8; 4];
        let mut parts = digits.split('.');
        for octet in octets.iter_mut().rev() {
            *octet = parts.next()?.parse().ok()?;
        }
        parts.next().is_none().then(|| octets.into())
    }
}

/// Puts another id into a message.
pub(crate) fn set_id(bytes: &mut [u8], id: u16) {
    if let Some(start) = bytes.first_chunk_mut::<2>() {
        *start = id.to_be_bytes();
    }
}

/// The labels from `start` on and the place behind the root label.
fn read_name(bytes: &[u8], start: usize) -> Option<(Option<String>, usize)> {
    let (mut at, mut name, mut plain) = (start, String::new(), true);
    loop {
        let length = usize::from(*bytes.get(at)?);
        at += 1;
        if length == 0 {
            return Some((plain.then_some(name), at));
        }
        if length > LABEL_BYTES_MAX || at + length - start >= NAME_BYTES_MAX {
            return None;
        }
        let label = bytes.get(at..at + length)?;
        plain &= label.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'.');
        if !name.is_empty() {
            name.push('.');
        }
        name.extend(label.iter().map(|byte| byte.to_ascii_lowercase() as char));
        at += length;
    }
}

fn response_flags(query_flags: u16, code: u8) -> u16 {
    FLAG_RESPONSE | FLAG_RECURSION_AVAILABLE | (query_flags & FLAG_RECURSION_DESIRED) | u16::from(code)
}

fn header(id: u16, flags: u16, counts: [u16; 4]) -> Vec<u8> {
    [id, flags].iter().chain(&counts).flat_map(|word| word.to_be_bytes()).collect()
}

fn bare_header(id: u16, flags: u16, code: u8) -> Vec<u8> {
    header(id, response_flags(flags, code) | (flags & OPCODE_MASK), [0; 4])
}

fn opt_record() -> [u8; 11] {
    let [high, low] = EDNS_UDP_BYTES.to_be_bytes();
    [0, 0, TYPE_OPT as u8, high, low, 0, 0, 0, 0, 0, 0]
}

fn encode_record(record: &Record<'_>) -> Vec<u8> {
    let (kind, data) = match record {
        Record::Address(addr) => (TYPE_A, addr.octets().to_vec()),
        Record::Pointer(name) => (TYPE_PTR, encode_name(name)),
    };
    // 0xc00c: the name is that of the question, right behind the header.
    let mut bytes = vec![0xc0, HEADER_BYTES as u8];
    bytes.extend(kind.to_be_bytes());
    bytes.extend(CLASS_IN.to_be_bytes());
    bytes.extend(TTL_SECS.to_be_bytes());
    bytes.extend((data.len() as u16).to_be_bytes());
    bytes.extend(data);
    bytes
}

/// Labels over their limit are cut: names of containers may be longer than DNS allows.
fn encode_name(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let label = &label.as_bytes()[..label.len().min(LABEL_BYTES_MAX)];
        if bytes.len() + label.len() + 2 > NAME_BYTES_MAX {
            break;
        }
        bytes.push(label.len() as u8);
        bytes.extend_from_slice(label);
    }
    bytes.push(0);
    bytes
}

/// A query for one name, as tests and health checks send it.
#[cfg(test)]
pub(crate) fn query(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut bytes = header(id, FLAG_RECURSION_DESIRED, [1, 0, 0, 0]);
    bytes.extend(encode_name(name));
    bytes.extend(kind.to_be_bytes());
    bytes.extend(CLASS_IN.to_be_bytes());
    bytes
}

/// The addresses in the answer section of a response of ours.
#[cfg(test)]
pub(crate) fn addresses(bytes: &[u8]) -> Vec<Ipv4Addr> {
    let count = usize::from(u16::from_be_bytes([bytes[6], bytes[7]]));
    let (_, end) = read_name(bytes, HEADER_BYTES).unwrap();
    bytes[end + 4..]
        .chunks(16)
        .take(count)
        .map(|record| Ipv4Addr::new(record[12], record[13], record[14], record[15]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_and_its_answer() {
        let parsed = parse(&query(7, "Web.Example", TYPE_A)).unwrap();
        assert_eq!((parsed.id, parsed.name.as_deref(), parsed.kind), (7, Some("web.example"), TYPE_A));
        let addr = Ipv4Addr::new(10, 0, 0, 2);
        let answer = parsed.respond(NOERROR, &[Record::Address(addr)], true);
        assert_eq!(addresses(&answer), [addr]);
        assert!(Query::is_answered_by(parsed.question(), 7, &answer));
        assert!(!Query::is_answered_by(parsed.question(), 8, &answer));
        assert_eq!(parse(&answer), Err(Reject::Silence));
    }

    #[test]
    fn too_many_answers_are_truncated_over_udp_only() {
        let parsed = parse(&query(7, "web", TYPE_A)).unwrap();
        let many: Vec<_> = (0..200).map(|n| Record::Address(Ipv4Addr::new(10, 0, 0, n))).collect();
        let over_udp = parsed.respond(NOERROR, &many, true);
        assert!(over_udp.len() <= 512 && over_udp[2] & 2 != 0);
        let over_tcp = parsed.respond(NOERROR, &many, false);
        assert!(addresses(&over_tcp).len() == 200 && over_tcp[2] & 2 == 0);
        let mut with_opt = query(7, "web", TYPE_A);
        with_opt[11] = 1;
        with_opt.extend([0, 0, 41, 16, 0, 0, 0, 0, 0, 0, 0]);
        let answer = parse(&with_opt).unwrap().respond(NOERROR, &many, true);
        assert!(answer.len() > 512 && answer.len() <= 1232 && answer[11] == 1);
    }

    #[test]
    fn reverse_names() {
        let of = |name| parse(&query(1, name, TYPE_PTR)).unwrap().reverse_address();
        assert_eq!(of("2.0.17.172.in-addr.arpa"), Some(Ipv4Addr::new(172, 17, 0, 2)));
        for bad in ["0.17.172.in-addr.arpa", "9.2.0.17.172.in-addr.arpa", "x.0.17.172.in-addr.arpa", "web"] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }

    #[test]
    fn garbage_never_panics_and_never_reads_on() {
        let good = query(7, "a.b.c", TYPE_A);
        for cut in 0..good.len() {
            assert!(parse(&good[..cut]).is_err());
        }
        // xorshift64: the same garbage each time.
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        for round in 0..200_000_usize {
            let mut bytes = good.clone();
            for _ in 0..=round % 5 {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                let at = seed as usize % bytes.len();
                bytes[at] = (seed >> 32) as u8;
            }
            if let Ok(parsed) = parse(&bytes) {
                assert!(parsed.respond(NXDOMAIN, &[], true).len() <= 512);
            }
        }
        let pointer = [0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1];
        assert!(matches!(parse(&pointer), Err(Reject::Reply(_))));
    }
}
