//! `docker save`: one archive that is, unless a plain layout is asked for, a docker-archive (manifest.json, read by every Docker, Podman and
//! skopeo) and an OCI layout (index.json) at once, as Docker writes it since version 25. Layers are in it
//! uncompressed, each once.

use crate::blob::sha256;
use crate::error::{ImageError, Result};
use crate::registry::manifest::{self, Descriptor, Manifest};
use crate::split;
use crate::store::Store;
use naru_tar::{self as tar, Entry, EntryKind};
use naru_types::{Digest, ImageRef};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

/// What a saved archive is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveForm {
    /// A docker-archive and an OCI layout at once.
    Docker,
    /// An OCI layout only.
    Oci,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ArchiveImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Store {
    /// Writes the images to `out`. A repository without a tag stands for all of its tags.
    pub fn save(&self, names: &[String], out: &mut dyn Write) -> naru_types::Result<()> {
        self.save_as(ArchiveForm::Docker, names, out)
    }

    /// As [`Store::save`], in the form that is asked for.
    pub fn save_as(
        &self,
        form: ArchiveForm,
        names: &[String],
        out: &mut dyn Write,
    ) -> naru_types::Result<()> {
        let images = self.named_images(names)?;
        Ok(self.save_images(form, &images, out)?)
    }

    /// Writes one image to `out` under names that it need not have here.
    pub fn save_image(&self, id: &Digest, names: &[ImageRef], out: &mut dyn Write) -> naru_types::Result<()> {
        Ok(self.save_images(ArchiveForm::Docker, &[(*id, names.to_vec())], out)?)
    }

    /// Image ids in the order asked for, with the names that are saved along.
    fn named_images(&self, names: &[String]) -> Result<Vec<(Digest, Vec<ImageRef>)>> {
        let mut images: Vec<(Digest, Vec<ImageRef>)> = Vec::new();
        let mut add = |id: Digest, tag: Option<ImageRef>| {
            let at = images.iter().position(|(known, _)| *known == id).unwrap_or_else(|| {
                images.push((id, Vec::new()));
                images.len() - 1
            });
            let tags = &mut images[at].1;
            tags.extend(tag.filter(|tag| !tags.contains(tag)));
        };
        let index = self.index();
        for name in names {
            let reference = ImageRef::parse(name).ok();
            let bare = reference
                .as_ref()
                .filter(|reference| reference.tag().is_none() && reference.digest().is_none());
            let mut found = false;
            for (tag, id) in &index.tags {
                let parsed = ImageRef::parse(tag).ok();
                if let (Some(bare), Some(parsed)) = (bare, parsed)
                    && parsed.repository() == bare.repository()
                {
                    add(*id, Some(parsed));
                    found = true;
                }
            }
            if !found {
                let id = self.resolve(name)?;
                add(
                    id,
                    reference
                        .filter(|reference| reference.tag().is_some() && self.find(reference) == Some(id)),
                );
            }
        }
        Ok(images)
    }

    fn save_images(
        &self,
        form: ArchiveForm,
        images: &[(Digest, Vec<ImageRef>)],
        out: &mut dyn Write,
    ) -> Result<()> {
        let lease = self.lease();
        let mut archive = Archive { out, written: BTreeSet::new() };
        archive.directory("blobs/")?;
        archive.directory("blobs/sha256/")?;
        let (mut docker, mut oci) = (Vec::new(), Vec::new());
        let mut repositories: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for (id, tags) in images {
            let config = self.read_blob(id)?;
            archive.blob(&config)?;
            let mut layers = Vec::new();
            for layer in self.read_config(id)?.rootfs.diff_ids {
                lease.hold_inner(&layer)?;
                let size = self.index().layers.get(&layer).map_or(0, |record| record.tar_size);
                archive.layer(self, &layer, size)?;
                layers.push(Descriptor::new(manifest::OCI_LAYER_TAR, layer, size));
            }
            docker.push(ArchiveImage {
                config: blob_name(id),
                repo_tags: (!tags.is_empty()).then(|| tags.iter().map(ImageRef::familiar).collect()),
                layers: layers.iter().map(|layer| blob_name(&layer.digest)).collect(),
            });
            for tag in tags {
                let top = layers.last().map(|layer| layer.digest.hex()).unwrap_or_default();
                let known = repositories.entry(tag.familiar_repository()).or_default();
                known.insert(tag.tag().unwrap_or_default().to_owned(), top);
            }
            let manifest = json(&Manifest {
                schema_version: 2,
                media_type: manifest::OCI_MANIFEST.to_owned(),
                config: Descriptor::new(manifest::OCI_CONFIG, *id, config.len() as u64),
                layers,
            })?;
            archive.blob(&manifest)?;
            oci.extend(named_descriptors(&manifest, tags));
        }
        archive.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        let list =
            manifest::List { schema_version: 2, media_type: manifest::OCI_INDEX.to_owned(), manifests: oci };
        archive.file("index.json", &json(&list)?)?;
        if form == ArchiveForm::Docker {
            archive.file("manifest.json", &json(&docker)?)?;
            if !repositories.is_empty() {
                archive.file("repositories", &json(&repositories)?)?;
            }
        }
        archive.write(&tar::trailer())
    }
}

