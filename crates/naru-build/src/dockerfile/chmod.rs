//! `--chmod` of COPY and ADD: octal (`0755`), or symbolic as chmod(1) has it (`u=rwX,go=rX`).

/// A mode to give, or a change to the mode that a file has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Chmod {
    Set(u32),
    Change(Vec<Clause>),
}

/// `ug+rX`: whose bits, what is done with them, and which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Clause {
    /// The permission bits, set-id bits included, that belong to those named.
    whose: u32,
    operator: char,
    permissions: Vec<char>,
}

const USER: u32 = 0o4700;
const GROUP: u32 = 0o2070;
const OTHER: u32 = 0o0007;
const STICKY: u32 = 0o1000;
const EXECUTE: u32 = 0o111;
const MODE_MAX: u32 = 0o7777;

impl Chmod {
    /// The error is BuildKit's text.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let octal =
            format!("invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777");
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= MODE_MAX);
            return mode.map(Self::Set).ok_or(octal);
        }
        let clauses: Option<Vec<Vec<Clause>>> = text.split(',').map(clauses).collect();
        match clauses {
            Some(clauses) => Ok(Self::Change(clauses.concat())),
            None => Err(format!("mode: invalid syntax: {text:?}")),
        }
    }

    /// The mode that a file of `mode` gets. `X` counts for directories and for what somebody may execute.
    pub(crate) fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        match self {
            Self::Set(mode) => *mode,
            Self::Change(clauses) => {
                clauses.iter().fold(mode, |mode, clause| clause.apply(mode, is_dir)) & MODE_MAX
            }
        }
    }
}

impl Clause {
    fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        let bits = self.permissions.iter().fold(0, |bits, permission| {
            bits | match permission {
                'r' => 0o444,
                'w' => 0o222,
                'x' => EXECUTE,
                'X' if is_dir || mode & EXECUTE != 0 => EXECUTE,
                's' => 0o6000,
                't' => STICKY,
                'u' => ((mode >> 6) & 7) * 0o111,
                'g' => ((mode >> 3) & 7) * 0o111,
                'o' => (mode & 7) * 0o111,
                _ => 0,
            }
        }) & self.whose;
        match self.operator {
            '+' => mode | bits,
            '-' => mode & !bits,
            _ => (mode & !self.whose) | bits,
        }
    }
}

/// One part between commas: `[ugoa]*([+-=][rwxXst]*)+`.
fn clauses(text: &str) -> Option<Vec<Clause>> {
    let start = text.find(['+', '-', '='])?;
    let (who, mut rest) = text.split_at(start);
    let mut whose = 0;
    for c in who.chars() {
        whose |= match c {
            'u' => USER,
            'g' => GROUP,
            'o' => OTHER,
            'a' => USER | GROUP | OTHER | STICKY,
            _ => return None,
        };
    }
    if who.is_empty() {
        whose = USER | GROUP | OTHER | STICKY;
    }
    let mut found = Vec::new();
    while let Some(operator) = rest.chars().next() {
        let end = rest[1..].find(['+', '-', '=']).map_or(rest.len(), |end| end + 1);
        let permissions: Vec<char> = rest[1..end].chars().collect();
        if permissions.iter().any(|c| !"rwxXstugo".contains(*c)) {
            return None;
        }
        // The sticky bit is nobody's own.
        let whose = if permissions.contains(&'t') { whose | STICKY } else { whose };
        found.push(Clause { whose, operator, permissions });
        rest = &rest[end..];
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        for (text, mode, is_dir, expect) in [
            ("755", 0o600, false, 0o755),
            ("04755", 0o600, false, 0o4755),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("+x", 0o644, false, 0o755),
            ("a-w", 0o666, false, 0o444),
            ("g=u", 0o640, false, 0o660),
            ("u+s,o+t", 0o755, false, 0o5755),
            ("go=", 0o777, false, 0o700),
            ("u+r-w", 0o200, false, 0o400),
        ] {
            assert_eq!(Chmod::parse(text).unwrap().apply(mode, is_dir), expect, "{text}");
        }
    }

    #[test]
    fn bad_modes() {
        for text in ["9", "77777", "", "u", "z+x", "u+q", "u=rw,,"] {
            assert!(Chmod::parse(text).is_err(), "{text}");
        }
        assert_eq!(
            Chmod::parse("888").unwrap_err(),
            "invalid chmod parameter: '888'. it should be octal string and between 0 and 07777"
        );
    }
}
