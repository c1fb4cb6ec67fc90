//! JSON decoding with Go's tolerance: the keys of a struct match without regard to case, an explicit
//! `null` leaves the field at its default, unknown keys are ignored.
//!
//! Go's `encoding/json` does all three, and clients have come to depend on it (`image` and `cmd` in lower case,
//! `"Binds": null`). serde alone does the last.

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;
use serde_json::{Error, Map, Value};

/// Why a body was refused, with moby's words (`httputils.ReadJSON`).
#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    #[error("invalid JSON: got EOF while reading request body")]
    Empty,
    #[error("invalid JSON: unexpected EOF")]
    Truncated,
    #[error("invalid JSON: {0}")]
    Syntax(Error),
    #[error("unexpected content after JSON")]
    Trailing,
}

/// Decodes a whole body.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, FoldError> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(FoldError::Empty);
    }
    let mut values = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>();
    let value = match values.next() {
        Some(Ok(value)) => value,
        Some(Err(error)) if error.is_eof() => return Err(FoldError::Truncated),
        Some(Err(error)) => return Err(FoldError::Syntax(error)),
        None => return Err(FoldError::Empty),
    };
    if !bytes[values.byte_offset()..].iter().all(u8::is_ascii_whitespace) {
        return Err(FoldError::Trailing);
    }
    // Go leaves the target untouched for a lone `null`.
    let value = if value.is_null() { Value::Object(Map::new()) } else { value };
    T::deserialize(Folded(value)).map_err(FoldError::Syntax)
}

struct Folded(Value);

impl IntoDeserializer<'_, Error> for Folded {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Folded {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(items) => visitor.visit_seq(SeqDeserializer::new(items.into_iter().map(Folded))),
            Value::Object(map) => visitor
                .visit_map(MapDeserializer::new(map.into_iter().map(|(key, value)| (key, Folded(value))))),
            scalar => scalar.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            Value::Object(map) => visitor.visit_map(Fields::new(map, fields)),
            // serde would take an array as the fields in order; Go does not.
            Value::Array(_) => Err(serde::de::Error::invalid_type(Unexpected::Seq, &visitor)),
            other => other.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

/// The entries of an object under the struct's own spelling of the keys.
struct Fields {
    entries: std::vec::IntoIter<(&'static str, Value)>,
    value: Option<Value>,
}

impl Fields {
    fn new(map: Map<String, Value>, fields: &'static [&'static str]) -> Self {
        let mut entries: Vec<(&'static str, Value)> = Vec::with_capacity(map.len());
        for (key, value) in map {
            let exact = fields.iter().find(|field| **field == key);
            let field = exact.or_else(|| fields.iter().find(|field| field.eq_ignore_ascii_case(&key)));
            let Some(field) = field.filter(|_| !value.is_null()) else { continue };
            // A key that comes twice counts once, the last time, as in Go.
            entries.retain(|(known, _)| known != field);
            entries.push((field, value));
        }
        Self { entries: entries.into_iter(), value: None }
    }
}

impl<'de> MapAccess<'de> for Fields {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((key, value)) = self.entries.next() else { return Ok(None) };
        self.value = Some(value);
        seed.deserialize(key.into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(Folded(self.value.take().unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::collections::BTreeMap;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, rename_all = "PascalCase")]
    struct Outer {
        image: String,
        cmd: Vec<String>,
        host_config: Option<Inner>,
        labels: BTreeMap<String, String>,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, rename_all = "PascalCase")]
    struct Inner {
        memory: i64,
    }

    #[test]
    fn keys_fold_and_nulls_vanish() {
        let text =
            br#"{"image":"x","CMD":null,"hostconfig":{"MEMORY":5,"Other":[1]},"Labels":{"A":"1","a":"2"}} "#;
        let outer: Outer = from_slice(text).unwrap();
        assert_eq!(outer.image, "x");
        assert_eq!(outer.host_config, Some(Inner { memory: 5 }));
        assert_eq!(outer.labels.len(), 2, "keys of a map keep their case");
        assert_eq!(from_slice::<Outer>(b"null").unwrap(), Outer::default());
    }

    #[test]
    fn refusals() {
        for (text, expect) in [
            (&b""[..], "invalid JSON: got EOF while reading request body"),
            (b"{\"image\":", "invalid JSON: unexpected EOF"),
            (b"{} x", "unexpected content after JSON"),
        ] {
            assert_eq!(from_slice::<Outer>(text).unwrap_err().to_string(), expect);
        }
        assert!(from_slice::<Outer>(b"{nope}").unwrap_err().to_string().starts_with("invalid JSON: "));
        assert!(from_slice::<Outer>(br#"{"image":5}"#).unwrap_err().to_string().contains("invalid type"));
        assert!(from_slice::<Outer>(b"[]").is_err());
    }
}
