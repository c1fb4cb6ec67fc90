//! Points in time as nanoseconds since the Unix epoch, and RFC 3339 as Docker prints it.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Nanoseconds since 1970-01-01T00:00:00Z. Zero stands for Go's zero time, printed `0001-01-01T00:00:00Z`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    pub const ZERO: Timestamp = Timestamp(0);
    const NANOS_PER_SEC: i64 = 1_000_000_000;

    pub fn from_parts(secs: i64, nanos: u32) -> Self {
        Self(secs.saturating_mul(Self::NANOS_PER_SEC).saturating_add(i64::from(nanos)))
    }

    pub fn secs(self) -> i64 {
        self.0.div_euclid(Self::NANOS_PER_SEC)
    }

    pub fn subsec_nanos(self) -> u32 {
        self.0.rem_euclid(Self::NANOS_PER_SEC) as u32
    }

    /// With exactly nine fraction digits, as `docker logs -t` prints it (`jsonmessage.RFC3339NanoFixed`).
    pub fn rfc3339_fixed(self) -> String {
        let (date, clock) = (civil(self.secs().div_euclid(86_400)), self.secs().rem_euclid(86_400));
        format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:09}Z",
            date.0,
            date.1,
            date.2,
            clock / 3600,
            clock / 60 % 60,
            clock % 60,
            self.subsec_nanos()
        )
    }

    /// Parses RFC 3339 with an optional fraction and a zone (`Z` or `±hh:mm`).
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok().filter(|n| *n >= 0);
        let is = |at: usize, any: &[u8]| bytes.get(at).is_some_and(|b| any.contains(b));
        if !(is(4, b"-") && is(7, b"-") && is(10, b"Tt ") && is(13, b":") && is(16, b":")) {
            return None;
        }
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        let mut rest = text.get(19..)?;
        let mut nanos = 0u32;
        if let Some(fraction) = rest.strip_prefix('.') {
            let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
            if digits == 0 {
                return None;
            }
            let nine: String = fraction[..digits].chars().chain("000000000".chars()).take(9).collect();
            nanos = nine.parse().ok()?;
            rest = &fraction[digits..];
        }
        let zone_secs = match rest.as_bytes() {
            b"Z" | b"z" => 0,
            [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
                let secs = rest[1..3].parse::<i64>().ok()? * 3600 + rest[4..6].parse::<i64>().ok()? * 60;
                if *sign == b'+' { secs } else { -secs }
            }
            _ => return None,
        };
        let secs = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - zone_secs;
        Some(Self::from_parts(secs, nanos))
    }
}

/// RFC 3339 with trailing zeros of the fraction cut, as Go's `RFC3339Nano`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::ZERO {
            return f.write_str("0001-01-01T00:00:00Z");
        }
        let fixed = self.rfc3339_fixed();
        let trimmed = fixed.trim_end_matches('Z').trim_end_matches('0').trim_end_matches('.');
        write!(f, "{trimmed}Z")
    }
}

/// Days since the epoch to (year, month, day), proleptic Gregorian.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_index = (month + 9) % 12;
    let day_of_year = (153 * month_index + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_and_parses() {
        for (nanos, text) in [
            (1, "1970-01-01T00:00:00.000000001Z"),
            (1_732_327_519_120_000_000, "2024-11-23T02:05:19.12Z"),
            (951_782_400_000_000_000, "2000-02-29T00:00:00Z"),
        ] {
            assert_eq!(Timestamp(nanos).to_string(), text);
            assert_eq!(Timestamp::parse_rfc3339(text), Some(Timestamp(nanos)));
        }
        assert_eq!(Timestamp::ZERO.to_string(), "0001-01-01T00:00:00Z");
        assert_eq!(
            Timestamp::parse_rfc3339("2024-11-23T04:05:19+02:00"),
            Timestamp::parse_rfc3339("2024-11-23T02:05:19Z")
        );
        for bad in ["", "2024-11-23", "2024-13-23T02:05:19Z", "2024-11-23T02:05:19", "2024-11-23T02:05:19.Z"]
        {
            assert_eq!(Timestamp::parse_rfc3339(bad), None, "{bad}");
        }
    }
}
