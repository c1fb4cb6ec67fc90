//! Patterns of paths, in the two dialects that Docker has: Go's `filepath.Match` for the sources of COPY, and on top of it
//! moby's `**` (moby/patternmatcher) for `.dockerignore` and `--exclude`.
//!
//! Not a glob library's: those treat `{}`, leading dots or case differently.

/// A malformed pattern: an open `[` or a lone `\` at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadPattern;

/// A pattern that is read once and matched often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Form);

/// Most patterns of `.dockerignore` are one of the first three, which are compared as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    Literal(String),
    /// `lib/**`: the text before the stars.
    Beginning(String),
    /// `**/lib`: the text after the stars.
    End(String),
    Tokens(Vec<Token>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Char(char),
    /// `?`: anything but `/`.
    Any,
    /// `*`: any number of them.
    Star,
    /// `**` or `**/` before something: nothing, or all up to a `/`.
    Descend,
    /// `**` at the end: everything.
    Rest,
    Class(Class),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Class {
    negated: bool,
    ranges: Vec<(char, char)>,
}

impl Pattern {
    /// Go's dialect: `*`, `?` and classes, none of which matches `/`; several stars are one.
    pub fn go(text: &str) -> Result<Self, BadPattern> {
        Self::read(text, false)
    }

    /// moby's dialect: `**` matches any number of directories. Where it stands at the end it matches everything; at the
    /// beginning of a pattern without other wildcards it does so too, thus `**b` matches `ab` though `a**b` does not
    /// match `axb`.
    pub fn moby(text: &str) -> Result<Self, BadPattern> {
        Self::read(text, true)
    }

    fn read(text: &str, descends: bool) -> Result<Self, BadPattern> {
        if !is_glob(text) {
            return Ok(Self(Form::Literal(text.to_owned())));
        }
        if descends {
            if let Some(end) = text.strip_prefix("**").filter(|end| !end.is_empty() && !is_glob(end)) {
                return Ok(Self(Form::End(end.to_owned())));
            }
            if let Some(beginning) = text.strip_suffix("**").filter(|beginning| !is_glob(beginning)) {
                return Ok(Self(Form::Beginning(beginning.to_owned())));
            }
        }
        let mut rest: &[char] = &text.chars().collect::<Vec<_>>();
        let mut tokens = Vec::new();
        while let Some((first, after)) = rest.split_first() {
            let token;
            (token, rest) = match (first, after) {
                ('*', ['*', '/', after @ ..] | ['*', after @ ..]) if descends => {
                    (if after.is_empty() { Token::Rest } else { Token::Descend }, after)
                }
                ('*', after) => (Token::Star, after),
                ('?', after) => (Token::Any, after),
                ('\\', [escaped, after @ ..]) => (Token::Char(*escaped), after),
                ('\\', []) => return Err(BadPattern),
                ('[', after) => class(after).map(|(class, after)| (Token::Class(class), after))?,
                (plain, after) => (Token::Char(*plain), after),
            };
            tokens.push(token);
        }
        Ok(Self(Form::Tokens(tokens)))
    }

    /// Whether all of `name` matches. Time and room are at most the product of both lengths.
    pub fn matches(&self, name: &str) -> bool {
        match &self.0 {
            Form::Literal(text) => name == text,
            Form::Beginning(text) => name.starts_with(text.as_str()),
            Form::End(text) => name.ends_with(text.as_str()) || text.strip_prefix('/') == Some(name),
            Form::Tokens(tokens) => matches(tokens, &name.chars().collect::<Vec<_>>()),
        }
    }
}

/// Whether `pattern` has any special character.
pub fn is_glob(pattern: &str) -> bool {
    pattern.contains(['*', '?', '[', '\\'])
}

/// The class that begins after a `[`, and what follows it.
fn class(text: &[char]) -> Result<(Class, &[char]), BadPattern> {
    let mut class = Class::default();
    let mut rest = text;
    if let ['^', after @ ..] = rest {
        (class.negated, rest) = (true, after);
    }
    loop {
        if let [']', after @ ..] = rest
            && !class.ranges.is_empty()
        {
            return Ok((class, after));
        }
        let low;
        (low, rest) = class_char(rest)?;
        let mut high = low;
        if let ['-', after @ ..] = rest {
            (high, rest) = class_char(after)?;
        }
        class.ranges.push((low, high));
    }
}

fn class_char(text: &[char]) -> Result<(char, &[char]), BadPattern> {
    match text {
        ['\\', escaped, rest @ ..] => Ok((*escaped, rest)),
        ['-' | ']' | '\\', ..] | [] => Err(BadPattern),
        [plain, rest @ ..] => Ok((*plain, rest)),
    }
}

impl Class {
    fn takes(&self, c: char) -> bool {
        c != '/' && self.ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != self.negated
    }
}

/// Goes through the tokens with the set of lengths of `name` that those so far can match.
fn matches(tokens: &[Token], name: &[char]) -> bool {
    let mut reached = vec![false; name.len() + 1];
    reached[0] = true;
    for token in tokens {
        let mut next = vec![false; name.len() + 1];
        // Whether any shorter length was reached.
        let mut begun = false;
        for at in 0..=name.len() {
            let last = at.checked_sub(1).map(|at| (at, name[at]));
            next[at] = match token {
                Token::Char(c) => last.is_some_and(|(before, last)| reached[before] && last == *c),
                Token::Any => last.is_some_and(|(before, last)| reached[before] && last != '/'),
                Token::Class(class) => {
                    last.is_some_and(|(before, last)| reached[before] && class.takes(last))
                }
                Token::Star => reached[at] || last.is_some_and(|(before, last)| next[before] && last != '/'),
                Token::Descend => reached[at] || (begun && last.is_some_and(|(_, last)| last == '/')),
                Token::Rest => reached[at] || begun,
            };
            begun |= reached[at];
        }
        reached = next;
    }
    reached[name.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [(&str, &str, bool); 26] = [
        ("abc", "abc", true),
        ("*", "abc", true),
        ("*c", "abc", true),
        ("a*", "a", true),
        ("a*", "ab/c", false),
        ("a*/b", "abc/b", true),
        ("a*/b", "a/c/b", false),
        ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
        ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", false),
        ("a*b?c*x", "abxbbxdbxebxczzx", true),
        ("a*b?c*x", "abxbbxdbxebxczzy", false),
        ("ab[c]", "abc", true),
        ("ab[b-d]", "abc", true),
        ("ab[e-g]", "abc", false),
        ("ab[^c]", "abc", false),
        ("ab[^e-g]", "abc", true),
        (r"a\*b", "a*b", true),
        (r"a\*b", "ab", false),
        ("a?b", "a☺b", true),
        ("a???b", "a☺b", false),
        ("a[^a]b", "a☺b", true),
        ("a?b", "a/b", false),
        ("a*b", "a/b", false),
        (r"[\]a]", "]", true),
        (r"[x\-]", "-", true),
        ("*.go", ".go", true),
    ];
    /// As moby/patternmatcher answers.
    const MOBY: [(&str, &str, bool); 24] = [
        ("**", "a/b", true),
        ("**/x", "x", true),
        ("**/x", "a/b/x", true),
        ("**/x", "a/bx", false),
        ("a/**", "a/b/c", true),
        ("a/**", "a/", true),
        ("a/**", "a", false),
        ("a**", "ab/c", true),
        ("a/**/b", "a/b", true),
        ("a/**/b", "a/x/y/b", true),
        ("a/**/b", "a/xb", false),
        ("**/*.rs", "src/a/b.rs", true),
        ("**/*.rs", ".rs", true),
        ("a**/*c/**", "a/bc/x", true),
        ("a**/*c/**", "abc/x", true),
        ("**b", "ab", true),
        ("**b", "x/ab", true),
        ("a**b", "axb", false),
        ("a**b", "ax/b", true),
        ("a**b", "ab", true),
        ("**a*", "xa", false),
        ("**a*", "x/ab", true),
        ("**/a/**/b?", "x/a/bc", true),
        ("***", "a", true),
    ];

    #[test]
    fn like_filepath_match() {
        for (pattern, name, expect) in BOTH {
            assert_eq!(Pattern::go(pattern).unwrap().matches(name), expect, "{pattern} {name}");
            assert_eq!(Pattern::moby(pattern).unwrap().matches(name), expect, "{pattern} {name}");
        }
        assert!(Pattern::go("a**b").unwrap().matches("axb"));
        assert!(!Pattern::go("**").unwrap().matches("a/b"));
        for bad in ["[", "[]a]", "[-]", "[x-]", "[^", "[a-", r"a\", "a["] {
            assert_eq!(Pattern::go(bad), Err(BadPattern), "{bad}");
            assert_eq!(Pattern::moby(bad), Err(BadPattern), "{bad}");
        }
    }

    #[test]
    fn like_patternmatcher() {
        for (pattern, name, expect) in MOBY {
            assert_eq!(Pattern::moby(pattern).unwrap().matches(name), expect, "{pattern} {name}");
        }
    }

    #[test]
    fn time_is_bounded() {
        let pattern = Pattern::go(&format!("{}b", "a*".repeat(40))).unwrap();
        assert!(!pattern.matches(&"a".repeat(4000)));
        let pattern = Pattern::moby(&format!("{}b", "**/a*".repeat(20))).unwrap();
        assert!(!pattern.matches(&"a/".repeat(400)));
    }
}
