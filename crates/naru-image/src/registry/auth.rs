//! Getting past a registry's door: basic authentication (RFC 7617) and bearer tokens (Docker's token
//! authentication: `WWW-Authenticate: Bearer realm=…,service=…,scope=…`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fmt;

/// A text that is never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// For who sends it on; nothing prints it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("****")
    }
}

/// What the caller knows about the user, from Docker's `X-Registry-Auth`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Credentials {
    #[default]
    Anonymous,
    Password {
        username: String,
        password: Secret,
    },
    /// An OAuth2 refresh token.
    IdentityToken(Secret),
    /// A bearer token that is sent as it is.
    RegistryToken(Secret),
}

impl Credentials {
    /// The value of an `Authorization` header, where a password is known.
    pub(crate) fn basic(&self) -> Option<String> {
        match self {
            Credentials::Password { username, password } => {
                Some(format!("Basic {}", STANDARD.encode(format!("{username}:{}", password.reveal()))))
            }
            Credentials::Anonymous | Credentials::IdentityToken(_) | Credentials::RegistryToken(_) => None,
        }
    }
}

/// What a 401 asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

/// The first challenge of the header that is understood.
pub(crate) fn parse_challenge(header: &str) -> Option<Challenge> {
    let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let parameters = parse_parameters(rest);
    let word = |name: &str| parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    Some(Challenge::Bearer { realm: word("realm")?, service: word("service"), scope: word("scope") })
}

/// `key="value",key=value`; a quoted value may hold commas (scopes do).
fn parse_parameters(mut text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    while let Some((key, rest)) = text.split_once('=') {
        let (value, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => rest.split_once(',').unwrap_or((rest, "")),
        };
        found.push((key.trim_matches([',', ' ']).to_ascii_lowercase(), value.trim().to_owned()));
        text = after;
    }
    found
}

/// Percent-encodes a query value (RFC 3986, unreserved characters stay).
pub(crate) fn query_value(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(byte as char);
        } else {
            out.push('%');
            out.push_str(&byte_hex(byte));
        }
    }
    out
}

fn byte_hex(byte: u8) -> String {
    format!("{byte:02X}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges() {
        let header = r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull,push""#;
        assert_eq!(
            parse_challenge(header),
            Some(Challenge::Bearer {
                realm: "https://auth.example/token".into(),
                service: Some("registry.example".into()),
                scope: Some("repository:a/b:pull,push".into()),
            })
        );
        assert_eq!(parse_challenge("Basic realm=\"x\""), Some(Challenge::Basic));
        assert_eq!(parse_challenge("Negotiate"), None);
        assert_eq!(query_value("a b:c/d"), "a%20b%3Ac%2Fd");
    }

    #[test]
    fn secrets_are_not_printed() {
        let credentials = Credentials::Password { username: "u".into(), password: Secret::new("hunter2") };
        assert!(!format!("{credentials:?}").contains("hunter2"));
    }
}
