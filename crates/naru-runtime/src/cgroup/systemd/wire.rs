//! D-Bus messages as bytes (D-Bus specification, "Message Format" and "Marshaling"): exactly the types that systemd is
//! told and answers with. Whatever arrives is bounded before it is believed.

use std::borrow::Cow;

/// Bytes of a message's body; what systemd answers here is far below.
pub(super) const BODY_BYTES_MAX: u32 = 1 << 20;
/// Bytes of the array of header fields.
pub(super) const FIELDS_BYTES_MAX: u32 = 64 << 10;
/// The part of each message whose length is fixed.
pub(super) const FIXED_BYTES: usize = 16;

const PROTOCOL: u8 = 1;

pub(super) const METHOD_CALL: u8 = 1;
pub(super) const METHOD_RETURN: u8 = 2;
pub(super) const ERROR: u8 = 3;
pub(super) const SIGNAL: u8 = 4;

/// Codes of header fields.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

/// What a property of a unit can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Bool(bool),
    U64(u64),
    U32(u32),
    I64(i64),
    I32(i32),
    Text(String),
    Texts(Vec<String>),
    U32s(Vec<u32>),
    Bytes(Vec<u8>),
    Pairs(Vec<(String, String)>),
}

pub(super) type Property = (Cow<'static, str>, Value);

/// The peer sent what is no D-Bus message, or none that is understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub &'static str);

/// Appends values, each at its alignment from the start of the buffer (which is a multiple of 8 in the message).
#[derive(Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    pub fn byte(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub fn u32(&mut self, value: u32) {
        self.align(4);
        self.bytes.extend(value.to_le_bytes());
    }

    pub fn u64(&mut self, value: u64) {
        self.align(8);
        self.bytes.extend(value.to_le_bytes());
    }

    /// A string or an object path.
    pub fn text(&mut self, value: &str) {
        self.u32(value.len() as u32);
        self.bytes.extend(value.as_bytes());
        self.byte(0);
    }

    pub fn signature(&mut self, value: &str) {
        self.byte(value.len() as u8);
        self.bytes.extend(value.as_bytes());
        self.byte(0);
    }

    /// The padding before the first element does not count as length.
    pub fn array(&mut self, alignment: usize, content: impl FnOnce(&mut Self)) {
        self.u32(0);
        let length_at = self.bytes.len() - 4;
        self.align(alignment);
        let start = self.bytes.len();
        content(self);
        let length = (self.bytes.len() - start) as u32;
        if let Some(place) = self.bytes.get_mut(length_at..length_at + 4) {
            place.copy_from_slice(&length.to_le_bytes());
        }
    }

    /// `a(sv)`.
    pub fn properties(&mut self, properties: &[Property]) {
        self.array(8, |writer| {
            for (name, value) in properties {
                writer.align(8);
                writer.text(name);
                writer.variant(value);
            }
        });
    }

    fn variant(&mut self, value: &Value) {
        match value {
            Value::Bool(on) => {
                self.signature("b");
                self.u32(u32::from(*on));
            }
            Value::U64(number) => {
                self.signature("t");
                self.u64(*number);
            }
            Value::U32(number) => {
                self.signature("u");
                self.u32(*number);
            }
            // The bytes are the same with a sign.
            Value::I64(number) => {
                self.signature("x");
                self.u64(number.cast_unsigned());
            }
            Value::I32(number) => {
                self.signature("i");
                self.u32(number.cast_unsigned());
            }
            Value::Texts(texts) => {
                self.signature("as");
                self.array(4, |writer| texts.iter().for_each(|text| writer.text(text)));
            }
            Value::Text(text) => {
                self.signature("s");
                self.text(text);
            }
            Value::U32s(numbers) => {
                self.signature("au");
                self.array(4, |writer| numbers.iter().for_each(|number| writer.u32(*number)));
            }
            Value::Bytes(bytes) => {
                self.signature("ay");
                self.array(1, |writer| writer.bytes.extend(bytes));
            }
            Value::Pairs(pairs) => {
                self.signature("a(ss)");
                self.array(8, |writer| {
                    for (first, second) in pairs {
                        writer.align(8);
                        writer.text(first);
                        writer.text(second);
                    }
                });
            }
        }
    }

    pub fn align(&mut self, alignment: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(alignment), 0);
    }
}

/// A method that is called.
#[derive(Clone, Copy, Debug)]
pub(super) struct Method<'a> {
    pub destination: &'a str,
    pub path: &'a str,
    pub interface: &'a str,
    pub member: &'a str,
    pub signature: &'a str,
}

