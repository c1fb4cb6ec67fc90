//! Columns as Docker prints them: upper-case heads, padded to the widest cell, three spaces between.

const GAP: usize = 3;
/// Docker's tabwriter pads columns to at least this many characters.
const COLUMN_MIN: usize = 10;

pub fn render(heads: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = heads.iter().map(|head| head.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let head_row: Vec<String> = heads.iter().map(|head| (*head).to_owned()).collect();
    for row in std::iter::once(&head_row).chain(rows) {
        for (index, (cell, width)) in row.iter().zip(&widths).enumerate() {
            text.push_str(cell);
            if index + 1 < row.len() {
                let padded = (width + GAP).max(COLUMN_MIN);
                text.extend(std::iter::repeat_n(' ', padded - cell.chars().count()));
            }
        }
        text.push('\n');
    }
    text
}

/// `3 minutes`, `2 weeks`: Docker's `units.HumanDuration`.
pub fn human_duration(secs: i64) -> String {
    let (minutes, hours) = (secs / 60, (secs + 1800) / 3600);
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
        _ => format!("{} years", secs / 3600 / 24 / 365),
    }
}

/// `1.23GB`: Docker's `units.HumanSizeWithPrecision(size, 3)`, powers of 1000.
pub fn human_size(bytes: i64) -> String {
    scaled(bytes as f64, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB"], 3)
}

/// `12.5MiB`: Docker's `units.BytesSize`, powers of 1024.
pub fn binary_size(bytes: u64) -> String {
    scaled(bytes as f64, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB"], 4)
}

/// Go's `%.{digits}g` on the scaled value: that many significant digits, trailing zeros cut.
fn scaled(mut value: f64, base: f64, units: &[&str], digits: usize) -> String {
    let mut unit = 0;
    while value >= base && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    let before_point = if value < 1.0 { 1 } else { value.log10() as usize + 1 };
    let text = format!("{value:.*}", digits.saturating_sub(before_point));
    let trimmed = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{trimmed}{}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let text = render(
            &["A", "LONG HEAD"],
            &[vec!["x".into(), "y".into()], vec!["a-very-long-cell".into(), String::new()]],
        );
        assert_eq!(text, "A                  LONG HEAD\nx                  y\na-very-long-cell   \n");
    }

    #[test]
    fn sizes_and_durations() {
        for (bytes, expect) in [
            (0, "0B"),
            (999, "999B"),
            (2_140_160, "2.14MB"),
            (138_616_320, "139MB"),
            (1_500_000_000, "1.5GB"),
        ] {
            assert_eq!(human_size(bytes), expect);
        }
        assert_eq!(binary_size(64 << 20), "64MiB");
        for (secs, expect) in [
            (0, "Less than a second"),
            (45, "45 seconds"),
            (61, "About a minute"),
            (300, "5 minutes"),
            (3700, "About an hour"),
            (200_000, "2 days"),
        ] {
            assert_eq!(human_duration(secs), expect);
        }
    }
}
