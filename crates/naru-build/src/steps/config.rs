//! Instructions that change the image's configuration and no file.

use crate::dockerfile::expand::expand_words;
use crate::dockerfile::instruction::{Command, Instruction};
use crate::dockerfile::parse::{check_signal, ports};
use crate::dockerfile::words::split_plain;
use crate::error::{Position, Result};
use crate::execute::{Execution, expand};
use crate::state::State;
use naru_types::image::Empty;

pub(crate) fn run(
    run: &mut Execution<'_>,
    state: &mut State,
    at: &Position,
    instruction: &Instruction,
) -> Result<()> {
    if let Instruction::OnBuild(text) = instruction {
        // As in BuildKit, triggers are in the configuration only.
        state.config.config.on_build.get_or_insert_default().push(text.clone());
        let words = ["ONBUILD", text.as_str()];
        state.key = state.step_key(&words).finalize();
        return Ok(());
    }
    let mut next = state.clone();
    let text = apply(run, &mut next, at, instruction)?;
    // The whole configuration is in the key, since the text alone is ambiguous: `a="b c=d"` and `a=b c=d`.
    let config = serde_json::to_string(&next.config.config).unwrap_or_default();
    // An ARG's value counts where it is used, so only its names are in the key of the line itself.
    let key_text = match instruction {
        Instruction::Arg(args) => args.iter().map(|arg| format!(" {}", arg.name)).collect(),
        _ => text.clone(),
    };
    let key = state.step_key(&[&key_text, &config]).finalize();
    run.cached(&mut next, &key, &text, |_, _| Ok(None))?;
    *state = next;
    Ok(())
}

/// Changes the configuration and returns the instruction in its canonical form, for history and key.
fn apply(
    run: &mut Execution<'_>,
    state: &mut State,
    at: &Position,
    instruction: &Instruction,
) -> Result<String> {
    let file = run.file;
    let before = state.clone();
    let word = |text: &str| expand(file, &before, at, text);
    let config = &mut state.config.config;
    Ok(match instruction {
        Instruction::Env(pairs) => {
            let pairs = expand_pairs(pairs, &word)?;
            for (key, value) in &pairs {
                state.set_env(key, value);
            }
            format!("ENV {}", join_pairs(&pairs))
        }
        Instruction::Label(pairs) => {
            let pairs = expand_pairs(pairs, &word)?;
            config.labels.extend(pairs.iter().cloned());
            format!("LABEL {}", join_pairs(&pairs))
        }
        Instruction::Arg(args) => {
            let mut names = Vec::new();
            for arg in args {
                let value = run.args.declare(at, arg, file.escape, &|name| state.variable(name))?;
                state.declare(&arg.name, value.as_deref());
                names.push(value.map_or(arg.name.clone(), |value| format!("{}={value}", arg.name)));
            }
            format!("ARG {}", names.join(" "))
        }
        Instruction::User(text) => {
            config.user = word(text)?;
            format!("USER {}", config.user)
        }
        Instruction::Expose(text) => {
            let mut written = split_plain(text);
            written.sort();
            let words = expand_words(&written.join(" "), file.escape, &|name| before.variable(name))
                .map_err(|message| at.error(message))?;
            let mut exposed = Vec::new();
            for word in &words {
                exposed.extend(ports(at, word)?.entries());
            }
            config.exposed_ports.extend(exposed.iter().map(|port| (port.clone(), Empty {})));
            format!("EXPOSE [{}]", exposed.join(" "))
        }
        Instruction::Cmd(command) => {
            let args = arguments(&before, command);
            let text = format!("CMD {}", quoted(&args));
            config.cmd = Some(args);
            state.cmd_set = true;
            text
        }
        Instruction::Entrypoint(command) => {
            let args = arguments(&before, command);
            let text = format!("ENTRYPOINT {}", quoted(&args));
            config.entrypoint = Some(args);
            // The base image's CMD was meant for the base image's ENTRYPOINT.
            if !before.cmd_set {
                config.cmd = None;
            }
            text
        }
        Instruction::Volume(paths) => {
            let paths = paths.iter().map(|path| word(path)).collect::<Result<Vec<_>>>()?;
            for path in &paths {
                if path.trim().is_empty() {
                    return Err(at.error("VOLUME specified can not be an empty string"));
                }
                config.volumes.insert(path.clone(), Empty {});
            }
            format!("VOLUME [{}]", paths.join(" "))
        }
        Instruction::Healthcheck(check) => {
            config.healthcheck = Some(check.clone());
            format!("HEALTHCHECK {}", serde_json::to_string(check).unwrap_or_default())
        }
        Instruction::Shell(words) => {
            config.shell = Some(words.clone());
            format!("SHELL [{}]", words.join(" "))
        }
        Instruction::StopSignal(text) => {
            let signal = word(text)?;
            check_signal(at, &signal)?;
            config.stop_signal = Some(signal.clone());
            format!("STOPSIGNAL {signal}")
        }
        Instruction::Maintainer(name) => {
            state.config.author = Some(name.clone());
            format!("MAINTAINER {name}")
        }
        Instruction::Run(_) | Instruction::Copy(_) | Instruction::Workdir(_) | Instruction::OnBuild(_) => {
            return Err(at.error("this instruction is not one of the configuration alone"));
        }
    })
}

/// The argument vector of CMD and ENTRYPOINT.
pub(crate) fn arguments(state: &State, command: &Command) -> Vec<String> {
    match command {
        Command::Exec(args) => args.clone(),
        Command::Shell(line) => state.shell().into_iter().chain([line.clone()]).collect(),
    }
}

fn expand_pairs(
    pairs: &[(String, String)],
    word: &dyn Fn(&str) -> Result<String>,
) -> Result<Vec<(String, String)>> {
    pairs.iter().map(|(key, value)| Ok((word(key)?, word(value)?))).collect()
}

fn join_pairs(pairs: &[(String, String)]) -> String {
    pairs.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
}

/// As BuildKit's history shows an argument vector: `["a" "b"]`.
fn quoted(words: &[String]) -> String {
    let quoted = |word: &String| serde_json::to_string(word).unwrap_or_default();
    format!("[{}]", words.iter().map(quoted).collect::<Vec<_>>().join(" "))
}
