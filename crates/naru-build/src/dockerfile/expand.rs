//! Variables and quotes, by the rules of BuildKit's `shell.Lex`: `$v ${v} ${v:-w} ${v-w} ${v:+w} ${v+w}
//! ${v:?e} ${v?e} ${v#p} ${v##p} ${v%p} ${v%%p} ${v/p/r} ${v//p/r}`; single quotes are literal, double
//! quotes keep spaces, the escape character takes the next one as it is.

use naru_types::pattern::glob_matches;

/// What a name stands for; `None`: not set.
pub(crate) type Lookup<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// How deep `${a:-${b:-…}}` may nest.
const NESTING_MAX: usize = 32;

/// One word with its variables expanded and its quotes taken away.
pub(crate) fn expand(word: &str, escape: char, lookup: &Lookup<'_>) -> Result<String, String> {
    let mut lexer = Lexer::new(word, escape, lookup);
    lexer.run(None, 0)?;
    Ok(lexer.out)
}

/// As [`expand`], but the result is split into words at white space that was neither quoted nor escaped.
pub(crate) fn expand_words(text: &str, escape: char, lookup: &Lookup<'_>) -> Result<Vec<String>, String> {
    let mut lexer = Lexer::new(text, escape, lookup);
    lexer.run(None, 0)?;
    lexer.end_word();
    Ok(lexer.words)
}

/// Expands variables but keeps quotes: heredoc contents.
pub(crate) fn expand_text(text: &str, escape: char, lookup: &Lookup<'_>) -> Result<String, String> {
    let mut lexer = Lexer::new(text, escape, lookup);
    lexer.raw_quotes = true;
    lexer.run(None, 0)?;
    Ok(lexer.out)
}

struct Lexer<'a> {
    chars: Vec<char>,
    at: usize,
    escape: char,
    lookup: &'a Lookup<'a>,
    raw_quotes: bool,
    /// Everything, unsplit.
    out: String,
    words: Vec<String>,
    word: String,
    /// The word exists even when empty (it was quoted).
    in_word: bool,
}

impl<'a> Lexer<'a> {
    fn new(text: &str, escape: char, lookup: &'a Lookup<'a>) -> Self {
        Self {
            chars: text.chars().collect(),
            at: 0,
            escape,
            lookup,
            raw_quotes: false,
            out: String::new(),
            words: Vec::new(),
            word: String::new(),
            in_word: false,
        }
    }

    /// Up to `stop` (which is left unread) or the end.
    fn run(&mut self, stop: Option<&[char]>, depth: usize) -> Result<(), String> {
        if depth > NESTING_MAX {
            return Err("variables nest too deeply".into());
        }
        while let Some(&c) = self.chars.get(self.at) {
            if stop.is_some_and(|stop| stop.contains(&c)) {
                return Ok(());
            }
            match c {
                '\'' if !self.raw_quotes => self.single_quoted()?,
                '"' if !self.raw_quotes => self.double_quoted(depth)?,
                '$' => {
                    let value = self.variable(depth)?;
                    self.push_splitting(&value);
                }
                _ if c == self.escape => self.escaped(),
                _ => {
                    self.at += 1;
                    if c.is_whitespace() && stop.is_none() {
                        self.out.push(c);
                        self.end_word();
                    } else {
                        self.push(c);
                    }
                }
            }
        }
        if stop.is_some() { Err("syntax error: missing '}'".into()) } else { Ok(()) }
    }

    fn escaped(&mut self) {
        self.at += 1;
        match self.chars.get(self.at).copied() {
            // In a heredoc only a variable's sign can be escaped.
            Some(next) if self.raw_quotes && next != '$' && next != self.escape => self.push(self.escape),
            Some(next) => {
                self.at += 1;
                self.push(next);
            }
            None => self.push(self.escape),
        }
    }

    fn single_quoted(&mut self) -> Result<(), String> {
        self.at += 1;
        self.in_word = true;
        loop {
            let c =
                self.take().ok_or("unexpected end of statement while looking for matching single-quote")?;
            if c == '\'' {
                return Ok(());
            }
            self.push(c);
        }
    }

    fn double_quoted(&mut self, depth: usize) -> Result<(), String> {
        const OPEN: &str = "unexpected end of statement while looking for matching double-quote";
        self.at += 1;
        self.in_word = true;
        loop {
            match *self.chars.get(self.at).ok_or(OPEN)? {
                '"' => {
                    self.at += 1;
                    return Ok(());
                }
                '$' => {
                    let value = self.variable(depth)?;
                    self.push_str(&value);
                }
                c if c == self.escape => {
                    self.at += 1;
                    let next = self.take().ok_or(OPEN)?;
                    if !(next == '"' || next == '$' || next == self.escape) {
                        self.push(self.escape);
                    }
                    self.push(next);
                }
                c => {
                    self.at += 1;
                    self.push(c);
                }
            }
        }
    }

