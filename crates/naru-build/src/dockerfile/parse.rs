//! Logical lines to typed instructions. All of a Dockerfile is parsed before anything runs, so that a
//! mistake on its last line costs nothing.

use crate::dockerfile::expose::Ports;
use crate::dockerfile::flags::Flags;
use crate::dockerfile::instruction::{Arg, Command, Dockerfile, Instruction, Stage, Step};
use crate::dockerfile::source::{self, LogicalLine};
use crate::dockerfile::words::{self, PairsError};
use crate::dockerfile::{copy, healthcheck, run};
use crate::error::{BuildError, Position, Result};
use naru_types::signal::Signal;
use naru_types::suggest::nearest;

const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// The most stages and the most instructions of one Dockerfile.
const STAGES_MAX: usize = 1_000;
const STEPS_MAX: usize = 10_000;

/// Parses a whole Dockerfile. `file` is for messages.
pub fn parse(file: &str, text: &str) -> Result<Dockerfile> {
    let source = source::read(file, text)?;
    let mut parsed = Dockerfile {
        escape: source.escape,
        global_args: Vec::new(),
        stages: Vec::new(),
        warnings: source.warnings,
        check: source.check,
        empty_continuations: source.empty_continuations,
        contexts: Vec::new(),
    };
    if let Some(image) = source.syntax.filter(|image| !is_usual_syntax(image)) {
        parsed
            .warnings
            .push(format!("{file}: the frontend image {image} is not used; naru parses Dockerfiles itself"));
    }
    if source.lines.len() > STEPS_MAX {
        return Err(source.lines[STEPS_MAX].at.error("too many instructions"));
    }
    for line in &source.lines {
        add_line(&mut parsed, line)?;
    }
    if parsed.stages.is_empty() {
        let message = "dockerfile contains no stages to build";
        return Err(BuildError::File {
            file: file.into(),
            message: message.into(),
            hint: Some("a Dockerfile needs a FROM instruction".into()),
        });
    }
    Ok(parsed)
}

/// Parses the text of an ONBUILD trigger of an image.
pub(crate) fn parse_trigger(image: &str, text: &str) -> Result<Vec<Step>> {
    let source = source::read(&format!("ONBUILD of {image}"), text)?;
    source.lines.iter().map(|line| parse_step(line, source.escape)).collect()
}

fn add_line(parsed: &mut Dockerfile, line: &LogicalLine) -> Result<()> {
    let (keyword, rest) = words::keyword(&line.text);
    if keyword.eq_ignore_ascii_case("FROM") {
        if parsed.stages.len() == STAGES_MAX {
            return Err(line.at.error("too many stages"));
        }
        let stage = parse_from(line, rest, parsed.escape)?;
        // Of stages with one name a later line means the nearest before it.
        parsed.stages.push(stage);
        return Ok(());
    }
    let step = parse_step(line, parsed.escape)?;
    match (parsed.stages.last_mut(), step.instruction) {
        (Some(stage), instruction) => stage.steps.push(Step { instruction, ..step }),
        (None, Instruction::Arg(args)) => parsed.global_args.push((step.at, args)),
        (None, _) => {
            return Err(step.at.hinted(
                "no build stage in current context",
                "the first instruction must be FROM; only ARG may stand before it",
            ));
        }
    }
    Ok(())
}

fn parse_from(line: &LogicalLine, rest: &str, escape: char) -> Result<Stage> {
    let at = &line.at;
    let (flags, rest) = Flags::take(at, rest, escape, &["platform"], &[])?;
    let words = words::split_plain(rest);
    let (base, name) = match words.as_slice() {
        [base] => (base, None),
        [base, keyword, name] if keyword.eq_ignore_ascii_case("AS") => {
            (base, Some(name.to_ascii_lowercase()))
        }
        _ => {
            return Err(at.hinted(
                "FROM requires either one or three arguments",
                "write FROM image, or FROM image AS name",
            ));
        }
    };
    if let Some(name) = &name {
        let valid = name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
        if !valid {
            let hint = "a name begins with a letter; letters, digits, '-', '_' and '.' follow";
            return Err(at.hinted(
                format!(
                    "invalid name for build stage: {:?}, name can't start with a number or contain symbols",
                    words[2]
                ),
                hint,
            ));
        }
    }
    Ok(Stage {
        at: at.clone(),
        text: line.text.clone(),
        name,
        base: base.clone(),
        platform: flags.value(at, "platform")?,
        steps: Vec::new(),
    })
}

