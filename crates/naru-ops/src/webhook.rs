//! The address of a Discord webhook. Whoever knows it can write to the channel, so it is a secret.

use naru_types::{Error, Result};
use std::fmt;
use std::net::IpAddr;
use ureq::http::Uri;

/// Longest accepted address in bytes.
const URL_LEN_MAX: usize = 2048;

/// `Debug` and `Display` print `****`; it cannot be serialised. [`WebhookUrl::reveal`] is the only way to the text.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookUrl(String);

impl WebhookUrl {
    /// `https://` to anywhere; `http://` to this machine only, because the address itself is the password.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        let refuse = |why: &str| {
            Error::invalid(format!("invalid webhook address: {why}"))
                .with_hint("copy it from Discord: channel settings, Integrations, Webhooks, Copy Webhook URL")
        };
        if text.len() > URL_LEN_MAX {
            return Err(refuse("it is longer than 2048 bytes"));
        }
        let uri: Uri = text.parse().map_err(|_| refuse("it is not a URL"))?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| refuse("it has no host"))?;
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(refuse("user and password before the host are not supported"));
        }
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") if is_loopback(host) => {}
            Some("http") => {
                return Err(refuse("http:// is allowed to loopback addresses only; use https://"));
            }
            _ => return Err(refuse("it must start with https://")),
        }
        Ok(Self(text.to_owned()))
    }

    /// For the sender and the settings table, nobody else.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    pub(crate) fn is_loopback(&self) -> bool {
        self.0.parse::<Uri>().is_ok_and(|uri| uri.host().is_some_and(is_loopback))
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookUrl(****)")
    }
}

impl fmt::Display for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("****")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_and_refuses() {
        for (text, accepted) in [
            ("https://discord.com/api/webhooks/1/abc", true),
            ("http://127.0.0.1:9/x", true),
            ("http://[::1]:9/x", true),
            ("http://localhost/x", true),
            ("http://10.0.0.1/x", false),
            ("http://127.0.0.1.evil.test/x", false),
            ("http://localhost@evil.test/x", false),
            ("https://user:pw@discord.com/x", false),
            ("ftp://127.0.0.1/", false),
            ("/relative", false),
            ("", false),
        ] {
            assert_eq!(WebhookUrl::parse(text).is_ok(), accepted, "{text}");
        }
    }

    #[test]
    fn never_shown() {
        let url = WebhookUrl::parse("https://discord.com/api/webhooks/1/topsecret").unwrap();
        assert!(!format!("{url:?} {url}").contains("topsecret"));
        let error = WebhookUrl::parse("http://evil.test/topsecret").unwrap_err();
        assert!(!error.to_string().contains("topsecret"));
    }
}
