//! `--format`: the part of Go templates that `docker … --format` users write: fields, `json`, `index`, `len`,
//! `join`, `upper`, `lower`, `title`, `println`, pipelines, `range`, `if`/`else`, `table`.
//! Anything else is an error that names the word; nothing is guessed.

use naru_types::{Error, Result};
use serde_json::Value;

/// Depth of nested `range` and `if`.
const DEPTH_MAX: usize = 32;

#[derive(Debug)]
enum Node {
    Text(String),
    Print(Vec<Vec<String>>),
    Range(Vec<Vec<String>>, Vec<Node>, Vec<Node>),
    If(Vec<Vec<String>>, Vec<Node>, Vec<Node>),
}

#[derive(Debug)]
pub struct Template {
    nodes: Vec<Node>,
    /// `table …`: the caller prints heads and aligns columns.
    pub table: bool,
}

impl Template {
    pub fn parse(source: &str) -> Result<Self> {
        let (table, body) = match source.strip_prefix("table ") {
            Some(rest) => (true, rest),
            None => (false, source),
        };
        let body = if body == "json" { "{{json .}}" } else { body };
        let unescaped = body.replace("\\t", "\t").replace("\\n", "\n");
        let mut tokens = tokenize(&unescaped)?.into_iter().peekable();
        let (nodes, end) = parse_block(&mut tokens, 0)?;
        match end {
            Stop::End | Stop::Else => Err(invalid("{{end}} without {{range}} or {{if}}")),
            Stop::Input => Ok(Self { nodes, table }),
        }
    }

    pub fn render(&self, value: &Value) -> Result<String> {
        let mut text = String::new();
        render_block(&self.nodes, value, value, &mut text)?;
        Ok(text)
    }
}

fn invalid(what: &str) -> Error {
    Error::invalid(format!("template parsing error: {what}"))
        .with_hint("supported: fields, json, index, len, join, split, upper, lower, title, println, range, if, else, end")
}

enum Token {
    Text(String),
    Action(String),
}

fn tokenize(source: &str) -> Result<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = source;
    while let Some(start) = rest.find("{{") {
        let end = rest[start..].find("}}").ok_or_else(|| invalid("unclosed action: {{ without }}"))? + start;
        let mut before = &rest[..start];
        let mut action = rest[start + 2..end].trim();
        if let Some(inner) = action.strip_prefix("- ") {
            (before, action) = (before.trim_end(), inner.trim());
        }
        tokens.push(Token::Text(before.to_owned()));
        rest = &rest[end + 2..];
        if let Some(inner) = action.strip_suffix(" -") {
            (rest, action) = (rest.trim_start(), inner.trim());
        }
        tokens.push(Token::Action(action.to_owned()));
    }
    tokens.push(Token::Text(rest.to_owned()));
    Ok(tokens)
}

enum Stop {
    Input,
    Else,
    End,
}

type Tokens = std::iter::Peekable<std::vec::IntoIter<Token>>;

fn parse_block(tokens: &mut Tokens, depth: usize) -> Result<(Vec<Node>, Stop)> {
    if depth > DEPTH_MAX {
        return Err(invalid("nested too deeply"));
    }
    let mut nodes = Vec::new();
    while let Some(token) = tokens.next() {
        let action = match token {
            Token::Text(text) => {
                nodes.push(Node::Text(text));
                continue;
            }
            Token::Action(action) => action,
        };
        match action.split_whitespace().next().unwrap_or("") {
            "end" => return Ok((nodes, Stop::End)),
            "else" => return Ok((nodes, Stop::Else)),
            word @ ("range" | "if") => {
                let pipeline = pipeline(&action[word.len()..])?;
                let (then, stop) = parse_block(tokens, depth + 1)?;
                let otherwise = match stop {
                    Stop::Else => match parse_block(tokens, depth + 1)? {
                        (nodes, Stop::End) => nodes,
                        _ => return Err(invalid("{{else}} without {{end}}")),
                    },
                    Stop::End => Vec::new(),
                    Stop::Input => return Err(invalid("unexpected end: {{end}} is missing")),
                };
                nodes.push(if word == "range" {
                    Node::Range(pipeline, then, otherwise)
                } else {
                    Node::If(pipeline, then, otherwise)
                });
            }
            _ => nodes.push(Node::Print(pipeline(&action)?)),
        }
    }
    Ok((nodes, Stop::Input))
}

