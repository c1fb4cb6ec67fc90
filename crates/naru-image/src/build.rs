//! Layers and images that are made here: by the builder, `commit` and `import`.

use crate::blob::sha256;
use crate::error::{ImageError, Result};
use crate::index::{ImageRecord, Index, ManifestRecord};
use crate::layer::Staged;
use crate::query::Image;
use crate::store::{Lease, Store, now};
use naru_types::image::ImageConfig;
use naru_types::{Digest, ImageRef};
use std::path::Path;
use std::sync::Arc;

/// A stored layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    pub diff_id: Digest,
    /// Unpacked bytes.
    pub size: u64,
}

/// What becomes an image record in one change of the index.
pub(crate) struct NewImage<'a> {
    pub config: &'a [u8],
    /// Lowest first; stored already, or among `staged`.
    pub layers: &'a [Digest],
    pub staged: &'a [Arc<Staged>],
    pub tags: &'a [ImageRef],
    /// The image that this one was committed on.
    pub parent: Option<Digest>,
    /// Full names with a digest.
    pub repo_digests: &'a [String],
    pub manifest: Option<ManifestRecord>,
    /// Content that `manifest` names.
    pub blobs: &'a [&'a [u8]],
}

impl<'a> NewImage<'a> {
    /// Of layers that are stored, with neither a name nor an origin.
    fn bare(config: &'a [u8], layers: &'a [Digest]) -> Self {
        let (staged, tags, repo_digests, blobs) = (&[], &[], &[], &[]);
        Self { config, layers, staged, tags, parent: None, repo_digests, manifest: None, blobs }
    }
}

impl Store {
    /// Turns an overlay's upper directory into a stored layer, whiteouts included. With `take` the
    /// directory is moved into the store; it must not be mounted any more. The layer lives while `lease`
    /// does, or an image or a pin refers to it.
    pub fn commit_layer(&self, upper: &Path, take: bool, lease: &Lease) -> naru_types::Result<Layer> {
        let staged = Arc::new(self.stage_upper(upper, take)?);
        Ok(self.publish_layer(staged, lease)?)
    }

    /// Stores a layer from its archive (compressed or not).
    pub fn add_layer(&self, archive: &mut dyn std::io::Read, lease: &Lease) -> naru_types::Result<Layer> {
        let staged = crate::blob::decompressed(archive).and_then(|tar| self.stage_tar(tar))?;
        Ok(self.publish_layer(Arc::new(staged), lease)?)
    }

    fn publish_layer(&self, staged: Arc<Staged>, lease: &Lease) -> Result<Layer> {
        self.sync_content()?;
        let layer = Layer { diff_id: staged.diff_id, size: staged.size };
        self.transact(|index| {
            self.publish(index, &[staged])?;
            lease.hold_unlocked(layer.diff_id);
            Ok(())
        })?;
        Ok(layer)
    }

    /// Makes an image of stored layers (lowest first) and gives it names. `config.rootfs` is filled in.
    pub fn create_image(
        &self,
        config: ImageConfig,
        layers: &[Digest],
        tags: &[ImageRef],
    ) -> naru_types::Result<Image> {
        let bytes = encode(config, layers)?;
        let id = self.insert_image(&NewImage { tags, ..NewImage::bare(&bytes, layers) })?;
        self.get_by_id(&id)
    }

    /// As [`Store::create_image`], for what a container changed of `parent`.
    pub fn create_child_image(
        &self,
        config: ImageConfig,
        layers: &[Digest],
        tags: &[ImageRef],
        parent: Digest,
    ) -> naru_types::Result<Image> {
        let bytes = encode(config, layers)?;
        let new = NewImage { tags, parent: Some(parent), ..NewImage::bare(&bytes, layers) };
        let id = self.insert_image(&new)?;
        self.get_by_id(&id)
    }

    /// As [`Store::create_image`], without names and on no list, to be written somewhere else: it is there for as long as
    /// `lease` lives. One that is listed already stays so.
    pub fn create_unlisted_image(
        &self,
        config: ImageConfig,
        layers: &[Digest],
        lease: &Lease,
    ) -> naru_types::Result<Image> {
        let bytes = encode(config, layers)?;
        let new = NewImage::bare(&bytes, layers);
        let id = self.transact(|index| {
            let is_listed = |index: &Index, id| index.images.get(id).is_some_and(|record| !record.is_retired);
            let listed = is_listed(index, &sha256(&bytes));
            let id = self.record_image(index, &new)?;
            for held in layers.iter().chain([&id]) {
                lease.hold_unlocked(*held);
            }
            if let Some(record) = index.images.get_mut(&id) {
                record.is_retired = !listed;
            }
            Ok(id)
        })?;
        self.get_by_id(&id)
    }

    /// The one way in for a single image. The caller has synced staged layers.
    pub(crate) fn insert_image(&self, new: &NewImage<'_>) -> Result<Digest> {
        self.transact(|index| self.record_image(index, new))
    }

    /// Enters an image, inside of [`Store::transact`]: its content cannot be deleted by a removal before
    /// something refers to it.
    pub(crate) fn record_image(&self, index: &mut Index, new: &NewImage<'_>) -> Result<Digest> {
        let id = sha256(new.config);
        for blob in [new.config].iter().chain(new.blobs) {
            // Noted first: a failure after its rename leaves it in place, too.
            index.arrived_blobs.push(sha256(blob));
            self.put_blob(blob)?;
        }
        self.publish(index, new.staged)?;
        if let Some(missing) = new.layers.iter().find(|layer| !index.layers.contains_key(layer)) {
            return Err(ImageError::NoSuchLayer { diff_id: *missing });
        }
        let record = index.images.entry(id).or_insert_with(|| ImageRecord {
            layers: new.layers.to_vec(),
            manifest: None,
            parent: None,
            last_tagged: now(),
            is_retired: false,
        });
        record.is_retired = false;
        record.parent = new.parent.filter(|parent| *parent != id).or(record.parent);
        if new.manifest.is_some() {
            record.manifest.clone_from(&new.manifest);
        }
        for tag in new.tags {
            if index.tags.insert(tag_name(tag)?, id) != Some(id) {
                record.last_tagged = now();
            }
        }
        index.digests.extend(new.repo_digests.iter().map(|name| (name.clone(), id)));
        Ok(id)
    }
}

fn encode(mut config: ImageConfig, layers: &[Digest]) -> Result<Vec<u8>> {
    config.rootfs.diff_ids = layers.to_vec();
    serde_json::to_vec(&config)
        .map_err(|source| ImageError::Malformed { what: "the image configuration".into(), source })
}

/// The key of a tag in the index.
pub(crate) fn tag_name(reference: &ImageRef) -> Result<String> {
    if reference.digest().is_some() {
        return Err(ImageError::TagWithDigest);
    }
    Ok(reference.with_default_tag().to_string())
}
