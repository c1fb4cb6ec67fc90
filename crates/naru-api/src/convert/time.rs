//! Durations in words, as `docker ps` prints them (go-units `HumanDuration`).

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

pub fn human(secs: i64) -> String {
    let (minutes, hours) = (secs / MINUTE, (secs + HOUR / 2) / HOUR);
    match secs {
        ..1 => "Less than a second".into(),
        1 => "1 second".into(),
        2..60 => format!("{secs} seconds"),
        _ if minutes == 1 => "About a minute".into(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".into(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", secs / DAY / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        for (secs, expect) in [
            (0, "Less than a second"),
            (9, "9 seconds"),
            (75, "About a minute"),
            (180, "3 minutes"),
            (HOUR, "About an hour"),
            (47 * HOUR, "47 hours"),
            (3 * DAY, "3 days"),
            (21 * DAY, "3 weeks"),
            (100 * DAY, "3 months"),
            (800 * DAY, "2 years"),
        ] {
            assert_eq!(human(secs), expect, "{secs}");
        }
    }
}
