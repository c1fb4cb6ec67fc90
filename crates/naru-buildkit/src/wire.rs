//! Protocol buffers as they are on the wire (protobuf.dev, "Encoding"): enough to read and write the dozen messages
//! that are spoken here, so that no code generator is part of the build.

use crate::error::{Error, Result};
use std::collections::BTreeMap;

/// One field's value as it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
}

/// Entries of one map that are read at most.
const MAP_ENTRIES_MAX: usize = 4096;

/// Calls `each` for every field; fields of fixed width are skipped, since no message read here has one.
pub fn fields<'a>(mut rest: &'a [u8], mut each: impl FnMut(u64, Value<'a>) -> Result<()>) -> Result<()> {
    while !rest.is_empty() {
        let key = varint(&mut rest)?;
        match key & 7 {
            0 => each(key >> 3, Value::Varint(varint(&mut rest)?))?,
            1 => drop(take(&mut rest, 8)?),
            2 => {
                let length = varint(&mut rest)?;
                each(key >> 3, Value::Bytes(take(&mut rest, length)?))?;
            }
            5 => drop(take(&mut rest, 4)?),
            _ => return Err(Error::Malformed { what: "a field of an unknown wire type" }),
        }
    }
    Ok(())
}

/// The content of a message whose only field is bytes: every BytesMessage, of whatever service, and a secret.
pub fn data(message: &[u8]) -> Result<&[u8]> {
    let mut data = &[][..];
    fields(message, |field, value| {
        if field == 1 {
            data = value.bytes()?;
        }
        Ok(())
    })?;
    Ok(data)
}

fn varint(rest: &mut &[u8]) -> Result<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, tail) =
            rest.split_first().ok_or(Error::Malformed { what: "a number that is cut off" })?;
        *rest = tail;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Error::Malformed { what: "a number of more than ten bytes" })
}

fn take<'a>(rest: &mut &'a [u8], length: u64) -> Result<&'a [u8]> {
    let cut = usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length));
    let (head, tail) = cut.ok_or(Error::Malformed { what: "a field that is cut off" })?;
    *rest = tail;
    Ok(head)
}

impl<'a> Value<'a> {
    pub fn bytes(self) -> Result<&'a [u8]> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Varint(_) => Err(Error::Malformed { what: "a number where bytes belong" }),
        }
    }

    pub fn text(self) -> Result<String> {
        let text = std::str::from_utf8(self.bytes()?);
        text.map(str::to_owned).map_err(|_| Error::Malformed { what: "a text that is not UTF-8" })
    }

    pub fn number(self) -> Result<u64> {
        match self {
            Self::Varint(number) => Ok(number),
            Self::Bytes(_) => Err(Error::Malformed { what: "bytes where a number belongs" }),
        }
    }

    /// Adds an entry of `map<string, string>`.
    pub fn entry(self, map: &mut BTreeMap<String, String>) -> Result<()> {
        let (mut key, mut value) = (String::new(), String::new());
        fields(self.bytes()?, |number, field| {
            match number {
                1 => key = field.text()?,
                2 => value = field.text()?,
                _ => {}
            }
            Ok(())
        })?;
        if map.len() >= MAP_ENTRIES_MAX {
            return Err(Error::Malformed { what: "a map of too many entries" });
        }
        map.insert(key, value);
        Ok(())
    }
}

/// A message being written. Defaults are left out, as proto3 wants.
#[derive(Clone, Debug, Default)]
pub struct Out(pub Vec<u8>);

impl Out {
    pub fn number(mut self, field: u64, value: u64) -> Self {
        if value != 0 {
            self.put(field << 3);
            self.put(value);
        }
        self
    }

    pub fn text(self, field: u64, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }

    pub fn bytes(self, field: u64, value: &[u8]) -> Self {
        if value.is_empty() { self } else { self.present(field, value) }
    }

    /// A message, written even when it is empty: its presence says something.
    pub fn message(self, field: u64, value: &Out) -> Self {
        self.present(field, &value.0)
    }

    pub fn entry(self, field: u64, key: &str, value: &str) -> Self {
        let entry = Self::default().text(1, key).text(2, value);
        self.message(field, &entry)
    }

    fn present(mut self, field: u64, value: &[u8]) -> Self {
        self.put(field << 3 | 2);
        self.put(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    fn put(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let out = Out::default().number(1, 300).text(2, "words").entry(16, "key", "value").number(3, 0);
        let (mut number, mut text, mut map) = (0, String::new(), BTreeMap::new());
        fields(&out.0, |field, value| {
            match field {
                1 => number = value.number()?,
                2 => text = value.text()?,
                16 => value.entry(&mut map)?,
                _ => return Err(Error::Malformed { what: "unexpected" }),
            }
            Ok(())
        })
        .unwrap();
        assert_eq!((number, text.as_str(), map["key"].as_str()), (300, "words", "value"));
    }

    #[test]
    fn garbage_is_an_error() {
        for bad in
            [&b"\x0a\xff"[..], b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x80", b"\x0b", &[0xff; 12]]
        {
            assert!(fields(bad, |_, _| Ok(())).is_err(), "{bad:?}");
        }
    }
}
