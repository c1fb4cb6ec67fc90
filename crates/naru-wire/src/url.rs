//! Percent-encoding and query strings (RFC 3986; `+` for a space in queries, as HTML forms and Go have it).

/// Encodes everything but RFC 3986's unreserved characters.
pub fn encode(text: &str) -> String {
    encode_except(text, "")
}

/// As [`encode`], but slashes and colons stay, for image names within a path.
pub fn encode_path(text: &str) -> String {
    encode_except(text, "/:@")
}

/// RFC 3986 §2.1 wants capitals.
const DIGITS: &[u8; 16] = b"0123456789ABCDEF";

fn encode_except(text: &str, keep: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        let plain =
            byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || keep.as_bytes().contains(&byte);
        if plain {
            encoded.push(char::from(byte));
        } else {
            let digit = |value: u8| char::from(DIGITS[usize::from(value)]);
            encoded.extend(['%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
    encoded
}

/// Decodes `%XX`; what is no valid escape stays, and what is no UTF-8 is replaced.
pub fn decode(text: &str) -> String {
    decode_bytes(text.as_bytes(), false)
}

fn decode_bytes(bytes: &[u8], plus_is_space: bool) -> String {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = (bytes[at] == b'%').then(|| bytes.get(at + 1..at + 3)).flatten().and_then(hex_byte);
        match (bytes[at], escape) {
            (_, Some(byte)) => {
                decoded.push(byte);
                at += 3;
                continue;
            }
            (b'+', None) if plus_is_space => decoded.push(b' '),
            (byte, None) => decoded.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let [high, low] = digits else { return None };
    u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()
}

/// The parameters of a request, in order; a name may come more than once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Parses `a=b&c`, without the question mark.
    pub fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode_bytes(name.as_bytes(), true), decode_bytes(value.as_bytes(), true))
        });
        Self(pairs.collect())
    }

    /// Adds a parameter, for building one.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        self.0.push((name.to_owned(), value.to_string()));
        self
    }

    /// The first value of that name.
    pub fn first(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The first value, or the empty string.
    pub fn text(&self, name: &str) -> &str {
        self.first(name).unwrap_or("")
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// moby's `httputils.BoolValue`: empty, `0`, `no`, `false` and `none` are false, all else is true.
    pub fn flag(&self, name: &str) -> bool {
        let value = self.text(name).trim().to_ascii_lowercase();
        !matches!(value.as_str(), "" | "0" | "no" | "false" | "none")
    }

    /// As [`Query::flag`], with a default for a parameter that is not there.
    pub fn flag_or(&self, name: &str, default: bool) -> bool {
        if self.first(name).is_some() { self.flag(name) } else { default }
    }
}

/// `a=b&c=d`, ready to stand behind a question mark.
impl std::fmt::Display for Query {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, (name, value)) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "&" };
            write!(f, "{separator}{}={}", encode(name), encode(value))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let query = Query::parse("fromImage=docker.io%2Flibrary%2Fa+b&tag=latest&x&t=1&t=2%");
        assert_eq!(query.text("fromImage"), "docker.io/library/a b");
        assert_eq!(query.all("t").collect::<Vec<_>>(), ["1", "2%"]);
        assert_eq!(query.first("x"), Some(""));
        assert_eq!(query.first("y"), None);
        assert_eq!(Query::default().with("filters", r#"{"a":1}"#).to_string(), "filters=%7B%22a%22%3A1%7D");
    }

    #[test]
    fn flags_as_moby_reads_them() {
        for (text, expect) in [
            ("1", true),
            ("true", true),
            ("yes", true),
            ("0", false),
            ("False", false),
            ("", false),
            ("none", false),
        ] {
            assert_eq!(Query::default().with("f", text).flag("f"), expect, "{text}");
        }
        assert!(Query::default().flag_or("f", true));
    }

    #[test]
    fn paths() {
        assert_eq!(encode_path("127.0.0.1:5000/x y"), "127.0.0.1:5000/x%20y");
        assert_eq!(decode("a%2Fb+c%zz"), "a/b+c%zz");
    }
}
