//! Image references as Docker reads and shows them (distribution/reference grammar):
//! `[domain/]path[:tag][@digest]`, where `nginx` means `docker.io/library/nginx`.

use crate::digest::Digest;
use crate::error::{Error, Result};
use std::fmt;

/// The domain that a name without one gets.
pub const DEFAULT_DOMAIN: &str = "docker.io";
/// Names under which Docker Hub's credentials are kept; the first is what docker writes.
const HUB_HOSTS: [&str; 3] = ["index.docker.io", "registry-1.docker.io", DEFAULT_DOMAIN];

/// The registry that an address of a login or of docker's config.json means, as references write it:
/// `https://index.docker.io/v1/` and the empty one are `docker.io`.
pub fn domain_of_address(address: &str) -> &str {
    let bare =
        address.strip_prefix("https://").or_else(|| address.strip_prefix("http://")).unwrap_or(address);
    let host = bare.split('/').next().unwrap_or(bare);
    if host.is_empty() || HUB_HOSTS.contains(&host) { DEFAULT_DOMAIN } else { host }
}

const DEFAULT_TAG: &str = "latest";
const OFFICIAL_PREFIX: &str = "library/";
/// Longest repository name, domain included, in bytes (distribution/reference `NameTotalLengthMax`).
const NAME_LEN_MAX: usize = 255;
const TAG_LEN_MAX: usize = 128;

/// A valid reference. `domain` and `path` are always filled in; tag and digest are what was written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageRef {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl ImageRef {
    pub fn parse(text: &str) -> Result<Self> {
        let invalid = || Error::invalid(format!("invalid reference format: {text:?}"));
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(Digest::parse(digest)?)),
            None => (text, None),
        };
        let last_slash = rest.rfind('/').map_or(0, |at| at + 1);
        let (name, tag) = match rest[last_slash..].split_once(':') {
            Some((_, tag)) => (&rest[..rest.len() - tag.len() - 1], Some(tag)),
            None => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(invalid());
        }
        if crate::id::is_full_id(name) {
            return Err(invalid().with_hint("64 hex digits are an image id, not a name"));
        }
        let (domain, path) = split_domain(name);
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(Error::invalid(format!(
                "invalid reference format: repository name ({path}) must be lowercase"
            )));
        }
        let name_len = domain.len() + 1 + path.len();
        if !is_domain(&domain) || !path.split('/').all(is_path_component) || name_len > NAME_LEN_MAX {
            return Err(invalid());
        }
        Ok(Self { domain, path, tag: tag.map(str::to_owned), digest })
    }

    /// The registry's host and port, `docker.io` by default.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository within the registry, such as `library/nginx`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag as written.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The tag, or `latest` where neither tag nor digest was written.
    pub fn tag_or_latest(&self) -> Option<&str> {
        match (&self.tag, &self.digest) {
            (Some(tag), _) => Some(tag),
            (None, None) => Some(DEFAULT_TAG),
            (None, Some(_)) => None,
        }
    }

    /// With `latest` filled in where neither tag nor digest was written.
    #[must_use]
    pub fn with_default_tag(&self) -> Self {
        let mut filled = self.clone();
        filled.tag = self.tag_or_latest().map(str::to_owned);
        filled
    }

    /// The same repository under another tag; the digest is dropped.
    pub fn with_tag(&self, tag: &str) -> Result<Self> {
        if !is_tag(tag) {
            return Err(Error::invalid(format!("invalid tag format: {tag:?}")));
        }
        Ok(Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// The same repository by digest; the tag is dropped.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// `domain/path` in full, the key of a repository.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The repository as Docker shows it: `nginx`, `user/app`, `localhost:5000/app`. Where the short form
    /// would be read as something else (`docker.io/reg.lan/app`, 64 hex digits), it stays in full.
    pub fn familiar_repository(&self) -> String {
        let short = match self.path.strip_prefix(OFFICIAL_PREFIX) {
            Some(short) if !short.contains('/') => short,
            _ => &self.path,
        };
        let is_read_back = || {
            let (domain, path) = split_domain(short);
            domain == self.domain && path == self.path && !crate::id::is_full_id(short)
        };
        if self.domain == DEFAULT_DOMAIN && is_read_back() { short.to_owned() } else { self.repository() }
    }

    /// The whole reference as Docker shows it: `nginx:latest`, `app@sha256:…`.
    pub fn familiar(&self) -> String {
        self.suffixed(self.familiar_repository())
    }

    fn suffixed(&self, mut text: String) -> String {
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(&digest.to_string());
        }
        text
    }
}

