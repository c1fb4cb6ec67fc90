//! `Range` of a download (RFC 9110, section 14.2) and `Content-Range` of a chunk, which the specification
//! writes without a unit ("Pushing a blob in chunks").

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Whole,
    /// First byte and length.
    Part(u64, u64),
    Unsatisfiable,
}

/// Several ranges, other units and nonsense are answered with the whole, as RFC 9110 allows.
pub(crate) fn of_download(header: Option<&str>, size: u64) -> Asked {
    let Some((first, last)) = header
        .and_then(|text| text.trim().strip_prefix("bytes="))
        .filter(|text| !text.contains(','))
        .and_then(|text| text.split_once('-'))
    else {
        return Asked::Whole;
    };
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first > last => Asked::Whole,
        (Some(first), _) if first >= size && is_end(last) => Asked::Unsatisfiable,
        (Some(first), Some(last)) => Asked::Part(first, last.min(size - 1) - first + 1),
        (Some(first), None) if last.trim().is_empty() => Asked::Part(first, size - first),
        (None, Some(0)) if first.trim().is_empty() => Asked::Unsatisfiable,
        (None, Some(_)) if first.trim().is_empty() && size == 0 => Asked::Unsatisfiable,
        (None, Some(count)) if first.trim().is_empty() => {
            let count = count.min(size);
            Asked::Part(size - count, count)
        }
        _ => Asked::Whole,
    }
}

fn is_end(text: &str) -> bool {
    text.trim().is_empty() || number(text).is_some()
}

/// First and last byte of a chunk.
pub(crate) fn of_chunk(header: &str) -> Option<(u64, u64)> {
    let text = header.trim();
    let (first, last) = text.strip_prefix("bytes ").unwrap_or(text).split_once('-')?;
    // Some clients add the unit and the total, as RFC 9110 has it: `bytes 0-9/*`.
    let last = last.split('/').next()?;
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

/// Digits only: `parse` alone would take a sign.
fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn downloads() {
        for (header, size, expected) in [
            ("bytes=0-0", 10, Asked::Part(0, 1)),
            ("bytes=2-5", 10, Asked::Part(2, 4)),
            ("bytes=2-500", 10, Asked::Part(2, 8)),
            ("bytes=9-", 10, Asked::Part(9, 1)),
            ("bytes=-3", 10, Asked::Part(7, 3)),
            ("bytes=-30", 10, Asked::Part(0, 10)),
            ("bytes=10-", 10, Asked::Unsatisfiable),
            ("bytes=0-0", 0, Asked::Unsatisfiable),
            ("bytes=-1", 0, Asked::Unsatisfiable),
            ("bytes=-0", 10, Asked::Unsatisfiable),
            ("bytes=5-2", 10, Asked::Whole),
            ("bytes=0-1,3-4", 10, Asked::Whole),
            ("bytes=-", 10, Asked::Whole),
            ("bytes=+1-2", 10, Asked::Whole),
            ("lines=1-2", 10, Asked::Whole),
            ("bytes=18446744073709551615-", 10, Asked::Unsatisfiable),
            ("bytes=0-99999999999999999999", 10, Asked::Whole),
        ] {
            assert_eq!(of_download(Some(header), size), expected, "{header} of {size}");
        }
    }

    #[test]
    fn chunks() {
        assert_eq!(of_chunk("0-9"), Some((0, 9)));
        assert_eq!(of_chunk("bytes 3-9/*"), Some((3, 9)));
        for bad in ["", "9-0", "a-b", "-1", "1-", "+1-2"] {
            assert_eq!(of_chunk(bad), None, "{bad}");
        }
    }
}
