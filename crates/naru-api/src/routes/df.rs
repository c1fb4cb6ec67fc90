//! `GET /system/df`.

use crate::context::ApiContext;
use crate::convert::{image, summary, volume};
use crate::web::request::Request;
use crate::web::respond::{self, Response};
use naru_kernel::clock;
use naru_types::{Digest, Error, Result};
use naru_wire::system::{BuildCache, DiskUsage};
use naru_wire::volume::UsageData;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Depth at which counting a volume's bytes gives up on a directory tree.
const DEPTH_MAX: u32 = 1024;
const TYPES: [&str; 4] = ["container", "image", "volume", "build-cache"];

pub async fn disk_usage(context: Arc<ApiContext>, request: Request) -> Result<Response> {
    let wanted: Vec<&str> = request.query.all("type").collect();
    if let Some(bad) = wanted.iter().find(|kind| !TYPES.contains(kind)) {
        return Err(Error::invalid(format!("unknown object type: {bad}")));
    }
    let has = |kind: &str| wanted.is_empty() || wanted.contains(&kind);
    let mut usage = DiskUsage::default();
    if has("container") {
        let mut rows = Vec::new();
        for view in context.engine.list() {
            // One that went away since is counted as empty.
            let size = context.engine.container_size(view.id.as_str()).await.ok();
            rows.push(summary::container(&view, size, clock::now()));
        }
        usage.containers = Some(rows);
    }
    let (with_images, with_volumes, with_cache) = (has("image"), has("volume"), has("build-cache"));
    let version = request.version;
    let rest = tokio::task::spawn_blocking(move || -> Result<DiskUsage> {
        if with_images {
            let (images, layers) = images(&context, version)?;
            usage.images = Some(images);
            usage.layers_size = layers;
        }
        if with_volumes {
            usage.volumes = Some(volumes(&context));
        }
        if with_cache {
            let cache = context.builder.cache_usage()?;
            let record = BuildCache {
                id: "build-cache".into(),
                kind: "regular".into(),
                description: format!("{} cached build steps", cache.entries),
                size: cache.bytes,
                created_at: naru_types::Timestamp::ZERO.to_string(),
                ..BuildCache::default()
            };
            usage.build_cache = Some(if cache.entries == 0 { Vec::new() } else { vec![record] });
        }
        Ok(usage)
    });
    let usage =
        rest.await.map_err(|error| Error::internal("counting disk usage failed").with_source(error))??;
    respond::json(&usage)
}

/// The images with what each shares, and the bytes of all layers counted once.
fn images(
    context: &ApiContext,
    version: crate::web::version::ApiVersion,
) -> Result<(Vec<naru_wire::image::ImageSummary>, u64)> {
    let store = context.engine.images();
    let images = store.list()?;
    let mut users: BTreeMap<Digest, u64> = BTreeMap::new();
    for layer in images.iter().flat_map(naru_image::Image::layers) {
        *users.entry(*layer).or_default() += 1;
    }
    let size = |layer: &Digest| store.layer_size(layer).unwrap_or(0);
    let total = users.keys().map(size).sum();
    let rows = images.iter().map(|found| {
        let containers = context.engine.image_users(&found.id).len() as i64;
        let shared: u64 = found.layers().iter().filter(|layer| users[*layer] > 1).map(size).sum();
        let mut row = image::summary(found, containers, version);
        row.shared_size = shared as i64;
        row
    });
    Ok((rows.collect(), total))
}

fn volumes(context: &ApiContext) -> Vec<naru_wire::volume::VolumeJson> {
    let row = |view: &naru_engine::VolumeView| {
        let mut row = volume::volume(view);
        row.usage_data = Some(UsageData {
            ref_count: view.ref_count as i64,
            size: tree_bytes(&view.mountpoint, 0) as i64,
        });
        row
    };
    context.engine.volumes().iter().map(row).collect()
}

/// Sizes of all files in bytes; links are not followed, unreadable parts are left out.
pub fn tree_bytes(dir: &Path, depth: u32) -> u64 {
    if depth > DEPTH_MAX {
        return 0;
    }
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let sizes = entries.flatten().filter_map(|entry| {
        let meta = entry.metadata().ok()?;
        Some(if meta.is_dir() { tree_bytes(&entry.path(), depth + 1) } else { meta.len() })
    });
    sizes.sum()
}
