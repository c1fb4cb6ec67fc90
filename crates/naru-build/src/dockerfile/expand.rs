//! Variables and quotes, by the rules of BuildKit's `shell.Lex`: `$v ${v} ${v:-w} ${v-w} ${v:+w} ${v+w}
//! ${v:?e} ${v?e} ${v#p} ${v##p} ${v%p} ${v%%p} ${v/p/r} ${v//p/r}`; single quotes are literal, double
//! quotes keep spaces, the escape character takes the next one as it is.

use crate::dockerfile::shell_pattern::Pattern;

/// What a name stands for; `None`: not set.
pub(crate) type Lookup<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// How deep `${a:-${b:-…}}` may nest.
const NESTING_MAX: usize = 32;

/// One word with its variables expanded and its quotes taken away.
pub(crate) fn expand(word: &str, escape: char, lookup: &Lookup<'_>) -> Result<String, String> {
    let mut lexer = Lexer::new(word, escape, lookup);
    lexer.run(None, 0).map_err(|message| failed(word, &message))?;
    Ok(lexer.out)
}

/// As [`expand`], but the result is split into words at white space that was neither quoted nor escaped.
pub(crate) fn expand_words(text: &str, escape: char, lookup: &Lookup<'_>) -> Result<Vec<String>, String> {
    let mut lexer = Lexer::new(text, escape, lookup);
    lexer.run(None, 0).map_err(|message| failed(text, &message))?;
    lexer.end_word();
    Ok(lexer.words)
}

/// Expands variables but keeps quotes: heredoc contents.
pub(crate) fn expand_text(text: &str, escape: char, lookup: &Lookup<'_>) -> Result<String, String> {
    let mut lexer = Lexer::new(text, escape, lookup);
    lexer.raw_quotes = true;
    lexer.run(None, 0).map_err(|message| failed(text, &message))?;
    Ok(lexer.out)
}

fn failed(text: &str, message: &str) -> String {
    format!("failed to process {text:?}: {message}")
}

struct Lexer<'a> {
    chars: Vec<char>,
    at: usize,
    escape: char,
    lookup: &'a Lookup<'a>,
    raw_quotes: bool,
    raw_escapes: bool,
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
            raw_escapes: false,
            out: String::new(),
            words: Vec::new(),
            word: String::new(),
            in_word: false,
        }
    }

    /// Up to `stop` (which is left unread) or the end.
    fn run(&mut self, stop: Option<char>, depth: usize) -> Result<(), String> {
        if depth > NESTING_MAX {
            return Err("variables nest too deeply".into());
        }
        while let Some(&c) = self.chars.get(self.at) {
            if stop == Some(c) {
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
        if self.raw_escapes {
            self.push(self.escape);
        }
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
                let word = self.nested('}', depth)?;
                let unset = if value.is_some() { "empty" } else { "unset" };
                defaulted(&name, value.filter(|value| !value.is_empty()), kind, word, unset)
                    .ok_or_else(|| format!("unsupported modifier (:{kind}) in substitution"))?
            }
            Some(kind @ ('-' | '+' | '?')) => {
                let word = self.nested('}', depth)?;
                defaulted(&name, value, kind, word, "unset").unwrap_or_else(|| Ok(String::new()))
            }
            Some(kind @ ('#' | '%')) => {
                let greedy = self.chars.get(self.at) == Some(&kind);
                self.at += usize::from(greedy);
                let pattern = Pattern::parse(&self.nested_raw('}', depth)?)?;
                let value = value.unwrap_or_default();
                Ok(if kind == '#' {
                    pattern.cut_prefix(&value, greedy)
                } else {
                    pattern.cut_suffix(&value, greedy)
                })
            }
            Some('/') => {
                let all = self.chars.get(self.at) == Some(&'/');
                self.at += usize::from(all);
                let missing = |_| "syntax error: missing '/' in ${}".to_owned();
                let pattern = self.nested_raw('/', depth).map_err(missing)?;
                let replacement = self.nested_raw('}', depth)?;
                Ok(Pattern::parse(&pattern)?.replace(&value.unwrap_or_default(), &replacement, all))
            }
            Some(other) => Err(format!("unsupported modifier ({other}) in substitution")),
            None => Err("syntax error: missing '}'".into()),
        }
    }

    /// The part of a `${…}` up to `stop`, itself expanded; `stop` is taken too.
    fn nested(&mut self, stop: char, depth: usize) -> Result<String, String> {
        let outer =
            (std::mem::take(&mut self.out), std::mem::take(&mut self.word), self.in_word, self.words.len());
        self.run(Some(stop), depth + 1)?;
        self.at += 1;
        self.words.truncate(outer.3);
        (self.word, self.in_word) = (outer.1, outer.2);
        Ok(std::mem::replace(&mut self.out, outer.0))
    }

    /// As [`Self::nested`], escapes kept: they are the pattern's own.
    fn nested_raw(&mut self, stop: char, depth: usize) -> Result<String, String> {
        let outer = std::mem::replace(&mut self.raw_escapes, true);
        let text = self.nested(stop, depth);
        self.raw_escapes = outer;
        text
    }

    /// `[a-zA-Z_][a-zA-Z0-9_]*`, or a number or one special parameter.
    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(c) = self.chars.get(self.at).filter(|c| c.is_ascii_digit()) {
            name.push(*c);
            self.at += 1;
        }
        if !name.is_empty() {
            return name;
        }
        while let Some(&c) = self.chars.get(self.at) {
            let fits = c == '_' || c.is_alphabetic() || (c.is_ascii_digit() && !name.is_empty());
            if !fits {
                break;
            }
            name.push(c);
            self.at += 1;
        }
        if name.is_empty()
            && let Some(c) =
                self.chars.get(self.at).filter(|c| matches!(c, '@' | '*' | '#' | '?' | '-' | '$' | '!'))
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
        // A quoted empty word is none, as in BuildKit.
        if self.in_word && !self.word.is_empty() {
            self.words.push(std::mem::take(&mut self.word));
        }
        self.word.clear();
        self.in_word = false;
    }
}

/// The value of `${name:-word}` and its like; `value` is `None` when it counts as not set, which an error
/// calls `unset`. `None`: there is no such modifier.
fn defaulted(
    name: &str,
    value: Option<String>,
    kind: char,
    word: String,
    unset: &str,
) -> Option<Result<String, String>> {
    Some(match (kind, value) {
        ('-' | '?', Some(value)) => Ok(value),
        ('+', None) => Ok(String::new()),
        ('-', None) | ('+', Some(_)) => Ok(word),
        ('?', None) if word.is_empty() => Err(format!("{name}: is not allowed to be {unset}")),
        ('?', None) => Err(format!("{name}: {word}")),
        _ => return None,
    })
}
