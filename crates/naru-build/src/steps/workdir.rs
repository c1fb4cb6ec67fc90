//! WORKDIR: the directory is made if the image hasn't got it.

use crate::error::{BuildError, Position, Result};
use crate::execute::{Execution, expand};
use crate::files::resolve::resolve;
use crate::files::write::{Changes, LayerWriter};
use crate::files::{at, users};
use crate::state::{State, absolute};
use rustix::fd::{AsFd, OwnedFd};
use std::collections::HashMap;
use std::path::Path;

pub(crate) fn run(run: &mut Execution<'_>, state: &mut State, at: &Position, text: &str) -> Result<()> {
    let text = expand(run.file, state, at, text)?;
    if text.is_empty() {
        return Err(at.error("cannot normalize nothing"));
    }
    let path = absolute(state.working_dir(), &text);
    let created_by = format!("WORKDIR {path}");
    let key = state.step_key(&["WORKDIR", &path, &state.config.config.user]).finalize();
    run.cached(state, &key, &created_by, |run, state| {
        let view = run.view(state)?;
        let found = resolve(view.as_fd(), Path::new(&path), true)
            .map_err(|errno| at.error(format!("cannot make {path}: {errno}")))?;
        match &found.stat {
            Some(stat) if at::is_dir(stat) => return Ok(None),
            Some(_) => return Err(at.error(format!("{path} exists in the image and is not a directory"))),
            None => {}
        }
        let upper = run.scratch_dir("workdir")?;
        let writer = LayerWriter {
            at,
            upper: at::open_root(&upper).map_err(BuildError::sys("open", &upper))?,
            view: view.as_fd(),
            changes: Changes { owner: owner(state, at, &view)?, mode: None },
            replace: false,
            cancel: &run.request.cancel,
            links: HashMap::new(),
            into_layer: false,
        };
        writer.make_dirs(&found.path)?;
        Ok(Some(upper))
    })?;
    state.config.config.working_dir = path;
    Ok(())
}

/// The directories that are made belong to the user of the steps.
fn owner(state: &State, at: &Position, view: &OwnedFd) -> Result<Option<(u32, u32)>> {
    let user = &state.config.config.user;
    if user.is_empty() {
        return Ok(None);
    }
    users::owner(view.as_fd(), user).map(Some).map_err(|message| at.error(message))
}
