//! The bytes of netlink: a header, a fixed part that each family defines, then attributes (length, kind, payload),
//! everything padded to four bytes. Reading is total: what is cut or inconsistent ends the iteration.

use rustix::io::Errno;

const HEADER_BYTES: usize = 16;
const ATTRIBUTE_HEADER_BYTES: usize = 4;
const NLA_F_NESTED: u16 = 0x8000;
/// Upper bits of an attribute's kind are flags (NLA_F_NESTED, NLA_F_NET_BYTEORDER).
const NLA_TYPE_MASK: u16 = 0x3fff;

/// A message being written.
#[derive(Clone, Debug)]
pub struct Message {
    kind: u16,
    flags: u16,
    body: Vec<u8>,
    /// An attribute is longer than its length field can say.
    overlong: bool,
}

impl Message {
    /// `fixed` is the family's own header (`ifinfomsg`, `nfgenmsg`, …); `flags` beside REQUEST and ACK.
    pub fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut message = Self { kind, flags, body: fixed.to_vec(), overlong: false };
        message.pad();
        message
    }

    #[must_use]
    pub fn attr(mut self, kind: u16, payload: &[u8]) -> Self {
        self.push(kind, payload);
        self
    }

    #[must_use]
    pub fn attr_u32(self, kind: u16, value: u32) -> Self {
        self.attr(kind, &value.to_ne_bytes())
    }

    /// Network byte order, as nfnetlink wants its numbers.
    #[must_use]
    pub fn attr_be32(self, kind: u16, value: u32) -> Self {
        self.attr(kind, &value.to_be_bytes())
    }

    /// A string with its terminating NUL.
    #[must_use]
    pub fn attr_str(self, kind: u16, text: &str) -> Self {
        let mut bytes = text.as_bytes().to_vec();
        bytes.push(0);
        self.attr(kind, &bytes)
    }

    /// Attributes inside an attribute.
    #[must_use]
    pub fn nest(mut self, kind: u16, fill: impl FnOnce(Self) -> Self) -> Self {
        let start = self.body.len();
        self.body.extend(0u16.to_ne_bytes());
        self.body.extend((kind | NLA_F_NESTED).to_ne_bytes());
        let mut filled = fill(self);
        let length = filled.length(filled.body.len() - start);
        filled.body[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        filled
    }

    /// Raw bytes, padded; for a header inside a nest (VETH_INFO_PEER has an `ifinfomsg`).
    #[must_use]
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.body.extend_from_slice(bytes);
        self.pad();
        self
    }

    /// The message with its header. `EMSGSIZE` when an attribute is too long: with its length cut to 16 bits the kernel
    /// would read what follows as attributes that nobody meant (CVE-2021-43784).
    pub fn finish(self, flags: u16, sequence: u32) -> Result<Vec<u8>, Errno> {
        if self.overlong {
            return Err(Errno::MSGSIZE);
        }
        let length = HEADER_BYTES + self.body.len();
        let mut bytes = Vec::with_capacity(length);
        bytes.extend((length as u32).to_ne_bytes());
        bytes.extend(self.kind.to_ne_bytes());
        bytes.extend((self.flags | flags).to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend(0u32.to_ne_bytes());
        bytes.extend(self.body);
        Ok(bytes)
    }

    fn push(&mut self, kind: u16, payload: &[u8]) {
        let length = self.length(ATTRIBUTE_HEADER_BYTES + payload.len());
        self.body.extend(length.to_ne_bytes());
        self.body.extend(kind.to_ne_bytes());
        self.body.extend_from_slice(payload);
        self.pad();
    }

    /// As an attribute's own field has it.
    fn length(&mut self, bytes: usize) -> u16 {
        u16::try_from(bytes).unwrap_or_else(|_| {
            self.overlong = true;
            0
        })
    }

    fn pad(&mut self) {
        self.body.resize(self.body.len().next_multiple_of(4), 0);
    }
}

/// A received message.
#[derive(Debug)]
pub struct Reply<'a> {
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
    pub payload: &'a [u8],
}