/// One entry of index.json per name, or one without a name.
fn named_descriptors(manifest: &[u8], tags: &[ImageRef]) -> Vec<Descriptor> {
    let plain = Descriptor::new(manifest::OCI_MANIFEST, sha256(manifest), manifest.len() as u64);
    if tags.is_empty() {
        return vec![plain];
    }
    let named = |tag: &ImageRef| {
        let mut descriptor = plain.clone();
        descriptor.annotations.insert("io.containerd.image.name".into(), tag.to_string());
        let short = tag.tag().unwrap_or_default().to_owned();
        descriptor.annotations.insert("org.opencontainers.image.ref.name".into(), short);
        descriptor
    };
    tags.iter().map(named).collect()
}

struct Archive<'a> {
    out: &'a mut dyn Write,
    written: BTreeSet<Digest>,
}

impl Archive<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(|source| ImageError::Write { source })
    }

    fn directory(&mut self, name: &str) -> Result<()> {
        self.write(&tar::encode(&Entry::new(name, EntryKind::Directory)))
    }

    fn file(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.header(name, bytes.len() as u64)?;
        self.write(bytes)?;
        self.pad(bytes.len() as u64)
    }

    fn header(&mut self, name: &str, size: u64) -> Result<()> {
        let mut entry = Entry::new(name, EntryKind::File);
        entry.size = size;
        self.write(&tar::encode(&entry))
    }

    fn pad(&mut self, size: u64) -> Result<()> {
        self.write(&[0; tar::BLOCK_BYTES][..tar::padding(size)])
    }

    fn blob(&mut self, bytes: &[u8]) -> Result<()> {
        let digest = sha256(bytes);
        if self.written.insert(digest) { self.file(&blob_name(&digest), bytes) } else { Ok(()) }
    }

    /// The layer's exact archive; its digest is checked while it is written.
    fn layer(&mut self, store: &Store, layer: &Digest, size: u64) -> Result<()> {
        if !self.written.insert(*layer) {
            return Ok(());
        }
        self.header(&blob_name(layer), size)?;
        let mut hashing = crate::blob::HashingWriter::new(&mut *self.out);
        split::write_tar(&store.layer_path(layer), &mut hashing)?;
        let (found, bytes) = (hashing.digest(), hashing.bytes);
        if found != *layer || bytes != size {
            return Err(ImageError::LayerChanged { diff_id: *layer, found });
        }
        self.pad(size)
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value)
        .map_err(|source| ImageError::Malformed { what: "the archive's index".into(), source })
}
