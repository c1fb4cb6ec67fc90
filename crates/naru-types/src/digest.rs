//! A content digest, `sha256:<64 hex>` (OCI image-spec, descriptor.md, "Digests").

use crate::error::{Error, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// A sha256 digest. Other algorithms are refused by name when parsed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    pub fn from_sha256(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub fn parse(text: &str) -> Result<Self> {
        let invalid = || Error::invalid(format!("invalid digest {text:?}"));
        let (algorithm, hex) = text.split_once(':').ok_or_else(invalid)?;
        if algorithm != "sha256" {
            return Err(invalid().with_hint("only sha256 digests are supported"));
        }
        Self::from_hex(hex).ok_or_else(invalid)
    }

    /// From 64 lower-case hex digits, without the algorithm.
    pub fn from_hex(hex: &str) -> Option<Self> {
        if !crate::id::is_full_id(hex) {
            return None;
        }
        let mut bytes = [0; 32];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&hex[index * 2..index * 2 + 2], 16).ok()?;
        }
        Some(Self(bytes))
    }

    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 64 hex digits, without the algorithm.
    pub fn hex(&self) -> String {
        crate::id::hex(&self.0)
    }

    /// The first 12 hex digits, as `docker images` shows an id.
    pub fn short(&self) -> String {
        crate::id::hex(&self.0[..6])
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let text = format!("sha256:{}", "0f".repeat(32));
        assert_eq!(Digest::parse(&text).unwrap().to_string(), text);
        for bad in [
            "",
            "sha256:",
            "sha256:zz",
            "md5:00",
            &format!("sha512:{}", "0f".repeat(32)),
            &text.to_uppercase(),
        ] {
            assert!(Digest::parse(bad).is_err(), "{bad}");
        }
    }
}
