//! Which stages a build needs: the target and everything it takes from, and no other.

use crate::dockerfile::instruction::{Dockerfile, Instruction, Stage};
use crate::error::{BuildError, Position, Result};
use naru_types::ImageRef;

/// What a `--from` or a FROM names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Stage(usize),
    /// A name of the request's own.
    Context(String),
    Image(String),
}

/// The indices of the needed stages, in order; the last one is the target.
pub(crate) fn needed(
    file: &Dockerfile,
    target: Option<&str>,
    base: &dyn Fn(&Stage) -> Result<String>,
) -> Result<Vec<usize>> {
    let last = match target {
        None | Some("") => file.stages.len() - 1,
        Some(target) => find_target(file, target)?,
    };
    let mut needed = vec![false; file.stages.len()];
    needed[last] = true;
    for index in (0..=last).rev() {
        if !needed[index] {
            continue;
        }
        let stage = &file.stages[index];
        if replaced(file, stage).is_some() {
            continue;
        }
        if let Some(from) = stage_named(file, index, &base(stage)?) {
            needed[from] = true;
        }
        for step in &stage.steps {
            for from in step_sources(&step.instruction) {
                if let Origin::Stage(from) = origin(file, index, &step.at, from)? {
                    needed[from] = true;
                }
            }
        }
    }
    Ok((0..=last).filter(|index| needed[*index]).collect())
}

/// Checks the stage numbers of every `--from`, in needed stages or not.
pub(crate) fn check(file: &Dockerfile) -> Result<()> {
    for (index, stage) in file.stages.iter().enumerate() {
        for step in &stage.steps {
            for from in step_sources(&step.instruction) {
                if from.parse::<usize>().is_ok_and(|number| number >= file.stages.len()) {
                    origin(file, index, &step.at, from)?;
                }
            }
        }
    }
    Ok(())
}

/// What `--from=from` means in stage `index`.
pub(crate) fn origin(file: &Dockerfile, index: usize, at: &Position, from: &str) -> Result<Origin> {
    if let Ok(number) = from.parse::<usize>() {
        return match number {
            number if number < index => Ok(Origin::Stage(number)),
            number if number == index => Err(circular(file, index, at)),
            _ if number >= file.stages.len() => Err(at.hinted(
                format!("invalid stage index {from}"),
                format!("stages are counted from 0; this is stage {index}"),
            )),
            _ => Err(at.hinted(
                format!("cannot copy from stage {from:?}, it needs to be defined before current stage"),
                format!("stages are counted from 0; this is stage {index}"),
            )),
        };
    }
    if let Some(name) = context_named(file, from) {
        return Ok(Origin::Context(name.to_owned()));
    }
    if let Some(stage) = stage_named(file, index, from) {
        return Ok(Origin::Stage(stage));
    }
    if is_named(&file.stages[index], from) {
        return Err(circular(file, index, at));
    }
    let later = file.stages[index..].iter().any(|stage| is_named(stage, from));
    if later {
        let current = display_name(file, index);
        let message = format!(
            "cannot copy from stage {from:?}, it needs to be defined before current stage {current:?}"
        );
        return Err(at.hinted(message, "move that stage up"));
    }
    Ok(Origin::Image(from.to_owned()))
}

fn circular(file: &Dockerfile, index: usize, at: &Position) -> BuildError {
    let message = format!("circular dependency detected on stage: {}", display_name(file, index));
    at.hinted(message, "a stage cannot take from itself")
}

/// What BuildKit calls a stage.
pub(crate) fn display_name(file: &Dockerfile, index: usize) -> String {
    file.stages[index].name.clone().unwrap_or_else(|| format!("stage-{index}"))
}

/// The name of the request's own that stands in a stage's place.
pub(crate) fn replaced<'a>(file: &'a Dockerfile, stage: &Stage) -> Option<&'a str> {
    context_named(file, stage.name.as_deref()?)
}

/// The request's own name that `name` means; an image may be written in full or short.
pub(crate) fn context_named<'a>(file: &'a Dockerfile, name: &str) -> Option<&'a str> {
    let full = |name: &str| ImageRef::parse(name).ok().map(|image| image.with_default_tag());
    let same = |known: &&String| {
        known.eq_ignore_ascii_case(name) || (full(known).is_some() && full(known) == full(name))
    };
    file.contexts.iter().find(same).map(String::as_str)
}

/// The nearest stage before `index` of that name.
pub(crate) fn stage_named(file: &Dockerfile, index: usize, name: &str) -> Option<usize> {
    file.stages[..index].iter().rposition(|stage| is_named(stage, name))
}

fn is_named(stage: &Stage, name: &str) -> bool {
    stage.name.as_deref().is_some_and(|known| known.eq_ignore_ascii_case(name))
}

fn step_sources(instruction: &Instruction) -> Vec<&str> {
    match instruction {
        Instruction::Copy(copy) => copy.from.as_deref().into_iter().collect(),
        Instruction::Run(run) => run.mounts.iter().filter_map(|mount| mount.from.as_deref()).collect(),
        _ => Vec::new(),
    }
}

fn find_target(file: &Dockerfile, target: &str) -> Result<usize> {
    let by_name = file.stages.iter().rposition(|stage| is_named(stage, target));
    let by_number = target.parse::<usize>().ok().filter(|number| *number < file.stages.len());
    by_name.or(by_number).ok_or_else(|| BuildError::NoTarget {
        target: target.to_owned(),
        known: file.stages.iter().filter_map(|stage| stage.name.clone()).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::parse::parse;

    const FILE: &str = "FROM a AS one\nFROM b AS two\nRUN x\nFROM one AS three\nCOPY --from=two a b\nFROM c AS four\nRUN --mount=from=0,target=/x y\nFROM d";

    #[test]
    fn only_what_the_target_takes() {
        let file = parse("Dockerfile", FILE).unwrap();
        for (target, expect) in [
            (None, vec![4]),
            (Some("THREE"), vec![0, 1, 2]),
            (Some("four"), vec![0, 3]),
            (Some("1"), vec![1]),
        ] {
            let plan = needed(&file, target, &|stage| Ok(stage.base.clone())).unwrap();
            assert_eq!(plan, expect, "{target:?}");
        }
        let error = needed(&file, Some("nope"), &|stage| Ok(stage.base.clone())).unwrap_err();
        assert_eq!(error.to_string(), "target stage \"nope\" could not be found");
    }

    #[test]
    fn wrong_origins() {
        for (text, expect) in [
            ("FROM a\nCOPY --from=0 a b", "circular dependency detected on stage: stage-0"),
            ("FROM a\nCOPY --from=3 a b", "invalid stage index 3"),
            ("FROM a AS y\nCOPY --from=x a b\nFROM b AS x\nFROM y", "needs to be defined before"),
            ("FROM a AS x\nCOPY --from=x a b", "circular dependency detected on stage: x"),
        ] {
            let file = parse("Dockerfile", text).unwrap();
            let error =
                check(&file).and_then(|()| needed(&file, None, &|stage| Ok(stage.base.clone())).map(drop));
            let error = error.unwrap_err().to_string();
            assert!(error.contains(expect), "{text:?}: {error}");
        }
    }
}
