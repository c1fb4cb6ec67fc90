//! RUN.

use crate::dockerfile::instruction::{Command, Run};
use crate::error::{BuildError, Position, Result};
use crate::event::BuildEvent;
use crate::execute::Execution;
use crate::files::mount_points::remove_mount_points;
use crate::files::source::field;
use crate::runner::{StepMount, StepMountKind, StepNetwork, StepSpec};
use crate::scratch::random;
use crate::state::{DEFAULT_PATH, State};
use crate::steps::config::arguments;
use crate::steps::mounts::{self, Prepared};
use naru_types::ContainerId;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

pub(crate) fn run(
    run: &mut Execution<'_>,
    stage: usize,
    state: &mut State,
    at: &Position,
    command: &Run,
) -> Result<()> {
    let args = match &command.script {
        Some(script) => arguments(state, &Command::Shell(script_path(&script.name))),
        None => arguments(state, &command.command),
    };
    let shown = args.join(" ");
    let created_by = format!("RUN {}{shown}", argument_prefix(state));
    // What the command can see beside the files: the network and the hosts that the request adds.
    let network = network(run, at, command)?;
    let mut hasher = state.step_key(&["RUN", &format!("{args:?} {network:?} {:?}", run.request.extra_hosts)]);
    for (name, value) in state.environment() {
        field(&mut hasher, format!("{name}={value}").as_bytes());
    }
    if let Some(script) = &command.script {
        field(&mut hasher, script.content.as_bytes());
    }
    let flags = mounts::read(run, state, at, &command.mounts)?;
    for mount in &flags {
        mounts::hash(run, stage, at, mount, &mut hasher)?;
    }
    let key = hasher.finalize();
    run.cached(state, &key, &created_by, |run, state| {
        let mut prepared = mounts::prepare(run, stage, state, at, &flags)?;
        if let Some(script) = &command.script {
            let source = script_file(run, &script.content)?;
            let kind = StepMountKind::Bind { source, read_only: true };
            prepared.mounts.push(StepMount { target: script_path(&script.name), kind });
        }
        execute(run, state, at, command, args, &prepared, &shown)
    })
}

/// A Dockerfile, or the ONBUILD of a base image, doesn't take the host's network by itself.
fn network(run: &Execution<'_>, at: &Position, command: &Run) -> Result<StepNetwork> {
    let given = run.request.network;
    match command.network {
        Some(StepNetwork::Host) if given != StepNetwork::Host && !run.request.host_network_allowed => Err(at
            .hinted("network.host is not allowed", "build with --allow network.host if you trust this file")),
        network => Ok(network.unwrap_or(given)),
    }
}

fn execute(
    run: &mut Execution<'_>,
    state: &State,
    at: &Position,
    command: &Run,
    args: Vec<String>,
    prepared: &Prepared,
    shown: &str,
) -> Result<Option<PathBuf>> {
    let (upper, work) = (run.scratch_dir("upper")?, run.scratch_dir("work")?);
    let id = ContainerId::from_bytes(random()?);
    let points = mounts::mount_points(run, state, &prepared.mounts)?;
    let spec = StepSpec {
        id: id.clone(),
        lowers: run.lowers(state.layers())?,
        upper: upper.clone(),
        work: work.clone(),
        args,
        env: environment(run, state, &prepared.env),
        cwd: state.working_dir().to_owned(),
        user: state.config.config.user.clone(),
        network: command.network.unwrap_or(run.request.network),
        hostname: id.short().to_owned(),
        extra_hosts: run.request.extra_hosts.clone(),
        mounts: prepared.mounts.clone(),
        shm_size: run.request.shm_size,
        cancel: run.request.cancel.clone(),
    };
    run.tell(BuildEvent::Running { id: id.clone() });
    let events = &mut *run.events;
    let ended = run.runner.run(&spec, &mut |stream, bytes| {
        events(BuildEvent::Output { stream, bytes: bytes.to_vec() });
    });
    run.check_cancel()?;
    let exit = ended.map_err(|source| BuildError::At { at: Box::new(at.clone()), source })?;
    if exit.code != 0 {
        run.tell(BuildEvent::CommandFailed { code: exit.code });
        return Err(BuildError::Command {
            command: shown.to_owned(),
            code: exit.code,
            at: Box::new(at.clone()),
        });
    }
    run.tell(BuildEvent::Finished { id });
    remove_mount_points(&upper, &points)?;
    fs::remove_dir_all(&work).map_err(BuildError::io("remove", &work))?;
    Ok(Some(upper))
}

/// PATH first if the image has none, then the image's variables, then arguments that no variable hides; what
/// the client lends hides all of them.
fn environment(run: &Execution<'_>, state: &State, lent: &[String]) -> Vec<String> {
    let mut env = Vec::new();
    if state.env("PATH").is_none() {
        env.push(format!("PATH={DEFAULT_PATH}"));
    }
    let entry = |(name, value): (String, String)| format!("{name}={value}");
    env.extend(state.environment().into_iter().map(entry));
    let proxies = run.args.proxies().filter(|(name, _)| state.variable(name).is_none());
    env.extend(proxies.map(|(name, value)| format!("{name}={value}")));
    let name = |entry: &String| entry.split('=').next().unwrap_or_default().to_owned();
    env.retain(|entry| !lent.iter().any(|lent| name(lent) == name(entry)));
    env.extend(lent.iter().cloned());
    env
}

/// `|2 a=1 b=2 `: the arguments in scope, as Docker's history shows them.
fn argument_prefix(state: &State) -> String {
    let args = state.declared();
    if args.is_empty() { String::new() } else { format!("|{} {} ", args.len(), args.join(" ")) }
}

/// Where the step finds a heredoc that is a script.
fn script_path(name: &str) -> String {
    format!("/dev/pipes/{name}")
}

fn script_file(run: &mut Execution<'_>, content: &str) -> Result<PathBuf> {
    let path = run.scratch_dir("script")?.join("script");
    fs::write(&path, content).map_err(BuildError::io("write", &path))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(BuildError::io("chmod", &path))?;
    Ok(path)
}
