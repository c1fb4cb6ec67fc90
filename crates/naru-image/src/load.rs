//! `docker load`: archives of `docker save` (old and new), and OCI layouts in an archive.
//!
//! The archive may name its parts in any order, so it is unpacked into staging first; layers then go
//! the same way as pulled ones, with their digests checked against the image's configuration.

use crate::blob::{self, BLOB_BYTES_MAX, sha256};
use crate::build::NewImage;
use crate::error::{ImageError, Result};
use crate::layer::{Staged, flatten};
use crate::progress::{LayerStep, Progress, ProgressFn};
use crate::query::parse_config;
use crate::registry::manifest::{self, Descriptor, Document};
use crate::store::Store;
use crate::tree;
use crate::unpack::{self, UnpackOptions};
use naru_tar::Reader;
use naru_types::{Digest, ImageRef};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::OFlags;
use rustix::io::Errno;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// containerd's and the OCI's annotations that name an image of a layout.
const NAME_ANNOTATIONS: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];
/// Lists in lists, at most.
const LIST_DEPTH_MAX: usize = 4;

/// One image of the archive, now in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedImage {
    pub id: Digest,
    /// As Docker shows them; without one the message is `Loaded image ID: …`.
    pub tags: Vec<String>,
}

/// An entry of docker-archive's manifest.json.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ArchiveImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

impl Store {
    /// Loads all images of an archive (compressed or not); all of them or none become visible.
    pub fn load(
        &self,
        reader: &mut dyn Read,
        progress: &ProgressFn<'_>,
    ) -> naru_types::Result<Vec<LoadedImage>> {
        let archive = Archive::unpack(self, reader)?;
        Ok(archive.load(progress)?)
    }
}

struct Archive<'a> {
    store: &'a Store,
    dir: PathBuf,
    root: OwnedFd,
}

impl Drop for Archive<'_> {
    fn drop(&mut self) {
        self.store.inner.leftovers.remove(std::mem::take(&mut self.dir));
    }
}

/// An image whose layers are staged or stored.
struct Prepared {
    config: Vec<u8>,
    layers: Vec<Digest>,
    tags: Vec<ImageRef>,
}

impl<'a> Archive<'a> {
    fn unpack(store: &'a Store, reader: &mut dyn Read) -> Result<Self> {
        let dir = store.staging_path("load");
        std::fs::create_dir(&dir).map_err(ImageError::io("create", &dir))?;
        let root = tree::open_root(&dir)?;
        let archive = Self { store, dir, root };
        let options = UnpackOptions { owner: Some((0, 0)), ..UnpackOptions::plain() };
        let mut tar = Reader::new(blob::decompressed(reader)?);
        unpack::unpack(archive.root.as_fd(), &mut tar, &options)?;
        Ok(archive)
    }

    fn load(&self, progress: &ProgressFn<'_>) -> Result<Vec<LoadedImage>> {
        let lease = self.store.lease();
        let mut staged = BTreeMap::new();
        let prepared = if let Some(text) = self.read_optional("manifest.json")? {
            let images: Vec<ArchiveImage> = malformed(&text, "manifest.json of the archive")?;
            images
                .iter()
                .map(|image| self.docker_image(image, &mut staged, &lease, progress))
                .collect::<Result<Vec<_>>>()?
        } else if let Some(text) = self.read_optional("index.json")? {
            self.oci_images(&text, &mut staged, &lease, progress)?
        } else {
            return Err(ImageError::BadArchive {
                what: "the archive holds neither manifest.json nor index.json: it is no saved image".into(),
            });
        };
        self.store.sync_content()?;
        let staged: Vec<Arc<Staged>> = staged.into_values().collect();
        self.store.transact(|index| {
            let insert = |image: &Prepared| {
                let id = self.store.record_image(
                    index,
                    &NewImage {
                        config: &image.config,
                        layers: &image.layers,
                        staged: &staged,
                        tags: &image.tags,
                        parent: None,
                        repo_digests: &[],
                        manifest: None,
                        blobs: &[],
                    },
                )?;
                Ok(LoadedImage { id, tags: image.tags.iter().map(ImageRef::familiar).collect() })
            };
            prepared.iter().map(insert).collect()
        })
    }

    fn docker_image(
        &self,
        image: &ArchiveImage,
        staged: &mut BTreeMap<Digest, Arc<Staged>>,
        lease: &crate::store::Lease,
        progress: &ProgressFn<'_>,
    ) -> Result<Prepared> {
        let config = self.read(&image.config)?;
        let layers = image.layers.clone().unwrap_or_default();
        let tags = image.repo_tags.iter().flatten();
        let tags = tags.map(|tag| reference(tag)).collect::<Result<Vec<_>>>()?;
        self.prepare(config, &layers, tags, staged, lease, progress)
    }

