//! `diff` and `commit`: a container's own layer, as a list and as an image.

use crate::container::Container;
use crate::engine::Engine;
use crate::machine::State;
use crate::options::{CommitOptions, WaitCondition};
use crate::view::{Change, ChangeKind};
use naru_types::image::{Empty, History, ImageConfig, RunConfig};
use naru_types::{Digest, Result};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// How long after a freeze that failed the news of the container's end may take.
const END_WAIT_MAX: Duration = Duration::from_secs(1);

/// What the runtime puts into every root as mount points; Docker keeps these in a layer of their own.
const MOUNT_POINTS: [&str; 8] = [
    "/dev",
    "/proc",
    "/sys",
    "/etc/hosts",
    "/etc/hostname",
    "/etc/resolv.conf",
    "/.dockerenv",
    "/dev/console",
];

impl Engine {
    pub async fn changes(&self, r: &str) -> Result<Vec<Change>> {
        let container = self.find(r)?;
        self.blocking(move |_| {
            let found = naru_image::changes::changes(&container.paths.upper(), &container.paths.lower)?;
            let all = found.into_iter().map(|change| Change {
                kind: match change.kind {
                    naru_image::changes::ChangeKind::Modified => ChangeKind::Modified,
                    naru_image::changes::ChangeKind::Added => ChangeKind::Added,
                    naru_image::changes::ChangeKind::Deleted => ChangeKind::Deleted,
                },
                path: change.path.to_string_lossy().into_owned(),
            });
            Ok(without_mount_points(all.collect(), &container))
        })
        .await
    }

    pub async fn commit(&self, r: &str, options: CommitOptions) -> Result<Digest> {
        let container = self.find(r)?;
        let runs = |container: &Container| matches!(container.cell().state, State::Running { .. });
        let id = container.id.clone();
        let ended = self.wait(id.as_str(), WaitCondition::NextExit).await?;
        let mut frozen = false;
        if options.pause && runs(&container) {
            match self.pause(id.as_str()).await {
                Ok(()) => frozen = true,
                // It ended, or somebody else paused it, just now: there is nothing to hold still. Its end may have been
                // seen by the freeze and not yet by the engine.
                Err(error) => {
                    let _ = tokio::time::timeout(END_WAIT_MAX, ended.done()).await;
                    if runs(&container) {
                        return Err(error);
                    }
                }
            }
        }
        let subject = Arc::clone(&container);
        let committed = self.blocking(move |engine| engine.commit_blocking(&subject, &options)).await;
        if frozen
            && let Err(error) = self.unpause(id.as_str()).await
            && matches!(container.cell().state, State::Paused { .. })
        {
            return committed.and(Err(error));
        }
        committed
    }

    fn commit_blocking(&self, container: &Arc<Container>, options: &CommitOptions) -> Result<Digest> {
        let parent = self.store.get_by_id(&container.image_id)?;
        let lease = self.store.lease();
        let layer = self.store.commit_layer(&container.paths.upper(), false, &lease)?;
        let mut layers = parent.layers().to_vec();
        layers.push(layer.diff_id);
        let now = crate::ids::now().to_string();
        let mut config: ImageConfig = parent.config.clone();
        config.config = run_config(container, options)?;
        config.created = Some(now.clone());
        config.author = (!options.author.is_empty()).then(|| options.author.clone());
        let args = container.cell().spec.process.args().join(" ");
        config.history.push(History {
            created: Some(now),
            created_by: Some(args),
            author: config.author.clone(),
            comment: (!options.comment.is_empty()).then(|| options.comment.clone()),
            empty_layer: false,
        });
        config.rootfs.diff_ids.clone_from(&layers);
        let tags: Vec<_> = options.reference.iter().map(naru_types::ImageRef::with_default_tag).collect();
        let image = self.store.create_child_image(config, &layers, &tags, parent.id)?;
        let reference = tags.first().map(naru_types::ImageRef::familiar).unwrap_or_default();
        let id = image.id.to_string();
        self.emit_about(
            container,
            "commit",
            &[("comment", &options.comment), ("imageID", &id), ("imageRef", &reference)],
        );
        Ok(image.id)
    }
}

/// The container's own configuration, overlaid by what the caller gave, then by the instructions.
fn run_config(container: &Container, options: &CommitOptions) -> Result<RunConfig> {
    let spec = container.cell().spec.clone();
    let mut config = RunConfig {
        user: spec.process.user,
        env: spec.process.env,
        entrypoint: spec.process.entrypoint,
        cmd: spec.process.cmd,
        working_dir: spec.process.working_dir,
        labels: spec.labels,
        stop_signal: spec.stop_signal.map(|signal| signal.to_string()),
        healthcheck: spec.healthcheck,
        exposed_ports: spec.network.exposed.iter().map(|port| (port.to_string(), Empty {})).collect(),
        volumes: spec
            .mounts
            .iter()
            .filter(|mount| {
                matches!(mount.source, naru_types::spec::MountSource::Volume { anonymous: true, .. })
            })
            .map(|mount| (mount.target.clone(), Empty {}))
            .collect(),
        ..RunConfig::default()
    };
    if let Some(given) = options.config.clone() {
        overlay(&mut config, given);
    }
    for line in &options.changes {
        naru_types::change::apply(&mut config, line.trim())?;
    }
    Ok(config)
}

fn overlay(config: &mut RunConfig, given: RunConfig) {
    if !given.user.is_empty() {
        config.user = given.user;
    }
    if !given.working_dir.is_empty() {
        config.working_dir = given.working_dir;
    }
    if !given.env.is_empty() {
        config.env = given.env;
    }
    config.entrypoint = given.entrypoint.or(config.entrypoint.take());
    config.cmd = given.cmd.or(config.cmd.take());
    config.labels.extend(given.labels);
    config.exposed_ports.extend(given.exposed_ports);
    config.volumes.extend(given.volumes);
    config.stop_signal = given.stop_signal.or(config.stop_signal.take());
    config.healthcheck = given.healthcheck.or(config.healthcheck.take());
}

/// Leaves out mount points, and directories that changed only because of them.
fn without_mount_points(all: Vec<Change>, container: &Container) -> Vec<Change> {
    let targets: Vec<String> = container
        .cell()
        .spec
        .mounts
        .iter()
        .map(|mount| crate::merge::clean(&mount.target).to_owned())
        .collect();
    let is_point = |path: &str| MOUNT_POINTS.contains(&path) || targets.iter().any(|target| target == path);
    let (points, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(|change| is_point(&change.path));
    let parents: BTreeSet<String> = points.iter().filter_map(|change| parent(&change.path)).collect();
    let keep = |change: &Change| {
        !parents.contains(&change.path)
            || rest.iter().any(|other| {
                other.path != change.path && other.path.starts_with(&format!("{}/", change.path))
            })
    };
    rest.iter().filter(|change| keep(change)).cloned().collect()
}

fn parent(path: &str) -> Option<String> {
    path.rsplit_once('/').map(|(parent, _)| parent.to_owned()).filter(|parent| !parent.is_empty())
}
