//! Names of repositories, tags and digests, by the grammar of the distribution specification ("Pulling
//! manifests") and of the image specification ("Digests"). Nothing else gets further than this file, so
//! that no text of a client can become a path.

use naru_types::id::hex;
use sha2::{Digest as _, Sha256, Sha512};
use std::fmt;

/// Longest repository name, in bytes (the specification's advice: host and name together within 255).
const REPOSITORY_BYTES_MAX: usize = 255;
/// Longest tag, in bytes.
const TAG_BYTES_MAX: usize = 128;

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepositoryName(String);

impl RepositoryName {
    /// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*`
    pub fn parse(text: &str) -> Option<Self> {
        let is_valid = text.len() <= REPOSITORY_BYTES_MAX && text.split('/').all(is_component);
        is_valid.then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_component(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let mut separator = String::new();
    let mut at_start = true;
    for byte in text.bytes() {
        if is_word(byte) {
            let is_joined = matches!(separator.as_str(), "" | "." | "_" | "__")
                || separator.bytes().all(|byte| byte == b'-');
            if !is_joined || (at_start && !separator.is_empty()) {
                return false;
            }
            at_start = false;
            separator.clear();
        } else if matches!(byte, b'.' | b'_' | b'-') {
            separator.push(char::from(byte));
        } else {
            return false;
        }
    }
    !at_start && separator.is_empty()
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(String);

impl Tag {
    /// `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`
    pub fn parse(text: &str) -> Option<Self> {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let is_valid = text.len() <= TAG_BYTES_MAX
            && text.bytes().next().is_some_and(is_word)
            && text.bytes().all(|byte| is_word(byte) || byte == b'.' || byte == b'-');
        is_valid.then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    Sha256,
    Sha512,
}

impl Algorithm {
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "sha256" => Some(Self::Sha256),
            "sha512" => Some(Self::Sha512),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    fn hex_digits(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

/// A digest of either registered algorithm; `naru_types::Digest` is the engine's, which has sha256 only.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    algorithm: Algorithm,
    hex: String,
}

impl Digest {
    pub fn parse(text: &str) -> Option<Self> {
        let (algorithm, hex) = text.split_once(':')?;
        let algorithm = Algorithm::parse(algorithm)?;
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let is_valid = hex.len() == algorithm.hex_digits() && hex.bytes().all(is_digit);
        is_valid.then(|| Self { algorithm, hex: hex.to_owned() })
    }

    pub fn of(algorithm: Algorithm, bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub fn hex(&self) -> &str {
        &self.hex
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), self.hex)
    }
}

/// What a manifest is asked for by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    Tag(Tag),
    Digest(Digest),
}

impl Reference {
    pub fn parse(text: &str) -> Option<Self> {
        if text.contains(':') {
            return Digest::parse(text).map(Self::Digest);
        }
        Tag::parse(text).map(Self::Tag)
    }
}

pub(crate) enum Hasher {
    Sha256(Box<Sha256>),
    Sha512(Box<Sha512>),
}

impl Hasher {
    pub fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(Box::default()),
            Algorithm::Sha512 => Self::Sha512(Box::default()),
        }
    }

    pub fn algorithm(&self) -> Algorithm {
        match self {
            Self::Sha256(_) => Algorithm::Sha256,
            Self::Sha512(_) => Algorithm::Sha512,
        }
    }

    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    pub fn finish(self) -> Digest {
        let algorithm = self.algorithm();
        let hex = match self {
            Self::Sha256(hasher) => hex(&hasher.finalize()),
            Self::Sha512(hasher) => hex(&hasher.finalize()),
        };
        Digest { algorithm, hex }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repository_names() {
        for good in ["a", "library/nginx", "a.b_c__d-e---f/0", &"a".repeat(255)] {
            assert!(RepositoryName::parse(good).is_some(), "{good}");
        }
        for bad in [
            "", "/", "a/", "/a", "a//b", "..", "a/..", "A", "a___b", "a..b", "a.-b", "-a", "a-", "a b",
            "a\0", "é",
        ] {
            assert!(RepositoryName::parse(bad).is_none(), "{bad}");
        }
        assert!(RepositoryName::parse(&"a".repeat(256)).is_none());
    }

    #[test]
    fn tags_and_digests() {
        for good in ["latest", "_", "1.0-rc.1", &"a".repeat(128)] {
            assert!(matches!(Reference::parse(good), Some(Reference::Tag(_))), "{good}");
        }
        for bad in ["", ".a", "-a", "a/b", "sha256:", "sha256:zz", "md5:00", &"a".repeat(129)] {
            assert!(Reference::parse(bad).is_none(), "{bad}");
        }
        let empty = Digest::of(Algorithm::Sha256, b"");
        assert_eq!(
            empty.to_string(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(Digest::parse(&empty.to_string()), Some(empty.clone()));
        assert!(Digest::parse(&empty.to_string().to_uppercase()).is_none());
        let long = Digest::of(Algorithm::Sha512, b"").to_string();
        assert!(Digest::parse(&long).is_some());
        assert!(Digest::parse(&long.replace("sha512", "sha256")).is_none());
    }
}
