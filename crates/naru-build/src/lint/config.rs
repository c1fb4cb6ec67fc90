//! `# check=skip=A,B;error=true`: which rules don't count, and whether a build with a finding fails. `experimental=` turns on
//! rules that BuildKit calls experimental; naru has none of them, so it changes nothing.

use crate::error::{BuildError, Result};
use std::collections::BTreeSet;

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Config {
    skip_all: bool,
    skipped: BTreeSet<String>,
    /// A finding ends the build.
    pub(crate) error: bool,
}

impl Config {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut config = Self::default();
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            let invalid = |part: &str| {
                let hint = Some("write skip=Rule,Rule or skip=all, error=true or error=false".to_owned());
                BuildError::File {
                    file: "check".into(),
                    message: format!("invalid check option {part:?}"),
                    hint,
                }
            };
            let (key, value) = part.split_once('=').ok_or_else(|| invalid(part))?;
            match (key.trim(), value.trim()) {
                ("skip", "all") => config.skip_all = true,
                ("skip", names) => config.skipped.extend(names.split(',').map(|name| name.trim().to_owned())),
                ("error", "true" | "1") => config.error = true,
                ("error", "false" | "0") => config.error = false,
                ("experimental", _) => {}
                _ => return Err(invalid(part)),
            }
        }
        Ok(config)
    }

    pub(crate) fn skips(&self, rule: &str) -> bool {
        self.skip_all || self.skipped.contains(rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        let config = Config::parse("skip=A, B;error=true").unwrap();
        assert!(config.skips("A") && config.skips("B") && !config.skips("C") && config.error);
        assert!(Config::parse("skip=all").unwrap().skips("C"));
        assert!(Config::parse("").unwrap() == Config::default());
        assert!(Config::parse("hush").is_err() && Config::parse("error=maybe").is_err());
    }
}
