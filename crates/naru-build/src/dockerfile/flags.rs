//! `--name=value` words between an instruction and its arguments.

use crate::error::{Position, Result};
use naru_types::suggest::nearest;

/// The flags of one instruction, in the order given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags(Vec<(String, Option<String>)>);

impl Flags {
    /// Takes the flags off the front of `rest` and returns what is behind them. A flag that isn't in
    /// `allowed` is an error; one in `refused` is an error with its hint. Quotes and escapes in a flag are
    /// taken away.
    pub fn take<'a>(
        at: &Position,
        rest: &'a str,
        escape: char,
        allowed: &[&str],
        refused: &[(&str, &str)],
    ) -> Result<(Self, &'a str)> {
        let mut found = Self::default();
        let mut rest = rest.trim_start();
        while rest.starts_with("--") {
            let (word, behind) = first_word(rest, escape);
            rest = behind.trim_start();
            // `--` alone ends the flags.
            if word == "--" {
                break;
            }
            let word = &word[2..];
            let (name, value) =
                word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value.to_owned())));
            if let Some((_, hint)) = refused.iter().find(|(known, _)| *known == name) {
                return Err(at.unsupported(format!("--{name} is not supported"), *hint));
            }
            if !allowed.contains(&name) {
                return Err(unknown(at, name, allowed));
            }
            found.0.push((name.to_owned(), value));
        }
        Ok((found, rest))
    }

    /// The value of a flag that may be given once and needs one.
    pub fn value(&self, at: &Position, name: &str) -> Result<Option<String>> {
        let mut found = self.0.iter().filter(|(known, _)| known == name);
        let Some((_, value)) = found.next() else { return Ok(None) };
        if found.next().is_some() {
            return Err(at.error(format!("duplicate flag specified: --{name}")));
        }
        value.clone().map(Some).ok_or_else(|| at.error(format!("missing a value on flag: --{name}")))
    }

    /// The values of a flag that may be repeated.
    pub fn values(&self, at: &Position, name: &str) -> Result<Vec<String>> {
        let with_value = |(_, value): &(String, Option<String>)| {
            value.clone().ok_or_else(|| at.error(format!("missing a value on flag: --{name}")))
        };
        self.0.iter().filter(|(known, _)| known == name).map(with_value).collect()
    }

    /// A flag that stands alone, or has `=true` or `=false`; `None`: it wasn't given.
    pub fn switch(&self, at: &Position, name: &str) -> Result<Option<bool>> {
        let mut found = self.0.iter().filter(|(known, _)| known == name);
        let Some((_, value)) = found.next() else { return Ok(None) };
        if found.next().is_some() {
            return Err(at.error(format!("duplicate flag specified: --{name}")));
        }
        match value.as_deref().map(str::to_ascii_lowercase).as_deref() {
            None | Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some("") => Err(at.error(format!("missing a value on flag: --{name}"))),
            Some(other) => Err(at.error(format!("expecting boolean value for flag --{name}, not: {other}"))),
        }
    }
}

/// The word at the front, without its quotes and escapes, and what is behind it.
fn first_word(text: &str, escape: char) -> (String, &str) {
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((index, c)) = chars.next() {
        match quote {
            None if c.is_whitespace() => return (word, &text[index..]),
            None if c == '"' || c == '\'' => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ if c == escape => word.extend(chars.next().map(|(_, next)| next)),
            _ => word.push(c),
        }
    }
    (word, "")
}

fn unknown(at: &Position, name: &str, allowed: &[&str]) -> crate::error::BuildError {
    let message = format!("unknown flag: --{name}");
    match nearest(name, allowed.iter().copied()) {
        Some(meant) => at.hinted(message, format!("did you mean --{meant}?")),
        None if allowed.is_empty() => at.hinted(message, "this instruction has no flags"),
        None => at.hinted(message, format!("known: --{}", allowed.join(", --"))),
    }
}
