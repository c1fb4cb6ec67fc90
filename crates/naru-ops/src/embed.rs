//! A Discord embed within Discord's limits, made of text that nobody vouches for.
//!
//! The limits are those of Discord's "Embed Limits" (resources/message). Lengths are counted in UTF-16 units,
//! the larger of the two ways in which a receiver may count.

use naru_types::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub(crate) const TITLE_LEN_MAX: usize = 256;
pub(crate) const DESCRIPTION_LEN_MAX: usize = 4096;
pub(crate) const FIELDS_MAX: usize = 25;
pub(crate) const FIELD_NAME_LEN_MAX: usize = 256;
pub(crate) const FIELD_VALUE_LEN_MAX: usize = 1024;
/// Title, description, fields and footer together.
pub(crate) const TOTAL_LEN_MAX: usize = 6000;
/// Longest log line that is quoted.
const LOG_LINE_LEN_MAX: usize = 300;
/// Kept free for the footer, which is added when the message is sent.
const FOOTER_LEN_MAX: usize = 200;
const FENCE: &str = "```";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colour {
    Red,
    Orange,
    Green,
    Blue,
}

impl Colour {
    fn rgb(self) -> u32 {
        match self {
            Self::Red => 0x00d7_3a49,
            Self::Orange => 0x00e3_6209,
            Self::Green => 0x0028_a745,
            Self::Blue => 0x0003_66d6,
        }
    }
}

/// As it waits in the outbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Embed {
    pub title: String,
    pub description: String,
    pub fields: Vec<(String, String)>,
    pub colour: u32,
    pub at: Timestamp,
}

impl Embed {
    /// `fields` with an empty value are left out, because Discord refuses them.
    pub fn new(title: &str, colour: Colour, at: Timestamp, fields: &[(&str, &str)], log: &[String]) -> Self {
        let title = cut(&plain(title), TITLE_LEN_MAX);
        let mut room = TOTAL_LEN_MAX - FOOTER_LEN_MAX - length(&title);
        let mut kept = Vec::new();
        for (name, value) in fields.iter().filter(|(_, value)| !value.trim().is_empty()).take(FIELDS_MAX) {
            let (name, value) = (cut(name, FIELD_NAME_LEN_MAX), cut(&plain(value), FIELD_VALUE_LEN_MAX));
            let cost = length(&name) + length(&value);
            if cost > room {
                break;
            }
            room -= cost;
            kept.push((name, value));
        }
        let description = quote(log, room.min(DESCRIPTION_LEN_MAX));
        Self { title, description, fields: kept, colour: colour.rgb(), at }
    }

    /// The whole message. Nobody is ever mentioned, whatever the text says.
    pub fn message(&self, footer: &str) -> Value {
        let fields: Vec<_> = self
            .fields
            .iter()
            .map(|(name, value)| json!({"name": name, "value": value, "inline": length(value) <= 40}))
            .collect();
        let mut embed = json!({
            "title": self.title,
            "color": self.colour,
            "timestamp": self.at.to_string(),
            "fields": fields,
            "footer": {"text": cut(&plain(footer), FOOTER_LEN_MAX)},
        });
        if !self.description.is_empty() {
            embed["description"] = Value::from(self.description.as_str());
        }
        json!({"embeds": [embed], "allowed_mentions": {"parse": []}})
    }
}

/// The last lines that fit, in a code block.
fn quote(log: &[String], room: usize) -> String {
    let frame = 2 * (FENCE.len() + 1);
    let mut left = room.saturating_sub(frame);
    let mut lines = Vec::new();
    for line in log.iter().rev() {
        let line = cut(&in_code(line), LOG_LINE_LEN_MAX);
        let cost = length(&line) + 1;
        if cost > left {
            break;
        }
        left -= cost;
        lines.push(line);
    }
    if lines.is_empty() {
        return String::new();
    }
    lines.reverse();
    format!("{FENCE}\n{}\n{FENCE}", lines.join("\n"))
}

/// Without what would leave a code block: a zero-width space after each backtick keeps three of them apart.
fn in_code(text: &str) -> String {
    visible(text).replace('`', "`\u{200b}")
}

