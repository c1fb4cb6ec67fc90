//! `.dockerignore`: what it leaves out, against a slow model of moby/patternmatcher's regular expressions.
//!
//! An input is a path on the first line and the rules after it.

use crate::Target;
use crate::random::Random;
use naru_types::dockerignore::Ignore;
use std::path::Path;

const PIECES: [&str; 12] = ["a", "b", "ab", "c.d", "*", "**", "?", "a*", "*b", "**b", "a**", "[ab]"];
const PATH_PARTS: [&str; 6] = ["a", "b", "ab", "aab", "c.d", "xb"];
/// Largest inputs that the model is asked about: it tries every way to match.
const MODEL_CHARS_MAX: usize = 40;
const STARS_MAX: usize = 6;

pub struct IgnoreRules;

impl Target for IgnoreRules {
    fn name(&self) -> &'static str {
        "ignore"
    }

    fn generate(&mut self, random: &mut Random) -> Vec<u8> {
        let mut text: Vec<&str> = (0..=random.below(4)).map(|_| random.pick(&PATH_PARTS)).collect();
        let mut lines = text.join("/");
        for _ in 0..=random.below(3) {
            lines.push_str(random.pick(&["\n", "\n", "\n!"]));
            text = (0..=random.below(3)).map(|_| random.pick(&PIECES)).collect();
            lines.push_str(&text.join("/"));
        }
        lines.into_bytes()
    }

    fn words(&self) -> &'static [&'static [u8]] {
        &[
            b"**/",
            b"/**",
            b"*",
            b"**",
            b"?",
            b"!",
            b"[",
            b"]",
            b"[^a]",
            b"\\",
            b"/",
            b"//",
            b"..",
            b".",
            b"#",
            b" ",
            b"\n",
            b"\xef\xbb\xbf",
            b"\0",
            b"\xff",
        ]
    }

    fn check(&mut self, input: &[u8]) -> Result<(), String> {
        let text = String::from_utf8_lossy(input);
        let (path, rules) = text.split_once('\n').unwrap_or((&text, ""));
        let Ok(ignore) = Ignore::parse(rules) else { return Ok(()) };
        let excluded = ignore.excludes(Path::new(path));
        let simple = |c: char| c.is_ascii_alphanumeric() || "/.*?!\n".contains(c);
        let lines = || rules.lines().map(str::trim);
        // Cleaning a path is no part of the model, nor are classes and escapes.
        let odd =
            |line: &str| line.trim_start_matches('!').split('/').any(|part| ["", ".", ".."].contains(&part));
        if !rules.chars().all(simple)
            || lines()
                .any(|line| odd(line) || line.trim_start_matches('!').contains('!') || line.starts_with("!!"))
            || path.split('/').any(|part| part.is_empty())
            || path.len() > MODEL_CHARS_MAX
            || !path.is_ascii()
            || lines().any(|line| line.len() > MODEL_CHARS_MAX || line.matches('*').count() > STARS_MAX)
        {
            return Ok(());
        }
        let mut expect = false;
        for line in lines() {
            let (exception, pattern) =
                line.strip_prefix('!').map_or((false, line), |pattern| (true, pattern));
            if prefixes(path).any(|path| is_match(pattern, path)) {
                expect = !exception;
            }
        }
        if excluded == expect {
            Ok(())
        } else {
            Err(format!("{path:?} is left out: {excluded}, by moby's rules: {expect}; {rules:?}"))
        }
    }
}

/// The path's directories and itself.
fn prefixes(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at]).chain([path])
}

fn is_match(pattern: &str, path: &str) -> bool {
    let wild = |text: &str| text.contains(['*', '?']);
    match pattern.strip_prefix("**") {
        // moby compares such a pattern's rest with the path's end, whatever stands before it.
        Some(end) if !end.is_empty() && !wild(end) => {
            path.ends_with(end) || end.strip_prefix('/').is_some_and(|end| path == end)
        }
        _ => regular(pattern.as_bytes(), path.as_bytes()),
    }
}

/// `**` at the end is `.*`; elsewhere it and a slash after it are `(.*/)?`; `*` is `[^/]*`; `?` is `[^/]`.
fn regular(pattern: &[u8], path: &[u8]) -> bool {
    match (pattern, path) {
        ([], _) => path.is_empty(),
        ([b'*', b'*'] | [b'*', b'*', b'/'], _) => true,
        ([b'*', b'*', b'/', rest @ ..] | [b'*', b'*', rest @ ..], _) => {
            let mut starts = (0..path.len()).filter(|at| path[*at] == b'/').map(|at| at + 1).chain([0]);
            starts.any(|start| regular(rest, &path[start..]))
        }
        ([b'*', rest @ ..], _) => {
            let name = path.iter().position(|byte| *byte == b'/').unwrap_or(path.len());
            (0..=name).any(|cut| regular(rest, &path[cut..]))
        }
        ([b'?', rest @ ..], [byte, after @ ..]) => *byte != b'/' && regular(rest, after),
        ([plain, rest @ ..], [first, after @ ..]) => plain == first && regular(rest, after),
        _ => false,
    }
}
