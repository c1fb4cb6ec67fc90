//! Taking a container away: its processes, its control group, its root where that is left, its directory; then the poststop hooks.

use crate::cgroups;
use crate::container::told;
use crate::error::OciError;
use crate::log::Log;
use crate::state::{CONFIG, State};
use crate::store::Locked;
use naru_runtime::cgroup::Cgroup;
use naru_runtime::hooks::{self, HookInput};
use naru_runtime::oci::Spec;
use naru_runtime::resctrl;
use std::io::ErrorKind;
use std::path::Path;

/// A stopped container. Goes on after an error, and tells the first.
pub(crate) fn stopped(locked: &Locked, state: &State, log: &mut Log) -> Result<(), OciError> {
    let spec = state.has_epilogue.then(|| read_spec(&locked.directory)).flatten();
    with_spec(locked, state, spec.as_ref(), None, log)
}

/// As [`stopped`], for who still knows the configuration and the control group.
pub(crate) fn with_spec(
    locked: &Locked,
    state: &State,
    spec: Option<&Spec>,
    cgroup: Option<&Cgroup>,
    log: &mut Log,
) -> Result<(), OciError> {
    let mut first = remove_cgroup(state, cgroup).err();
    if let Some(wanted) = spec.and_then(|spec| spec.linux.intel_rdt.as_ref())
        && let Err(error) = resctrl::remove(wanted, &state.id)
    {
        first.get_or_insert(error.into());
    }
    if let Some(mount) = state.root_mount
        && let Err(error) = mount.remove(Path::new(&state.rootfs))
    {
        first.get_or_insert(error);
    }
    if let Err(error) = remove_directory(&locked.directory) {
        first.get_or_insert(error);
    }
    if let Some(spec) = spec.filter(|spec| !spec.hooks.poststop.is_empty()) {
        let input = HookInput { hooks: &spec.hooks, state: told(state) };
        // "If any poststop hook fails, the runtime must log a warning" (runtime.md, "Lifecycle", 13).
        for failure in hooks::poststop(&input) {
            log.warn(&failure.to_string());
        }
    }
    first.map_or(Ok(()), Err)
}

/// What an interrupted create has left: perhaps a process that waits for ever, in a control group of its own.
pub(crate) fn leftover(locked: &Locked, state: Option<&State>, log: &mut Log) -> Result<(), OciError> {
    log.debug("removing what an interrupted create has left");
    match state {
        Some(state) => {
            if let Some(record) = &state.cgroup {
                cgroups::open(record)?.kill_all()?;
            }
            stopped(locked, state, log)
        }
        None => remove_directory(&locked.directory),
    }
}

fn remove_cgroup(state: &State, known: Option<&Cgroup>) -> Result<(), OciError> {
    let Some(record) = &state.cgroup else { return Ok(()) };
    let cgroup = known.map_or_else(|| cgroups::open(record), |cgroup| Ok(cgroup.clone()))?;
    if !state.own_pid_namespace {
        // Its other processes have outlived the first one.
        cgroup.kill_all()?;
    }
    Ok(cgroup.delete()?)
}

/// Under another name first, in one act: a create that had made the directory and not yet locked it would otherwise find
/// it without its lock file, take it for its own, and lose what it writes there to us. The name is none that an id can
/// have; what a killed removal leaves under it goes with the next removal by a process of the same number.
fn remove_directory(directory: &Path) -> Result<(), OciError> {
    let failed = |cause| OciError::file("remove", directory, cause);
    let aside = directory.with_file_name(format!("~{}", std::process::id()));
    let mut renamed = std::fs::rename(directory, &aside);
    if renamed.as_ref().is_err_and(|cause| cause.kind() == ErrorKind::DirectoryNotEmpty) {
        std::fs::remove_dir_all(&aside).map_err(failed)?;
        renamed = std::fs::rename(directory, &aside);
    }
    match renamed.and_then(|()| std::fs::remove_dir_all(&aside)) {
        Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(()),
        other => other.map_err(failed),
    }
}

/// A damaged copy must not keep the container from being removed: then there are no hooks.
fn read_spec(directory: &Path) -> Option<Spec> {
    Spec::parse(&std::fs::read(directory.join(CONFIG)).ok()?).ok()
}
