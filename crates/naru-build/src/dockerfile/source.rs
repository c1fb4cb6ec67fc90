//! From the text of a Dockerfile to logical lines: parser directives, comments, continuations, heredocs.
//!
//! The rules are those of BuildKit's parser (frontend/dockerfile/parser): comments and empty lines inside
//! a continuation vanish; a directive counts only at the top, before anything else.

use crate::dockerfile::words;
use crate::error::{BuildError, Position, Result};

/// The biggest Dockerfile, in bytes.
const DOCKERFILE_BYTES_MAX: usize = 4 << 20;

/// What follows `<<NAME` on an instruction's line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heredoc {
    pub name: String,
    /// The delimiter was written without quotes, so variables in the content are expanded (by COPY).
    pub expand: bool,
    /// `<<-`: leading tabs are cut.
    pub chomp: bool,
    /// As it stands in the file, the last line's end included.
    pub content: String,
}

/// An instruction in one piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogicalLine {
    pub at: Position,
    /// Continuations joined, without the heredocs' contents.
    pub text: String,
    pub heredocs: Vec<Heredoc>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub lines: Vec<LogicalLine>,
    /// The escape character: `\`, or a backtick by directive.
    pub escape: char,
    /// The image of a `# syntax=` directive.
    pub syntax: Option<String>,
    /// The value of a `# check=` directive.
    pub check: Option<String>,
    /// The last line of each instruction with an empty line inside.
    pub empty_continuations: Vec<usize>,
    pub warnings: Vec<String>,
}

/// Cuts `text` into logical lines. `file` is for messages.
pub fn read(file: &str, text: &str) -> Result<Source> {
    let file_error =
        |message: &str| BuildError::File { file: file.to_owned(), message: message.to_owned(), hint: None };
    if text.len() > DOCKERFILE_BYTES_MAX {
        return Err(file_error("the Dockerfile is larger than 4 MiB"));
    }
    if text.contains('\0') {
        return Err(file_error("the Dockerfile is not a text file"));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let physical: Vec<&str> = text.lines().collect();
    let directives = read_directives(file, &physical)?;
    let mut reader = Reader {
        file,
        lines: &physical,
        next: 0,
        escape: directives.escape,
        empty_continuations: Vec::new(),
    };
    let mut lines = Vec::new();
    while let Some(line) = reader.next_line()? {
        lines.push(line);
    }
    if lines.is_empty() {
        return Err(match physical.last() {
            Some(last) => Position::new(file, physical.len(), last).error("file with no instructions"),
            None => file_error("the Dockerfile cannot be empty"),
        });
    }
    let warning = |line: &usize| format!("{file}:{line}: empty continuation line");
    Ok(Source {
        lines,
        escape: directives.escape,
        syntax: directives.syntax,
        check: directives.check,
        warnings: reader.empty_continuations.iter().map(warning).collect(),
        empty_continuations: reader.empty_continuations,
    })
}

struct Directives {
    escape: char,
    syntax: Option<String>,
    check: Option<String>,
}

/// `# name=value` lines at the very top. The first line that is anything else ends them.
fn read_directives(file: &str, lines: &[&str]) -> Result<Directives> {
    let mut found = Directives { escape: '\\', syntax: None, check: None };
    let mut seen: Vec<String> = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Some((name, value)) = line.trim().strip_prefix('#').and_then(|rest| rest.split_once('=')) else {
            break;
        };
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
        if !matches!(name.as_str(), "escape" | "syntax" | "check") {
            break;
        }
        let at = Position::new(file, index + 1, line);
        if seen.contains(&name) {
            return Err(at.error(format!("only one {name} parser directive can be used")));
        }
        match (name.as_str(), value) {
            ("escape", "\\" | "`") => found.escape = if value == "`" { '`' } else { '\\' },
            ("escape", _) => {
                let message = format!("invalid escape token '{value}' does not match ` or \\");
                return Err(at.error(message));
            }
            ("syntax", _) => found.syntax = Some(value.to_owned()),
            _ => found.check = Some(value.to_owned()),
        }
        seen.push(name);
    }
    Ok(found)
}

struct Reader<'a> {
    file: &'a str,
    lines: &'a [&'a str],
    next: usize,
    escape: char,
    empty_continuations: Vec<usize>,
}

impl Reader<'_> {
    fn next_line(&mut self) -> Result<Option<LogicalLine>> {
        let Some((first, mut text)) = self.first_piece() else { return Ok(None) };
        let mut open = self.cut_continuation(&mut text);
        let mut empty_inside = false;
        while open && self.next < self.lines.len() {
            let piece = self.lines[self.next];
            self.next += 1;
            if is_comment(piece) {
                continue;
            }
            if piece.trim().is_empty() {
                empty_inside = true;
                continue;
            }
            let mut piece = piece.to_owned();
            open = self.cut_continuation(&mut piece);
            text.push_str(&piece);
        }
        let at = Position::new(self.file, first + 1, text.trim());
        if empty_inside {
            self.empty_continuations.push(self.next);
        }
        let mut at = at;
        let mut heredocs = heredocs_of(&text, self.escape);
        for heredoc in &mut heredocs {
            self.read_heredoc(&at, heredoc)?;
        }
        at.end = self.next;
        Ok(Some(LogicalLine { at, text: text.trim_end().to_owned(), heredocs }))
    }

    /// The next line that is neither empty nor a comment, with its index.
    fn first_piece(&mut self) -> Option<(usize, String)> {
        while let Some(line) = self.lines.get(self.next) {
            self.next += 1;
            if !line.trim().is_empty() && !is_comment(line) {
                return Some((self.next - 1, line.trim_start().to_owned()));
            }
        }
        None
    }

    /// Takes a continuation mark off the end: one escape character, spaces after it allowed, that is not
    /// itself escaped.
    fn cut_continuation(&self, text: &mut String) -> bool {
        let trimmed = text.trim_end_matches([' ', '\t', '\r']);
        let Some(before) = trimmed.strip_suffix(self.escape) else { return false };
        if before.ends_with(self.escape) {
            return false;
        }
        text.truncate(before.len());
        true
    }

    fn read_heredoc(&mut self, at: &Position, heredoc: &mut Heredoc) -> Result<()> {
        while let Some(line) = self.lines.get(self.next) {
            self.next += 1;
            let candidate = if heredoc.chomp { line.trim_start_matches('\t') } else { line };
            if candidate == heredoc.name {
                return Ok(());
            }
            heredoc.content.push_str(line);
            heredoc.content.push('\n');
        }
        Err(at.hinted("unterminated heredoc", format!("a line with only {:?} must end it", heredoc.name)))
    }
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

