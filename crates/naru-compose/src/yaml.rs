//! YAML text to a tree with line numbers, aliases and merge keys (`<<`) resolved.
//!
//! Built on the parser's events rather than a ready-made document type: aliases multiply a file's size, so
//! what they make is counted while it is made ("billion laughs"), and a key that stands twice is an error.

use crate::error::{ComposeError, Result};
use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use std::collections::HashMap;

/// The biggest file, in bytes, the most nodes with aliases resolved, and the deepest nesting.
const FILE_BYTES_MAX: usize = 4 << 20;
const NODES_MAX: usize = 100_000;
const DEPTH_MAX: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    /// From one.
    pub(crate) line: usize,
    pub(crate) value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Null,
    /// `plain`: written without quotes, so it may mean a number, a truth value or nothing.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) line: usize,
    pub(crate) node: Node,
}

impl Node {
    pub(crate) fn is_null(&self) -> bool {
        self.value == Value::Null
    }
}

/// Parses one document; an empty file is `Null`.
pub(crate) fn parse(file: &str, text: &str) -> Result<Node> {
    // Editors on Windows put a byte order mark first; it is no part of the first key.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = text.lines().count().max(1);
    let mut builder = Builder { file, lines, anchors: HashMap::new(), nodes: 0 };
    if text.len() > FILE_BYTES_MAX {
        return Err(builder.error(1, "the file is larger than 4 MiB"));
    }
    let mut parser = Parser::new_from_str(text);
    let mut root = None;
    while let Some(event) = builder.next(&mut parser)? {
        match event {
            (Event::DocumentStart(_), span) if root.is_some() => {
                return Err(
                    builder.error(line(&span), "a compose file is one YAML document; this is a second")
                );
            }
            (
                Event::StreamStart
                | Event::StreamEnd
                | Event::Nothing
                | Event::DocumentStart(_)
                | Event::DocumentEnd,
                _,
            ) => {}
            (event, span) => root = Some(builder.node(&mut parser, event, &span, 0)?),
        }
    }
    Ok(root.unwrap_or(Node { line: 1, value: Value::Null }))
}

/// What mostly is the matter where the parser says `info`.
fn yaml_hint(info: &str) -> Option<&'static str> {
    [
        ("tab", "indent with spaces; YAML takes no tabs"),
        ("anchor", "a plain text that begins with * or & needs quotes"),
        ("flow mapping", "close the { with a }"),
        ("flow sequence", "close the [ with a ]"),
        (
            "mapping values",
            "a text with a colon and a blank in it needs quotes; else look at the indentation",
        ),
        ("block mapping", "keys of one mapping are indented alike"),
        ("quoted scalar", "close the quotes"),
    ]
    .into_iter()
    .find_map(|(part, hint)| info.contains(part).then_some(hint))
}

type Input<'a> = Parser<'a, saphyr_parser::StrInput<'a>>;

struct Builder<'a> {
    file: &'a str,
    /// Of the file; the parser puts what is missing at its end on the line after.
    lines: usize,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

