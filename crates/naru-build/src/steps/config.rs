//! Instructions that change the image's configuration and no file.

use crate::dockerfile::expand::expand_words;
use crate::dockerfile::instruction::{Command, Instruction};
use crate::dockerfile::parse::{check_signal, ports};
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
    let mut next = state.clone();
    let text = apply(run, &mut next, at, instruction)?;
    // An ARG's value counts where it is used, not where it is declared.
    // The whole configuration is in the key, since the text alone is ambiguous: `a="b c=d"` and `a=b c=d`.
    let config = serde_json::to_string(&next.config.config).unwrap_or_default();
    let key = state.step_key(&[&text, &config]).finalize();
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
                if let Some(value) = value {
                    state.args.insert(arg.name.clone(), value);
                }
                names.push(
                    arg.default.as_ref().map_or(arg.name.clone(), |text| format!("{}={text}", arg.name)),
                );
            }
            format!("ARG {}", names.join(" "))
        }
        Instruction::User(text) => {
            config.user = word(text)?;
            if config.user.is_empty() {
                return Err(at.error("USER must not be blank"));
            }
            format!("USER {}", config.user)
        }
        Instruction::Expose(text) => {
            let words = expand_words(text, file.escape, &|name| before.variable(name))
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
            let text = format!("CMD {}", json(&args));
            config.cmd = Some(args);
            state.cmd_set = true;
            text
        }
        Instruction::Entrypoint(command) => {
            let args = arguments(&before, command);
            let text = format!("ENTRYPOINT {}", json(&args));
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
            format!("VOLUME {}", json(&paths))
        }
        Instruction::Healthcheck(check) => {
            config.healthcheck = Some(check.clone());
            format!("HEALTHCHECK {}", serde_json::to_string(check).unwrap_or_default())
        }
        Instruction::Shell(words) => {
            config.shell = Some(words.clone());
            format!("SHELL {}", json(words))
        }
        Instruction::StopSignal(text) => {
            let signal = word(text)?;
            check_signal(at, &signal)?;
            config.stop_signal = Some(signal.clone());
            format!("STOPSIGNAL {signal}")
        }
        Instruction::OnBuild(text) => {
            config.on_build.get_or_insert_default().push(text.clone());
            format!("ONBUILD {text}")
        }
        Instruction::Maintainer(name) => {
            state.config.author = Some(name.clone());
            format!("MAINTAINER {name}")
        }
        Instruction::Run(_) | Instruction::Copy(_) | Instruction::Workdir(_) => {
            return Err(at.error("this instruction changes files"));
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

/// As Docker's history shows an argument vector.
fn json(words: &[String]) -> String {
    serde_json::to_string(words).unwrap_or_default()
}
