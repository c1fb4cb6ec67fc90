//! Arguments by table, as Go's flag package reads them: `-name` is `--name`, `-name=value` is `-name value`, `--` ends
//! the flags. Unlike there, flags may follow the container's id, except where the rest belongs to another program.

use crate::error::OciError;

/// One flag of a table.
#[derive(Debug)]
pub(crate) struct Flag {
    pub name: &'static str,
    /// One letter, or nothing.
    pub short: &'static str,
    pub takes: Takes,
    pub help: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    /// Also `--flag=false`.
    Nothing,
    /// The last one counts.
    Value,
    /// All count.
    Values,
}

/// Where flags may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Anywhere,
    /// What follows the first other argument is not looked at.
    FlagsFirst,
}

/// How many arguments a command takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Count {
    pub min: usize,
    pub max: usize,
}

/// What was given.
#[derive(Debug)]
pub(crate) struct Args<'a> {
    table: &'static [Flag],
    given: Vec<(&'static str, &'a str)>,
    pub positional: Vec<&'a str>,
}

pub(crate) const fn flag(name: &'static str, short: &'static str, help: &'static str) -> Flag {
    Flag { name, short, takes: Takes::Nothing, help }
}

pub(crate) const fn value(name: &'static str, short: &'static str, help: &'static str) -> Flag {
    Flag { name, short, takes: Takes::Value, help }
}

pub(crate) const fn values(name: &'static str, short: &'static str, help: &'static str) -> Flag {
    Flag { name, short, takes: Takes::Values, help }
}

/// Every command has it.
const HELP: Flag = flag("help", "h", "show help");

pub(crate) fn parse<'a>(
    table: &'static [Flag],
    words: &[&'a str],
    order: Order,
) -> Result<Args<'a>, OciError> {
    let mut args = Args { table, given: Vec::new(), positional: Vec::new() };
    let mut words = words.iter().copied();
    while let Some(word) = words.next() {
        if word == "--" {
            args.positional.extend(words);
            break;
        }
        let Some(body) = word.strip_prefix('-').filter(|body| !body.is_empty()) else {
            args.positional.push(word);
            if order == Order::FlagsFirst {
                args.positional.extend(words);
                break;
            }
            continue;
        };
        let body = body.strip_prefix('-').unwrap_or(body);
        let (name, inline) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (body, None),
        };
        let known =
            table.iter().find(|flag| flag.name == name || (!flag.short.is_empty() && flag.short == name));
        let flag = match known {
            Some(flag) => flag,
            None if matches!(name, "help" | "h") => &HELP,
            None => return Err(OciError::UnknownFlag(format!("-{name}"))),
        };
        let value = match (flag.takes, inline) {
            (_, Some(value)) => value,
            (Takes::Nothing, None) => "true",
            (Takes::Value | Takes::Values, None) => {
                words.next().ok_or_else(|| OciError::MissingValue(format!("-{name}")))?
            }
        };
        if flag.takes == Takes::Nothing {
            boolean(flag.name, value)?;
        }
        args.given.push((flag.name, value));
    }
    Ok(args)
}

impl<'a> Args<'a> {
    /// Whether a flag that takes nothing is on.
    pub fn has(&self, name: &'static str) -> bool {
        self.last(name).is_some_and(|value| boolean(name, value).unwrap_or(false))
    }

    /// Whether it was given at all, with whatever value.
    pub fn is_set(&self, name: &'static str) -> bool {
        self.last(name).is_some()
    }

    /// The value, unless it is empty: an empty one is as good as none.
    pub fn value(&self, name: &'static str) -> Option<&'a str> {
        self.last(name).filter(|value| !value.is_empty())
    }

    pub fn values(&self, name: &'static str) -> impl Iterator<Item = &'a str> {
        debug_assert!(self.knows(name), "{name}");
        self.given.iter().filter(move |(given, _)| *given == name).map(|(_, value)| *value)
    }

    pub fn number<T: std::str::FromStr>(&self, name: &'static str) -> Result<Option<T>, OciError> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let bad = |_| OciError::BadValue {
            flag: name,
            value: value.to_owned(),
            why: "not a number it can hold".into(),
        };
        value.parse().map(Some).map_err(bad)
    }

    pub fn check_count(&self, command: &'static str, count: Count) -> Result<(), OciError> {
        let given = self.positional.len();
        let wanted = if count.min == count.max && given != count.min {
            format!("exactly {} argument(s)", count.min)
        } else if given < count.min {
            format!("a minimum of {} argument(s)", count.min)
        } else if given > count.max {
            format!("a maximum of {} argument(s)", count.max)
        } else {
            return Ok(());
        };
        Err(OciError::Arguments { command, wanted })
    }

    fn last(&self, name: &'static str) -> Option<&'a str> {
        debug_assert!(self.knows(name), "{name}");
        self.given.iter().rev().find(|(given, _)| *given == name).map(|(_, value)| *value)
    }

    fn knows(&self, name: &str) -> bool {
        name == "help" || self.table.iter().any(|flag| flag.name == name)
    }
}

/// As strconv.ParseBool.
fn boolean(flag: &'static str, value: &str) -> Result<bool, OciError> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(OciError::BadValue { flag, value: value.to_owned(), why: "neither true nor false".into() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[Flag] = &[flag("detach", "d", ""), value("bundle", "b", ""), values("env", "e", "")];

    #[test]
    fn flags_as_go_has_them() {
        let words = ["-bundle", "/x", "id", "--detach", "-e=A=1", "--env", "B", "--", "-z"];
        let args = parse(TABLE, &words, Order::Anywhere).unwrap();
        assert_eq!(args.value("bundle"), Some("/x"));
        assert!(args.has("detach"));
        assert_eq!(args.values("env").collect::<Vec<_>>(), ["A=1", "B"]);
        assert_eq!(args.positional, ["id", "-z"]);
        assert!(!parse(TABLE, &["-d=false"], Order::Anywhere).unwrap().has("detach"));
        let args = parse(TABLE, &["-d", "id", "-b", "x", "-"], Order::FlagsFirst).unwrap();
        assert_eq!((args.positional.len(), args.value("bundle")), (4, None));
    }

    #[test]
    fn every_mistake_is_named() {
        let text = |words: &[&str]| parse(TABLE, words, Order::Anywhere).unwrap_err().to_string();
        assert!(text(&["--bogus=1"]).starts_with("flag provided but not defined: -bogus"));
        assert_eq!(text(&["-b"]), "flag needs an argument: -b");
        assert!(text(&["--detach=x"]).contains("-detach"));
        let args = parse(TABLE, &[], Order::Anywhere).unwrap();
        let wanted = args.check_count("state", Count { min: 1, max: 1 }).unwrap_err().to_string();
        assert_eq!(wanted, "\"state\" requires exactly 1 argument(s)");
    }
}
