//! JSON compared in two ways: by *shape* (the set of keys with the type of each value, recursively, where absent,
//! null, `[]` and `{}` are four different things), and by value after normalisation.

use crate::normal;
use serde_json::Value;
use std::collections::BTreeSet;

/// The differences of shape, one line each, with the path where they are.
pub fn shapes(reference: &Value, candidate: &Value) -> Vec<String> {
    let mut found = Vec::new();
    walk("", &settled(reference), &settled(candidate), &mut found, &|_, _, _| {});
    found
}

/// Keys that are ids become a placeholder, and lists of named things are sorted: dockerd's own order of those is
/// random.
fn settled(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            Value::Object(map.iter().map(|(key, value)| (normal::text(key, "\0"), settled(value))).collect())
        }
        Value::Array(list) => {
            let mut list: Vec<Value> = list.iter().map(settled).collect();
            list.sort_by_key(|item| item["Name"].as_str().map(str::to_owned));
            Value::Array(list)
        }
        other => other.clone(),
    }
}

/// The same, and scalars must be equal too.
pub fn values(reference: &Value, candidate: &Value, dirs: [&str; 2]) -> Vec<String> {
    let mut found = Vec::new();
    let compare = |path: &str, pair: [&Value; 2], found: &mut Vec<String>| {
        let [left, right] = [normal_value(path, pair[0], dirs[0]), normal_value(path, pair[1], dirs[1])];
        if left != right {
            found.push(format!("{path}: {left} != {right}"));
        }
    };
    let collected = std::cell::RefCell::new(Vec::new());
    walk("", &settled(reference), &settled(candidate), &mut found, &|path, left, right| {
        compare(path, [left, right], &mut collected.borrow_mut());
    });
    found.extend(collected.into_inner());
    found
}

fn normal_value(path: &str, value: &Value, dir: &str) -> String {
    match value {
        Value::String(string) => format!("{:?}", normal::text(string, dir)),
        // Whether there is one is what counts.
        Value::Number(number) if path.ends_with("Pid") => (number.as_u64() != Some(0)).to_string(),
        other => other.to_string(),
    }
}

fn walk(
    path: &str,
    left: &Value,
    right: &Value,
    found: &mut Vec<String>,
    scalar: &dyn Fn(&str, &Value, &Value),
) {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) => {
            let keys: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
            for key in keys {
                let path = format!("{path}.{key}");
                match (left.get(key), right.get(key)) {
                    (Some(left), Some(right)) => walk(&path, left, right, found, scalar),
                    (Some(left), None) => found.push(format!("{path}: {} != absent", kind(left))),
                    (None, Some(right)) => found.push(format!("{path}: absent != {}", kind(right))),
                    (None, None) => {}
                }
            }
        }
        // Lists of the same length are compared one by one, others by their first elements.
        (Value::Array(left), Value::Array(right)) if left.is_empty() == right.is_empty() => {
            for (left, right) in left.iter().zip(right) {
                walk(&format!("{path}[]"), left, right, found, scalar);
            }
        }
        _ if kind(left) != kind(right) => found.push(format!("{path}: {} != {}", kind(left), kind(right))),
        _ => scalar(path, left, right),
    }
    found.dedup();
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(list) if list.is_empty() => "[]",
        Value::Array(_) => "list",
        Value::Object(map) if map.is_empty() => "{}",
        Value::Object(_) => "object",
    }
}

/// One document, or one per line as `events` and streams write them.
pub fn parse(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok().or_else(|| {
        let lines: Result<Vec<Value>, _> = text.lines().map(serde_json::from_str).collect();
        lines.ok().map(Value::Array)
    })
}

/// That absent, null, empty and full are told apart; run before anything is compared.
pub fn check() {
    let left = serde_json::json!({"a": null, "b": [], "c": {"d": 1}, "e": [{"f": "x"}], "g": {}});
    let right = serde_json::json!({"b": null, "c": {"d": "1"}, "e": [{"f": "y", "h": true}], "g": {}});
    let found = shapes(&left, &right);
    let expect = [".a: null != absent", ".b: [] != null", ".c.d: number != string", ".e[].h: absent != bool"];
    assert_eq!(found, expect);
    assert!(values(&left, &right, ["/l", "/r"]).contains(&".e[].f: \"x\" != \"y\"".to_owned()));
}
