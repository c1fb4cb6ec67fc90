//! One request head: does it have exactly one reading? (RFC 9112, sections 2 to 6; where the RFC lets a server
//! be lenient, this is not.)

use crate::headers::host_of;
use crate::pages::Refusal;

/// Longest head in bytes.
pub(super) const HEAD_LEN_MAX: usize = 64 * 1024;
/// Longest request target in bytes.
const TARGET_LEN_MAX: usize = 16 * 1024;
/// Most header fields.
pub(crate) const FIELDS_MAX: usize = 100;
/// Most digits of a Content-Length.
const LENGTH_DIGITS_MAX: usize = 18;
/// Empty lines that are swallowed before a request line.
const LEADING_EMPTY_MAX: usize = 2;

/// Where the body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    None,
    Length(u64),
    Chunked,
    /// No body, and a wish to speak something else afterwards.
    Upgrade,
}

/// Length of the empty lines at the front.
pub(super) fn leading_empty(bytes: &[u8]) -> usize {
    (0..LEADING_EMPTY_MAX).take_while(|line| bytes[line * 2..].starts_with(b"\r\n")).count() * 2
}

/// The end of the head, searching from `from`; refuses what can never become one.
pub(super) fn find_end(bytes: &[u8], from: usize) -> Result<Option<usize>, Refusal> {
    let start = leading_empty(bytes);
    for at in from.max(start)..bytes.len() {
        if bytes[at] != b'\n' {
            continue;
        }
        if at == 0 || bytes[at - 1] != b'\r' {
            return Err(Refusal::LineEnding);
        }
        if at < start + 3 {
            return Err(Refusal::BadRequestLine);
        }
        if bytes[..at].ends_with(b"\r\n\r") {
            return if at + 1 > HEAD_LEN_MAX { Err(Refusal::HeadTooLarge) } else { Ok(Some(at + 1)) };
        }
    }
    if bytes.len() > HEAD_LEN_MAX { Err(Refusal::HeadTooLarge) } else { Ok(None) }
}

/// `head` ends with an empty line.
pub(super) fn check(head: &[u8]) -> Result<Framing, Refusal> {
    let text = head[leading_empty(head)..].strip_suffix(b"\r\n\r\n").ok_or(Refusal::LineEnding)?;
    let mut lines = split_lines(text);
    let line = RequestLine::parse(lines.next().unwrap_or_default())?;
    let mut fields = Fields::default();
    for (count, line) in lines.enumerate() {
        if count >= FIELDS_MAX {
            return Err(Refusal::HeadTooLarge);
        }
        fields.take(line)?;
    }
    let host = fields.host.ok_or(Refusal::Host)?;
    if line.authority.is_some_and(|authority| !authority.eq_ignore_ascii_case(host)) {
        return Err(Refusal::HostMismatch);
    }
    fields.framing(line.is_1_0)
}

fn split_lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let bytes = rest?;
        match bytes.windows(2).position(|pair| pair == b"\r\n") {
            Some(end) => {
                rest = Some(&bytes[end + 2..]);
                Some(&bytes[..end])
            }
            None => rest.take(),
        }
    })
}

struct RequestLine<'a> {
    /// Of the absolute form only.
    authority: Option<&'a str>,
    is_1_0: bool,
}

impl<'a> RequestLine<'a> {
    fn parse(line: &'a [u8]) -> Result<Self, Refusal> {
        let text = std::str::from_utf8(line).map_err(|_| Refusal::BadRequestLine)?;
        let mut words = text.split(' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(Refusal::BadRequestLine);
        };
        if method.is_empty() || !method.bytes().all(is_token) {
            return Err(Refusal::BadRequestLine);
        }
        if matches!(method, "CONNECT" | "TRACE") {
            return Err(Refusal::Method);
        }
        if target.len() > TARGET_LEN_MAX {
            return Err(Refusal::TargetTooLong);
        }
        let is_1_0 = match version {
            "HTTP/1.1" => false,
            "HTTP/1.0" => true,
            _ => return Err(Refusal::BadRequestLine),
        };
        // `#` never travels, and `*` (for OPTIONS) names no service.
        if target.is_empty() || !target.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
            return Err(Refusal::BadRequestLine);
        }
        Ok(Self { authority: authority_of(target)?, is_1_0 })
    }
}

