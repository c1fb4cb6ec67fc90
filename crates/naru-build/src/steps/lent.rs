//! `RUN --mount=type=secret` and `type=ssh`: what the client lends for one step.
//!
//! Nothing of it comes near an image, the cache or a cache key. A secret's file lies in the directory for
//! secrets (in memory, where the daemon sets one), readable by its owner only, and is gone after the step.

use crate::dockerfile::instruction::{Look, RunMount, RunMountKind};
use crate::error::{BuildError, Position, Result};
use crate::execute::Execution;
use crate::runner::{StepMount, StepMountKind};
use crate::scratch::Scratch;
use crate::session::{SECRET_BYTES_MAX, Secret};
use crate::state::{State, absolute};
use crate::steps::mounts::Prepared;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, fchown};
use std::path::PathBuf;

const SECRET_MODE: u32 = 0o400;
const AUTH_SOCK: &str = "SSH_AUTH_SOCK";

pub(crate) fn secret(
    run: &mut Execution<'_>,
    state: &State,
    at: &Position,
    mount: &RunMount,
    prepared: &mut Prepared,
) -> Result<()> {
    let RunMountKind::Secret { id, env, required, look } = &mount.kind else { return Ok(()) };
    let wrap = |source| BuildError::At { at: Box::new(at.clone()), source };
    let Some(value) = run.request.session.secret(id).map_err(wrap)? else {
        return missing(at, *required, &format!("secret {id}: not found"), "--secret id=…,src=…");
    };
    if value.reveal().len() > SECRET_BYTES_MAX {
        return Err(at.error(format!("the secret {id} is larger than {SECRET_BYTES_MAX} bytes")));
    }
    if let Some(name) = env {
        // Without a name of its own the variable is called like the secret.
        let name = if name.is_empty() { id } else { name };
        let text = std::str::from_utf8(value.reveal())
            .map_err(|_| at.error(format!("the secret {id} is not text, as a variable must be")))?;
        prepared.env.push(format!("{name}={text}"));
    }
    if env.is_none() || mount.target.is_some() {
        let (dir, path) = secret_file(run, &value, look)?;
        prepared.guards.push(Box::new(dir));
        let usual = format!("/run/secrets/{}", id.rsplit('/').next().unwrap_or(id));
        let target = absolute(state.working_dir(), mount.target.as_deref().unwrap_or(&usual));
        let kind = StepMountKind::Bind { source: path, read_only: true };
        prepared.mounts.push(StepMount { target, kind });
    }
    Ok(())
}

pub(crate) fn ssh(
    run: &mut Execution<'_>,
    state: &State,
    at: &Position,
    mount: &RunMount,
    prepared: &mut Prepared,
) -> Result<()> {
    let RunMountKind::Ssh { id, required, look } = &mount.kind else { return Ok(()) };
    let wrap = |source| BuildError::At { at: Box::new(at.clone()), source };
    let Some(agent) = run.request.session.ssh_agent(id).map_err(wrap)? else {
        return missing(at, *required, &format!("unset ssh forward key {id}"), "--ssh default");
    };
    // The socket is the client's own: its owner and mode can't be changed for one step.
    if *look != Look::default() {
        return Err(at.unsupported(
            "mode=, uid= and gid= of an ssh mount are not supported",
            "run the step as a user that may use the agent's socket",
        ));
    }
    let number = prepared.mounts.iter().filter(|mount| mount.target.starts_with("/run/buildkit/")).count();
    let usual = format!("/run/buildkit/ssh_agent.{number}");
    let target = absolute(state.working_dir(), mount.target.as_deref().unwrap_or(&usual));
    // The first agent is the one that ssh asks.
    if !prepared.env.iter().any(|entry| entry.split('=').next() == Some(AUTH_SOCK)) {
        prepared.env.push(format!("{AUTH_SOCK}={target}"));
    }
    let kind = StepMountKind::Bind { source: agent.socket, read_only: false };
    prepared.mounts.push(StepMount { target, kind });
    prepared.guards.extend(agent.guard);
    Ok(())
}

fn missing(at: &Position, required: bool, message: &str, flag: &str) -> Result<()> {
    if required { Err(at.hinted(message, format!("give it with {flag}"))) } else { Ok(()) }
}

/// A file in a directory of its own, which goes when its guard does.
fn secret_file(run: &Execution<'_>, value: &Secret, look: &Look) -> Result<(Scratch, PathBuf)> {
    let dir = Scratch::make(run.secrets)?;
    let path = dir.dir("lent")?.join("secret");
    let file: File = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .map_err(BuildError::io("create", &path))?;
    (&file).write_all(value.reveal()).map_err(BuildError::io("write", &path))?;
    fchown(&file, Some(look.uid.unwrap_or(0)), Some(look.gid.unwrap_or(0)))
        .map_err(BuildError::io("chown", &path))?;
    file.set_permissions(fs::Permissions::from_mode(look.mode.unwrap_or(SECRET_MODE)))
        .map_err(BuildError::io("chmod", &path))?;
    Ok((dir, path))
}