/// The message; `body` was made by a [`Writer`] of its own.
pub(super) fn call(serial: u32, method: Method<'_>, body: &[u8]) -> Vec<u8> {
    let mut writer = Writer::default();
    for byte in [b'l', METHOD_CALL, 0, PROTOCOL] {
        writer.byte(byte);
    }
    writer.u32(body.len() as u32);
    writer.u32(serial);
    writer.array(8, |writer| {
        let fields = [
            (PATH, "o", method.path),
            (DESTINATION, "s", method.destination),
            (INTERFACE, "s", method.interface),
            (MEMBER, "s", method.member),
            (SIGNATURE, "g", method.signature),
        ];
        for (code, kind, value) in fields.into_iter().filter(|(_, _, value)| !value.is_empty()) {
            writer.align(8);
            writer.byte(code);
            writer.signature(kind);
            if kind == "g" { writer.signature(value) } else { writer.text(value) }
        }
    });
    writer.align(8);
    let mut message = writer.finish();
    message.extend(body);
    message
}

/// The first part of a message: how long the rest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fixed {
    pub kind: u8,
    pub big_endian: bool,
    pub fields_len: usize,
    pub body_len: usize,
}

impl Fixed {
    pub fn parse(bytes: [u8; FIXED_BYTES]) -> Result<Self, Malformed> {
        let big_endian = match bytes[0] {
            b'l' => false,
            b'B' => true,
            _ => return Err(Malformed("no such byte order")),
        };
        if bytes[3] != PROTOCOL {
            return Err(Malformed("another version of the protocol"));
        }
        let mut reader = Reader { bytes: &bytes, at: 4, big_endian };
        let body = reader.u32()?;
        let _serial = reader.u32()?;
        let fields = reader.u32()?;
        if body > BODY_BYTES_MAX || fields > FIELDS_BYTES_MAX {
            return Err(Malformed("a message that is too long"));
        }
        Ok(Self { kind: bytes[1], big_endian, fields_len: fields as usize, body_len: body as usize })
    }

    /// Fields with their padding, and the body.
    pub fn rest_len(&self) -> usize {
        self.fields_len.next_multiple_of(8) + self.body_len
    }
}

/// A message that arrived.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    pub kind: u8,
    pub interface: String,
    pub member: String,
    pub error_name: String,
    pub reply_serial: u32,
    pub signature: String,
    big_endian: bool,
    body: Vec<u8>,
}

impl Message {
    /// `rest` is as long as [`Fixed::rest_len`] says.
    pub fn parse(fixed: Fixed, rest: &[u8]) -> Result<Self, Malformed> {
        let short = Malformed("a message that ends early");
        let fields = rest.get(..fixed.fields_len).ok_or(short)?;
        let body = rest.get(fixed.fields_len.next_multiple_of(8)..).ok_or(short)?;
        let mut message =
            Self { kind: fixed.kind, big_endian: fixed.big_endian, body: body.to_vec(), ..Self::default() };
        let mut reader = Reader { bytes: fields, at: 0, big_endian: fixed.big_endian };
        while reader.at < fields.len() {
            // The fields start at byte 16, so alignment counted from there is the message's.
            reader.align(8)?;
            let code = reader.byte()?;
            match reader.signature()? {
                "s" | "o" => {
                    let text = reader.text()?.to_owned();
                    match code {
                        INTERFACE => message.interface = text,
                        MEMBER => message.member = text,
                        ERROR_NAME => message.error_name = text,
                        _ => {}
                    }
                }
                "g" => {
                    let text = reader.signature()?.to_owned();
                    if code == SIGNATURE {
                        message.signature = text;
                    }
                }
                "u" => {
                    let number = reader.u32()?;
                    if code == REPLY_SERIAL {
                        message.reply_serial = number;
                    }
                }
                _ => return Err(Malformed("a header field of an unknown type")),
            }
        }
        Ok(message)
    }

    pub fn body(&self) -> Reader<'_> {
        Reader { bytes: &self.body, at: 0, big_endian: self.big_endian }
    }
}

/// Takes values out, checking each length against what is there.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    big_endian: bool,
}

impl<'a> Reader<'a> {
    pub fn byte(&mut self) -> Result<u8, Malformed> {
        self.take(1)?.first().copied().ok_or(Malformed("a value that ends early"))
    }

    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.align(4)?;
        let bytes: [u8; 4] = self.take(4)?.try_into().map_err(|_| Malformed("a number that ends early"))?;
        Ok(if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    /// A string or an object path.
    pub fn text(&mut self) -> Result<&'a str, Malformed> {
        let length = self.u32()? as usize;
        self.terminated(length)
    }