fn authority_of(target: &str) -> Result<Option<&str>, Refusal> {
    if target.starts_with('/') {
        return Ok(None);
    }
    let rest = ["http://", "https://"].iter().find_map(|scheme| target.strip_prefix(scheme));
    let rest = rest.ok_or(Refusal::BadRequestLine)?;
    Ok(Some(rest.split(['/', '?']).next().unwrap_or_default()))
}

/// The fields that decide where a request goes and where it ends.
#[derive(Default)]
struct Fields<'a> {
    host: Option<&'a str>,
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
    connection_upgrade: bool,
}

impl<'a> Fields<'a> {
    fn take(&mut self, line: &'a [u8]) -> Result<(), Refusal> {
        if line.first().is_some_and(|first| matches!(first, b' ' | b'\t')) {
            return Err(Refusal::ObsoleteFolding);
        }
        let colon = line.iter().position(|byte| *byte == b':').ok_or(Refusal::BadHeader)?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if name.is_empty() || !name.iter().all(|b| is_token(*b)) || !value.iter().all(|b| is_value(*b)) {
            return Err(Refusal::BadHeader);
        }
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is("host") {
            let host = plain(value).filter(|host| host_of(host).is_some()).ok_or(Refusal::Host)?;
            if self.host.replace(host).is_some() {
                return Err(Refusal::Host);
            }
        } else if is("content-length") {
            let length = plain(value).and_then(parse_length).ok_or(Refusal::ContentLength)?;
            if self.length.replace(length).is_some() {
                return Err(Refusal::ContentLength);
            }
        } else if is("transfer-encoding") {
            let chunked = plain(value).is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
            if !chunked || std::mem::replace(&mut self.chunked, true) {
                return Err(Refusal::TransferEncoding);
            }
        } else if is("upgrade") {
            self.upgrade = true;
        } else if is("connection") {
            let text = String::from_utf8_lossy(value);
            self.connection_upgrade |=
                text.split(',').any(|token| token.trim().eq_ignore_ascii_case("upgrade"));
        }
        Ok(())
    }

    fn framing(&self, is_1_0: bool) -> Result<Framing, Refusal> {
        match (self.chunked, self.length) {
            (true, Some(_)) => Err(Refusal::BothFramings),
            (true, None) if is_1_0 => Err(Refusal::TransferEncoding),
            (true, None) => Ok(Framing::Chunked),
            (false, Some(length)) if length > 0 => Ok(Framing::Length(length)),
            (false, _) if self.upgrade && self.connection_upgrade && !is_1_0 => Ok(Framing::Upgrade),
            (false, _) => Ok(Framing::None),
        }
    }
}

/// The value without its outer spaces (not tabs: parsers disagree about them), if it is ASCII.
fn plain(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value).ok().map(|text| text.trim_matches(' ')).filter(|text| text.is_ascii())
}

