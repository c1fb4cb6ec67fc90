//! RUN: its flags and its heredocs.

use crate::dockerfile::flags::Flags;
use crate::dockerfile::instruction::{Command, MountFlag, Run};
use crate::dockerfile::mount::{self, MountError};
use crate::dockerfile::parse::command;
use crate::dockerfile::source::{Heredoc, LogicalLine, heredoc_start, heredoc_words};
use crate::error::{BuildError, Position, Result};
use crate::runner::StepNetwork;
use naru_types::suggest::nearest;

const REFUSED: [(&str, &str); 1] = [("device", "devices in build steps are not there yet")];
const FLAGS: [&str; 3] = ["mount", "network", "security"];

pub(super) fn parse(line: &LogicalLine, rest: &str, escape: char) -> Result<Run> {
    let at = &line.at;
    let (flags, rest) = Flags::take(at, rest, escape, &FLAGS, &REFUSED)?;
    let mounts =
        flags.values(at, "mount")?.into_iter().map(|text| mount_flag(at, text)).collect::<Result<_>>()?;
    let network = network(at, flags.value(at, "network")?.as_deref())?;
    security(at, flags.value(at, "security")?.as_deref())?;
    let mut run = Run { command: command(at, rest)?, script: None, mounts, network };
    if let Some(first) = line.heredocs.first() {
        let words = heredoc_words(rest, escape);
        let alone = matches!(words.as_slice(), [word] if heredoc_start(word).is_some());
        let content = if first.chomp { cut_tabs(&first.content) } else { first.content.clone() };
        if alone && content.starts_with("#!") {
            run.script = Some(Heredoc { content, ..first.clone() });
        } else if alone {
            run.command = Command::Shell(content);
        } else {
            // The shell reads the heredocs itself.
            let bodies = line.heredocs.iter().map(|heredoc| format!("\n{}{}", heredoc.content, heredoc.name));
            run.command = Command::Shell(rest.to_owned() + &bodies.collect::<String>());
        }
    }
    Ok(run)
}

/// What `<<-` does to a heredoc's content.
pub(crate) fn cut_tabs(content: &str) -> String {
    content.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
}

/// A mount's mistake at its place in the Dockerfile.
pub(crate) fn mount_error(at: &Position, error: MountError) -> BuildError {
    match error.hint {
        Some(hint) => at.hinted(error.message, hint),
        None => at.error(error.message),
    }
}

/// Checks a mount as far as its variables allow before the step runs.
fn mount_flag(at: &Position, text: String) -> Result<MountFlag> {
    let from = mount::origin(&text).map_err(|error| mount_error(at, error))?;
    if !text.contains('$') {
        mount::parse(&text, &|value| Ok(value.to_owned())).map_err(|error| mount_error(at, error))?;
    }
    Ok(MountFlag { text, from })
}

fn network(at: &Position, mode: Option<&str>) -> Result<Option<StepNetwork>> {
    match mode {
        None | Some("default") => Ok(None),
        Some("none") => Ok(Some(StepNetwork::None)),
        Some("host") => Ok(Some(StepNetwork::Host)),
        Some(other) => {
            let hint = nearest(other, ["default", "none", "host"])
                .map_or_else(|| "use default, none or host".into(), |meant| format!("did you mean {meant}?"));
            Err(at.hinted(format!("invalid network mode {other:?}"), hint))
        }
    }
}

fn security(at: &Position, mode: Option<&str>) -> Result<()> {
    match mode {
        None | Some("sandbox") => Ok(()),
        // BuildKit refuses it too unless its daemon and the client both grant the entitlement.
        Some("insecure") => Err(at.unsupported(
            "security.insecure is not allowed",
            "naru grants no such entitlement; run such a command in a container with --privileged",
        )),
        Some(other) => Err(at.hinted(format!("invalid security mode: {other}"), "use sandbox")),
    }
}