fn parse_step(line: &LogicalLine, escape: char) -> Result<Step> {
    let (keyword, rest) = words::keyword(&line.text);
    let instruction = parse_instruction(line, keyword, rest, escape)?;
    Ok(Step { at: line.at.clone(), text: line.text.clone(), instruction })
}

fn parse_instruction(line: &LogicalLine, keyword: &str, rest: &str, escape: char) -> Result<Instruction> {
    let at = &line.at;
    let upper = keyword.to_ascii_uppercase();
    if !KEYWORDS.contains(&upper.as_str()) {
        let message = format!("unknown instruction: {keyword}");
        return Err(match nearest(&upper, KEYWORDS) {
            Some(meant) => at.hinted(message, format!("did you mean {meant}?")),
            None => at.hinted(message, format!("the instructions are {}", KEYWORDS.join(", "))),
        });
    }
    let takes_flags = matches!(upper.as_str(), "RUN" | "COPY" | "ADD" | "HEALTHCHECK");
    let rest = if takes_flags { rest } else { Flags::take(at, rest, escape, &[], &[])?.1 };
    if rest.is_empty() {
        match upper.as_str() {
            "WORKDIR" | "USER" | "STOPSIGNAL" | "MAINTAINER" => {
                return Err(at.error(format!("{upper} requires exactly one argument")));
            }
            // An empty line for the shell; COPY and ADD have a text of their own.
            "RUN" | "CMD" | "ENTRYPOINT" | "COPY" | "ADD" => {}
            _ => return Err(at.error(format!("{upper} requires at least one argument"))),
        }
    }
    Ok(match upper.as_str() {
        "RUN" => Instruction::Run(run::parse(line, rest, escape)?),
        "COPY" | "ADD" => Instruction::Copy(copy::parse(line, rest, escape, upper == "ADD")?),
        "ENV" => Instruction::Env(pairs(at, "ENV", rest, escape)?),
        "LABEL" => Instruction::Label(pairs(at, "LABEL", rest, escape)?),
        "ARG" => Instruction::Arg(args(at, rest, escape)?),
        "WORKDIR" => Instruction::Workdir(rest.to_owned()),
        "USER" => Instruction::User(rest.to_owned()),
        "EXPOSE" => {
            if !rest.contains('$') {
                words::split_plain(rest).iter().try_for_each(|word| ports(at, word).map(drop))?;
            }
            Instruction::Expose(rest.to_owned())
        }
        "CMD" => Instruction::Cmd(command(at, rest)?),
        "ENTRYPOINT" => Instruction::Entrypoint(command(at, rest)?),
        "VOLUME" => Instruction::Volume(volumes(at, rest)?),
        "HEALTHCHECK" => Instruction::Healthcheck(healthcheck::parse(at, rest, escape)?),
        "SHELL" => Instruction::Shell(shell(at, rest)?),
        "STOPSIGNAL" => {
            if !rest.contains('$') {
                check_signal(at, rest)?;
            }
            Instruction::StopSignal(rest.to_owned())
        }
        "ONBUILD" => Instruction::OnBuild(trigger(line, rest, escape)?),
        "MAINTAINER" => Instruction::Maintainer(rest.to_owned()),
        _ => return Err(at.hinted("FROM is not allowed here", "a stage begins on a line of its own")),
    })
}

/// Exec form when the rest is a JSON array of strings, shell form otherwise.
pub(crate) fn command(at: &Position, rest: &str) -> Result<Command> {
    let exec = words::json_array(rest).map_err(|message| at.error(message))?;
    Ok(exec.map_or_else(|| Command::Shell(rest.to_owned()), Command::Exec))
}

