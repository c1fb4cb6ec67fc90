//! `--name=value` words between an instruction and its arguments.

use crate::error::{Position, Result};
use naru_types::suggest::nearest;

/// The flags of one instruction, in the order given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags(Vec<(String, Option<String>)>);

impl Flags {
    /// Takes the flags off the front of `rest` and returns what is behind them. A flag that isn't in
    /// `allowed` is an error; one in `refused` is an error with its hint.
    pub fn take<'a>(
        at: &Position,
        rest: &'a str,
        allowed: &[&str],
        refused: &[(&str, &str)],
    ) -> Result<(Self, &'a str)> {
        let mut flags = Vec::new();
        let mut rest = rest.trim_start();
        while let Some(word) = rest.strip_prefix("--") {
            let end = word_end(word);
            let (flag, behind) = word.split_at(end);
            rest = behind.trim_start();
            // `--` alone ends the flags.
            if flag.is_empty() {
                break;
            }
            let (name, value) =
                flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value.to_owned())));
            if let Some((_, hint)) = refused.iter().find(|(known, _)| *known == name) {
                return Err(at.unsupported(format!("--{name} is not supported"), *hint));
            }
            if !allowed.contains(&name) {
                return Err(unknown(at, name, allowed));
            }
            flags.push((name.to_owned(), value));
        }
        Ok((Self(flags), rest))
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

    /// A flag that stands alone, or has `=true` or `=false`.
    pub fn switch(&self, at: &Position, name: &str) -> Result<bool> {
        match self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_deref()) {
            None | Some(Some("false")) => Ok(false),
            Some(None | Some("true")) => Ok(true),
            Some(Some(other)) => Err(at.error(format!("expected true or false for --{name}, got {other:?}"))),
        }
    }
}

/// The end of a flag word: white space outside of quotes.
fn word_end(word: &str) -> usize {
    let mut quote = None;
    for (index, c) in word.char_indices() {
        match quote {
            None if c.is_whitespace() => return index,
            None if c == '"' || c == '\'' => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ => {}
        }
    }
    word.len()
}

fn unknown(at: &Position, name: &str, allowed: &[&str]) -> crate::error::BuildError {
    let message = format!("unknown flag: --{name}");
    match nearest(name, allowed.iter().copied()) {
        Some(meant) => at.hinted(message, format!("did you mean --{meant}?")),
        None if allowed.is_empty() => at.hinted(message, "this instruction has no flags"),
        None => at.hinted(message, format!("known: --{}", allowed.join(", --"))),
    }
}
