//! Images as lists and inspect show them.

use crate::convert::inspect::STORAGE_DRIVER;
use crate::web::version::ApiVersion;
use naru_image::{HistoryEntry, Image, Removed};
use naru_types::Timestamp;
use naru_types::image::{History, RunConfig};
use naru_wire::image::{
    DeleteItem, HistoryItem, ImageInspect, ImageRunConfig, ImageSummary, Metadata, RootFs,
};
use naru_wire::inspect::GraphDriver;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Go's zero time as seconds, which Docker's list shows for an image without a date.
fn unix(at: Timestamp) -> i64 {
    at.secs()
}

/// One of `GET /images/json`: absent names are empty lists; before API 1.43 `null`, or placeholders where there is
/// neither tag nor digest (moby's `getImagesJSON`).
pub fn listed(image: &Image, containers: i64, version: ApiVersion) -> ImageSummary {
    let mut row = summary(image, containers, version);
    if version >= ApiVersion::NO_NONE_NAMES {
        row.repo_digests.get_or_insert_default();
        row.repo_tags.get_or_insert_default();
    } else if row.repo_digests.is_none() && row.repo_tags.is_none() {
        row.repo_digests = Some(vec!["<none>@<none>".to_owned()]);
        row.repo_tags = Some(vec!["<none>:<none>".to_owned()]);
    }
    row
}

/// As `GET /system/df` shows it: absent names are `null`.
pub fn summary(image: &Image, containers: i64, version: ApiVersion) -> ImageSummary {
    let labels = &image.config.config.labels;
    ImageSummary {
        containers,
        created: unix(image.created),
        id: image.id.to_string(),
        labels: (!labels.is_empty()).then(|| labels.clone()),
        parent_id: image.parent.map(|parent| parent.to_string()).unwrap_or_default(),
        repo_digests: (!image.repo_digests.is_empty()).then(|| image.repo_digests.clone()),
        repo_tags: (!image.repo_tags.is_empty()).then(|| image.repo_tags.clone()),
        shared_size: -1,
        size: image.size as i64,
        virtual_size: (version < ApiVersion::NO_VIRTUAL_SIZE).then_some(image.size as i64),
    }
}

/// `dirs`: the layers' directories, topmost first.
pub fn inspect(image: &Image, dirs: &[PathBuf], version: ApiVersion) -> ImageInspect {
    let config = &image.config;
    let layers = config.rootfs.diff_ids.iter().map(ToString::to_string).collect();
    let comment = config.history.last().and_then(|entry: &History| entry.comment.clone());
    ImageInspect {
        id: image.id.to_string(),
        repo_tags: image.repo_tags.clone(),
        repo_digests: image.repo_digests.clone(),
        parent: image.parent.map(|parent| parent.to_string()).unwrap_or_default(),
        comment: comment.unwrap_or_default(),
        created: config.created.clone().unwrap_or_default(),
        docker_version: text_of(config.rest.get("docker_version")),
        author: config.author.clone().unwrap_or_default(),
        architecture: config.architecture.clone(),
        variant: config.variant.clone().unwrap_or_default(),
        os: config.os.clone(),
        size: image.size as i64,
        virtual_size: (version < ApiVersion::NO_VIRTUAL_SIZE).then_some(image.size as i64),
        graph_driver: graph_driver(dirs),
        root_fs: RootFs { kind: config.rootfs.kind.clone(), layers },
        metadata: Metadata { last_tag_time: image.last_tagged.to_string() },
        config: run_config(&config.config),
        ..ImageInspect::default()
    }
}

fn text_of(value: Option<&serde_json::Value>) -> String {
    value.and_then(|value| value.as_str()).unwrap_or("").to_owned()
}

fn graph_driver(dirs: &[PathBuf]) -> GraphDriver {
    let mut data = BTreeMap::new();
    if let Some((top, below)) = dirs.split_first() {
        data.insert("UpperDir".to_owned(), top.display().to_string());
        if !below.is_empty() {
            let lower: Vec<String> = below.iter().map(|dir| dir.display().to_string()).collect();
            data.insert("LowerDir".to_owned(), lower.join(":"));
        }
    }
    GraphDriver { data: Some(data), name: STORAGE_DRIVER.into() }
}

fn run_config(config: &RunConfig) -> ImageRunConfig {
    ImageRunConfig {
        args_escaped: config.rest.get("ArgsEscaped").and_then(serde_json::Value::as_bool).unwrap_or(false),
        cmd: config.cmd.clone(),
        entrypoint: config.entrypoint.clone(),
        env: (!config.env.is_empty()).then(|| config.env.clone()),
        exposed_ports: config.exposed_ports.clone(),
        healthcheck: config.healthcheck.clone(),
        labels: (!config.labels.is_empty()).then(|| config.labels.clone()),
        on_build: config.on_build.clone(),
        shell: config.shell.clone(),
        stop_signal: config.stop_signal.clone().unwrap_or_default(),
        user: config.user.clone(),
        volumes: (!config.volumes.is_empty()).then(|| config.volumes.clone()),
        working_dir: config.working_dir.clone(),
    }
}

pub fn history(entry: &HistoryEntry) -> HistoryItem {
    HistoryItem {
        comment: entry.comment.clone(),
        created: unix(entry.created),
        created_by: entry.created_by.clone(),
        id: entry.id.map_or_else(|| "<missing>".to_owned(), |id| id.to_string()),
        size: entry.size as i64,
        tags: (!entry.tags.is_empty()).then(|| entry.tags.clone()),
    }
}

pub fn removed(removed: &Removed) -> DeleteItem {
    match removed {
        Removed::Untagged(name) => DeleteItem { untagged: Some(name.clone()), deleted: None },
        Removed::Deleted(id) => DeleteItem { deleted: Some(id.to_string()), untagged: None },
    }
}
