//! The index: which images, names and layers there are. One JSON file, replaced as a whole.
//!
//! Its size is a few hundred bytes per image, so writing all of it for each change costs less than a
//! database would, and a reader holds an immutable snapshot without any lock.

use crate::error::{ImageError, Result};
use naru_types::{Digest, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

const FILE_NAME: &str = "images.json";
const NEW_FILE_NAME: &str = "images.json.new";
const VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Index {
    pub version: u32,
    /// By image id, the digest of the configuration.
    pub images: BTreeMap<Digest, ImageRecord>,
    /// `docker.io/library/nginx:latest` → image id.
    pub tags: BTreeMap<String, Digest>,
    /// `docker.io/library/nginx@sha256:…` → image id.
    pub digests: BTreeMap<String, Digest>,
    /// By the digest of the uncompressed archive.
    pub layers: BTreeMap<Digest, LayerRecord>,
    /// Layers that someone without an image keeps, such as the build cache.
    pub pins: BTreeMap<String, BTreeSet<Digest>>,
    /// Layers that this change let go of; their directories are moved away once it is durable.
    #[serde(skip)]
    pub dropped: Vec<Digest>,
    /// Content that this change let go of.
    #[serde(skip)]
    pub dropped_blobs: Vec<Digest>,
    /// Layers and content that this change has put into place; taken away again when it fails.
    #[serde(skip)]
    pub arrived: Vec<Digest>,
    #[serde(skip)]
    pub arrived_blobs: Vec<Digest>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ImageRecord {
    /// Lowest first.
    pub layers: Vec<Digest>,
    /// The platform's own manifest, as it came from a registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<ManifestRecord>,
    /// The image that this one was committed on. It may be gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Digest>,
    pub last_tagged: Timestamp,
    /// Removed by force while a container used it: listed no more, kept until nobody uses it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_retired: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ManifestRecord {
    pub digest: Digest,
    pub media_type: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct LayerRecord {
    /// Sum of the regular files' sizes.
    pub size: u64,
    /// Length of the uncompressed archive.
    pub tar_size: u64,
    /// Compressed forms that registries were seen to hold.
    #[serde(default)]
    pub blobs: Vec<BlobRecord>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct BlobRecord {
    pub digest: Digest,
    pub size: u64,
    pub media_type: String,
    /// `domain/path` of repositories that hold it.
    pub repositories: BTreeSet<String>,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            version: VERSION,
            images: BTreeMap::new(),
            tags: BTreeMap::new(),
            digests: BTreeMap::new(),
            layers: BTreeMap::new(),
            pins: BTreeMap::new(),
            dropped: Vec::new(),
            dropped_blobs: Vec::new(),
            arrived: Vec::new(),
            arrived_blobs: Vec::new(),
        }
    }
}

impl Index {
    pub fn load(root: &Path) -> Result<Self> {
        let path = root.join(FILE_NAME);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(ImageError::Io { step: "read", path, source }),
        };
        let index: Self = serde_json::from_slice(&text)
            .map_err(|source| ImageError::IndexDamaged { path: path.clone(), source })?;
        if index.version != VERSION {
            return Err(ImageError::IndexVersion { path, found: index.version, known: VERSION });
        }
        Ok(index)
    }

    /// Replaces the file; the caller syncs the directory, after which the change survives a power cut. After an
    /// error the file is the one that was there before.
    pub fn replace(&self, root: &Path) -> Result<()> {
        let (new, path) = (root.join(NEW_FILE_NAME), root.join(FILE_NAME));
        let result =
            self.write(&new).and_then(|()| fs::rename(&new, &path).map_err(ImageError::io("replace", &path)));
        if result.is_err() {
            // On a full disk its bytes are wanted; the next change makes it anew in any case.
            let _ = fs::remove_file(&new);
        }
        result
    }

    fn write(&self, new: &Path) -> Result<()> {
        let text = serde_json::to_vec(self)
            .map_err(|source| ImageError::Malformed { what: "the image index".into(), source })?;
        let mut file = File::create(new).map_err(ImageError::io("create", new))?;
        file.write_all(&text).map_err(ImageError::io("write", new))?;
        file.sync_all().map_err(ImageError::io("sync", new))
    }

    pub fn tags_of(&self, id: &Digest) -> Vec<String> {
        self.tags.iter().filter(|(_, of)| *of == id).map(|(name, _)| name.clone()).collect()
    }

    pub fn digests_of(&self, id: &Digest) -> Vec<String> {
        self.digests.iter().filter(|(_, of)| *of == id).map(|(name, _)| name.clone()).collect()
    }

    /// Configurations and manifests that images refer to.
    pub fn content(&self) -> BTreeSet<Digest> {
        let of = |(id, image): (&Digest, &ImageRecord)| {
            [Some(*id), image.manifest.as_ref().map(|manifest| manifest.digest)]
        };
        self.images.iter().flat_map(of).flatten().collect()
    }

    /// Lets go of those of `candidates` that no image, no pin and not `leased` reaches.
    pub fn drop_layers(&mut self, candidates: &[Digest], leased: &BTreeSet<Digest>) {
        let mut reached: BTreeSet<Digest> = leased.clone();
        reached.extend(self.images.values().flat_map(|image| image.layers.iter().copied()));
        reached.extend(self.pins.values().flatten().copied());
        for layer in candidates {
            if !reached.contains(layer) && self.layers.remove(layer).is_some() {
                self.dropped.push(*layer);
            }
        }
    }

    /// Remembers that `repository` holds `blob`, a compressed form of the layer.
    pub fn add_blob(&mut self, diff_id: &Digest, blob: &BlobRecord) {
        let Some(layer) = self.layers.get_mut(diff_id) else { return };
        match layer.blobs.iter_mut().find(|known| known.digest == blob.digest) {
            Some(known) => known.repositories.extend(blob.repositories.iter().cloned()),
            None => layer.blobs.push(blob.clone()),
        }
    }
}

pub(crate) fn sync_dir(path: &Path) -> Result<()> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(ImageError::io("sync", path))
}