fn parse_length(text: &str) -> Option<u64> {
    let sound = (1..=LENGTH_DIGITS_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if sound { text.parse().ok() } else { None }
}

/// RFC 9110, section 5.6.2, `tchar`.
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// RFC 9110, section 5.5: visible characters, space, tab and what is beyond ASCII.
pub(super) fn is_value(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(head: &str) -> Result<Framing, Refusal> {
        let end = find_end(head.as_bytes(), 0)?.expect("the head is complete");
        check(&head.as_bytes()[..end])
    }

    #[test]
    fn one_reading_or_none() {
        let h = "Host: a.test\r\n";
        for (head, expect) in [
            (format!("GET / HTTP/1.1\r\n{h}\r\n"), Ok(Framing::None)),
            (format!("\r\nGET / HTTP/1.1\r\n{h}\r\n"), Ok(Framing::None)),
            (format!("POST / HTTP/1.1\r\n{h}Content-Length: 5\r\n\r\n"), Ok(Framing::Length(5))),
            (format!("POST / HTTP/1.1\r\n{h}Transfer-Encoding: Chunked\r\n\r\n"), Ok(Framing::Chunked)),
            (format!("GET http://A.test/ HTTP/1.1\r\n{h}\r\n"), Ok(Framing::None)),
            (
                format!("GET / HTTP/1.1\r\n{h}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
                Ok(Framing::Upgrade),
            ),
            ("GET / HTTP/1.1\r\nAccept: */*\r\n\r\n".into(), Err(Refusal::Host)),
            (format!("GET / HTTP/1.1\r\n{h}{h}\r\n"), Err(Refusal::Host)),
            ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n".into(), Err(Refusal::Host)),
            ("GET / HTTP/1.1\r\nHost:\r\n\r\n".into(), Err(Refusal::Host)),
            (format!("GET http://b.test/ HTTP/1.1\r\n{h}\r\n"), Err(Refusal::HostMismatch)),
            (
                format!("POST / HTTP/1.1\r\n{h}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"),
                Err(Refusal::BothFramings),
            ),
            (
                format!("POST / HTTP/1.1\r\n{h}Content-Length: 5\r\nContent-Length: 5\r\n\r\n"),
                Err(Refusal::ContentLength),
            ),
            (format!("POST / HTTP/1.1\r\n{h}Content-Length: 5, 5\r\n\r\n"), Err(Refusal::ContentLength)),
            (format!("POST / HTTP/1.1\r\n{h}Content-Length: +5\r\n\r\n"), Err(Refusal::ContentLength)),
            (format!("POST / HTTP/1.1\r\n{h}Content-Length: 0x5\r\n\r\n"), Err(Refusal::ContentLength)),
            (
                format!("POST / HTTP/1.1\r\n{h}Transfer-Encoding: gzip, chunked\r\n\r\n"),
                Err(Refusal::TransferEncoding),
            ),
            (
                format!("POST / HTTP/1.1\r\n{h}Transfer-Encoding:\tchunked\r\n\r\n"),
                Err(Refusal::TransferEncoding),
            ),
            (
                format!("POST / HTTP/1.1\r\n{h}Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n"),
                Err(Refusal::TransferEncoding),
            ),
            (
                format!("POST / HTTP/1.0\r\n{h}Transfer-Encoding: chunked\r\n\r\n"),
                Err(Refusal::TransferEncoding),
            ),
            (format!("POST / HTTP/1.1\r\n{h}Transfer-Encoding : chunked\r\n\r\n"), Err(Refusal::BadHeader)),
            (format!("GET / HTTP/1.1\r\n{h}X: a\r\n b\r\n\r\n"), Err(Refusal::ObsoleteFolding)),
            (format!("GET / HTTP/1.1\r\n{h}X: a\0b\r\n\r\n"), Err(Refusal::BadHeader)),
            (format!("GET / HTTP/1.1\r\n{h}X: a\rb\r\n\r\n"), Err(Refusal::BadHeader)),
            (format!("GET / HTTP/1.1\r\n{h}X: a\nY: b\r\n\r\n"), Err(Refusal::LineEnding)),
            (format!("GET / HTTP/1.1\n{h}\r\n"), Err(Refusal::LineEnding)),
            (format!("GET / HTTP/2.0\r\n{h}\r\n"), Err(Refusal::BadRequestLine)),
            (format!("GET  / HTTP/1.1\r\n{h}\r\n"), Err(Refusal::BadRequestLine)),
            (format!("GET * HTTP/1.1\r\n{h}\r\n"), Err(Refusal::BadRequestLine)),
            (format!("CONNECT a:1 HTTP/1.1\r\n{h}\r\n"), Err(Refusal::Method)),
            (format!("GET /{} HTTP/1.1\r\n{h}\r\n", "x".repeat(TARGET_LEN_MAX)), Err(Refusal::TargetTooLong)),
            (
                format!("GET / HTTP/1.1\r\n{h}{}\r\n", "x: y\r\n".repeat(FIELDS_MAX)),
                Err(Refusal::HeadTooLarge),
            ),
            (
                format!("GET / HTTP/1.1\r\n{h}x: {}\r\n\r\n", "y".repeat(HEAD_LEN_MAX)),
                Err(Refusal::HeadTooLarge),
            ),
        ] {
            assert_eq!(verdict(&head), expect, "{:?}", head.get(..120).unwrap_or(&head));
        }
    }
}
