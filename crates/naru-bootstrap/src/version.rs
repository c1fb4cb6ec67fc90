//! Debian's order of versions (deb-version(7)).

use std::cmp::Ordering;

/// Compares two versions as dpkg does: epoch, then upstream version, then revision.
pub fn compare(one: &str, other: &str) -> Ordering {
    let (one, other) = (split(one), split(other));
    one.0.cmp(&other.0).then_with(|| part(one.1, other.1)).then_with(|| part(one.2, other.2))
}

fn split(version: &str) -> (u64, &str, &str) {
    let (epoch, rest) = match version.split_once(':') {
        Some((epoch, rest)) => (epoch.parse().unwrap_or(0), rest),
        None => (0, version),
    };
    let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
    (epoch, upstream, revision)
}

/// Text and numbers alternate; in the text `~` comes before everything, even the end, and letters before the rest.
fn part(one: &str, other: &str) -> Ordering {
    let (mut one, mut other) = (one.as_bytes(), other.as_bytes());
    while !one.is_empty() || !other.is_empty() {
        let text = |bytes: &[u8]| bytes.iter().take_while(|byte| !byte.is_ascii_digit()).count();
        let (a, b) = (text(one), text(other));
        for at in 0..a.max(b) {
            let rank = |bytes: &[u8], length: usize| if at < length { rank(bytes[at]) } else { 0 };
            match rank(one, a).cmp(&rank(other, b)) {
                Ordering::Equal => {}
                different => return different,
            }
        }
        (one, other) = (&one[a..], &other[b..]);
        let digits = |bytes: &[u8]| bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (a, b) = (digits(one), digits(other));
        let trim = |bytes: &[u8]| {
            let zeros = bytes.iter().take_while(|byte| **byte == b'0').count();
            bytes[zeros..].to_vec()
        };
        let (x, y) = (trim(&one[..a]), trim(&other[..b]));
        match x.len().cmp(&y.len()).then_with(|| x.cmp(&y)) {
            Ordering::Equal => {}
            different => return different,
        }
        (one, other) = (&one[a..], &other[b..]);
    }
    Ordering::Equal
}

fn rank(byte: u8) -> i32 {
    match byte {
        b'~' => -1,
        byte if byte.is_ascii_alphabetic() => i32::from(byte),
        byte => i32::from(byte) + 256,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_dpkg_orders_them() {
        let rising = [
            "1.0~~",
            "1.0~~a",
            "1.0~rc1-1",
            "1.0",
            "1.0-1~bpo1",
            "1.0-1",
            "1.0-1+b1",
            "1.0-1.1",
            "1.0a",
            "1.0+dfsg",
            "1.0.1",
            "1.2",
            "1.10",
            "2.0",
            "1:0.1",
            "2:0",
        ];
        for pair in rising.windows(2) {
            assert_eq!(compare(pair[0], pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(compare(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
        }
        assert_eq!(compare("0:1.00-1", "1.0-01"), Ordering::Equal);
        assert_eq!(compare("1.0", "1.0-0"), Ordering::Equal);
    }
}
