//! The patterns of `${v#p}`, `${v%p}` and `${v/p/r}`: `*`, `?` and escapes; brackets are plain characters,
//! as in BuildKit. Neither sign matches a line's end.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Star,
    Any,
    Char(char),
}

pub(crate) struct Pattern(Vec<Token>);

impl Pattern {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut tokens = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            tokens.push(match c {
                '*' => Token::Star,
                '?' => Token::Any,
                '\\' => match chars.next() {
                    Some(c @ ('}' | '/' | '*' | '?' | '\\')) => Token::Char(c),
                    other => {
                        let escape: String = other.into_iter().collect();
                        return Err(format!(
                            "invalid pattern ({text}) in substitution: invalid escape '\\{escape}'"
                        ));
                    }
                },
                c => Token::Char(c),
            });
        }
        Ok(Self(tokens))
    }

    /// `value` without its shortest or, `greedy`, longest beginning that matches.
    pub(crate) fn cut_prefix(&self, value: &str, greedy: bool) -> String {
        let chars: Vec<char> = value.chars().collect();
        let cut = prefix(&self.0, &chars, greedy).unwrap_or(0);
        chars[cut..].iter().collect()
    }

    /// `value` without its shortest or, `greedy`, longest end that matches.
    pub(crate) fn cut_suffix(&self, value: &str, greedy: bool) -> String {
        let tokens: Vec<Token> = self.0.iter().rev().copied().collect();
        let chars: Vec<char> = value.chars().rev().collect();
        let cut = prefix(&tokens, &chars, greedy).unwrap_or(0);
        chars[cut..].iter().rev().collect()
    }

    /// `value` with its first longest match, or with `all` each, replaced.
    pub(crate) fn replace(&self, value: &str, replacement: &str, all: bool) -> String {
        let chars: Vec<char> = value.chars().collect();
        let mut out = String::new();
        let mut at = 0;
        while at < chars.len() {
            match prefix(&self.0, &chars[at..], true).filter(|length| *length > 0) {
                Some(length) => {
                    out.push_str(replacement);
                    at += length;
                    if !all {
                        break;
                    }
                }
                None => {
                    out.push(chars[at]);
                    at += 1;
                }
            }
        }
        out.extend(&chars[at..]);
        out
    }
}

/// The length of the shortest or longest beginning of `chars` that matches all of `tokens`.
fn prefix(tokens: &[Token], chars: &[char], greedy: bool) -> Option<usize> {
    // Which lengths the tokens so far can match; time and room are tokens × characters, whatever the pattern.
    let mut reached = vec![false; chars.len() + 1];
    reached[0] = true;
    for token in tokens {
        let mut next = vec![false; chars.len() + 1];
        for at in 0..reached.len() {
            if *token == Token::Star {
                next[at] = reached[at] || (at > 0 && next[at - 1] && chars[at - 1] != '\n');
            } else if at > 0 && reached[at - 1] {
                next[at] = match token {
                    Token::Char(c) => chars[at - 1] == *c,
                    _ => chars[at - 1] != '\n',
                };
            }
        }
        reached = next;
    }
    let found = |length: &usize| reached[*length];
    if greedy { (0..reached.len()).rev().find(found) } else { (0..reached.len()).find(found) }
}
