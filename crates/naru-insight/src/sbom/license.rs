//! Which words about licenses are SPDX expressions (SPDX 2.3, annex D). Both formats take only those; what merely describes a
//! license ("BSD", "see LICENSE") would make a document invalid, and is passed on as text.

/// Of the SPDX license list, those that packages name most; an expression with another one is passed on as text too.
const LICENSES: [&str; 69] = [
    "0BSD",
    "AFL-2.1",
    "AGPL-3.0",
    "AGPL-3.0-only",
    "AGPL-3.0-or-later",
    "Apache-1.1",
    "Apache-2.0",
    "Artistic-1.0",
    "Artistic-2.0",
    "BlueOak-1.0.0",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-2-Clause-Patent",
    "BSD-3-Clause",
    "BSD-4-Clause",
    "BSL-1.0",
    "bzip2-1.0.6",
    "CC-BY-3.0",
    "CC-BY-4.0",
    "CC-BY-SA-4.0",
    "CC0-1.0",
    "CDDL-1.0",
    "CDDL-1.1",
    "CPL-1.0",
    "curl",
    "ECL-2.0",
    "EPL-1.0",
    "EPL-2.0",
    "EUPL-1.2",
    "FTL",
    "GFDL-1.3-or-later",
    "GPL-1.0-or-later",
    "GPL-2.0",
    "GPL-2.0-only",
    "GPL-2.0-or-later",
    "GPL-3.0",
    "GPL-3.0-only",
    "GPL-3.0-or-later",
    "HPND",
    "ICU",
    "IJG",
    "ISC",
    "LGPL-2.0-only",
    "LGPL-2.0-or-later",
    "LGPL-2.1",
    "LGPL-2.1-only",
    "LGPL-2.1-or-later",
    "LGPL-3.0",
    "LGPL-3.0-only",
    "LGPL-3.0-or-later",
    "Libpng",
    "MIT",
    "MIT-0",
    "MPL-1.1",
    "MPL-2.0",
    "MS-PL",
    "NCSA",
    "OFL-1.1",
    "OpenSSL",
    "PostgreSQL",
    "PSF-2.0",
    "Python-2.0",
    "Ruby",
    "Unicode-3.0",
    "Unlicense",
    "WTFPL",
    "X11",
    "Zlib",
    "ZPL-2.1",
];
const EXCEPTIONS: [&str; 5] = [
    "Classpath-exception-2.0",
    "GCC-exception-3.1",
    "LLVM-exception",
    "Linux-syscall-note",
    "OpenSSL-exception",
];

/// Names joined by AND, OR and WITH, in parentheses or not.
pub fn is_expression(text: &str) -> bool {
    let spaced = text.replace('(', " ( ").replace(')', " ) ");
    let (mut depth, mut last) = (0usize, "OR");
    for word in spaced.split_whitespace() {
        let wants_name = matches!(last, "AND" | "OR" | "(");
        let is_right = match word {
            "(" => wants_name,
            ")" => depth > 0 && !wants_name && last != "WITH",
            "AND" | "OR" => !wants_name && last != "WITH",
            "WITH" => LICENSES.contains(&last.trim_end_matches('+')),
            name if last == "WITH" => EXCEPTIONS.contains(&name),
            name => wants_name && LICENSES.contains(&name.strip_suffix('+').unwrap_or(name)),
        };
        if !is_right {
            return false;
        }
        match word {
            "(" => depth += 1,
            ")" => depth -= 1,
            _ => {}
        }
        last = word;
    }
    depth == 0 && !matches!(last, "AND" | "OR" | "WITH" | "(")
}

#[cfg(test)]
mod tests {
    use super::is_expression;

    #[test]
    fn expressions() {
        for text in ["MIT", "(MIT OR Apache-2.0)", "GPL-2.0+ WITH Classpath-exception-2.0 AND (ISC OR (MIT))"]
        {
            assert!(is_expression(text), "{text}");
        }
        for text in [
            "",
            "BSD",
            "MIT License",
            "MIT OR",
            "MIT WITH ISC",
            "(MIT",
            "MIT)",
            "()",
            "MIT (ISC)",
            "OR MIT",
            "MIT, ISC",
        ] {
            assert!(!is_expression(text), "{text}");
        }
    }
}