impl Reply<'_> {
    /// Of an NLMSG_ERROR: zero is the acknowledgement.
    pub fn errno(&self) -> Result<(), Errno> {
        match self.payload.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes)) {
            Some(0) => Ok(()),
            Some(code) => Err(Errno::from_raw_os_error(code.saturating_neg())),
            None => Err(Errno::BADMSG),
        }
    }
}

/// The messages in a received buffer.
pub fn replies(bytes: &[u8]) -> impl Iterator<Item = Reply<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let header: &[u8; HEADER_BYTES] = rest.first_chunk()?;
        let length = u32::from_ne_bytes(*header.first_chunk()?) as usize;
        let payload = rest.get(HEADER_BYTES..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Reply {
            kind: u16::from_ne_bytes([header[4], header[5]]),
            flags: u16::from_ne_bytes([header[6], header[7]]),
            sequence: u32::from_ne_bytes([header[8], header[9], header[10], header[11]]),
            payload,
        })
    })
}

/// The attributes (kind without flags, payload) in `bytes`.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let header: &[u8; ATTRIBUTE_HEADER_BYTES] = rest.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let payload = rest.get(ATTRIBUTE_HEADER_BYTES..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([header[2], header[3]]) & NLA_TYPE_MASK, payload))
    })
}

/// The first attribute of that kind.
pub fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, payload)| payload)
}

/// A string attribute's text without its NUL.
pub fn text(payload: &[u8]) -> String {
    let end = payload.iter().position(|byte| *byte == 0).unwrap_or(payload.len());
    String::from_utf8_lossy(&payload[..end]).into_owned()
}

pub fn u32_ne(payload: &[u8]) -> Option<u32> {
    payload.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

pub fn u32_be(payload: &[u8]) -> Option<u32> {
    payload.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let bytes = Message::new(7, 1, &[9; 3])
            .attr_str(1, "abc")
            .nest(2, |nest| nest.attr_u32(3, 77).attr(4, &[]))
            .finish(4, 12)
            .unwrap();
        let reply = replies(&bytes).next().unwrap();
        assert_eq!((reply.kind, reply.flags, reply.sequence, reply.payload.len() % 4), (7, 5, 12, 0));
        let body = &reply.payload[4..];
        assert_eq!(text(attribute(body, 1).unwrap()), "abc");
        let nest = attribute(body, 2).unwrap();
        assert_eq!(u32_ne(attribute(nest, 3).unwrap()), Some(77));
        assert_eq!(attribute(nest, 4), Some(&[][..]));
    }

    /// CVE-2021-43784: a length that does not fit its 16 bits. Guard: `Message::length`.
    #[test]
    fn an_attribute_too_long_for_its_length_is_refused() {
        const PAYLOAD_BYTES_MAX: usize = u16::MAX as usize - ATTRIBUTE_HEADER_BYTES;
        let message = || Message::new(7, 0, &[]);
        let finish = |message: Message| message.finish(0, 1).map(drop);
        assert_eq!(finish(message().attr(1, &vec![0; PAYLOAD_BYTES_MAX])), Ok(()));
        assert_eq!(finish(message().attr(1, &vec![0; PAYLOAD_BYTES_MAX + 1])), Err(Errno::MSGSIZE));
        assert_eq!(finish(message().attr(1, &vec![0; 1 << 17])), Err(Errno::MSGSIZE));
        let half = vec![0; PAYLOAD_BYTES_MAX / 2];
        let nested = message().nest(1, |nest| nest.attr(2, &half).attr(3, &half));
        assert_eq!(finish(nested), Err(Errno::MSGSIZE), "two halves in one");
    }

    #[test]
    fn cut_bytes_end_the_iteration() {
        let bytes = Message::new(7, 0, &[]).attr_u32(1, 1).attr_u32(2, 2).finish(0, 1).unwrap();
        for cut in 0..bytes.len() {
            assert_eq!(replies(&bytes[..cut]).count(), 0);
        }
        for cut in 0..16 {
            assert!(attributes(&bytes[16..16 + cut]).count() <= 1);
        }
        assert_eq!(attributes(&[0, 0, 1, 0, 0, 0, 1, 0]).count(), 0, "a zero length must not loop");
    }
}
