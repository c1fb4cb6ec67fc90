//! After a run, and after the last: giving everything back. An error never stops the rest.

use crate::container::Container;
use crate::engine::Engine;
use naru_runtime::cgroup::Cgroup;
use naru_runtime::keeper::protocol::Target;
use naru_types::spec::MountSource;
use naru_types::{Error, Result};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Attempts to remove a directory into which somebody still writes, and the pause between them.
const REMOVE_ATTEMPTS_MAX: u32 = 20;
const REMOVE_PAUSE: Duration = Duration::from_millis(10);

/// Releases what a run held: descriptors, network, ports, control group, bundle. What fails here is found again by the
/// sweep at start-up, so there is nothing to report.
pub fn teardown(engine: &Arc<Engine>, container: &Arc<Container>) {
    container.cell().held = None;
    crate::fdstore::forget(&container.id);
    engine.execs_end_with(container);
    engine.detach_networks(container);
    unmount_events(engine, container);
    if let Ok(cgroup) = Cgroup::open(&engine.cgroup_path(container)) {
        let _ = cgroup.kill_all();
        let _ = cgroup.delete();
    }
    if let Ok(keeper) = engine.keeper() {
        let _ = keeper.forget(&Target::container(container.id.clone()));
    }
    // Last: the exit record in it is the proof until everything else is done.
    let _ = std::fs::remove_dir_all(&container.paths.bundle);
}

/// Removes what is left of a container that does not run: files, anonymous volumes, the row.
pub fn delete(engine: &Arc<Engine>, container: &Arc<Container>, volumes: bool) -> Result<()> {
    // A keeper that died between telling an exit and forgetting it has left the entry to the next.
    if let Ok(keeper) = engine.keeper() {
        let _ = keeper.forget(&Target::container(container.id.clone()));
    }
    for dir in [&container.paths.bundle, &container.paths.dir] {
        remove_tree(dir)?;
    }
    // Before the row: a daemon that is killed in between finds the row and goes on here. Without one nobody would know
    // whose the volumes were.
    if volumes {
        drop_anonymous(engine, container);
    }
    Ok(engine.db.delete_container(&container.id)?)
}

/// A keeper that is just being replaced may write its last record into a directory while that is being emptied.
fn remove_tree(dir: &Path) -> Result<()> {
    let mut attempt = 0;
    loop {
        let error = match std::fs::remove_dir_all(dir) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        attempt += 1;
        match error.kind() {
            ErrorKind::NotFound => return Ok(()),
            ErrorKind::DirectoryNotEmpty if attempt < REMOVE_ATTEMPTS_MAX => std::thread::sleep(REMOVE_PAUSE),
            _ => {
                let what = format!("cannot remove {}: {error}", dir.display());
                return Err(Error::internal(what).with_source(error));
            }
        }
    }
}

/// Another container may use one still (`--volumes-from`).
fn drop_anonymous(engine: &Arc<Engine>, container: &Arc<Container>) {
    let mounts = container.cell().spec.mounts.clone();
    for mount in mounts {
        let MountSource::Volume { name, anonymous: true, .. } = mount.source else { continue };
        let users = engine.volume_users(&name);
        if users.iter().all(|user| user == container.id.as_str()) {
            let _ = engine.drop_volume(&name);
        }
    }
}

fn unmount_events(engine: &Arc<Engine>, container: &Arc<Container>) {
    let mounts = container.cell().spec.mounts.clone();
    for mount in mounts {
        if let MountSource::Volume { name, .. } = &mount.source {
            engine.emit_volume(name, "unmount", &[("container", container.id.as_str())]);
        }
    }
}

impl Engine {
    /// Relative to each hierarchy's root.
    pub(crate) fn cgroup_path(&self, container: &Container) -> String {
        let parent = container.cell().spec.cgroup_parent.clone();
        let parent =
            parent.filter(|parent| !parent.is_empty()).unwrap_or_else(|| self.config.cgroup_parent.clone());
        format!("{}/{}", parent.trim_matches('/'), container.id)
    }
}
