//! `.dockerignore`, by moby's rules and not Git's: `#` counts only at a line's start, `!` takes back, the
//! last matching rule wins, a rule on a directory holds for all beneath it, patterns are Go's with `**`.

use crate::pattern::Pattern;
use std::path::{Component, Path};

/// The biggest `.dockerignore`, in bytes, and its most rules.
pub const IGNORE_BYTES_MAX: u64 = 1 << 20;
const RULES_MAX: usize = 10_000;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ignore {
    rules: Vec<Rule>,
    has_exceptions: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    pattern: Pattern,
    exception: bool,
}

impl Ignore {
    /// The error is the offending line's number and what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut ignore = Self::default();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (index, line) in text.lines().enumerate() {
            if !line.starts_with('#') {
                ignore.push(line).map_err(|message| (index + 1, message))?;
            }
        }
        Ok(ignore)
    }

    /// Patterns that stand in no file, such as those of `COPY --exclude`. The error is the offending one's
    /// place in the list, from 1, and what is wrong with it.
    pub fn of_patterns(patterns: &[&str]) -> Result<Self, (usize, String)> {
        let mut ignore = Self::default();
        for (index, pattern) in patterns.iter().enumerate() {
            ignore.push(pattern).map_err(|message| (index + 1, message))?;
        }
        Ok(ignore)
    }

    fn push(&mut self, line: &str) -> Result<(), String> {
        let line = line.trim();
        let (exception, pattern) = line.strip_prefix('!').map_or((false, line), |rest| (true, rest.trim()));
        if line.is_empty() {
            return Ok(());
        }
        if pattern.is_empty() {
            return Err("illegal exclusion pattern: \"!\"".into());
        }
        let pattern = clean(pattern);
        let pattern = Pattern::moby(&pattern).map_err(|_| format!("syntax error in pattern {pattern:?}"))?;
        if self.rules.len() == RULES_MAX {
            return Err("too many rules".into());
        }
        self.has_exceptions |= exception;
        self.rules.push(Rule { pattern, exception });
        Ok(())
    }

    /// Whether `path`, relative to the context, is left out. The context itself never is.
    pub fn excludes(&self, path: &Path) -> bool {
        if self.rules.is_empty() {
            return false;
        }
        let text = path.to_string_lossy();
        if text.is_empty() {
            return false;
        }
        let ends: Vec<usize> = text.match_indices('/').map(|(at, _)| at).chain([text.len()]).collect();
        let mut excluded = false;
        for rule in &self.rules {
            // A rule that would change nothing needs no match.
            if rule.exception == excluded && ends.iter().any(|end| rule.pattern.matches(&text[..*end])) {
                excluded = !rule.exception;
            }
        }
        excluded
    }

    /// Whether something beneath an excluded directory may still be in the context.
    pub fn has_exceptions(&self) -> bool {
        self.has_exceptions
    }
}

/// Go's `filepath.Clean` with leading slashes and `..` dropped, since the context is the root.
fn clean(pattern: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for component in Path::new(pattern).components() {
        match component {
            Component::Normal(part) => parts.extend(part.to_str()),
            Component::ParentDir => {
                parts.pop();
            }
            _ => {}
        }
    }
    if parts.is_empty() { ".".into() } else { parts.join("/") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules() {
        for (rules, path, excluded) in [
            ("node_modules", "node_modules", true),
            ("node_modules", "node_modules/a/b", true),
            ("node_modules", "sub/node_modules", false),
            ("**/node_modules", "sub/node_modules/x", true),
            ("*.md", "README.md", true),
            ("*.md", "docs/README.md", false),
            ("**/*.md", "docs/README.md", true),
            ("*.md\n!README.md", "README.md", false),
            ("*.md\n!README.md", "x.md", true),
            ("!README.md\n*.md", "README.md", true),
            ("/build", "build/x", true),
            ("./build/", "build/x", true),
            ("a/../b", "b", true),
            ("*\n!src", "src/main.rs", false),
            ("*\n!src\nsrc/*.tmp", "src/a.tmp", true),
            ("*\n!src/keep", "src", true),
            ("*\n!src/keep", "src/keep", false),
            ("# comment\n #not", "#not", true),
            ("  spaced  ", "spaced", true),
            ("\u{feff}bom", "bom", true),
            ("a?c", "abc", true),
            ("[a-c]x", "bx", true),
            ("", "anything", false),
            (".", "x", false),
            ("**", "x/y", true),
        ] {
            let ignore = Ignore::parse(rules).unwrap();
            assert_eq!(ignore.excludes(Path::new(path)), excluded, "{rules:?} {path}");
        }
    }

    #[test]
    fn bad_rules() {
        assert_eq!(Ignore::parse("a\n!"), Err((2, "illegal exclusion pattern: \"!\"".into())));
        assert_eq!(Ignore::parse("[x"), Err((1, "syntax error in pattern \"[x\"".into())));
    }
}
