//! `docker import`: one archive becomes an image of one layer.

use crate::blob;
use crate::build::NewImage;
use crate::error::ImageError;
use crate::query::Image;
use crate::store::Store;
use naru_types::image::{History, ImageConfig, RunConfig};
use naru_types::platform::Platform;
use naru_types::{ImageRef, Timestamp};
use std::io::Read;
use std::sync::Arc;

pub struct ImportOptions {
    /// With the `--change` instructions applied.
    pub config: RunConfig,
    pub message: Option<String>,
    pub platform: Option<Platform>,
    pub tag: Option<ImageRef>,
    /// Becomes the image's `created`.
    pub now: Timestamp,
}

impl Store {
    pub fn import(&self, reader: &mut dyn Read, options: ImportOptions) -> naru_types::Result<Image> {
        let staged = Arc::new(blob::decompressed(reader).and_then(|tar| self.stage_tar(tar))?);
        self.sync_content()?;
        let created = Some(options.now.to_string());
        let platform = options.platform.unwrap_or_else(|| self.inner.config.platform.clone());
        let layers = [staged.diff_id];
        let mut config = ImageConfig {
            architecture: platform.architecture,
            os: platform.os,
            variant: platform.variant,
            created: created.clone(),
            config: options.config,
            history: vec![History { created, comment: options.message, ..History::default() }],
            ..ImageConfig::default()
        };
        config.rootfs.diff_ids = layers.to_vec();
        let bytes = serde_json::to_vec(&config)
            .map_err(|source| ImageError::Malformed { what: "the image configuration".into(), source })?;
        let id = self.insert_image(&NewImage {
            config: &bytes,
            layers: &layers,
            staged: &[staged],
            tags: options.tag.as_slice(),
            parent: None,
            repo_digests: &[],
            manifest: None,
            blobs: &[],
        })?;
        self.get_by_id(&id)
    }
}
