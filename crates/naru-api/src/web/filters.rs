//! The `filters` parameter: `{"label": {"a=b": true}}`, or `{"label": ["a=b"]}` from older clients.

use naru_types::{Error, Result, Timestamp, quantity};
use naru_wire::url::Query;
use serde_json::Value;
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters(BTreeMap<String, Vec<String>>);

impl Filters {
    /// Parses the parameter and refuses a filter that is not among `known`.
    pub fn parse(query: &Query, known: &[&str]) -> Result<Self> {
        let text = query.text("filters");
        if text.is_empty() {
            return Ok(Self::default());
        }
        let malformed =
            || Error::invalid(format!("invalid filter {text:?}: it must be a JSON object of lists"));
        let parsed: BTreeMap<String, Value> = serde_json::from_str(text).map_err(|_| malformed())?;
        let mut filters = BTreeMap::new();
        for (name, value) in parsed {
            if !known.contains(&name.as_str()) {
                return Err(Error::invalid(format!("invalid filter '{name}'")));
            }
            let values = match value {
                Value::Object(map) => map.into_iter().map(|(key, _)| key).collect(),
                Value::Array(list) => {
                    let texts = list.into_iter().map(|item| item.as_str().map(str::to_owned));
                    texts.collect::<Option<Vec<_>>>().ok_or_else(malformed)?
                }
                _ => return Err(malformed()),
            };
            filters.insert(name, values);
        }
        Ok(Self(filters))
    }

    pub fn values(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    pub fn has(&self, name: &str) -> bool {
        !self.values(name).is_empty()
    }

    /// True when the filter is absent or one of its values fits.
    pub fn any(&self, name: &str, fits: impl Fn(&str) -> bool) -> bool {
        !self.has(name) || self.values(name).iter().any(|value| fits(value))
    }

    /// The filter `name` with labels: each `key` or `key=value` has to be there.
    pub fn labels_fit(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        self.values(name).iter().all(|wanted| has_label(labels, wanted))
    }

    /// For prune: `label` has to fit and `label!` must not.
    pub fn prune_labels_fit(&self, labels: &BTreeMap<String, String>) -> bool {
        self.labels_fit("label", labels)
            && !self.values("label!").iter().any(|unwanted| has_label(labels, unwanted))
    }

    /// A filter that is true or false; absent is `default`.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool> {
        match self.values(name) {
            [] => Ok(default),
            [one] if matches!(one.as_str(), "1" | "true" | "t" | "True") => Ok(true),
            [one] if matches!(one.as_str(), "0" | "false" | "f" | "False") => Ok(false),
            other => Err(Error::invalid(format!("invalid filter '{name}={other:?}'"))),
        }
    }

    /// `until`: a duration back from `now`, seconds since the epoch, or RFC 3339.
    pub fn until(&self, now: Timestamp) -> Result<Option<Timestamp>> {
        match self.values("until") {
            [] => Ok(None),
            [text] => parse_time(text, now).map(Some).ok_or_else(|| {
                Error::invalid(format!("invalid filter 'until={text}': not a time or a duration"))
            }),
            _ => Err(Error::invalid("more than one until filter specified")),
        }
    }
}

/// `10m` (ago), `1795386553`, `1795386553.5`, or RFC 3339.
pub fn parse_time(text: &str, now: Timestamp) -> Option<Timestamp> {
    if let Some(nanos) = parse_unix(text) {
        return Some(nanos);
    }
    if let Some(nanos) = quantity::parse_duration(text) {
        return Some(Timestamp(now.0.saturating_sub(nanos)));
    }
    Timestamp::parse_rfc3339(text)
}

/// Seconds since the epoch with an optional fraction.
pub fn parse_unix(text: &str) -> Option<Timestamp> {
    let (secs, fraction) = text.split_once('.').unwrap_or((text, ""));
    let secs: i64 = secs.parse().ok()?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nine: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    Some(Timestamp::from_parts(secs, nine.parse().ok()?))
}

fn has_label(labels: &BTreeMap<String, String>, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
        None => labels.contains_key(wanted),
    }
}

/// Docker takes names in filters for regular expressions. Clients use anchors and `.*`, which is what this knows; all
/// else is literal.
pub fn name_fits(pattern: &str, name: &str) -> bool {
    let (pattern, from_start) = pattern.strip_prefix('^').map_or((pattern, false), |rest| (rest, true));
    let (pattern, to_end) = pattern.strip_suffix('$').map_or((pattern, false), |rest| (rest, true));
    let pieces: Vec<&str> = pattern.split(".*").collect();
    let mut rest = name;
    for (index, piece) in pieces.iter().enumerate() {
        let is_last = index + 1 == pieces.len();
        if index == 0 && from_start {
            let Some(after) = rest.strip_prefix(piece) else { return false };
            rest = after;
            if is_last && to_end {
                return rest.is_empty();
            }
        } else if is_last && to_end {
            return rest.ends_with(piece);
        } else {
            let Some(at) = rest.find(piece) else { return false };
            rest = &rest[at + piece.len()..];
        }
    }
    true
}

/// Shell patterns as Go's `path.Match`: `*` and `?` stop at slashes.
pub fn glob_fits(pattern: &str, text: &str) -> bool {
    let (mut wanted, mut given) = (pattern.chars(), text.chars());
    match (wanted.next(), given.next()) {
        (None, None) => true,
        (Some('*'), first) => {
            let skip = first.filter(|c| *c != '/').is_some_and(|_| glob_fits(pattern, given.as_str()));
            glob_fits(wanted.as_str(), text) || skip
        }
        (Some('?'), Some(c)) if c != '/' => glob_fits(wanted.as_str(), given.as_str()),
        (Some(a), Some(b)) if a == b => glob_fits(wanted.as_str(), given.as_str()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(text: &str) -> Result<Filters> {
        Filters::parse(
            &Query::default().with("filters", text),
            &["label", "label!", "name", "dangling", "until"],
        )
    }

    #[test]
    fn both_forms() {
        let map = filters(r#"{"label":{"a=b":true},"dangling":{"true":true}}"#).unwrap();
        assert_eq!(map, filters(r#"{"label":["a=b"],"dangling":["true"]}"#).unwrap());
        assert!(map.flag("dangling", false).unwrap());
        let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        assert!(map.labels_fit("label", &labels));
        assert!(!filters(r#"{"label!":["a"]}"#).unwrap().prune_labels_fit(&labels));
        for bad in [r#"{"x":["1"]}"#, "[]", "{", r#"{"label":1}"#] {
            assert!(filters(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times() {
        let now = Timestamp::from_parts(1000, 0);
        assert_eq!(parse_time("1m", now), Some(Timestamp::from_parts(940, 0)));
        assert_eq!(parse_time("5.25", now), Some(Timestamp::from_parts(5, 250_000_000)));
        assert_eq!(parse_time("1970-01-01T00:00:07Z", now), Some(Timestamp::from_parts(7, 0)));
        assert_eq!(parse_time("soon", now), None);
    }

    #[test]
    fn names_and_globs() {
        for (pattern, name, fits) in [
            ("web", "my-web-1", true),
            ("^web$", "web", true),
            ("^web$", "web1", false),
            ("^/web", "/web1", true),
            ("a.*c$", "abc", true),
            ("x", "abc", false),
        ] {
            assert_eq!(name_fits(pattern, name), fits, "{pattern} {name}");
        }
        assert!(glob_fits("busy*:l?test", "busybox:latest"));
        assert!(!glob_fits("*", "a/b"));
    }
}
