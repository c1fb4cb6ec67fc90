//! Versions of the API: which a path asks for and which are accepted.

use naru_types::{Error, Result};
use naru_wire::{API_VERSION, API_VERSION_MIN};
use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion {
    pub major: u32,
    pub minor: u32,
}

impl ApiVersion {
    pub const NEWEST: Self = Self { major: 1, minor: 50 };
    const OLDEST: Self = Self { major: 1, minor: 24 };
    /// From here on a multiplexed stream says so in its content type.
    pub const MULTIPLEXED_TYPE: Self = Self { major: 1, minor: 42 };
    /// Before it, a list showed an image without a name as `<none>:<none>`.
    pub const NO_NONE_NAMES: Self = Self { major: 1, minor: 43 };
    /// From here on `VirtualSize` is gone.
    pub const NO_VIRTUAL_SIZE: Self = Self { major: 1, minor: 44 };

    /// Parses `1.41`; missing or odd parts count as zero, as moby's `versions` does.
    fn parse(text: &str) -> Self {
        let mut parts = text.split('.').map(|part| part.parse().unwrap_or(0));
        Self { major: parts.next().unwrap_or(0), minor: parts.next().unwrap_or(0) }
    }

    /// The version that was asked for, or why it cannot be had (moby `server/middleware/version.go`).
    pub fn negotiate(asked: Option<&str>) -> Result<Self> {
        let Some(text) = asked else { return Ok(Self::NEWEST) };
        let version = Self::parse(text);
        if version < Self::OLDEST {
            return Err(Error::invalid(format!(
                "client version {text} is too old. Minimum supported API version is {API_VERSION_MIN}, please upgrade your client to a newer version"
            )));
        }
        if version > Self::NEWEST {
            return Err(Error::invalid(format!(
                "client version {text} is too new. Maximum supported API version is {API_VERSION}"
            )));
        }
        Ok(version)
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Splits `/v1.41/info` into the version's text and `/info`; a path without a version stays whole.
pub fn split_path(path: &str) -> (Option<&str>, &str) {
    let versioned = path.strip_prefix("/v").and_then(|rest| {
        let end = rest.find('/')?;
        let version = &rest[..end];
        let is_version = !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        is_version.then_some((version, &rest[end..]))
    });
    match versioned {
        Some((version, rest)) => (Some(version), rest),
        None => (None, path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_limits() {
        assert_eq!(split_path("/v1.41/info"), (Some("1.41"), "/info"));
        assert_eq!(split_path("/volumes/x"), (None, "/volumes/x"));
        assert_eq!(split_path("/v/info"), (None, "/v/info"));
        assert_eq!(ApiVersion::NEWEST.to_string(), API_VERSION);
        assert_eq!(ApiVersion::OLDEST.to_string(), API_VERSION_MIN);
        assert!(ApiVersion::negotiate(Some("1.24")).is_ok());
        for (asked, expect) in [
            ("1.99", "client version 1.99 is too new. Maximum supported API version is 1.50"),
            (
                "1.23",
                "client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version",
            ),
        ] {
            assert_eq!(ApiVersion::negotiate(Some(asked)).unwrap_err().message(), expect);
        }
    }
}