/// Splits `index .A "b" | json` into words per stage.
fn pipeline(action: &str) -> Result<Vec<Vec<String>>> {
    let mut stages = vec![Vec::new()];
    let mut chars = action.chars().peekable();
    while let Some(&c) = chars.peek() {
        match c {
            ' ' | '\t' | '\n' => {
                chars.next();
            }
            '|' => {
                chars.next();
                stages.push(Vec::new());
            }
            '"' | '`' => {
                chars.next();
                let mut word = String::from("\"");
                loop {
                    match chars.next() {
                        Some(end) if end == c => break,
                        Some('\\') if c == '"' => word.extend(chars.next()),
                        Some(inner) => word.push(inner),
                        None => return Err(invalid("unterminated quoted string")),
                    }
                }
                stages.last_mut().ok_or_else(|| invalid("empty action"))?.push(word);
            }
            '(' | ')' | '$' | ':' => return Err(invalid(&format!("{c:?} is not supported"))),
            _ => {
                let mut word = String::new();
                while let Some(&c) = chars.peek().filter(|c| !" \t\n|\"`()".contains(**c)) {
                    word.push(c);
                    chars.next();
                }
                stages.last_mut().ok_or_else(|| invalid("empty action"))?.push(word);
            }
        }
    }
    for stage in &stages {
        match stage.first() {
            None => return Err(invalid("empty action")),
            Some(head) if is_operand(head) || FUNCTIONS.contains(&head.as_str()) => {}
            Some(head) => return Err(invalid(&format!("function {head:?} not defined"))),
        }
    }
    Ok(stages)
}

fn render_block(nodes: &[Node], value: &Value, root: &Value, text: &mut String) -> Result<()> {
    for node in nodes {
        match node {
            Node::Text(literal) => text.push_str(literal),
            Node::Print(pipeline) => text.push_str(&show(&evaluate(pipeline, value)?)),
            Node::If(pipeline, then, otherwise) => {
                let branch = if truthy(&evaluate(pipeline, value)?) { then } else { otherwise };
                render_block(branch, value, root, text)?;
            }
            Node::Range(pipeline, each, otherwise) => {
                let items: Vec<Value> = match evaluate(pipeline, value)? {
                    Value::Array(items) => items,
                    Value::Object(map) => map.into_iter().map(|(_, item)| item).collect(),
                    Value::Null => Vec::new(),
                    other => return Err(invalid(&format!("range can't iterate over {}", show(&other)))),
                };
                if items.is_empty() {
                    render_block(otherwise, value, root, text)?;
                }
                for item in &items {
                    render_block(each, item, root, text)?;
                }
            }
        }
    }
    Ok(())
}

fn evaluate(pipeline: &[Vec<String>], value: &Value) -> Result<Value> {
    let mut piped: Option<Value> = None;
    for stage in pipeline {
        piped = Some(call(stage, piped, value)?);
    }
    piped.ok_or_else(|| invalid("empty action"))
}

fn call(words: &[String], piped: Option<Value>, value: &Value) -> Result<Value> {
    let Some((head, rest)) = words.split_first() else {
        return Err(invalid("empty action"));
    };
    if is_operand(head) {
        return if rest.is_empty() {
            operand(head, value)
        } else {
            Err(invalid(&format!("{head} takes no arguments")))
        };
    }
    let mut arguments = rest.iter().map(|word| operand(word, value)).collect::<Result<Vec<_>>>()?;
    arguments.extend(piped);
    function(head, &arguments)
}

fn operand(word: &str, value: &Value) -> Result<Value> {
    if let Some(literal) = word.strip_prefix('"') {
        return Ok(Value::String(literal.to_owned()));
    }
    if let Ok(number) = word.parse::<i64>() {
        return Ok(number.into());
    }
    let Some(path) = word.strip_prefix('.') else {
        return Err(invalid(&format!("function {word:?} not defined")));
    };
    let mut current = value;
    for field in path.split('.').filter(|field| !field.is_empty()) {
        let Value::Object(map) = current else { return Ok(Value::Null) };
        current = match map.get(field) {
            Some(found) => found,
            None => return Err(Error::invalid(format!("template: can't evaluate field {field} in {word}"))),
        };
    }
    Ok(current.clone())
}