    /// At `$`: its value.
    fn variable(&mut self, depth: usize) -> Result<String, String> {
        self.at += 1;
        if self.chars.get(self.at) != Some(&'{') {
            let name = self.name();
            return Ok(if name.is_empty() { "$".into() } else { (self.lookup)(&name).unwrap_or_default() });
        }
        self.at += 1;
        let name = self.name();
        if name.is_empty() {
            return Err("syntax error: bad substitution".into());
        }
        let value = (self.lookup)(&name);
        match self.take() {
            Some('}') => Ok(value.unwrap_or_default()),
            Some(':') => {
                let kind = self.take().ok_or("syntax error: missing ':' in substitution")?;
                let word = self.nested(&['}'], depth)?;
                self.take();
                Self::defaulted(&name, value.filter(|value| !value.is_empty()), kind, word)
            }
            Some(kind @ ('-' | '+' | '?')) => {
                let word = self.nested(&['}'], depth)?;
                self.take();
                Self::defaulted(&name, value, kind, word)
            }
            Some(kind @ ('#' | '%')) => {
                let greedy = self.chars.get(self.at) == Some(&kind);
                self.at += usize::from(greedy);
                let pattern = self.nested(&['}'], depth)?;
                self.take();
                Ok(trim(&value.unwrap_or_default(), &pattern, kind == '#', greedy))
            }
            Some('/') => {
                let all = self.chars.get(self.at) == Some(&'/');
                self.at += usize::from(all);
                let pattern = self.nested(&['/', '}'], depth)?;
                let replacement = if self.take() == Some('/') {
                    let text = self.nested(&['}'], depth)?;
                    self.take();
                    text
                } else {
                    String::new()
                };
                Ok(replace(&value.unwrap_or_default(), &pattern, &replacement, all))
            }
            Some(other) => Err(format!("unsupported modifier ({other}) in substitution")),
            None => Err("syntax error: missing '}'".into()),
        }
    }

    fn defaulted(name: &str, value: Option<String>, kind: char, word: String) -> Result<String, String> {
        match (kind, value) {
            ('-' | '?', Some(value)) => Ok(value),
            ('+', None) => Ok(String::new()),
            ('-', None) | ('+', Some(_)) => Ok(word),
            ('?', None) if word.is_empty() => Err(format!("{name}: is not allowed to be unset")),
            ('?', None) => Err(format!("{name}: {word}")),
            (other, _) => Err(format!("unsupported modifier ({other}) in substitution")),
        }
    }

    /// The part of a `${…}` up to `stop`, itself expanded.
    fn nested(&mut self, stop: &[char], depth: usize) -> Result<String, String> {
        let outer =
            (std::mem::take(&mut self.out), std::mem::take(&mut self.word), self.in_word, self.words.len());
        self.run(Some(stop), depth + 1)?;
        self.words.truncate(outer.3);
        (self.word, self.in_word) = (outer.1, outer.2);
        Ok(std::mem::replace(&mut self.out, outer.0))
    }

    /// `[a-zA-Z_][a-zA-Z0-9_]*`, or one digit or special parameter.
    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(&c) = self.chars.get(self.at) {
            let fits = c == '_' || c.is_ascii_alphabetic() || (c.is_ascii_digit() && !name.is_empty());
            if !fits {
                break;
            }
            name.push(c);
            self.at += 1;
        }
        if name.is_empty()
            && let Some(c) = self
                .chars
                .get(self.at)
                .filter(|c| c.is_ascii_digit() || matches!(c, '@' | '*' | '#' | '?' | '-' | '$' | '!'))
        {
            name.push(*c);
            self.at += 1;
        }
        name
    }

    fn take(&mut self) -> Option<char> {
        let c = self.chars.get(self.at).copied();
        self.at += usize::from(c.is_some());
        c
    }

    fn push(&mut self, c: char) {
        self.out.push(c);
        self.word.push(c);
        self.in_word = true;
    }

    fn push_str(&mut self, text: &str) {
        self.out.push_str(text);
        self.word.push_str(text);
    }

    /// The value of an unquoted variable: its white space separates words.
    fn push_splitting(&mut self, text: &str) {
        self.out.push_str(text);
        for c in text.chars() {
            if c.is_whitespace() {
                self.end_word();
            } else {
                self.word.push(c);
                self.in_word = true;
            }
        }
    }

    fn end_word(&mut self) {
        if self.in_word {
            self.words.push(std::mem::take(&mut self.word));
        }
        self.word.clear();
        self.in_word = false;
    }
}

/// `${v#p}` and its like: the shortest or longest matching prefix or suffix is cut.
fn trim(value: &str, pattern: &str, prefix: bool, greedy: bool) -> String {
    let mut cuts: Vec<usize> = value.char_indices().map(|(index, _)| index).chain([value.len()]).collect();
    // Cuts in the order in which they are tried: from what removes least, or from what removes most.
    if prefix == greedy {
        cuts.reverse();
    }
    for cut in cuts {
        let (head, tail) = value.split_at(cut);
        if glob_matches(pattern, if prefix { head } else { tail }) {
            return if prefix { tail } else { head }.to_owned();
        }
    }
    value.to_owned()
}

/// `${v/p/r}`: the first longest match is replaced, or with `all` each.
fn replace(value: &str, pattern: &str, replacement: &str, all: bool) -> String {
    let mut out = String::new();
    let mut rest = value;
    while !rest.is_empty() {
        let ends = rest.char_indices().map(|(index, c)| index + c.len_utf8()).rev();
        if let Some(end) = ends.into_iter().find(|end| glob_matches(pattern, &rest[..*end])) {
            out.push_str(replacement);
            rest = &rest[end..];
            if !all {
                break;
            }
        } else if let Some(c) = rest.chars().next() {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    out.push_str(rest);
    out
}