/// Outside a code block markdown is escaped, so that a name is shown as it is.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in visible(text).chars() {
        if matches!(c, '\\' | '`' | '*' | '_' | '~' | '|' | '>' | '<' | '#' | '[' | ']' | '(' | ')' | '@') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// Without terminal colours, control characters and characters that turn the direction of text.
fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            // ECMA-48: CSI, parameters and intermediates, one final character.
            '\u{1b}' if chars.peek() == Some(&'[') => {
                chars.next();
                while chars.next_if(|c| matches!(c, ' '..='?')).is_some() {}
                chars.next_if(|c| matches!(c, '@'..='~'));
            }
            '\t' => out.push(' '),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' => {}
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

pub(crate) fn length(text: &str) -> usize {
    text.encode_utf16().count()
}

/// At most `max` units long; an ellipsis shows that something is missing.
fn cut(text: &str, max: usize) -> String {
    if length(text) <= max {
        return text.to_owned();
    }
    let mut left = max.saturating_sub(1);
    let mut out: String = text
        .chars()
        .take_while(|c| {
            let fits = c.len_utf16() <= left;
            left = left.saturating_sub(c.len_utf16());
            fits
        })
        .collect();
    out.push('…');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(embed: &Embed) -> usize {
        length(&embed.title)
            + length(&embed.description)
            + embed.fields.iter().map(|(name, value)| length(name) + length(value)).sum::<usize>()
    }

    #[test]
    fn nasty_text_stays_within_the_limits() {
        for text in ["x", "한", "🦀", "`", "@everyone ", "*", "\u{1b}[31m", "\u{202e}", "\0", "a\nb"] {
            let long = text.repeat(9000);
            let log: Vec<_> = (0..50).map(|_| long.clone()).collect();
            let fields: Vec<_> = (0..40).map(|_| (long.as_str(), long.as_str())).collect();
            let embed = Embed::new(&long, Colour::Red, Timestamp(1), &fields, &log);
            assert!(length(&embed.title) <= TITLE_LEN_MAX, "{text:?}");
            assert!(length(&embed.description) <= DESCRIPTION_LEN_MAX, "{text:?}");
            assert!(embed.fields.len() <= FIELDS_MAX, "{text:?}");
            for (name, value) in &embed.fields {
                assert!(
                    length(name) <= FIELD_NAME_LEN_MAX && length(value) <= FIELD_VALUE_LEN_MAX,
                    "{text:?}"
                );
            }
            assert!(total(&embed) + FOOTER_LEN_MAX <= TOTAL_LEN_MAX, "{text:?}: {}", total(&embed));
        }
    }

    #[test]
    fn nothing_leaves_the_code_block_and_nobody_is_mentioned() {
        let log = vec!["``` @everyone <@1> [x](http://evil) \u{1b}[31mred\u{1b}[0m".to_owned()];
        let embed =
            Embed::new("@here *x*", Colour::Red, Timestamp(1), &[("service", "a`b"), ("empty", " ")], &log);
        let inner = embed.description.strip_prefix("```\n").unwrap().strip_suffix("\n```").unwrap();
        assert!(!inner.contains("```") && !inner.contains('\u{1b}'), "{inner:?}");
        assert!(inner.contains("red"), "{inner:?}");
        assert_eq!(embed.title, "\\@here \\*x\\*");
        assert_eq!(embed.fields, [("service".to_owned(), "a\\`b".to_owned())]);
        let message = embed.message("host");
        assert_eq!(message["allowed_mentions"], json!({"parse": []}));
        assert!(message["embeds"][0]["color"].as_u64().unwrap() <= 0x00ff_ffff);
    }

    #[test]
    fn the_last_lines_win() {
        let log: Vec<_> = (0..100).map(|n| format!("{n} {}", "x".repeat(290))).collect();
        let embed = Embed::new("t", Colour::Red, Timestamp(1), &[], &log);
        assert!(embed.description.contains("\n99 ") && !embed.description.contains("\n0 "));
    }
}
