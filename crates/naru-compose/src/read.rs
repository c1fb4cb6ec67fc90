//! A node of the file together with where it is, and the kinds of value it may be read as.

use crate::error::{ComposeError, Result};
use crate::yaml::{Entry, Node, Value};
use naru_types::quantity::{parse_bytes, parse_duration};
use naru_types::suggest::nearest;

/// A key that the format has and naru doesn't honour, and what to do instead.
pub(crate) type Refused = (&'static str, &'static str);

#[derive(Clone, Debug)]
pub(crate) struct At<'a> {
    pub(crate) file: &'a str,
    /// Such as `services.web.ports[0]`.
    pub(crate) path: String,
    pub(crate) node: &'a Node,
}

/// A mapping all of whose keys are known.
#[derive(Clone, Debug)]
pub(crate) struct Table<'a> {
    pub(crate) at: At<'a>,
    entries: &'a [Entry],
}

impl<'a> At<'a> {
    pub(crate) fn error(&self, message: impl Into<String>) -> ComposeError {
        ComposeError {
            file: self.file.to_owned(),
            line: self.node.line,
            path: self.path.clone(),
            message: message.into(),
            hint: None,
            unsupported: false,
        }
    }

    pub(crate) fn unsupported(&self, message: impl Into<String>, hint: &str) -> ComposeError {
        ComposeError { unsupported: true, ..self.error(message).hint(hint) }
    }

    /// A mapping of exactly these keys (and `x-…`).
    pub(crate) fn table(&self, known: &[&'static str], refused: &[Refused]) -> Result<Table<'a>> {
        let entries = self.mapping()?;
        for entry in entries {
            if known.contains(&entry.key.as_str())
                || (entry.key.starts_with("x-") && !entry.key.starts_with("x-naru"))
            {
                continue;
            }
            let here = At { file: self.file, path: self.join(&entry.key), node: &entry.node };
            let here =
                |error: ComposeError| ComposeError { line: entry.line, ..error }.clone_with(&here.path);
            if let Some((_, hint)) = refused.iter().find(|(key, _)| *key == entry.key) {
                return Err(here(self.unsupported("not supported", hint)));
            }
            let all = known.iter().copied().chain(refused.iter().map(|(key, _)| *key));
            let message = match nearest(&entry.key, all) {
                Some(meant) => format!("unknown key; did you mean {meant:?}?"),
                None => "unknown key".to_owned(),
            };
            return Err(here(self.error(message)).hint(format!("known here: {}", known.join(", "))));
        }
        Ok(Table { at: self.clone(), entries })
    }

    /// A mapping of any keys.
    pub(crate) fn entries(&self) -> Result<Vec<(String, At<'a>)>> {
        let child = |entry: &'a Entry| {
            (entry.key.clone(), At { file: self.file, path: self.join(&entry.key), node: &entry.node })
        };
        Ok(self.mapping()?.iter().map(child).collect())
    }

    /// A list's items.
    pub(crate) fn items(&self) -> Result<Vec<At<'a>>> {
        let Value::List(items) = &self.node.value else {
            return Err(self.error("must be a list").hint("write one `- item` a line, or [a, b]"));
        };
        let child = |(index, node)| At { file: self.file, path: format!("{}[{index}]", self.path), node };
        Ok(items.iter().enumerate().map(child).collect())
    }

    pub(crate) fn is_list(&self) -> bool {
        matches!(self.node.value, Value::List(_))
    }

    pub(crate) fn is_map(&self) -> bool {
        matches!(self.node.value, Value::Map(_))
    }