impl Builder<'_> {
    fn next<'i>(&self, parser: &mut Input<'i>) -> Result<Option<(Event<'i>, Span)>> {
        match parser.next_event() {
            None => Ok(None),
            Some(Ok(event)) => Ok(Some(event)),
            Some(Err(error)) => {
                let text = format!("not valid YAML: {}", error.info());
                let problem = self.error(error.marker().line(), &text);
                Err(match yaml_hint(error.info()) {
                    Some(hint) => problem.hint(hint),
                    None => problem,
                })
            }
        }
    }

    fn inner<'i>(&self, parser: &mut Input<'i>, line: usize) -> Result<(Event<'i>, Span)> {
        self.next(parser)?.ok_or_else(|| self.error(line, "not valid YAML: the file ends too early"))
    }

    fn node<'i>(
        &mut self,
        parser: &mut Input<'i>,
        event: Event<'i>,
        span: &Span,
        depth: usize,
    ) -> Result<Node> {
        let line = line(span);
        if depth > DEPTH_MAX {
            return Err(self.error(line, "the file is nested too deeply"));
        }
        self.count(1, line)?;
        let (anchor, value) = match event {
            Event::Alias(id) => {
                let node = self.anchors.get(&id).cloned();
                let mut node =
                    node.ok_or_else(|| self.error(line, "an alias must not stand inside of what it names"))?;
                self.count(size(&node), line)?;
                node.line = line;
                return Ok(node);
            }
            Event::Scalar(text, style, anchor, _) => (anchor, scalar(&text, style)),
            Event::SequenceStart(anchor, _) => (anchor, Value::List(self.list(parser, line, depth)?)),
            Event::MappingStart(anchor, _) => (anchor, Value::Map(self.map(parser, line, depth)?)),
            _ => return Err(self.error(line, "not valid YAML here")),
        };
        let node = Node { line, value };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, parser: &mut Input<'_>, line: usize, depth: usize) -> Result<Vec<Node>> {
        let mut items = Vec::new();
        loop {
            match self.inner(parser, line)? {
                (Event::SequenceEnd, _) => return Ok(items),
                (event, span) => items.push(self.node(parser, event, &span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, parser: &mut Input<'_>, start: usize, depth: usize) -> Result<Vec<Entry>> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut merged: Vec<Entry> = Vec::new();
        loop {
            let (key, line) = match self.inner(parser, start)? {
                (Event::MappingEnd, _) => break,
                (Event::Scalar(text, ..), span) => (text.into_owned(), line(&span)),
                (_, span) => return Err(self.error(line(&span), "a key must be plain text")),
            };
            let (event, span) = self.inner(parser, line)?;
            let node = self.node(parser, event, &span, depth + 1)?;
            if key == "<<" {
                self.merge(&mut merged, node)?;
            } else if entries.iter().any(|entry| entry.key == key) {
                let first = entries.iter().find(|entry| entry.key == key).map_or(0, |entry| entry.line);
                let text = format!("the key {key:?} stands here twice");
                return Err(self
                    .error(line, &text)
                    .hint(format!("the first is on line {first}; keep one of them")));
            } else {
                entries.push(Entry { key, line, node });
            }
        }
        // What is written here wins over what is merged in (yaml.org/type/merge).
        for entry in merged {
            if !entries.iter().any(|known| known.key == entry.key) {
                entries.push(entry);
            }
        }
        Ok(entries)
    }

    fn merge(&self, merged: &mut Vec<Entry>, node: Node) -> Result<()> {
        let sources = match node.value {
            Value::List(items) => items,
            _ => vec![node],
        };
        for source in sources {
            let Value::Map(entries) = source.value else {
                return Err(self.error(source.line, "<< takes a mapping, or a list of mappings"));
            };
            for entry in entries {
                if !merged.iter().any(|known| known.key == entry.key) {
                    merged.push(entry);
                }
            }
        }
        Ok(())
    }

    fn count(&mut self, nodes: usize, line: usize) -> Result<()> {
        self.nodes += nodes;
        if self.nodes > NODES_MAX {
            return Err(self.error(line, "the file is too large with its aliases resolved"));
        }
        Ok(())
    }

    fn error(&self, line: usize, message: &str) -> ComposeError {
        ComposeError {
            file: self.file.to_owned(),
            line: line.min(self.lines),
            path: String::new(),
            message: message.to_owned(),
            hint: None,
            unsupported: false,
        }
    }
}

fn scalar(text: &str, style: ScalarStyle) -> Value {
    let plain = style == ScalarStyle::Plain;
    match text {
        "" | "~" | "null" | "Null" | "NULL" if plain => Value::Null,
        _ => Value::Scalar { text: text.to_owned(), plain },
    }
}

fn line(span: &Span) -> usize {
    span.start.line()
}

fn size(node: &Node) -> usize {
    match &node.value {
        Value::Null | Value::Scalar { .. } => 1,
        Value::List(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Map(entries) => 1 + entries.iter().map(|entry| size(&entry.node)).sum::<usize>(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get<'a>(node: &'a Node, key: &str) -> Option<&'a Node> {
        let Value::Map(entries) = &node.value else { return None };
        entries.iter().find(|entry| entry.key == key).map(|entry| &entry.node)
    }

    #[test]
    fn merge_keys() {
        let text = "x: &x\n  a: 1\n  b: 2\ny: &y {b: 3, c: 4}\nz:\n  <<: [*x, *y]\n  a: 9\n";
        let root = parse("f", text).unwrap();
        let merged = get(&root, "z").unwrap();
        let value = |key: &str| match &get(merged, key).unwrap().value {
            Value::Scalar { text, .. } => text.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!((value("a"), value("b"), value("c")), ("9".into(), "2".into(), "4".into()));
    }

    #[test]
    fn bad_files() {
        let bomb: String = (0..9).fold("a0: &a0 [1,1,1,1,1,1,1,1,1,1]\n".to_owned(), |text, n| {
            let row = vec![format!("*a{n}"); 10].join(",");
            format!("{text}a{}: &a{} [{row}]\n", n + 1, n + 1)
        });
        for (text, expect) in [
            ("a: 1\na: 2", "f:2: the key \"a\" stands here twice"),
            ("a: [1", "f:1: not valid YAML"),
            ("a:\n\t- b", "f:2: not valid YAML"),
            ("a: b\n---\nc: d", "f:2: a compose file is one YAML document"),
            ("a: *x", "f:1: not valid YAML"),
            ("[a]: b", "f:1: a key must be plain text"),
            (&bomb, "f:5: the file is too large with its aliases resolved"),
            (&"[".repeat(100), "f:1: the file is nested too deeply"),
        ] {
            let error = parse("f", text).unwrap_err().to_string();
            assert!(error.starts_with(expect), "{text:.40}: {error}");
        }
        assert!(parse("f", "").unwrap().is_null());
    }
}
