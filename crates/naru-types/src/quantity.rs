//! Human quantities: bytes (`64m`), durations (`1m30s`).

/// Parses a size as Docker's `units.RAMInBytes`: a decimal number, an optional binary suffix
/// (`b k m g t p`, any case, with an optional `b` or `ib`). Returns bytes.
pub fn parse_bytes(text: &str) -> Option<i64> {
    let text = text.trim();
    let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let number: f64 = number.parse().ok()?;
    let suffix = suffix.trim().to_ascii_lowercase();
    let unit = suffix.strip_suffix("ib").or_else(|| suffix.strip_suffix('b')).unwrap_or(&suffix);
    let shift = match unit {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return None,
    };
    let bytes = number * (1u64 << shift) as f64;
    (0.0..9.2e18).contains(&bytes).then_some(bytes as i64)
}

/// Parses a duration as Go's `time.ParseDuration` without a sign (`300ms`, `1m30s`, `1.5h`), or `0`. Returns nanoseconds.
pub fn parse_duration(text: &str) -> Option<i64> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut total = 0f64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let split = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let number: f64 = rest[..split].parse().ok()?;
        rest = &rest[split..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        rest = &rest[end..];
        total += number * unit;
    }
    (total < 9.2e18).then_some(total as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes() {
        for (text, expect) in [
            ("0", Some(0)),
            ("64m", Some(64 << 20)),
            ("64MiB", Some(64 << 20)),
            ("1.5g", Some(3 << 29)),
            ("12 kb", Some(12 << 10)),
            ("32b", Some(32)),
            ("-1", None),
            ("x", None),
            ("1z", None),
            ("", None),
        ] {
            assert_eq!(parse_bytes(text), expect, "{text}");
        }
    }

    #[test]
    fn durations() {
        for (text, expect) in [
            ("0", Some(0)),
            ("1m30s", Some(90_000_000_000)),
            ("300ms", Some(300_000_000)),
            ("1.5h", Some(5_400_000_000_000)),
            ("10", None),
            ("s", None),
            ("", None),
        ] {
            assert_eq!(parse_duration(text), expect, "{text}");
        }
    }
}