pub(crate) fn check_signal(at: &Position, signal: &str) -> Result<()> {
    match Signal::parse(signal) {
        Some(_) => Ok(()),
        None => Err(at.hinted(format!("invalid signal: {signal}"), "use a name such as SIGTERM or a number")),
    }
}

pub(crate) fn ports(at: &Position, word: &str) -> Result<Ports> {
    Ports::parse(word).map_err(|message| at.hinted(message, "write 80, 80/udp or 8000-8010/tcp"))
}

fn pairs(at: &Position, keyword: &str, rest: &str, escape: char) -> Result<Vec<(String, String)>> {
    let pairs = words::pairs(rest, escape).map_err(|error| match error {
        PairsError::Missing(_) => {
            at.hinted(format!("{keyword} must have two arguments"), format!("write {keyword} key=value"))
        }
        PairsError::NotPair(word) => at.hinted(
            format!("Syntax error - can't find = in {word:?}. Must be of the form: name=value"),
            "quote a value that has spaces: name=\"a b\"",
        ),
    })?;
    if pairs.iter().any(|(key, _)| key.is_empty() || key == "\"\"") {
        return Err(at.error(format!("{keyword} names can not be blank")));
    }
    Ok(pairs)
}

fn args(at: &Position, rest: &str, escape: char) -> Result<Vec<Arg>> {
    let one = |word: String| {
        let (name, default) = word
            .split_once('=')
            .map_or((word.as_str(), None), |(name, value)| (name, Some(value.to_owned())));
        if name.is_empty() {
            return Err(at.hinted("ARG names can not be blank", "write ARG name or ARG name=default"));
        }
        Ok(Arg { name: name.to_owned(), default })
    };
    words::split_quoted(rest, escape).into_iter().map(one).collect()
}

fn volumes(at: &Position, rest: &str) -> Result<Vec<String>> {
    let json = words::json_array(rest).map_err(|message| at.error(message))?;
    let volumes = json.unwrap_or_else(|| words::split_plain(rest));
    if volumes.is_empty() || volumes.iter().any(|path| path.trim().is_empty()) {
        return Err(at.error("VOLUME specified can not be an empty string"));
    }
    Ok(volumes)
}

fn shell(at: &Position, rest: &str) -> Result<Vec<String>> {
    let words = words::json_array(rest).map_err(|message| at.error(message))?.ok_or_else(|| {
        at.hinted("SHELL requires the arguments to be in JSON form", r#"write SHELL ["/bin/sh", "-c"]"#)
    })?;
    if words.is_empty() {
        return Err(at.error("SHELL requires at least one argument"));
    }
    Ok(words)
}

/// An ONBUILD's text with its heredocs put back, after a check that it can be parsed.
fn trigger(line: &LogicalLine, rest: &str, escape: char) -> Result<String> {
    let keyword = words::keyword(rest).0.to_ascii_uppercase();
    if matches!(keyword.as_str(), "ONBUILD" | "FROM" | "MAINTAINER") {
        let message = if keyword == "ONBUILD" {
            "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed".to_owned()
        } else {
            format!("{keyword} isn't allowed as an ONBUILD trigger")
        };
        return Err(line.at.error(message));
    }
    let inner = LogicalLine { at: line.at.clone(), text: rest.to_owned(), heredocs: line.heredocs.clone() };
    parse_step(&inner, escape)?;
    let mut text = rest.to_owned();
    for heredoc in &line.heredocs {
        text = format!("{text}\n{}{}", heredoc.content, heredoc.name);
    }
    Ok(text)
}

/// The frontends whose language is the one that naru speaks.
fn is_usual_syntax(image: &str) -> bool {
    let image = image.strip_prefix("docker.io/").unwrap_or(image);
    image.starts_with("docker/dockerfile:")
        || image == "docker/dockerfile"
        || image.starts_with("docker/dockerfile@")
}