    pub fn signature(&mut self) -> Result<&'a str, Malformed> {
        let length = usize::from(self.byte()?);
        self.terminated(length)
    }

    fn terminated(&mut self, length: usize) -> Result<&'a str, Malformed> {
        let text = self.take(length)?;
        if self.byte()? != 0 {
            return Err(Malformed("a string without its end"));
        }
        std::str::from_utf8(text).map_err(|_| Malformed("a string that is not UTF-8"))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(length).ok_or(Malformed("a length beyond everything"))?;
        let taken = self.bytes.get(self.at..end).ok_or(Malformed("a value that ends early"))?;
        self.at = end;
        Ok(taken)
    }

    fn align(&mut self, alignment: usize) -> Result<(), Malformed> {
        self.take(self.at.next_multiple_of(alignment) - self.at).map(drop)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A message as a peer would send it.
    pub fn message(kind: u8, fields: &[(u8, &str, &str)], reply_serial: u32, body: &[u8]) -> Vec<u8> {
        let mut writer = Writer::default();
        for byte in [b'l', kind, 0, PROTOCOL] {
            writer.byte(byte);
        }
        writer.u32(body.len() as u32);
        writer.u32(7);
        writer.array(8, |writer| {
            writer.byte(REPLY_SERIAL);
            writer.signature("u");
            writer.u32(reply_serial);
            for (code, signature, value) in fields {
                writer.align(8);
                writer.byte(*code);
                writer.signature(signature);
                if *signature == "g" { writer.signature(value) } else { writer.text(value) }
            }
        });
        writer.align(8);
        let mut bytes = writer.finish();
        bytes.extend(body);
        bytes
    }

    fn parse(bytes: &[u8]) -> Result<Message, Malformed> {
        let fixed: [u8; FIXED_BYTES] =
            bytes.get(..FIXED_BYTES).and_then(|head| head.try_into().ok()).ok_or(Malformed("short"))?;
        let fixed = Fixed::parse(fixed)?;
        let rest = bytes.get(FIXED_BYTES..FIXED_BYTES + fixed.rest_len()).ok_or(Malformed("short"))?;
        Message::parse(fixed, rest)
    }

    fn hello() -> Vec<u8> {
        let method =
            Method { destination: "a.b", path: "/p", interface: "i.f", member: "Hello", signature: "" };
        call(1, method, &[])
    }

    #[test]
    fn a_call_byte_by_byte() {
        let expected = [
            b"l\x01\x00\x01\x00\x00\x00\x00\x01\x00\x00\x00\x3e\x00\x00\x00".as_slice(),
            b"\x01\x01o\x00\x02\x00\x00\x00/p\x00\x00\x00\x00\x00\x00",
            b"\x06\x01s\x00\x03\x00\x00\x00a.b\x00\x00\x00\x00\x00",
            b"\x02\x01s\x00\x03\x00\x00\x00i.f\x00\x00\x00\x00\x00",
            b"\x03\x01s\x00\x05\x00\x00\x00Hello\x00\x00\x00",
        ]
        .concat();
        assert_eq!(hello(), expected);
        let read = parse(&hello()).unwrap();
        assert_eq!((read.interface.as_str(), read.member.as_str()), ("i.f", "Hello"));
    }

    #[test]
    fn properties_are_aligned() {
        let mut writer = Writer::default();
        let properties = [("A", Value::Bool(true)), ("B", Value::Bytes(vec![5])), ("C", Value::U64(9))];
        writer.properties(&properties.map(|(name, value)| (name.into(), value)));
        let expected = [
            b"\x34\x00\x00\x00\x00\x00\x00\x00".as_slice(),
            b"\x01\x00\x00\x00A\x00\x01b\x00\x00\x00\x00\x01\x00\x00\x00",
            b"\x01\x00\x00\x00B\x00\x02ay\x00\x00\x00\x01\x00\x00\x00\x05\x00\x00\x00",
            b"",
        ]
        .concat();
        let bytes = writer.finish();
        assert_eq!(bytes.get(8..expected.len() - 3), expected.get(8..expected.len() - 3));
        assert_eq!(bytes.get(bytes.len() - 8..), Some(9u64.to_le_bytes().as_slice()));
        assert_eq!(bytes.len() % 8, 0);
    }

    #[test]
    fn what_is_cut_or_lies_is_refused() {
        let mut body = Writer::default();
        body.text("result");
        let whole = message(SIGNAL, &[(SIGNATURE, "g", "s")], 3, &body.finish());
        let read = parse(&whole).unwrap();
        assert_eq!((read.reply_serial, read.body().text()), (3, Ok("result")));
        for length in 0..whole.len() {
            assert!(parse(whole.get(..length).unwrap()).is_err(), "{length}");
        }
        // No single byte makes it panic or read beyond its end.
        for at in 0..whole.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bad = whole.clone();
                bad[at] = value;
                if let Ok(message) = parse(&bad) {
                    let _ = message.body().text();
                }
            }
        }
        let mut long = whole;
        long[4..8].copy_from_slice(&(BODY_BYTES_MAX + 1).to_le_bytes());
        assert_eq!(parse(&long), Err(Malformed("a message that is too long")));
    }

    #[test]
    fn the_other_byte_order() {
        let mut reader = Reader { bytes: &[0, 0, 0, 2, b'o', b'k', 0], at: 0, big_endian: true };
        assert_eq!(reader.text(), Ok("ok"));
        let mut reader = Reader { bytes: &[0, 0, 0, 2, b'o', b'k', 1], at: 0, big_endian: true };
        assert_eq!(reader.text(), Err(Malformed("a string without its end")));
    }
}
