//! The cases as text, the recorded results, and their comparison.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, Default)]
pub struct Case {
    pub name: String,
    pub dockerfile: Vec<u8>,
    /// Files beside those that every context has.
    pub files: BTreeMap<String, String>,
    /// `@ name value` lines.
    options: Vec<(String, String)>,
}

/// What a build gives: an image or an error.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub config: Map<String, Value>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<String>,
    /// 0: the error names none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub line: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What `--check` says: rule, line, text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub check: Vec<String>,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl Outcome {
    /// naru's error. A failed command is told in the classic builder's words, with the place in the hint;
    /// here in BuildKit's.
    pub fn of_error(error: &naru_types::Error) -> Self {
        let message = error.message();
        let place = message.strip_prefix("Dockerfile:");
        if let Some((command, code)) = message
            .strip_prefix("The command '")
            .and_then(|rest| rest.split_once("' returned a non-zero code: "))
        {
            let place = error.hint().and_then(|hint| Some(hint.split_once("Dockerfile:")?.1));
            let line = number(place);
            let message = format!("process {command:?} did not complete successfully: exit code: {code}");
            return Self { line, error: Some(message), ..Self::default() };
        }
        Self { line: number(place), error: Some(message.to_owned()), ..Self::default() }
    }

    /// The error of naru has a place and a quote around BuildKit's words.
    pub fn matches(&self, expect: &Self) -> Result<(), String> {
        let differs = |what: &str, found: &dyn std::fmt::Debug, expect: &dyn std::fmt::Debug| {
            Err(format!("{what}\n  naru     {found:?}\n  BuildKit {expect:?}"))
        };
        match (&self.error, &expect.error) {
            (None, None) => {}
            (Some(found), Some(text)) => {
                // BuildKit doesn't always say where.
                if expect.line != 0 && self.line != expect.line {
                    return differs("line", &self.line, &expect.line);
                }
                // Suggestions are the hint's in naru.
                let text = text.split(" (did you mean").next().unwrap();
                return if found.contains(text) { Ok(()) } else { differs("error", found, &text) };
            }
            (found, expect) => return differs("outcome", found, expect),
        }
        if self.files != expect.files {
            return differs("files", &self.files, &expect.files);
        }
        if self.config != expect.config {
            return differs("config", &self.config, &expect.config);
        }
        if self.history != expect.history {
            return differs("history", &self.history, &expect.history);
        }
        if self.check != expect.check {
            return differs("check", &self.check, &expect.check);
        }
        Ok(())
    }
}

fn number(text: Option<&str>) -> usize {
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>();
    text.and_then(|text| digits(text).parse().ok()).unwrap_or(0)
}

impl Case {
    pub fn option(&self, name: &str) -> Option<String> {
        self.options.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    }

    /// The `key=value` options of this name.
    pub fn options(&self, name: &str) -> BTreeMap<String, String> {
        let pairs = self.options.iter().filter(|(known, _)| known == name);
        pairs
            .filter_map(|(_, value)| value.split_once('='))
            .map(|(key, value)| (key.into(), value.into()))
            .collect()
    }
}

pub fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

/// The cases by topic.
pub fn all() -> Vec<(String, Vec<Case>)> {
    let mut topics: Vec<PathBuf> =
        std::fs::read_dir(dir().join("cases")).unwrap().map(|entry| entry.unwrap().path()).collect();
    topics.sort();
    let topic = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        (path.file_stem().unwrap().to_str().unwrap().to_owned(), parse(&text))
    };
    topics.into_iter().map(topic).collect()
}

pub fn expected(topic: &str) -> BTreeMap<String, Outcome> {
    let path = dir().join(format!("expected/{topic}.json"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap_or("{}".into())).unwrap()
}

/// `name: reason` lines.
pub fn differences() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(dir().join("differences.txt")).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let pair = |line: &str| {
        let (name, reason) = line.split_once(": ").unwrap();
        (name.to_owned(), reason.to_owned())
    };
    lines.map(pair).collect()
}

fn parse(text: &str) -> Vec<Case> {
    text.split("=== ").skip(1).map(parse_case).collect()
}

fn parse_case(text: &str) -> Case {
    let (name, rest) = text.split_once('\n').unwrap_or((text, ""));
    let mut case = Case { name: name.trim().to_owned(), ..Case::default() };
    let mut file: Option<String> = None;
    let mut dockerfile = String::new();
    for line in rest.split_inclusive('\n') {
        match (line.strip_prefix("@ "), &file) {
            (Some(option), _) => {
                let (name, value) = option.trim_end().split_once(' ').unwrap_or((option.trim_end(), ""));
                file = (name == "file").then(|| value.to_owned());
                case.options.push((name.to_owned(), value.to_owned()));
            }
            (None, Some(name)) => case.files.entry(name.clone()).or_default().push_str(line),
            (None, None) => dockerfile.push_str(line),
        }
    }
    if case.option("crlf").is_some() {
        dockerfile = dockerfile.replace('\n', "\r\n");
    }
    if case.option("bom").is_some() {
        dockerfile.insert(0, '\u{feff}');
    }
    case.dockerfile = dockerfile.into_bytes();
    case
}
