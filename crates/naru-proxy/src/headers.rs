//! Headers that belong to one hop, and headers that say where a request came from.

use hyper::HeaderMap;
use hyper::header::{self, Entry, HeaderName, HeaderValue};
use std::net::IpAddr;

/// RFC 9110, section 7.6.1, and the two that older clients send. `trailer` goes too, as trailers do.
const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];
/// Where-from headers that only a proxy may set; what a client sends under these names is dropped.
const ORIGIN: [&str; 8] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-forwarded-server",
    "x-forwarded-ssl",
    "x-real-ip",
];
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Removes them, and every header that `Connection` names, except `Host`-like ones that a hostile client might
/// name in order to hide them from the backend.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = connection_tokens(headers)
        .filter_map(|token| token.parse().ok())
        .filter(|name| !KEPT.contains(name))
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

const KEPT: [HeaderName; 5] =
    [header::HOST, header::CONTENT_LENGTH, header::AUTHORIZATION, header::COOKIE, header::CONTENT_TYPE];

fn connection_tokens(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(str::trim)
}

/// The protocol that the client wants to change to, if it asks in the right form. `h2c` is never offered on:
/// a backend that accepts it would serve requests that no proxy sees.
pub(crate) fn wanted_upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let asks = connection_tokens(headers).any(|token| token.eq_ignore_ascii_case("upgrade"));
    let mut values = headers.get_all(header::UPGRADE).iter();
    let (value, more) = (values.next()?, values.next());
    let plain = value.to_str().ok()?;
    let hidden = plain.split(',').any(|token| token.trim().to_ascii_lowercase().starts_with("h2c"));
    (asks && more.is_none() && !hidden).then(|| value.clone())
}

/// What the backend is told about the client. Underscore spellings go too: CGI-like servers cannot tell
/// `X_Forwarded_For` from the real one.
pub(crate) fn set_origin(headers: &mut HeaderMap, client: IpAddr, proto: &'static str, host: &HeaderValue) {
    let claimed: Vec<HeaderName> = headers
        .keys()
        .filter(|name| ORIGIN.iter().any(|known| same_but_for_underscores(name.as_str(), known)))
        .cloned()
        .collect();
    for name in claimed {
        headers.remove(name);
    }
    if let Ok(client) = HeaderValue::try_from(client.to_canonical().to_string()) {
        headers.insert(FORWARDED_FOR, client);
    }
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static(proto));
    headers.insert(FORWARDED_HOST, host.clone());
    headers.insert(header::HOST, host.clone());
}

fn same_but_for_underscores(name: &str, known: &str) -> bool {
    name.len() == known.len()
        && name.bytes().zip(known.bytes()).all(|(a, b)| a == b || (a == b'_' && b == b'-'))
}

/// HTTP/2 clients may split a cookie; HTTP/1.1 wants one line (RFC 9113, section 8.2.3).
pub(crate) fn join_cookies(headers: &mut HeaderMap) {
    let Entry::Occupied(entry) = headers.entry(header::COOKIE) else { return };
    if entry.iter().nth(1).is_none() {
        return;
    }
    let joined = entry.iter().map(HeaderValue::as_bytes).collect::<Vec<_>>().join(&b"; "[..]);
    // Parts that were valid values are a valid value when joined with a semicolon and a space.
    if let Ok(joined) = HeaderValue::from_bytes(&joined) {
        headers.insert(header::COOKIE, joined);
    }
}

/// `host[:port]` as `Host` and `:authority` carry it → the host in lower case without a trailing dot.
pub(crate) fn host_of(authority: &str) -> Option<String> {
    let (host, port) = authority.rsplit_once(':').unwrap_or((authority, ""));
    let sound_port = port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
    let sound_host = !host.is_empty()
        && host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'[' | b']' | b':'));
    (sound_port && sound_host).then(|| host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(n, v)| (n.parse::<HeaderName>().unwrap(), HeaderValue::from_str(v).unwrap()))
            .collect()
    }

    #[test]
    fn hop_by_hop_goes() {
        let mut headers = map(&[
            ("connection", "close, x-secret, host"),
            ("x-secret", "1"),
            ("te", "trailers"),
            ("host", "a"),
            ("accept", "*/*"),
        ]);
        strip_hop_by_hop(&mut headers);
        let left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["host", "accept"]);
    }

    #[test]
    fn origin_is_ours() {
        let mut headers = map(&[
            ("x-forwarded-for", "6.6.6.6"),
            ("x_forwarded_for", "6.6.6.6"),
            ("forwarded", "for=6.6.6.6"),
            ("x-real-ip", "6"),
        ]);
        set_origin(
            &mut headers,
            "::ffff:1.2.3.4".parse().unwrap(),
            "https",
            &HeaderValue::from_static("a.test"),
        );
        let mut left: Vec<_> = headers.iter().map(|(n, v)| format!("{n}={}", v.to_str().unwrap())).collect();
        left.sort();
        assert_eq!(
            left,
            ["host=a.test", "x-forwarded-for=1.2.3.4", "x-forwarded-host=a.test", "x-forwarded-proto=https"]
        );
    }

    #[test]
    fn hosts() {
        for (text, expect) in [
            ("A.test", Some("a.test")),
            ("a.test:8443", Some("a.test")),
            ("a.test.", Some("a.test")),
            ("", None),
            (":80", None),
            ("a.test:http", None),
            ("u@a.test", None),
            ("a b", None),
            ("a/b", None),
        ] {
            assert_eq!(host_of(text).as_deref(), expect, "{text:?}");
        }
    }

    #[test]
    fn upgrades() {
        assert!(
            wanted_upgrade(&map(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]))
                .is_some()
        );
        for refused in [
            map(&[("upgrade", "websocket")]),
            map(&[("connection", "upgrade")]),
            map(&[("connection", "Upgrade, HTTP2-Settings"), ("upgrade", "h2c")]),
            map(&[("connection", "upgrade"), ("upgrade", "a"), ("upgrade", "b")]),
        ] {
            assert!(wanted_upgrade(&refused).is_none(), "{refused:?}");
        }
    }
}