/// The heredocs that a line opens; only RUN, COPY and ADD may (also behind ONBUILD).
fn heredocs_of(text: &str, escape: char) -> Vec<Heredoc> {
    let (keyword, rest) = words::keyword(text);
    match keyword.to_ascii_uppercase().as_str() {
        "ONBUILD" => heredocs_of(rest, escape),
        "RUN" | "COPY" | "ADD" => {
            heredoc_words(rest, escape).iter().filter_map(|word| heredoc_start(word)).collect()
        }
        _ => Vec::new(),
    }
}

/// The words of a line, a `<<` put together with the word behind it.
pub(crate) fn heredoc_words(text: &str, escape: char) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for word in words::split_quoted(text, escape) {
        let opened = |last: &&mut String| {
            matches!(last.trim_start_matches(|c: char| c.is_ascii_digit()), "<<" | "<<-")
        };
        match words.last_mut().filter(opened) {
            Some(last) => last.push_str(&word),
            None => words.push(word),
        }
    }
    words
}

/// `<<EOF`, `<<-EOF`, `3<<EOF`, `<<"EOF"`.
pub(crate) fn heredoc_start(word: &str) -> Option<Heredoc> {
    let rest = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
    let (chomp, rest) = rest.strip_prefix('-').map_or((false, rest), |rest| (true, rest));
    let name: String = rest.chars().filter(|c| !matches!(c, '"' | '\'' | '\\')).collect();
    if name.is_empty() || rest.contains(['<', '(', ')', ';', '&', '|']) {
        return None;
    }
    Some(Heredoc { expand: name.len() == rest.len(), name, chomp, content: String::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(source: &str) -> Vec<String> {
        read("Dockerfile", source).unwrap().lines.into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn logical_lines() {
        for (source, expect) in [
            ("FROM a\nRUN b", vec!["FROM a", "RUN b"]),
            ("\u{feff}# c\n\n  FROM a  \n", vec!["FROM a"]),
            ("RUN a \\\n  b", vec!["RUN a   b"]),
            ("RUN a \\  \n b", vec!["RUN a  b"]),
            ("RUN a \\\n# no\n   # neither\n b", vec!["RUN a  b"]),
            ("RUN a \\\n\n b", vec!["RUN a  b"]),
            ("RUN a \\\\\nRUN b", vec!["RUN a \\\\", "RUN b"]),
            ("RUN echo # kept", vec!["RUN echo # kept"]),
            ("# escape=`\nRUN a `\n b\\", vec!["RUN a  b\\"]),
            ("RUN a\r\nRUN b\r\n", vec!["RUN a", "RUN b"]),
            ("RUN a \\", vec!["RUN a"]),
            ("RUN cat <<A <<-B\n1\nA\n\t2\n\tB\nRUN b", vec!["RUN cat <<A <<-B", "RUN b"]),
            ("CMD cat <<A\nRUN x", vec!["CMD cat <<A", "RUN x"]),
            ("RUN cat << A\n1\nA\nRUN b", vec!["RUN cat << A", "RUN b"]),
        ] {
            assert_eq!(texts(source), expect, "{source:?}");
        }
    }

    #[test]
    fn heredocs() {
        let source = read("D", "COPY <<a.txt <<'b' /x/\n$v\n# not a comment\na.txt\nB \\\nb\n").unwrap();
        let found = &source.lines[0].heredocs;
        assert_eq!((found[0].content.as_str(), found[0].expand), ("$v\n# not a comment\n", true));
        assert_eq!((found[1].content.as_str(), found[1].expand), ("B \\\n", false));
    }

    #[test]
    fn bad_sources() {
        for (source, expect) in [
            ("", "Dockerfile: the Dockerfile cannot be empty"),
            ("# only\n", "Dockerfile:1: file with no instructions (in `# only`)"),
            ("a\0", "Dockerfile: the Dockerfile is not a text file"),
            (
                "# escape=x\nFROM a",
                "Dockerfile:1: invalid escape token 'x' does not match ` or \\ (in `# escape=x`)",
            ),
            (
                "#escape=\\\n#ESCAPE=`\n",
                "Dockerfile:2: only one escape parser directive can be used (in `#ESCAPE=``)",
            ),
            ("FROM a\nRUN <<E\nx", "Dockerfile:2: unterminated heredoc (in `RUN <<E`)"),
        ] {
            assert_eq!(read("Dockerfile", source).unwrap_err().to_string(), expect, "{source:?}");
        }
    }
}
