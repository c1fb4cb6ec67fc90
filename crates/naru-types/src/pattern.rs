//! Go's `filepath.Match`, with moby's `**` on top: the patterns of COPY, `.dockerignore` and `${v#…}`.
//!
//! Not a glob library's: those treat `{}`, leading dots or case differently.

/// A malformed pattern: an open `[` or a lone `\` at its end.
#[derive(Debug, PartialEq, Eq)]
pub struct BadPattern;

/// Whether all of `name` matches `pattern`; `*` and `?` don't match `/`, `**` does.
pub fn path_matches(pattern: &str, name: &str) -> Result<bool, BadPattern> {
    let parts: Vec<char> = pattern.chars().collect();
    check(&parts)?;
    let name: Vec<char> = name.chars().collect();
    Ok(run(&parts, &name, true))
}

/// As a shell's: `*` and `?` match anything. A malformed pattern matches nothing.
pub fn glob_matches(pattern: &str, text: &str) -> bool {
    let parts: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    check(&parts).is_ok() && run(&parts, &text, false)
}

/// Whether `pattern` has any special character.
pub fn is_glob(pattern: &str) -> bool {
    pattern.contains(['*', '?', '[', '\\'])
}

fn check(pattern: &[char]) -> Result<(), BadPattern> {
    let mut at = 0;
    while at < pattern.len() {
        match pattern[at] {
            '\\' if at + 1 == pattern.len() => return Err(BadPattern),
            '\\' => at += 2,
            '[' => at = class(pattern, at, '\0').ok_or(BadPattern)?.1,
            _ => at += 1,
        }
    }
    Ok(())
}

/// The class `[…]` that begins at `start`: whether `c` is in it, and where it ends.
fn class(pattern: &[char], start: usize, c: char) -> Option<(bool, usize)> {
    let mut at = start + 1;
    let negated = pattern.get(at) == Some(&'^');
    at += usize::from(negated);
    let mut found = false;
    let mut ranges = 0;
    loop {
        if pattern.get(at) == Some(&']') && ranges > 0 {
            return Some((found != negated, at + 1));
        }
        let low = class_char(pattern, &mut at)?;
        let high = if pattern.get(at) == Some(&'-') {
            at += 1;
            class_char(pattern, &mut at)?
        } else {
            low
        };
        found |= (low..=high).contains(&c);
        ranges += 1;
    }
}

fn class_char(pattern: &[char], at: &mut usize) -> Option<char> {
    let mut c = *pattern.get(*at)?;
    if c == '-' || c == ']' {
        return None;
    }
    if c == '\\' {
        *at += 1;
        c = *pattern.get(*at)?;
    }
    *at += 1;
    Some(c)
}

/// Matches with two resume points, the last `*` and the last `**`, so that the time is bounded by a small
/// power of the lengths.
fn run(pattern: &[char], text: &[char], separators: bool) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    let mut double: Option<(usize, usize)> = None;
    loop {
        if p < pattern.len() {
            if pattern[p] == '*' {
                let run_length = pattern[p..].iter().take_while(|c| **c == '*').count();
                p += run_length;
                if separators && run_length > 1 {
                    // `**/x` matches `x` as well.
                    if pattern.get(p) == Some(&'/') {
                        p += 1;
                    }
                    double = Some((p, t));
                    star = None;
                } else {
                    star = Some((p, t));
                }
                continue;
            }
            if t < text.len()
                && let Some(next) = one(pattern, p, text[t], separators)
            {
                (p, t) = (next, t + 1);
                continue;
            }
        } else if t == text.len() {
            return true;
        }
        if let Some((after, from)) = star
            && from < text.len()
            && !(separators && text[from] == '/')
        {
            star = Some((after, from + 1));
            (p, t) = (after, from + 1);
        } else if let Some((after, from)) = double
            && from < text.len()
        {
            star = None;
            // After `**/` matching goes on at the start of a component only.
            let mut next = from + 1;
            if after > 0 && pattern[after - 1] == '/' {
                while next < text.len() && text[next - 1] != '/' {
                    next += 1;
                }
            }
            double = Some((after, next));
            (p, t) = (after, next);
        } else {
            return false;
        }
    }
}

/// Whether the single-character element at `p` takes `c`, and where the next element is.
fn one(pattern: &[char], p: usize, c: char, separators: bool) -> Option<usize> {
    let slash = separators && c == '/';
    match pattern[p] {
        '?' => (!slash).then_some(p + 1),
        '[' => class(pattern, p, c).filter(|(inside, _)| *inside && !slash).map(|(_, end)| end),
        '\\' => (pattern.get(p + 1) == Some(&c)).then_some(p + 2),
        literal => (literal == c).then_some(p + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn like_filepath_match() {
        for (pattern, name, expect) in [
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
            ("**", "a/b", true),
            ("**/x", "x", true),
            ("**/x", "a/b/x", true),
            ("**/x", "a/bx", false),
            ("a/**", "a/b/c", true),
            ("a/**/b", "a/b", true),
            ("a/**/b", "a/x/y/b", true),
            ("**/*.rs", "src/a/b.rs", true),
            ("a**/*c/**", "a/bc/x", true),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(path_matches(pattern, name), Ok(expect), "{pattern} {name}");
        }
        for bad in ["[", "[]a]", "[-]", "[x-]", "[^", "[a-", r"a\", "a["] {
            assert_eq!(path_matches(bad, "a"), Err(BadPattern), "{bad}");
        }
    }

    #[test]
    fn time_is_bounded() {
        let pattern = format!("{}b", "a*".repeat(40));
        assert!(!glob_matches(&pattern, &"a".repeat(4000)));
        let pattern = format!("{}b", "**/a*".repeat(20));
        assert_eq!(path_matches(&pattern, &"a/".repeat(400)), Ok(false));
    }
}