/// The full form, `docker.io/library/nginx:latest`; [`ImageRef::parse`] reads it back.
impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.suffixed(self.repository()))
    }
}

/// The first component is a domain when it has a dot or a port, is `localhost`, or has an upper-case letter.
fn split_domain(name: &str) -> (String, String) {
    if let Some((first, rest)) = name.split_once('/') {
        let is_host = first.contains(['.', ':'])
            || first == "localhost"
            || first.bytes().any(|b| b.is_ascii_uppercase());
        if is_host {
            let domain = if first == "index.docker.io" { DEFAULT_DOMAIN } else { first };
            let official = domain == DEFAULT_DOMAIN && !rest.contains('/');
            let path = if official { format!("{OFFICIAL_PREFIX}{rest}") } else { rest.to_owned() };
            return (domain.to_owned(), path);
        }
        return (DEFAULT_DOMAIN.to_owned(), name.to_owned());
    }
    (DEFAULT_DOMAIN.to_owned(), format!("{OFFICIAL_PREFIX}{name}"))
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.rfind(':') {
        Some(at) if !domain.ends_with(']') => (&domain[..at], Some(&domain[at + 1..])),
        _ => (domain, None),
    };
    if port.is_some_and(|port| port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit())) {
        return false;
    }
    if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return !inner.is_empty() && inner.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
    }
    host.split('.').all(|label| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    })
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(component: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    if !bytes.first().copied().is_some_and(is_word) || !bytes.last().copied().is_some_and(is_word) {
        return false;
    }
    bytes.split(|b| is_word(*b)).all(|separator| match separator {
        b"" | b"." | b"_" | b"__" => true,
        dashes => dashes.iter().all(|b| *b == b'-'),
    })
}

/// `[\w][\w.-]{0,127}`
fn is_tag(tag: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= TAG_LEN_MAX
        && tag.bytes().next().is_some_and(is_word)
        && tag.bytes().all(|b| is_word(b) || matches!(b, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_and_familiar_forms() {
        for (text, full, familiar) in [
            ("nginx", "docker.io/library/nginx", "nginx"),
            ("nginx:1.25", "docker.io/library/nginx:1.25", "nginx:1.25"),
            ("user/app", "docker.io/user/app", "user/app"),
            ("docker.io/nginx", "docker.io/library/nginx", "nginx"),
            ("index.docker.io/library/nginx", "docker.io/library/nginx", "nginx"),
            ("localhost:5000/a/b:t", "localhost:5000/a/b:t", "localhost:5000/a/b:t"),
            ("ghcr.io/x/y_z__w-1.2", "ghcr.io/x/y_z__w-1.2", "ghcr.io/x/y_z__w-1.2"),
            ("[::1]:5000/a", "[::1]:5000/a", "[::1]:5000/a"),
            ("docker.io/reg.lan/app", "docker.io/reg.lan/app", "docker.io/reg.lan/app"),
        ] {
            let parsed = ImageRef::parse(text).unwrap();
            assert_eq!((parsed.to_string().as_str(), parsed.familiar().as_str()), (full, familiar));
            assert_eq!(ImageRef::parse(full).unwrap(), parsed);
            assert_eq!(ImageRef::parse(familiar).unwrap(), parsed);
        }
        assert_eq!(ImageRef::parse("a").unwrap().with_default_tag().familiar(), "a:latest");
    }

    #[test]
    fn refuses_what_docker_refuses() {
        let id = "ab".repeat(32);
        for bad in [
            "",
            "Nginx",
            "a//b",
            "-a",
            "a:",
            "a:-x",
            "a___b",
            "a@sha256:12",
            "UP/x y",
            &id,
            "http://x",
            "a:b:c",
            ":t",
        ] {
            assert!(ImageRef::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_of_logins() {
        for (address, domain) in [
            ("", "docker.io"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("registry.example:5000", "registry.example:5000"),
            ("http://registry.example/v2/", "registry.example"),
        ] {
            assert_eq!(domain_of_address(address), domain);
        }
    }
}
