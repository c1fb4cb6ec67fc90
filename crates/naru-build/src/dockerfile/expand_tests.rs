//! Variables, as tables.

use super::expand::{expand, expand_text, expand_words};

fn lookup(name: &str) -> Option<String> {
    match name {
        "PWD" => Some("/home".into()),
        "KOREAN" => Some("한국어".into()),
        "EMPTY" => Some(String::new()),
        "FILE" => Some("a.b.tar.gz".into()),
        "TWO" => Some("x y".into()),
        _ => None,
    }
}

#[test]
fn good() {
    for (word, expect) in [
        ("hello", "hello"),
        ("he'll'o", "hello"),
        (r"he\'llo", "he'llo"),
        ("'he$PWD'", "he$PWD"),
        (r"'he\t'", r"he\t"),
        (r#""he$PWD""#, "he/home"),
        (r#""he\$PWD\x""#, r"he$PWD\x"),
        (r"\$PWD", "$PWD"),
        ("$PWD", "/home"),
        ("${PWD}x", "/homex"),
        ("$PWDx", ""),
        ("$KOREAN", "한국어"),
        ("${PWD}${KOREAN}", "/home한국어"),
        ("a$", "a$"),
        ("$12x", "x"),
        ("${FILE/[a]/x}", "a.b.tar.gz"),
        ("${FILE%%.?ar*}", "a.b"),
        ("${PWD/\\/h/H}", "Home"),
        ("${FILE//?./-}", "--ta-gz"),
        ("${X:-def}", "def"),
        ("${X:-$PWD}", "/home"),
        ("${X:-${Y:-z}}", "z"),
        ("${EMPTY:-def}", "def"),
        ("${EMPTY-def}", ""),
        ("${X-def}", "def"),
        ("${PWD:+set}", "set"),
        ("${EMPTY:+set}", ""),
        ("${EMPTY+set}", "set"),
        ("${X+set}", ""),
        ("${PWD:?no}", "/home"),
        ("${EMPTY?no}", ""),
        ("${FILE#*.}", "b.tar.gz"),
        ("${FILE##*.}", "gz"),
        ("${FILE%.*}", "a.b.tar"),
        ("${FILE%%.*}", "a"),
        ("${FILE/./-}", "a-b.tar.gz"),
        ("${FILE//./-}", "a-b-tar-gz"),
        ("${FILE/.b/}", "a.tar.gz"),
        ("${FILE#zz}", "a.b.tar.gz"),
        ("\"\"", ""),
    ] {
        assert_eq!(expand(word, '\\', &lookup).as_deref(), Ok(expect), "{word}");
    }
    assert_eq!(expand("`$PWD\\", '`', &lookup).as_deref(), Ok("$PWD\\"));
}

#[test]
fn bad() {
    for (word, expect) in [
        ("'open", "unexpected end of statement while looking for matching single-quote"),
        ("\"open", "unexpected end of statement while looking for matching double-quote"),
        ("${X", "syntax error: missing '}'"),
        ("${", "syntax error: bad substitution"),
        ("${}", "syntax error: bad substitution"),
        ("${X:-a", "syntax error: missing '}'"),
        ("${X:?must be set}", "X: must be set"),
        ("${X?}", "X: is not allowed to be unset"),
        ("${X:=a}", "unsupported modifier (:=) in substitution"),
        ("${EMPTY:?}", "EMPTY: is not allowed to be empty"),
        ("${FILE/a}", "syntax error: missing '/' in ${}"),
        ("${FILE#\\q}", "invalid pattern (\\q) in substitution: invalid escape '\\q'"),
        ("${X^}", "unsupported modifier (^) in substitution"),
    ] {
        let expect = format!("failed to process {word:?}: {expect}");
        assert_eq!(expand(word, '\\', &lookup), Err(expect), "{word}");
    }
    let deep = format!("{}x{}", "${X:-".repeat(100), "}".repeat(100));
    assert!(expand(&deep, '\\', &lookup).unwrap_err().ends_with("variables nest too deeply"));
}

#[test]
fn words_split_at_unquoted_space() {
    assert_eq!(expand_words("a $TWO \"$TWO\" $X b", '\\', &lookup).unwrap(), ["a", "x", "y", "x y", "b"]);
    assert_eq!(expand_text("it's \"$PWD\" \\$X \\n", '\\', &lookup).unwrap(), "it's \"/home\" $X \\n");
}