    fn oci_images(
        &self,
        index: &[u8],
        staged: &mut BTreeMap<Digest, Arc<Staged>>,
        lease: &crate::store::Lease,
        progress: &ProgressFn<'_>,
    ) -> Result<Vec<Prepared>> {
        let Document::List(list) = manifest::parse(index, Some(manifest::OCI_INDEX), "the archive")? else {
            return Err(ImageError::BadArchive { what: "index.json of the archive is not an index".into() });
        };
        let mut prepared = Vec::new();
        for descriptor in &list.manifests {
            let named = NAME_ANNOTATIONS.iter().find_map(|key| descriptor.annotations.get(*key));
            // A bare tag ("latest") without a repository names nothing.
            let tags: Vec<ImageRef> = named
                .filter(|name| name.contains([':', '/']))
                .map(|name| reference(name))
                .transpose()?
                .into_iter()
                .collect();
            let image = self.oci_manifest(descriptor, 0)?;
            let config = self.read_blob(&image.config)?;
            let layers: Vec<String> = image.layers.iter().map(|layer| blob_name(&layer.digest)).collect();
            prepared.push(self.prepare(config, &layers, tags, staged, lease, progress)?);
        }
        Ok(prepared)
    }

    fn oci_manifest(&self, descriptor: &Descriptor, depth: usize) -> Result<manifest::Manifest> {
        let bytes = self.read_blob(descriptor)?;
        match manifest::parse(&bytes, Some(&descriptor.media_type), "the archive")? {
            Document::Image(manifest) => Ok(manifest),
            Document::List(_) if depth == LIST_DEPTH_MAX => {
                Err(ImageError::BadArchive { what: "too many lists in lists in the archive".into() })
            }
            Document::List(list) => {
                self.oci_manifest(manifest::choose(&list, &self.store.inner.config.platform)?, depth + 1)
            }
        }
    }

    fn prepare(
        &self,
        config: Vec<u8>,
        files: &[String],
        tags: Vec<ImageRef>,
        staged: &mut BTreeMap<Digest, Arc<Staged>>,
        lease: &crate::store::Lease,
        progress: &ProgressFn<'_>,
    ) -> Result<Prepared> {
        let id = sha256(&config);
        let layers = parse_config(&config, &id)?.rootfs.diff_ids;
        if layers.len() != files.len() {
            return Err(ImageError::BadArchive {
                what: format!(
                    "image {id} has {} layers, but its configuration names {}",
                    files.len(),
                    layers.len()
                ),
            });
        }
        for (layer, file) in layers.iter().zip(files) {
            if staged.contains_key(layer) || lease.hold_inner(layer).is_ok() {
                continue;
            }
            let total = self.size(file)?;
            progress(Progress::layer(&layer.short(), LayerStep::Loading { current: 0, total }));
            let tar = blob::decompressed(self.open(file)?)?;
            let made = self.store.stage_tar(tar).map_err(flatten)?;
            if made.diff_id != *layer {
                let what = format!("invalid diffID for layer {file}");
                return Err(ImageError::DigestMismatch { what, expected: *layer, found: made.diff_id });
            }
            progress(Progress::layer(&layer.short(), LayerStep::Loading { current: total, total }));
            staged.insert(*layer, Arc::new(made));
        }
        Ok(Prepared { config, layers, tags })
    }

    /// Opens a file of the archive. Old archives link equal layers to each other, so links within the
    /// unpacked directory are followed; out of it nothing leads.
    fn open(&self, name: &str) -> Result<File> {
        let failed = |errno: Errno| match errno {
            Errno::NOENT => ImageError::BadArchive { what: format!("{name:?} is missing from the archive") },
            errno => ImageError::Io { step: "open", path: self.dir.join(name), source: errno.into() },
        };
        let fd = tree::open_in_root(self.root.as_fd(), Path::new(name), OFlags::RDONLY | OFlags::NONBLOCK)
            .map_err(failed)?;
        let file = File::from(fd);
        let is_file = file.metadata().is_ok_and(|found| found.is_file());
        if is_file {
            Ok(file)
        } else {
            Err(ImageError::BadArchive { what: format!("{name:?} is not a file") })
        }
    }

    fn size(&self, name: &str) -> Result<u64> {
        Ok(self.open(name)?.metadata().map_err(ImageError::io("look at", name))?.len())
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = self.open(name)?.take(BLOB_BYTES_MAX + 1).read_to_end(&mut bytes);
        let found = read.map_err(ImageError::io("read", self.dir.join(name)))? as u64;
        if found > BLOB_BYTES_MAX {
            return Err(ImageError::TooLarge { what: name.to_owned(), found, limit: BLOB_BYTES_MAX });
        }
        Ok(bytes)
    }

    fn read_optional(&self, name: &str) -> Result<Option<Vec<u8>>> {
        if self.dir.join(name).symlink_metadata().is_err() {
            return Ok(None);
        }
        self.read(name).map(Some)
    }

    fn read_blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let name = blob_name(&descriptor.digest);
        let bytes = self.read(&name)?;
        let found = sha256(&bytes);
        if found != descriptor.digest {
            return Err(ImageError::DigestMismatch { what: name, expected: descriptor.digest, found });
        }
        Ok(bytes)
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn reference(text: &str) -> Result<ImageRef> {
    ImageRef::parse(text)
        .map_err(|error| ImageError::BadArchive { what: format!("a name in the archive: {error}") })
}

fn malformed<T: serde::de::DeserializeOwned>(text: &[u8], what: &str) -> Result<T> {
    serde_json::from_slice(text).map_err(|source| ImageError::Malformed { what: what.to_owned(), source })
}
