//! One start: volumes filled, networks attached, `config.json` written, the keeper asked. Whatever fails, everything of
//! the attempt is taken back before the failure is told.

use crate::attachment::NetworkSetup;
use crate::container::Container;
use crate::engine::Engine;
use crate::keeper_link::{client_error, log_of, stdio_of};
use crate::machine::{Event, LaunchFailure};
use naru_runtime::keeper::client::{StartError, StartNamespaces, Started};
use naru_runtime::keeper::protocol::StartRequest;
use naru_runtime::oci;
use naru_runtime::rootfs::Rootfs;
use naru_types::spec::{MountSource, UserNamespace};
use naru_types::{Error, Result};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

/// Docker's exit code for a container that could not be started for a reason that is not its program's.
pub const CODE_START_FAILED: i64 = 128;

/// Blocks; tells how it went.
pub fn launch(engine: &Arc<Engine>, container: &Arc<Container>) -> Event {
    match try_launch(engine, container) {
        Ok(started) => {
            let (pid, at) = (started.pid, started.started_at);
            crate::fdstore::store(&container.id, &started.fds);
            container.cell().held = Some(Arc::new(started.fds));
            mount_events(engine, container);
            // Docker's start answers without a body and the daemon has no other voice: who watches events reads it.
            for warning in &started.warnings {
                engine.emit_about(container, "start_warning", &[("warning", warning)]);
            }
            Event::Launched { pid, at }
        }
        Err(failure) => {
            crate::teardown::teardown(engine, container);
            Event::LaunchFailed(failure)
        }
    }
}

fn try_launch(
    engine: &Arc<Engine>,
    container: &Arc<Container>,
) -> std::result::Result<Started, LaunchFailure> {
    let keeper = engine.keeper()?;
    let paths = &container.paths;
    let runtime = engine.runtime_of(&container.cell().spec)?;
    if paths.lower.is_empty() {
        return Err(Error::internal("the layers of the container's image are gone")
            .with_hint("pull the image again and make a new container")
            .into());
    }
    // A repair must not exchange a layer between now and its mount.
    let lease = engine.store.lease();
    if let Ok(image) = engine.store.get_by_id(&container.image_id) {
        lease.hold_image(&image)?;
    }
    make_bind_sources(container)?;
    engine.fill_volumes(container)?;
    let userns = container.cell().spec.security.userns.first().map(open_user_namespace).transpose()?;
    let userns = userns.as_ref().map(AsFd::as_fd);
    let network = engine
        .attach_networks(container, userns)
        .map_err(|error| error.context("failed to set up container networking"))?;
    network_events(engine, container);
    let config = engine.lower_config(container, &network)?;
    write_bundle(container, &config)?;
    // A daemon that dies from here on has to find the endpoints again.
    engine.db.save_facts(&container.id, || container.cell().facts.clone()).map_err(Error::from)?;
    let spec = container.cell().spec.clone();
    let request = StartRequest {
        id: container.id.clone(),
        bundle: paths.bundle.clone(),
        rootfs: Rootfs::Overlay { lower: paths.lower.clone(), upper: paths.upper(), work: paths.work() },
        stdio: stdio_of(&spec),
        log: log_of(container),
        init: spec.init,
        runtime,
    };
    let NetworkSetup { netns, .. } = network;
    let namespaces = StartNamespaces { network: netns.as_ref().map(AsFd::as_fd), user: userns };
    keeper.start(request, namespaces).map_err(|error| match error {
        StartError::Failed(failed) => LaunchFailure {
            code: i64::from(failed.docker_exit_code),
            error: format!("failed to create task for container: {}", failed.message),
            hint: None,
        },
        StartError::Client(error) => client_error(error).into(),
    })
}

/// Made before the network, which belongs to it.
fn open_user_namespace(first: u32) -> Result<OwnedFd> {
    let map = [oci::IdMapping { container_id: 0, host_id: first, size: UserNamespace::SIZE }];
    naru_runtime::userns::descriptor(&map, &map)
        .map_err(|error| Error::internal("cannot make a user namespace").with_source(error))
}

impl From<Error> for LaunchFailure {
    fn from(error: Error) -> Self {
        let hint = error.hint().map(str::to_owned);
        Self { code: CODE_START_FAILED, error: error.chain(), hint }
    }
}

/// `-v` makes a missing source, `--mount` refuses it (it may have gone since the create).
fn make_bind_sources(container: &Container) -> Result<()> {
    let spec = container.cell().spec.clone();
    crate::create::check_binds(&spec)?;
    for mount in &spec.mounts {
        if let MountSource::Bind { path, create: true, .. } = &mount.source
            && !path.exists()
        {
            std::fs::create_dir_all(path).map_err(|error| {
                Error::internal(format!(
                    "error while creating mount source path '{}': {error}",
                    path.display()
                ))
                .with_source(error)
            })?;
        }
    }
    Ok(())
}

fn write_bundle(container: &Container, config: &oci::Spec) -> Result<()> {
    let dir = &container.paths.bundle;
    // What an earlier run left, its exit record above all, must not be taken for this one's.
    let _ = std::fs::remove_dir_all(dir);
    crate::create::make_dir(dir, 0o700)?;
    let path = dir.join("config.json");
    let failed = |error: std::io::Error| {
        Error::internal(format!("cannot write {}: {error}", path.display())).with_source(error)
    };
    let file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
    serde_json::to_writer(std::io::BufWriter::new(file), config).map_err(|error| failed(error.into()))
}

fn network_events(engine: &Arc<Engine>, container: &Arc<Container>) {
    let names: Vec<_> = container.cell().facts.endpoints.keys().cloned().collect();
    for name in names {
        if let Ok(row) = engine.find_network(&name) {
            engine.emit_network(&row, "connect", &[("container", container.id.as_str())]);
        }
    }
}

fn mount_events(engine: &Arc<Engine>, container: &Arc<Container>) {
    let mounts = container.cell().spec.mounts.clone();
    for mount in mounts {
        if let MountSource::Volume { name, .. } = &mount.source {
            let rw = if mount.read_only { "false" } else { "true" };
            let more = [
                ("container", container.id.as_str()),
                ("destination", mount.target.as_str()),
                ("propagation", ""),
                ("read/write", rw),
            ];
            engine.emit_volume(name, "mount", &more);
        }
    }
}
