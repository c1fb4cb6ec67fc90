//! `build --check`: what is allowed in a Dockerfile and yet hardly meant.
//!
//! The rules, their names, texts and places are BuildKit's (frontend/dockerfile/linter), so that whoever
//! knows one report can read the other, and `# check=skip=…` means the same. Nothing is pulled: of a base
//! image that isn't in the store only what every image has is known.

mod config;
mod names;
mod rules;
mod stages;
mod words;

pub(crate) use stages::Surroundings;

use crate::dockerfile::instruction::Dockerfile;
use crate::error::{Position, Result};
use config::Config;
use rules::Rule;
use std::collections::BTreeMap;

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LintWarning {
    /// `JSONArgsRecommended`.
    pub rule: &'static str,
    /// What the rule is about.
    pub description: &'static str,
    pub url: String,
    /// What is wrong here.
    pub detail: String,
    /// The instruction's lines, from one.
    pub first_line: usize,
    pub last_line: usize,
}

/// All of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LintReport {
    /// By line.
    pub warnings: Vec<LintWarning>,
    /// The Dockerfile's name and text, for excerpts.
    pub file: String,
    pub text: String,
}

/// Findings so far, of the rules that count.
pub(crate) struct Linter {
    config: Config,
    found: Vec<LintWarning>,
}

impl Linter {
    fn warn(&mut self, rule: &'static Rule, at: &Position, detail: String) {
        self.warn_lines(rule, at.line, at.end, detail);
    }

    fn warn_lines(&mut self, rule: &'static Rule, first_line: usize, last_line: usize, detail: String) {
        if self.config.skips(rule.name) {
            return;
        }
        let (description, url) = (rule.description, rule.url());
        self.found.push(LintWarning { rule: rule.name, description, url, detail, first_line, last_line });
    }
}

/// Whether a build with a finding shall fail.
pub(crate) fn is_wanted(file: &Dockerfile, given: &BTreeMap<String, String>) -> Result<bool> {
    Ok(config(file, given)?.error)
}

/// A build argument wins over the directive, as in BuildKit.
fn config(file: &Dockerfile, given: &BTreeMap<String, String>) -> Result<Config> {
    let text = given.get("BUILDKIT_DOCKERFILE_CHECK").or(file.check.as_ref());
    Config::parse(text.map_or("", String::as_str))
}

pub(crate) fn check(file: &Dockerfile, around: &Surroundings<'_>) -> Result<Vec<LintWarning>> {
    let mut linter = Linter { config: config(file, around.given)?, found: Vec::new() };
    for line in &file.empty_continuations {
        linter.warn_lines(&rules::NO_EMPTY_CONTINUATION, *line, *line, "Empty continuation line".into());
    }
    names::check(file, &mut linter);
    stages::check(file, around, &mut linter)?;
    linter.found.sort_by_key(|warning| (warning.first_line, warning.rule));
    Ok(linter.found)
}
