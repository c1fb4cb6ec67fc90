//! Rules on how things are written: keywords and the names of stages.

use crate::dockerfile::instruction::{Dockerfile, Instruction};
use crate::dockerfile::words::{keyword, split_plain};
use crate::error::Position;
use crate::lint::{Linter, rules};
use std::collections::BTreeSet;

const RESERVED: [&str; 2] = ["context", "scratch"];

pub(super) fn check(file: &Dockerfile, linter: &mut Linter) {
    casing(file, linter);
    let mut names = BTreeSet::new();
    for stage in &file.stages {
        from_line(&stage.at, &stage.text, linter);
        let Some(name) = &stage.name else { continue };
        if RESERVED.contains(&name.as_str()) {
            let text = format!("Stage name should not use the same name as reserved stage {name:?}");
            linter.warn(&rules::RESERVED_STAGE_NAME, &stage.at, text);
        }
        if !names.insert(name) {
            let text = format!("Duplicate stage name {name:?}, stage names should be unique");
            linter.warn(&rules::DUPLICATE_STAGE_NAME, &stage.at, text);
        }
    }
    for step in file.stages.iter().flat_map(|stage| &stage.steps) {
        if matches!(step.instruction, Instruction::Maintainer(_)) {
            let text = "Maintainer instruction is deprecated in favor of using label".to_owned();
            linter.warn(&rules::MAINTAINER_DEPRECATED, &step.at, text);
        }
    }
}

/// `FROM … AS Name`: the case of AS and of the name.
fn from_line(at: &Position, text: &str, linter: &mut Linter) {
    let (from, rest) = keyword(text);
    let words: Vec<String> =
        split_plain(rest).into_iter().skip_while(|word| word.starts_with("--")).collect();
    let [_, keyword_as, name] = words.as_slice() else { return };
    if *name != name.to_lowercase() {
        linter.warn(&rules::STAGE_NAME_CASING, at, format!("Stage name '{name}' should be lowercase"));
    }
    let (lower, upper) = (from.to_lowercase(), from.to_uppercase());
    let wanted = match from {
        from if from == lower => keyword_as.to_lowercase(),
        from if from == upper => keyword_as.to_uppercase(),
        // Mixed case is the other rule's.
        _ => return,
    };
    if *keyword_as != wanted {
        let text = format!("'{keyword_as}' and '{from}' keywords' casing do not match");
        linter.warn(&rules::FROM_AS_CASING, at, text);
    }
}

/// All keywords in the case of most of them.
fn casing(file: &Dockerfile, linter: &mut Linter) {
    let stages = file.stages.iter().flat_map(|stage| {
        let steps = stage.steps.iter().map(|step| (&step.at, keyword(&step.text).0));
        std::iter::once((&stage.at, keyword(&stage.text).0)).chain(steps)
    });
    let words: Vec<(&Position, &str)> = stages.collect();
    let lower = words.iter().filter(|(_, word)| *word == word.to_lowercase()).count();
    let upper = words.iter().filter(|(_, word)| *word == word.to_uppercase()).count();
    for (at, word) in words {
        let wrong = match lower > upper {
            true if word != word.to_lowercase() => "lowercase",
            false if word != word.to_uppercase() => "uppercase",
            _ => continue,
        };
        let text = format!("Command '{word}' should match the case of the command majority ({wrong})");
        linter.warn(&rules::CONSISTENT_INSTRUCTION_CASING, at, text);
    }
}
