//! What a Dockerfile will do, without doing it: for those who draw a build's progress before it is known.
//!
//! Not a plan: which stages a target needs is decided when the build runs.

use crate::dockerfile::instruction::{Dockerfile, Instruction};
use crate::dockerfile::parse::parse;
use naru_types::Error;

/// One stage as BuildKit's clients show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageOutline {
    /// The name that events of the stage carry: its own, or its number.
    pub key: String,
    /// Shown before its steps: its own name, or `stage-N`; nothing when the file has no other stage.
    pub shown: String,
    /// What FROM names, unless that is an earlier stage or `scratch`.
    pub base: Option<String>,
    /// Steps that make files: FROM of an image, RUN, COPY, ADD and WORKDIR.
    pub steps: usize,
}

/// The stages of a Dockerfile; an error when it isn't one.
pub fn outline(name: &str, text: &str) -> Result<Vec<StageOutline>, Error> {
    let file = parse(name, text)?;
    Ok((0..file.stages.len()).map(|index| stage(&file, index)).collect())
}

fn stage(file: &Dockerfile, index: usize) -> StageOutline {
    let stage = &file.stages[index];
    let earlier = file.stages[..index].iter().any(|other| other.name.as_deref() == Some(&*stage.base));
    let base = (!earlier && stage.base != "scratch").then(|| stage.base.clone());
    let makes_files = |instruction: &Instruction| {
        matches!(instruction, Instruction::Run(_) | Instruction::Copy(_) | Instruction::Workdir(_))
    };
    let shown = match &stage.name {
        _ if file.stages.len() == 1 => String::new(),
        Some(name) => name.clone(),
        None => format!("stage-{index}"),
    };
    let steps = stage.steps.iter().filter(|step| makes_files(&step.instruction)).count();
    StageOutline {
        key: stage.name.clone().unwrap_or_else(|| index.to_string()),
        shown,
        steps: steps + usize::from(base.is_some()),
        base,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_and_steps() {
        let text =
            "FROM a AS one\nENV x=y\nRUN x\nFROM one\nWORKDIR /w\nCOPY a b\nFROM scratch AS last\nADD a b";
        let stages = outline("Dockerfile", text).unwrap();
        let short: Vec<_> = stages.iter().map(|s| (&*s.key, &*s.shown, s.base.as_deref(), s.steps)).collect();
        let expect = [("one", "one", Some("a"), 2), ("1", "stage-1", None, 2), ("last", "last", None, 1)];
        assert_eq!(short, expect);
        assert_eq!(outline("Dockerfile", "FROM a\nRUN x").unwrap()[0].shown, "");
        assert!(outline("Dockerfile", "RUNN x").is_err());
    }
}
