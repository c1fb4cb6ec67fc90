//! Splitting an instruction's rest into words, `key=value` pairs and JSON arrays. Quotes and escapes stay
//! in the words: [`super::expand`] takes them away together with the variables.

/// The instruction's name and the rest behind it.
pub(crate) fn keyword(line: &str) -> (&str, &str) {
    let line = line.trim_start();
    let end = line.find([' ', '\t']).unwrap_or(line.len());
    (&line[..end], line[end..].trim())
}

/// Words separated by white space that is neither quoted nor escaped.
pub(crate) fn split_quoted(text: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote: Option<char> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match quote {
            None if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            None if c == '"' || c == '\'' => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ => {}
        }
        word.push(c);
        // Inside single quotes nothing escapes, as in a shell.
        if c == escape && quote != Some('\'') {
            word.extend(chars.next());
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// Words separated by white space, quotes having no meaning (COPY, EXPOSE, VOLUME).
pub(crate) fn split_plain(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// The exec form: a JSON array of strings. `None`: it isn't an array, so it is the shell form.
pub(crate) fn json_array(text: &str) -> Result<Option<Vec<String>>, &'static str> {
    if !text.trim_start().starts_with('[') {
        return Ok(None);
    }
    let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(text.trim()) else { return Ok(None) };
    let words = values.into_iter().map(|value| match value {
        serde_json::Value::String(word) => Some(word),
        _ => None,
    });
    let not_strings = "when using JSON array syntax, arrays must be comprised of strings only";
    words.collect::<Option<Vec<_>>>().map(Some).ok_or(not_strings)
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PairsError {
    /// ENV or LABEL with a key only.
    Missing(String),
    /// `A=b c`: a word without `=` among pairs.
    NotPair(String),
}

/// `key=value key=value …`, or the old `key the rest`.
pub(crate) fn pairs(rest: &str, escape: char) -> Result<Vec<(String, String)>, PairsError> {
    let words = split_quoted(rest, escape);
    let Some(first) = words.first() else { return Ok(Vec::new()) };
    if !first.contains('=') {
        let value = rest.trim_start().strip_prefix(first.as_str()).unwrap_or_default().trim();
        if value.is_empty() {
            return Err(PairsError::Missing(first.clone()));
        }
        return Ok(vec![(first.clone(), value.to_owned())]);
    }
    let pair = |word: &String| {
        let (key, value) = word.split_once('=').ok_or_else(|| PairsError::NotPair(word.clone()))?;
        Ok((key.to_owned(), value.to_owned()))
    };
    words.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_words() {
        for (text, expect) in [
            ("a b  c", vec!["a", "b", "c"]),
            ("a=\"b c\" d", vec!["a=\"b c\"", "d"]),
            (r"a=b\ c d", vec![r"a=b\ c", "d"]),
            (r"a='b\' c", vec![r"a='b\'", "c"]),
            (r#"a="b\" c" d"#, vec![r#"a="b\" c""#, "d"]),
            ("", vec![]),
            ("\"open end", vec!["\"open end"]),
        ] {
            assert_eq!(split_quoted(text, '\\'), expect, "{text}");
        }
    }

    #[test]
    fn exec_form() {
        assert_eq!(json_array(r#"["a", "b c"]"#), Ok(Some(vec!["a".into(), "b c".into()])));
        assert_eq!(json_array("[]"), Ok(Some(vec![])));
        for shell in ["a b", "['a']", "[\"a\"", "[ -f x ] && y"] {
            assert_eq!(json_array(shell), Ok(None), "{shell}");
        }
        assert!(json_array("[1]").is_err());
    }

    #[test]
    fn key_value_pairs() {
        assert_eq!(
            pairs("a=1 b=\"2 3\"", '\\').unwrap(),
            [("a".into(), "1".into()), ("b".into(), "\"2 3\"".into())]
        );
        assert_eq!(pairs("a 1 2=3", '\\').unwrap(), [("a".into(), "1 2=3".into())]);
        assert_eq!(pairs("a=", '\\').unwrap(), [("a".into(), String::new())]);
        assert_eq!(pairs("a", '\\'), Err(PairsError::Missing("a".into())));
        assert_eq!(pairs("a=1 b", '\\'), Err(PairsError::NotPair("b".into())));
    }
}
