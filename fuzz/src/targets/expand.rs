//! Variables of a Dockerfile: any text must be answered, and the forms that cut and replace must do as a slow model does.
//!
//! An input is `value`, `pattern`, `replacement` and free text, a line each.

use crate::Target;
use crate::random::Random;
use naru_build::fuzzing::expanded;

/// Characters of values and patterns: few, so that something matches.
const FEW: [&str; 7] = ["a", "b", "ab", ".", "*", "?", "**"];
/// Largest value and pattern that the model is asked about: it tries every way to match.
const MODEL_CHARS_MAX: usize = 24;
const STARS_MAX: usize = 4;

pub struct Expansion;

impl Target for Expansion {
    fn name(&self) -> &'static str {
        "expand"
    }

    fn generate(&mut self, random: &mut Random) -> Vec<u8> {
        let mut text = String::new();
        for (count, from) in [(9, &FEW[..4]), (5, &FEW[..]), (2, &FEW[..4])] {
            for _ in 0..random.below(count) {
                text.push_str(random.pick(from));
            }
            text.push('\n');
        }
        for _ in 0..random.below(8) {
            let word = random.pick(self.words());
            text.push_str(&String::from_utf8_lossy(word));
        }
        text.into_bytes()
    }

    fn words(&self) -> &'static [&'static [u8]] {
        &[
            b"${v",
            b"}",
            b"$v",
            b":-",
            b":+",
            b":?",
            b"##",
            b"%%",
            b"//",
            b"/",
            b"\\",
            b"`",
            b"'",
            b"\"",
            b"$",
            b"{",
            b"a",
            b" ",
            b"*",
            b"?",
            b"\n",
            b"\xed\x95\x9c",
            b"$$",
            b"${",
            b"-",
        ]
    }

    fn check(&mut self, input: &[u8]) -> Result<(), String> {
        let text = String::from_utf8_lossy(input);
        let mut parts = text.splitn(4, '\n');
        let [value, pattern, replacement, free] = [(); 4].map(|()| parts.next().unwrap_or(""));
        let lookup = |name: &str| (name == "v").then(|| value.to_owned());
        let _ = expanded(free, &lookup);
        if !free.contains(['$', '\'', '"', '\\']) && expanded(free, &lookup).as_deref() != Ok(free) {
            return Err(format!("{free:?} became {:?}", expanded(free, &lookup)));
        }
        let plain = |text: &str| text.chars().all(|c| matches!(c, 'a' | 'b' | '.' | '*' | '?'));
        let small = value.len() <= MODEL_CHARS_MAX && pattern.len() <= MODEL_CHARS_MAX;
        let few_stars = pattern.matches('*').count() <= STARS_MAX;
        // A replacement's own wildcards are plain text, and an empty pattern is BuildKit's own case.
        if !(small && few_stars && plain(value) && plain(pattern) && plain(replacement)) || pattern.is_empty()
        {
            return Ok(());
        }
        for (form, expect) in model(value, pattern, replacement) {
            let found = expanded(&form, &lookup);
            if found.as_ref() != Ok(&expect) {
                return Err(format!("v={value:?}: {form} became {found:?}, not {expect:?}"));
            }
        }
        Ok(())
    }
}

/// Every form with what it should become.
fn model(value: &str, pattern: &str, replacement: &str) -> Vec<(String, String)> {
    let ends: Vec<usize> = (0..=value.len()).collect();
    let fits = |from: usize, to: usize| is_match(pattern.as_bytes(), &value.as_bytes()[from..to]);
    let shortest = ends.iter().find(|end| fits(0, **end));
    let longest = ends.iter().rev().find(|end| fits(0, **end));
    let late = ends.iter().rev().find(|start| fits(**start, value.len()));
    let early = ends.iter().find(|start| fits(**start, value.len()));
    let after = |end: Option<&usize>| value[end.copied().unwrap_or(0)..].to_owned();
    let before = |start: Option<&usize>| value[..start.copied().unwrap_or(value.len())].to_owned();
    let replaced = |all: bool| {
        let (mut out, mut at, mut done) = (String::new(), 0, false);
        while at < value.len() {
            let end = ends.iter().rev().find(|end| **end > at && fits(at, **end)).filter(|_| all || !done);
            match end {
                Some(end) => {
                    out.push_str(replacement);
                    (at, done) = (*end, true);
                }
                None => {
                    out.push_str(&value[at..=at]);
                    at += 1;
                }
            }
        }
        out
    };
    // `${v##…}` and `${v//…}` are forms of their own: a pattern can't begin with the sign.
    vec![
        (format!("${{v#{pattern}}}"), after(shortest)),
        (format!("${{v##{pattern}}}"), after(longest)),
        (format!("${{v%{pattern}}}"), before(late)),
        (format!("${{v%%{pattern}}}"), before(early)),
        (format!("${{v/{pattern}/{replacement}}}"), replaced(false)),
        (format!("${{v//{pattern}/{replacement}}}"), replaced(true)),
    ]
}

fn is_match(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], _) => text.is_empty(),
        ([b'*', rest @ ..], _) => (0..=text.len()).any(|cut| is_match(rest, &text[cut..])),
        ([b'?', rest @ ..], [_, after @ ..]) => is_match(rest, after),
        ([plain, rest @ ..], [first, after @ ..]) => plain == first && is_match(rest, after),
        _ => false,
    }
}
