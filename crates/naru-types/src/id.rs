//! 256-bit ids as Docker has them: 64 lower-case hex digits, shown as the first 12.
//!
//! Randomness is I/O, so an id is made from bytes that the caller drew (`naru_kernel::random`).

use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;

/// Shown length of an id, in hex digits (Docker's `stringid.TruncateID`).
pub const SHORT_LEN: usize = 12;

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        pub struct $name(String);

        impl $name {
            pub fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(hex(&bytes))
            }

            /// Accepts exactly 64 lower-case hex digits.
            pub fn parse(text: &str) -> Option<Self> {
                is_full_id(text).then(|| Self(text.to_owned()))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }

            pub fn short(&self) -> &str {
                &self.0[..SHORT_LEN]
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::parse(&text).ok_or_else(|| serde::de::Error::custom(format!("not an id: {text:?}")))
            }
        }
    };
}

hex_id!(
    /// A container.
    ContainerId
);
hex_id!(
    /// One `exec` session inside a container.
    ExecId
);
hex_id!(
    /// A network.
    NetworkId
);

/// Whether `text` is a full id: 64 lower-case hex digits.
pub fn is_full_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Lower-case hex of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)] as char);
        text.push(DIGITS[usize::from(byte & 15)] as char);
    }
    text
}

/// Whether `name` may name a container, a volume or a network:
/// `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, at least `min` characters long (Docker wants 2 for containers and volumes, 1 for networks).
pub fn is_valid_name(name: &str, min: usize) -> bool {
    let mut bytes = name.bytes();
    name.len() >= min.max(1)
        && bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_64_hex_digits() {
        let id = ContainerId::from_bytes([0xab; 32]);
        assert_eq!(id.short(), "abababababab");
        assert_eq!(ContainerId::parse(id.as_str()), Some(id));
        for bad in ["", "ab", &"AB".repeat(32), &"zz".repeat(32)] {
            assert_eq!(ContainerId::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn names_follow_docker() {
        for (name, min, valid) in [
            ("a", 2, false),
            ("ab", 2, true),
            ("a", 1, true),
            ("_a", 1, false),
            ("a/b", 1, false),
            ("a.b-c_d", 2, true),
            ("", 1, false),
        ] {
            assert_eq!(is_valid_name(name, min), valid, "{name}");
        }
    }
}
