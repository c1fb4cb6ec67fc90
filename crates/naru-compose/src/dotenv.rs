//! `.env` and `env_file`: `KEY=value` lines, `export` allowed, `#` comments, quotes. Double quotes take
//! `\n \r \t \" \\` and variables, single quotes take everything as it is and may span lines.

use crate::interpolate::expand;

/// Keys and values in order; a key alone has the outside's value, or none.
type Pairs = Vec<(String, Option<String>)>;

/// The error is a line number and what is wrong there. Later keys may use earlier ones. A key without `=`
/// is given without a value: it is taken from the environment, or not set.
pub(crate) fn parse(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Pairs, (usize, String)> {
    let mut found = Pairs::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let number = index + 1;
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").map_or(line, str::trim_start);
        let Some((key, raw)) = line.split_once('=') else {
            check_key(line).map_err(|message| (number, message))?;
            found.push((line.to_owned(), lookup(line)));
            continue;
        };
        let key = key.trim_end();
        check_key(key).map_err(|message| (number, message))?;
        let mut raw = raw.trim_start().to_owned();
        let quote = raw.chars().next().filter(|c| matches!(c, '"' | '\''));
        if let Some(quote) = quote {
            while close(&raw[1..], quote).is_none() {
                let (_, more) =
                    lines.next().ok_or_else(|| (number, format!("the {quote} of {key} is never closed")))?;
                raw.push('\n');
                raw.push_str(more);
            }
        }
        let earlier = |name: &str| {
            let own =
                found.iter().rev().find(|(known, _)| known == name).and_then(|(_, value)| value.clone());
            lookup(name).or(own)
        };
        let mut ignore = |_: &str| {};
        let value = if let Some(quote) = quote {
            let inside = &raw[1..=close(&raw[1..], quote).unwrap_or(0)];
            if quote == '\'' {
                Ok(inside.to_owned())
            } else {
                expand(&unescape(inside), &earlier, &mut ignore, 0)
            }
        } else {
            let plain = raw.find(" #").map_or(raw.as_str(), |at| &raw[..at]).trim_end();
            expand(plain, &earlier, &mut ignore, 0)
        };
        found.push((key.to_owned(), Some(value.map_err(|message| (number, message))?)));
    }
    Ok(found)
}

fn check_key(key: &str) -> Result<(), String> {
    let valid = !key.is_empty() && !key.contains(|c: char| c.is_whitespace() || matches!(c, '"' | '\''));
    if valid { Ok(()) } else { Err(format!("unexpected character in variable name {key:?}")) }
}

/// Where the quote closes; the bytes before it are inside.
fn close(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (index, c) in text.char_indices() {
        match c {
            '\\' if quote == '"' && !escaped => escaped = true,
            _ if c == quote && !escaped => return Some(index),
            _ => escaped = false,
        }
    }
    None
}

fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, false) => out.push(c),
            (_, true) => match chars.next() {
                Some('n') => out.push('\n'),
                Some('r') => out.push('\r'),
                Some('t') => out.push('\t'),
                Some('$') => out.push_str("$$"),
                Some(other @ ('"' | '\\')) => out.push(other),
                Some(other) => out.extend(['\\', other]),
                None => out.push('\\'),
            },
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let outside = |name: &str| (name == "HOST").then(|| "h".to_owned());
        let text = "# c\nA=1\nexport B = two words # c\nC='$A \\n'\nD=\"$A\\n\\$x\"\nE=a#b\nF=\nHOST\nNONE\nG=${A}$HOST\nM='x\ny'\n";
        let found: Vec<(String, Option<String>)> = parse(text, &outside).unwrap();
        let expect = [
            ("A", Some("1")),
            ("B", Some("two words")),
            ("C", Some("$A \\n")),
            ("D", Some("1\n$x")),
            ("E", Some("a#b")),
            ("F", Some("")),
            ("HOST", Some("h")),
            ("NONE", None),
            ("G", Some("1h")),
            ("M", Some("x\ny")),
        ];
        let found: Vec<_> = found.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect();
        assert_eq!(found, expect);
        assert_eq!(
            parse("A=1\nB C=2", &outside),
            Err((2, "unexpected character in variable name \"B C\"".into()))
        );
        assert_eq!(parse("A=\"x", &outside), Err((1, "the \" of A is never closed".into())));
    }
}
