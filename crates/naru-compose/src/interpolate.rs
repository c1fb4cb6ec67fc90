//! Variables in values: `$A ${A} ${A:-b} ${A-b} ${A:+b} ${A+b} ${A:?e} ${A?e}`, `$$` for a dollar sign.
//! Defaults may hold variables themselves. Keys are left as they are.

use crate::error::{ComposeError, Result};
use crate::yaml::{Node, Value};

/// How deep `${A:-${B:-…}}` may nest.
const NESTING_MAX: usize = 32;

pub(crate) type Lookup<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// Expands every value of the tree in place. Each variable that is unset and has no default is told to
/// `unset` once it is come across.
pub(crate) fn tree(
    file: &str,
    node: &mut Node,
    path: &str,
    lookup: &Lookup<'_>,
    unset: &mut dyn FnMut(&str),
) -> Result<()> {
    match &mut node.value {
        Value::Scalar { text, plain } if text.contains('$') => {
            let expanded = expand(text, lookup, unset, 0).map_err(|message| ComposeError {
                file: file.to_owned(),
                line: node.line,
                path: path.to_owned(),
                message,
                hint: Some("write $$ for a dollar sign".into()),
                unsupported: false,
            })?;
            if *plain && expanded.is_empty() {
                node.value = Value::Null;
            } else {
                *text = expanded;
            }
            Ok(())
        }
        Value::Null | Value::Scalar { .. } => Ok(()),
        Value::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                tree(file, item, &format!("{path}[{index}]"), lookup, unset)?;
            }
            Ok(())
        }
        Value::Map(entries) => {
            for entry in entries {
                let inner = if path.is_empty() { entry.key.clone() } else { format!("{path}.{}", entry.key) };
                tree(file, &mut entry.node, &inner, lookup, unset)?;
            }
            Ok(())
        }
    }
}

pub(crate) fn expand(
    text: &str,
    lookup: &Lookup<'_>,
    unset: &mut dyn FnMut(&str),
    depth: usize,
) -> Result<String, String> {
    if depth > NESTING_MAX {
        return Err("variables nest too deeply".into());
    }
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(inside) = rest.strip_prefix('{') {
            let end = closing(inside)
                .ok_or_else(|| format!("invalid interpolation format in {text:?}: missing '}}'"))?;
            out.push_str(&braced(&inside[..end], lookup, unset, depth)?);
            rest = &inside[end + 1..];
        } else {
            let end = name_end(rest);
            if end == 0 {
                return Err(format!("invalid interpolation format in {text:?}"));
            }
            out.push_str(&value(&rest[..end], lookup, unset));
            rest = &rest[end..];
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn braced(
    inside: &str,
    lookup: &Lookup<'_>,
    unset: &mut dyn FnMut(&str),
    depth: usize,
) -> Result<String, String> {
    let (name, rest) = inside.split_at(name_end(inside));
    if name.is_empty() {
        return Err(format!("invalid interpolation format \"${{{inside}}}\""));
    }
    if rest.is_empty() {
        return Ok(value(name, lookup, unset));
    }
    let (empty_counts, rest) = rest.strip_prefix(':').map_or((false, rest), |rest| (true, rest));
    let found = lookup(name).filter(|value| !(empty_counts && value.is_empty()));
    let mut word = |word: &str| expand(word, lookup, unset, depth + 1);
    match (rest.chars().next(), found) {
        (Some('-' | '?'), Some(value)) => Ok(value),
        (Some('-'), None) | (Some('+'), Some(_)) => word(&rest[1..]),
        (Some('+'), None) => Ok(String::new()),
        (Some('?'), None) => {
            let reason = word(&rest[1..])?;
            Err(format!("required variable {name} is missing a value: {reason}"))
        }
        _ => Err(format!("invalid interpolation format \"${{{inside}}}\"")),
    }
}

fn value(name: &str, lookup: &Lookup<'_>, unset: &mut dyn FnMut(&str)) -> String {
    lookup(name).unwrap_or_else(|| {
        unset(name);
        String::new()
    })
}

/// The length of the variable name at the start.
fn name_end(text: &str) -> usize {
    let letter = |c: char| c == '_' || c.is_ascii_alphabetic();
    if !text.starts_with(letter) {
        return 0;
    }
    text.find(|c: char| !(letter(c) || c.is_ascii_digit())).unwrap_or(text.len())
}

/// Where the brace that was opened before `text` closes.
fn closing(text: &str) -> Option<usize> {
    let mut open = 0;
    let mut previous = '\0';
    for (index, c) in text.char_indices() {
        match c {
            '{' if previous == '$' => open += 1,
            '}' if open == 0 => return Some(index),
            '}' => open -= 1,
            _ => {}
        }
        previous = c;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        let lookup = |name: &str| match name {
            "A" => Some("a".to_owned()),
            "E" => Some(String::new()),
            _ => None,
        };
        for (text, expect) in [
            ("x", Ok("x")),
            ("$A-${A}", Ok("a-a")),
            ("$$A", Ok("$A")),
            ("${N:-d}", Ok("d")),
            ("${N:-${A}x}", Ok("ax")),
            ("${E:-d}", Ok("d")),
            ("${E-d}", Ok("")),
            ("${A:+y}${N:+y}", Ok("y")),
            ("${E+y}", Ok("y")),
            ("${N}", Ok("")),
            ("${A:?no}", Ok("a")),
            ("${N:?must be set}", Err("required variable N is missing a value: must be set")),
            ("${E:?empty}", Err("required variable E is missing a value: empty")),
            ("${A", Err("invalid interpolation format in \"${A\": missing '}'")),
            ("${}", Err("invalid interpolation format \"${}\"")),
            ("$1", Err("invalid interpolation format in \"$1\"")),
            ("${A!x}", Err("invalid interpolation format \"${A!x}\"")),
        ] {
            let got = expand(text, &lookup, &mut |_| {}, 0);
            assert_eq!(got.as_deref().map_err(String::as_str), expect, "{text}");
        }
        let mut unset = Vec::new();
        expand("$N ${M:-x}", &lookup, &mut |name| unset.push(name.to_owned()), 0).unwrap();
        assert_eq!(unset, ["N"]);
    }
}