fn is_operand(word: &str) -> bool {
    word.starts_with(['.', '"']) || word.parse::<f64>().is_ok()
}

const FUNCTIONS: [&str; 9] = ["json", "upper", "lower", "title", "println", "len", "join", "split", "index"];

fn function(name: &str, arguments: &[Value]) -> Result<Value> {
    let text = |index: usize| arguments.get(index).map(show).unwrap_or_default();
    Ok(match (name, arguments) {
        ("json", [value]) => Value::String(value.to_string()),
        ("upper", [_]) => Value::String(text(0).to_uppercase()),
        ("lower", [_]) => Value::String(text(0).to_lowercase()),
        ("title", [_]) => {
            let word = text(0);
            let mut chars = word.chars();
            Value::String(
                chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default() + chars.as_str(),
            )
        }
        ("println", values) => Value::String(values.iter().map(show).collect::<Vec<_>>().join(" ") + "\n"),
        ("len", [Value::Array(items)]) => items.len().into(),
        ("len", [Value::Object(map)]) => map.len().into(),
        ("len", [_]) => text(0).len().into(),
        ("join", [Value::Array(items), _]) => {
            Value::String(items.iter().map(show).collect::<Vec<_>>().join(&text(1)))
        }
        ("split", [_, _]) => Value::Array(text(0).split(&text(1)).map(Value::from).collect()),
        ("index", [container, keys @ ..]) if !keys.is_empty() => {
            let mut current = container.clone();
            for key in keys {
                current = match (&current, key) {
                    (Value::Array(items), Value::Number(at)) => {
                        at.as_u64().and_then(|at| items.get(at as usize)).cloned().unwrap_or_default()
                    }
                    (Value::Object(map), key) => map.get(&show(key)).cloned().unwrap_or_default(),
                    _ => Value::Null,
                };
            }
            current
        }
        _ => {
            return Err(invalid(&format!(
                "function {name:?} with {} arguments is not supported",
                arguments.len()
            )));
        }
    })
}

fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// As Go's `%v`: `map[a:b]`, `[a b]`, `<no value>` for what is absent.
fn show(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let mut pairs: Vec<String> =
                map.iter().map(|(key, item)| format!("{key}:{}", show(item))).collect();
            pairs.sort();
            format!("map[{}]", pairs.join(" "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(source: &str, expect: &str) {
        let value = json!({"Name": "/web", "State": {"Running": true, "Pid": 7}, "Ports": [{"P": 80}, {"P": 443}],
            "Labels": {"a.b": "c"}, "Env": ["A=1", "B=2"]});
        let got = Template::parse(source).and_then(|template| template.render(&value));
        assert_eq!(got.map_err(|error| error.to_string()).as_deref(), Ok(expect), "{source}");
    }

    #[test]
    fn what_docker_users_write() {
        check("{{.Name}} {{.State.Pid}}", "/web 7");
        check("{{json .State}}", r#"{"Running":true,"Pid":7}"#);
        check("{{.State | json}}", r#"{"Running":true,"Pid":7}"#);
        check("{{range .Ports}}{{.P}},{{end}}", "80,443,");
        check("{{if .State.Running}}up{{else}}down{{end}}", "up");
        check(r#"{{index .Labels "a.b"}}"#, "c");
        check(r#"{{join .Env ", "}}"#, "A=1, B=2");
        check("{{len .Env}}{{upper .Name}}", "2/WEB");
        check(r"{{.Name}}\t{{.Env}}", "/web\t[A=1 B=2]");
    }

    #[test]
    fn what_is_wrong_is_said() {
        for bad in ["{{", "{{nope .}}", "{{range .Ports}}", "{{end}}", "{{}}", "{{$x := .}}", "{{\"x}}"] {
            let outcome = Template::parse(bad).and_then(|template| template.render(&json!({"Ports": []})));
            assert!(outcome.is_err(), "{bad}");
        }
        let missing = Template::parse("{{.Nope}}").and_then(|template| template.render(&json!({})));
        assert!(missing.unwrap_err().to_string().contains("Nope"));
    }
}
