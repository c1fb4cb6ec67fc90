//! Doors for the fuzz targets: the language, which is no part of the interface, with what must hold for it.

use crate::dockerfile::expand;
use crate::dockerfile::instruction::Dockerfile;
use crate::dockerfile::parse::parse;
use crate::error::Position;
use crate::lint::{Surroundings, check};
use crate::outline::outline;
use naru_types::dockerignore::Ignore;
use naru_types::platform::Platform;
use std::collections::BTreeMap;

/// Parses a Dockerfile, outlines and lints it. `Ok(false)`: refused. Every place that is named must be one of the text.
pub fn dockerfile(text: &str) -> Result<bool, String> {
    let lines = text.lines().count();
    let within = |first: usize, last: usize, what: &str| {
        let right = 1 <= first && first <= last && last <= lines;
        if right {
            Ok(())
        } else {
            Err(format!("{what} is said to be on lines {first} to {last} of {lines}"))
        }
    };
    let file = match parse("Dockerfile", text) {
        Ok(file) => file,
        Err(error) => {
            // An empty file has no line that could be named.
            return error.position().map_or(Ok(()), |at| within(at.line, at.end, "a fault")).map(|()| false);
        }
    };
    for at in positions(&file) {
        within(at.line, at.end, &at.text)?;
    }
    let shown = outline("Dockerfile", text).map_err(|error| format!("parsed, but not outlined: {error}"))?;
    if shown.len() != file.stages.len() {
        return Err(format!("{} stages, {} outlined", file.stages.len(), shown.len()));
    }
    let around = Surroundings {
        given: &BTreeMap::new(),
        target: None,
        ignore: &Ignore::default(),
        host: &Platform::host(),
        image: &|_| None,
    };
    // Of a directive that is wrong, or a variable that must be set: refused.
    let Ok(warnings) = check(&file, &around) else { return Ok(false) };
    for warning in warnings {
        within(warning.first_line, warning.last_line, warning.rule)?;
    }
    Ok(true)
}

fn positions(file: &Dockerfile) -> impl Iterator<Item = &Position> {
    let steps = file.stages.iter().flat_map(|stage| stage.steps.iter().map(|step| &step.at));
    let stages = file.stages.iter().map(|stage| &stage.at);
    file.global_args.iter().map(|(at, _)| at).chain(stages).chain(steps)
}

/// One word with its variables in place; every other form of expansion must answer too.
pub fn expanded(word: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    for escape in ['\\', '`'] {
        let _ = expand::expand_words(word, escape, lookup);
        let _ = expand::expand_text(word, escape, lookup);
    }
    expand::expand(word, '\\', lookup)
}
