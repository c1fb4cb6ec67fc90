//! `command: echo "a b"`: one text to words, as a shell would cut it, but nothing is expanded.

/// The error says what is wrong.
pub(crate) fn split(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next().ok_or("a ' is never closed")? {
                        '\'' => break,
                        c => word.push(c),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next().ok_or("a \" is never closed")? {
                        '"' => break,
                        '\\' => match chars.next().ok_or("a \" is never closed")? {
                            c @ ('"' | '\\' | '$' | '`') => word.push(c),
                            c => word.extend(['\\', c]),
                        },
                        c => word.push(c),
                    }
                }
            }
            '\\' => word.get_or_insert_default().push(chars.next().ok_or("a \\ stands at the end")?),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    #[test]
    fn words() {
        for (text, expect) in [
            ("a  b", vec!["a", "b"]),
            ("sh -c 'echo \"x y\"'", vec!["sh", "-c", "echo \"x y\""]),
            (r#"a\ b "c\"d\n" ''"#, vec!["a b", "c\"d\\n", ""]),
            ("  ", vec![]),
        ] {
            assert_eq!(super::split(text).unwrap(), expect, "{text}");
        }
        assert!(super::split("'a").is_err() && super::split("\"a").is_err() && super::split("a\\").is_err());
    }
}