    /// Text, numbers and truth values as they are written.
    pub(crate) fn text(&self) -> Result<&'a str> {
        match &self.node.value {
            Value::Scalar { text, .. } => Ok(text),
            Value::Null => Err(self.error("must not be empty").hint("write a value, or remove the key")),
            Value::List(_) | Value::Map(_) => {
                Err(self.error("must be a text").hint("write one value behind the colon"))
            }
        }
    }

    /// As [`At::text`], by value, and nothing counts as the empty text.
    pub(crate) fn string(&self) -> Result<String> {
        if self.node.is_null() { Ok(String::new()) } else { self.text().map(str::to_owned) }
    }

    pub(crate) fn bool(&self) -> Result<bool> {
        match self.text()? {
            "true" | "True" | "TRUE" | "yes" | "on" => Ok(true),
            "false" | "False" | "FALSE" | "no" | "off" => Ok(false),
            other => {
                Err(self.error(format!("must be true or false, not {other:?}")).hint("write true or false"))
            }
        }
    }

    pub(crate) fn number<T: std::str::FromStr>(&self) -> Result<T> {
        let text = self.text()?;
        text.parse().map_err(|_| {
            self.error(format!("must be a whole number in range, not {text:?}"))
                .hint("write digits only, such as 10")
        })
    }

    /// `64m`, `1.5gb`, or bytes.
    pub(crate) fn bytes(&self) -> Result<i64> {
        let text = self.text()?;
        parse_bytes(text).ok_or_else(|| {
            self.error(format!("invalid size {text:?}")).hint("write 64m, 1.5g or a number of bytes")
        })
    }

    /// Nanoseconds.
    pub(crate) fn duration(&self) -> Result<i64> {
        let text = self.text()?;
        parse_duration(text)
            .ok_or_else(|| self.error(format!("invalid duration {text:?}")).hint("write 30s, 1m30s or 500ms"))
    }

    /// A list of texts, or one text that counts as a list of one.
    pub(crate) fn one_or_more(&self) -> Result<Vec<String>> {
        if self.is_list() { self.strings() } else { Ok(vec![self.text()?.to_owned()]) }
    }

    pub(crate) fn strings(&self) -> Result<Vec<String>> {
        self.items()?.iter().map(|item| item.text().map(str::to_owned)).collect()
    }

    /// `{KEY: value}` or `[KEY=value]`, in the file's order; `None` for a key without a value.
    pub(crate) fn pairs(&self) -> Result<Vec<(String, Option<String>)>> {
        if self.is_list() {
            let pair = |item: At<'_>| {
                let text = item.text()?;
                let (key, value) =
                    text.split_once('=').map_or((text, None), |(key, value)| (key, Some(value.to_owned())));
                if key.is_empty() {
                    return Err(item.error("the key is empty").hint("write KEY=value"));
                }
                Ok((key.to_owned(), value))
            };
            return self.items()?.into_iter().map(pair).collect();
        }
        let pair = |(key, value): (String, At<'_>)| {
            let value = if value.node.is_null() { None } else { Some(value.text()?.to_owned()) };
            Ok((key, value))
        };
        self.entries()?.into_iter().map(pair).collect()
    }

    /// As [`At::pairs`], a missing value being an empty one.
    pub(crate) fn labels(&self) -> Result<std::collections::BTreeMap<String, String>> {
        Ok(self.pairs()?.into_iter().map(|(key, value)| (key, value.unwrap_or_default())).collect())
    }

    fn mapping(&self) -> Result<&'a [Entry]> {
        match &self.node.value {
            Value::Map(entries) => Ok(entries),
            Value::Null => Ok(&[]),
            Value::Scalar { .. } | Value::List(_) => {
                Err(self.error("must be a mapping").hint("write `key: value` lines, indented beneath it"))
            }
        }
    }

    fn join(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

impl<'a> Table<'a> {
    /// The value of a key; a key with nothing behind it counts as missing.
    pub(crate) fn get(&self, key: &str) -> Option<At<'a>> {
        self.get_or_null(key).filter(|at| !at.node.is_null())
    }

    pub(crate) fn get_or_null(&self, key: &str) -> Option<At<'a>> {
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        Some(At { file: self.at.file, path: self.at.join(key), node: &entry.node })
    }

    /// Reads a key, if it is there, by one of [`At`]'s readers.
    pub(crate) fn read<T>(&self, key: &str, reader: impl FnOnce(&At<'a>) -> Result<T>) -> Result<Option<T>> {
        self.get(key).map(|at| reader(&at)).transpose()
    }

    pub(crate) fn string(&self, key: &str) -> Result<Option<String>> {
        self.read(key, At::string)
    }

    pub(crate) fn flag(&self, key: &str) -> Result<bool> {
        Ok(self.read(key, At::bool)?.unwrap_or(false))
    }
}

impl ComposeError {
    fn clone_with(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }
}
