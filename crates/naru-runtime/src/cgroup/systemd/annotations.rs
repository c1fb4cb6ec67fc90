//! Properties that a container's annotations set on its unit: `org.systemd.property.NAME`, with a value in GVariant's
//! text format, as runc takes them (runc docs/systemd.md, "Auxiliary properties").

use super::wire::{Property, Value};
use crate::cgroup::CgroupError;
use std::collections::BTreeMap;

const PREFIX: &str = "org.systemd.property.";
/// A time in seconds is told to systemd in microseconds, under a name that says so.
const SECONDS: &str = "Sec";
const MICROSECONDS: &str = "USec";
const MICROS_PER_SECOND: u64 = 1_000_000;

/// What the annotations ask for; others are not ours.
pub(super) fn of(annotations: &BTreeMap<String, String>) -> Result<Vec<Property>, CgroupError> {
    let own = annotations.iter().filter_map(|(key, text)| Some((key.strip_prefix(PREFIX)?, key, text)));
    own.map(|(name, key, text)| property(name, text.trim()).ok_or_else(|| invalid(key, text))).collect()
}

fn invalid(key: &str, text: &str) -> CgroupError {
    CgroupError::Invalid(format!(
        "annotation {key}: {text:?} is neither true, false, 'text', ['text', …] nor uint32, int32, uint64 or int64 and a number"
    ))
}

fn property(name: &str, text: &str) -> Option<Property> {
    // runc's rule: a capital first, then letters.
    if name.len() < 3 || !name.starts_with(|c: char| c.is_ascii_uppercase()) {
        return None;
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return None;
    }
    let value = value(text)?;
    match name.strip_suffix(SECONDS).filter(|_| !name.ends_with(MICROSECONDS)) {
        Some(stem) => Some((format!("{stem}{MICROSECONDS}").into(), microseconds(&value)?)),
        None => Some((name.to_owned().into(), value)),
    }
}

fn microseconds(value: &Value) -> Option<Value> {
    let seconds = match value {
        Value::U64(seconds) => *seconds,
        Value::U32(seconds) => u64::from(*seconds),
        Value::I32(seconds) => u64::try_from(*seconds).ok()?,
        Value::I64(seconds) => u64::try_from(*seconds).ok()?,
        _ => return None,
    };
    seconds.checked_mul(MICROS_PER_SECOND).map(Value::U64)
}

/// A number without a type is an int32 (GVariant Text Format, "Numeric types").
fn value(text: &str) -> Option<Value> {
    if let Some(list) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let items = list.split(',').map(str::trim).filter(|item| !item.is_empty());
        return items.map(quoted).collect::<Option<_>>().map(Value::Texts);
    }
    if let Some(text) = quoted(text) {
        return Some(Value::Text(text));
    }
    match text.split_once(' ') {
        Some(("uint64", number)) => number.trim().parse().ok().map(Value::U64),
        Some(("uint32", number)) => number.trim().parse().ok().map(Value::U32),
        Some(("int64", number)) => number.trim().parse().ok().map(Value::I64),
        Some(("int32", number)) => number.trim().parse().ok().map(Value::I32),
        Some(_) => None,
        None if text == "true" || text == "false" => Some(Value::Bool(text == "true")),
        None => text.parse().ok().map(Value::I32),
    }
}

/// `'text'` or `"text"`, without escapes.
fn quoted(text: &str) -> Option<String> {
    let between = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
    let inner = between('\'').or_else(|| between('"'))?;
    (!inner.contains(['\'', '"', '\\'])).then(|| inner.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(key: &str, text: &str) -> Option<(String, Value)> {
        let annotations = BTreeMap::from([(format!("{PREFIX}{key}"), text.to_owned())]);
        let found = of(&annotations).ok()?.pop()?;
        Some((found.0.into_owned(), found.1))
    }

    #[test]
    fn as_runc_reads_them() {
        for (key, text, name, value) in [
            ("TimeoutStopUSec", "uint64 123456789", "TimeoutStopUSec", Value::U64(123_456_789)),
            ("TimeoutStopSec", "7", "TimeoutStopUSec", Value::U64(7_000_000)),
            ("CollectMode", "'inactive-or-failed'", "CollectMode", Value::Text("inactive-or-failed".into())),
            (
                "After",
                "['a.service', \"b.service\"]",
                "After",
                Value::Texts(vec!["a.service".into(), "b.service".into()]),
            ),
            ("SendSIGHUP", "true", "SendSIGHUP", Value::Bool(true)),
            ("Number", "-3", "Number", Value::I32(-3)),
        ] {
            assert_eq!(one(key, text), Some((name.to_owned(), value)), "{key}");
        }
        assert_eq!(of(&BTreeMap::from([("org.other".to_owned(), "x".to_owned())])).unwrap(), []);
    }

    #[test]
    fn others_are_refused() {
        for (key, text) in [
            ("TimeoutStopUSec", "soon"),
            ("timeoutStop", "1"),
            ("A", "1"),
            ("Bad-Name", "1"),
            ("After", "['a', b]"),
            ("Text", "'it''s'"),
            ("TimeoutStopSec", "-1"),
            ("TimeoutStopSec", "'7'"),
            ("Big", "uint32 4294967296"),
        ] {
            assert_eq!(one(key, text), None, "{key}");
        }
    }
}
