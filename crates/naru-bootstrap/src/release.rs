//! A suite's Release file: what the archive says of itself, under its signature.

use crate::control::paragraphs;
use crate::error::{BootstrapError, Result};
use naru_types::Timestamp;
use std::collections::BTreeMap;

/// How far ahead of ours the archive's clock may be, in seconds.
const CLOCK_SKEW_SECS_MAX: i64 = 3600;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    pub codename: String,
    pub suite: String,
    pub date: Timestamp,
    valid_until: Option<Timestamp>,
    pub by_hash: bool,
    pub components: Vec<String>,
    pub architectures: Vec<String>,
    /// Path beneath the suite's directory → SHA-256 in hex, and size.
    files: BTreeMap<String, (String, u64)>,
}

impl Release {
    /// `url` is where it came from, for errors.
    pub fn parse(text: &str, url: &str) -> Result<Self> {
        let malformed = |what: &str| BootstrapError::Malformed { url: url.to_owned(), what: what.to_owned() };
        let fields = paragraphs(text).next().ok_or_else(|| malformed("it is empty"))?;
        let date =
            fields.text("Date").and_then(parse_date).ok_or_else(|| malformed("it has no valid Date"))?;
        let valid_until = match fields.text("Valid-Until") {
            Some(text) => Some(parse_date(text).ok_or_else(|| malformed("its Valid-Until is not a date"))?),
            None => None,
        };
        let mut files = BTreeMap::new();
        for line in fields.lines("SHA256").iter().filter(|line| !line.is_empty()) {
            let mut words = line.split_whitespace();
            let (Some(hash), Some(size), Some(path), None) =
                (words.next(), words.next(), words.next(), words.next())
            else {
                return Err(malformed("a line of SHA256 is not `hash size path`"));
            };
            let is_hash = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
            let size =
                size.parse().ok().filter(|_| is_hash).ok_or_else(|| malformed("a hash or size of SHA256"))?;
            files.insert(path.to_owned(), (hash.to_ascii_lowercase(), size));
        }
        if files.is_empty() {
            return Err(malformed("it has no SHA256 hashes"));
        }
        let owned = |name| fields.text(name).unwrap_or_default().to_owned();
        let words = |name| fields.words(name).into_iter().map(str::to_owned).collect();
        Ok(Self {
            codename: owned("Codename"),
            suite: owned("Suite"),
            date,
            valid_until,
            by_hash: fields.text("Acquire-By-Hash") == Some("yes"),
            components: words("Components"),
            architectures: words("Architectures"),
            files,
        })
    }

    /// That it is what was asked for, and of today: a mirror could otherwise hand out another suite, or an old state whose holes
    /// are known. `now` is the snapshot's time when one is asked for.
    pub fn check(&self, wanted: &str, now: Timestamp, url: &str) -> Result<()> {
        if self.codename != wanted && self.suite != wanted {
            return Err(BootstrapError::WrongSuite {
                url: url.to_owned(),
                found: self.codename.clone(),
                wanted: wanted.to_owned(),
            });
        }
        if self.date.secs() > now.secs() + CLOCK_SKEW_SECS_MAX {
            return Err(BootstrapError::FromTheFuture { url: url.to_owned(), date: self.date.to_string() });
        }
        match self.valid_until {
            Some(until) if until < now => {
                Err(BootstrapError::Expired { url: url.to_owned(), until: until.to_string() })
            }
            _ => Ok(()),
        }
    }

    /// SHA-256 in hex and size of a file of the suite.
    pub fn file(&self, path: &str) -> Option<(&str, u64)> {
        self.files.get(path).map(|(hash, size)| (hash.as_str(), *size))
    }
}

/// `Sat, 11 Jul 2026 10:16:37 UTC` (RFC 5322, section 3.3, always in UTC here).
fn parse_date(text: &str) -> Option<Timestamp> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split_once(", ").map_or(text, |(_, rest)| rest).split_whitespace();
    let (day, month, year, clock, zone) =
        (words.next()?, words.next()?, words.next()?, words.next()?, words.next()?);
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    if !["UTC", "GMT", "+0000", "Z"].contains(&zone) {
        return None;
    }
    Timestamp::parse_rfc3339(&format!("{year}-{month:02}-{day:0>2}T{clock:0>8}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Suite: oldstable\nCodename: bookworm\nDate: Sat, 1 Jul 2026 1:16:37 UTC\nValid-Until: Sat, 08 Jul 2026 10:16:37 UTC\nAcquire-By-Hash: yes\nComponents: main contrib\nSHA256:\n 11ed3507140d691f6dbd11cc5788667aeeac97c487679a85095045369b00ac7c     2047 main/binary-amd64/Packages.xz\n";

    fn at(text: &str) -> Timestamp {
        Timestamp::parse_rfc3339(text).unwrap()
    }

    #[test]
    fn a_release_says_what_it_is() {
        let release = Release::parse(TEXT, "u").unwrap();
        assert_eq!(release.date, at("2026-07-01T01:16:37Z"));
        assert_eq!(release.file("main/binary-amd64/Packages.xz").unwrap().1, 2047);
        assert!(release.by_hash);
        let now = at("2026-07-02T00:00:00Z");
        release.check("bookworm", now, "u").unwrap();
        release.check("oldstable", now, "u").unwrap();
        assert!(matches!(release.check("trixie", now, "u"), Err(BootstrapError::WrongSuite { .. })));
        let late = release.check("bookworm", at("2026-07-09T00:00:00Z"), "u");
        assert!(matches!(late, Err(BootstrapError::Expired { .. })));
        let early = release.check("bookworm", at("2026-06-01T00:00:00Z"), "u");
        assert!(matches!(early, Err(BootstrapError::FromTheFuture { .. })));
    }

    #[test]
    fn what_is_not_a_release_is_refused() {
        for text in ["", "Date: yesterday\n", "Date: Sat, 01 Jul 2026 10:16:37 UTC\nSHA256:\n abc 1 x\n"] {
            assert!(matches!(Release::parse(text, "u"), Err(BootstrapError::Malformed { .. })), "{text}");
        }
    }
}
