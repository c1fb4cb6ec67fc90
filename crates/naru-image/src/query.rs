//! Images by name and id, and what is known about them.

use crate::error::{ImageError, Result};
use crate::index::{ImageRecord, Index};
use crate::refs::repository_of;
use crate::store::Store;
use naru_types::image::ImageConfig;
use naru_types::{Digest, ImageRef, Timestamp};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Hex digits that a manifest is known by, at least: what clients show of a digest. Fewer may well be a word that
/// names an image in a registry.
const MANIFEST_PREFIX_LEN_MIN: usize = 12;

#[derive(Clone, Debug)]
pub struct Image {
    pub id: Digest,
    pub config: ImageConfig,
    /// As Docker shows them, sorted: `nginx:latest`.
    pub repo_tags: Vec<String>,
    /// As Docker shows them, sorted: `nginx@sha256:…`.
    pub repo_digests: Vec<String>,
    /// Unpacked bytes of all layers.
    pub size: u64,
    pub created: Timestamp,
    pub last_tagged: Timestamp,
    /// The image that this one was committed on, for as long as that is listed.
    pub parent: Option<Digest>,
    /// Why the configuration cannot be read, in a list: the rest is what the index knows.
    pub damage: Option<String>,
}

/// One line of `docker history`, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryEntry {
    /// The image's for the newest entry, `None` (`<missing>`) below.
    pub id: Option<Digest>,
    pub created: Timestamp,
    pub created_by: String,
    pub comment: String,
    pub size: u64,
    pub tags: Vec<String>,
}

impl Image {
    /// Lowest first.
    pub fn layers(&self) -> &[Digest] {
        &self.config.rootfs.diff_ids
    }

    pub fn is_dangling(&self) -> bool {
        self.repo_tags.is_empty()
    }
}

impl Store {
    /// By name (`nginx`, `nginx:1`, `nginx@sha256:…`), by id, by the digest of its manifest or of the list that it was
    /// pulled by, or by a prefix of these that fits one image.
    pub fn get(&self, name: &str) -> naru_types::Result<Image> {
        let id = self.resolve(name)?;
        Ok(self.image(&self.index(), &id)?)
    }

    /// Whose configuration it has need not be readable.
    pub fn id_of(&self, name: &str) -> naru_types::Result<Digest> {
        Ok(self.resolve(name)?)
    }

    /// Also finds an image that was removed by force while a container used it.
    pub fn get_by_id(&self, id: &Digest) -> naru_types::Result<Image> {
        Ok(self.image(&self.index(), id)?)
    }

    /// The image that a reference names, if it is here.
    pub fn find(&self, reference: &ImageRef) -> Option<Digest> {
        find_in(&self.index(), reference)
    }

    /// All images, newest first. A damaged one is among them, with what the index knows of it: the others must not
    /// suffer from it, and it must be seen to be repaired or removed.
    pub fn list(&self) -> naru_types::Result<Vec<Image>> {
        let index = self.index();
        let listed = index.images.iter().filter(|(_, record)| !record.is_retired);
        let mut images: Vec<Image> = listed.map(|(id, record)| self.described(&index, id, record)).collect();
        images.sort_by(|a, b| b.created.cmp(&a.created).then(a.id.cmp(&b.id)));
        Ok(images)
    }

    pub fn history(&self, image: &Image) -> naru_types::Result<Vec<HistoryEntry>> {
        let mut layers = image.layers().iter();
        let mut entries = Vec::with_capacity(image.config.history.len());
        for step in &image.config.history {
            let size = match layers.as_slice().first() {
                Some(layer) if !step.empty_layer => {
                    layers.next();
                    self.layer_size(layer)?
                }
                _ => 0,
            };
            entries.push(HistoryEntry {
                id: None,
                created: parse_time(step.created.as_deref()),
                created_by: step.created_by.clone().unwrap_or_default(),
                comment: step.comment.clone().unwrap_or_default(),
                size,
                tags: Vec::new(),
            });
        }
        entries.reverse();
        // moby's `ImageHistory` goes from parent to parent, one for each line.
        let index = self.index();
        let mut next = Some(image.id);
        for entry in &mut entries {
            let Some(id) = next else { break };
            entry.id = Some(id);
            entry.tags = familiar(index.tags_of(&id));
            next = parent_of(&index, &id);
        }
        Ok(entries)
    }

    /// The layers' directories, topmost first, as overlayfs wants its lower directories.
    pub fn layer_dirs(&self, image: &Image) -> naru_types::Result<Vec<PathBuf>> {
        image.layers().iter().rev().map(|layer| self.layer_dir(layer)).collect()
    }

    pub fn layer_dir(&self, diff_id: &Digest) -> naru_types::Result<PathBuf> {
        self.layer_size(diff_id)?;
        Ok(self.layer_path(diff_id).join("fs"))
    }

    /// Unpacked bytes of one layer.
    pub fn layer_size(&self, diff_id: &Digest) -> naru_types::Result<u64> {
        let index = self.index();
        let layer = index.layers.get(diff_id).ok_or(ImageError::NoSuchLayer { diff_id: *diff_id })?;
        Ok(layer.size)
    }

    pub(crate) fn resolve(&self, name: &str) -> Result<Digest> {
        let index = self.index();
        let full = Digest::parse(name).ok().or_else(|| Digest::from_hex(name));
        if let Some(id) = full.filter(|id| is_listed(&index, id)) {
            return Ok(id);
        }
        let reference = ImageRef::parse(name).ok();
        if let Some(id) = reference.as_ref().and_then(|reference| find_in(&index, reference)) {
            return Ok(id);
        }
        if let Some(id) = reference.as_ref().and_then(|reference| by_own_manifest(&index, reference)) {
            return Ok(id);
        }
        let prefix = name.strip_prefix("sha256:").unwrap_or(name);
        let is_hex =
            !prefix.is_empty() && prefix.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let fitting = if is_hex { by_prefix(&index, prefix) } else { BTreeSet::new() };
        let mut fitting = fitting.into_iter();
        match (fitting.next(), fitting.next()) {
            (Some(id), None) => Ok(id),
            (Some(_), Some(_)) => Err(ImageError::AmbiguousId { prefix: name.to_owned() }),
            (None, _) => {
                let shown = reference
                    .map_or_else(|| name.to_owned(), |reference| reference.with_default_tag().familiar());
                Err(ImageError::NoSuchImage { name: shown })
            }
        }
    }

    pub(crate) fn image(&self, index: &Index, id: &Digest) -> Result<Image> {
        let missing = || ImageError::NoSuchImage { name: id.to_string() };
        let record = index.images.get(id).ok_or_else(missing)?;
        Ok(with_config(index, id, record, self.read_config(id)?))
    }

    fn described(&self, index: &Index, id: &Digest, record: &ImageRecord) -> Image {
        match self.read_config(id) {
            Ok(config) => with_config(index, id, record, config),
            Err(error) => {
                let mut config = ImageConfig::default();
                config.rootfs.diff_ids.clone_from(&record.layers);
                let damage = Some(naru_types::Error::from(error).chain());
                Image { damage, ..with_config(index, id, record, config) }
            }
        }
    }

    pub(crate) fn read_config(&self, id: &Digest) -> Result<ImageConfig> {
        let bytes = self.read_blob(id)?;
        parse_config(&bytes, id)
    }
}

fn with_config(index: &Index, id: &Digest, record: &ImageRecord, config: ImageConfig) -> Image {
    let layers = record.layers.iter().filter_map(|layer| index.layers.get(layer));
    Image {
        id: *id,
        created: parse_time(config.created.as_deref()),
        config,
        repo_tags: familiar(index.tags_of(id)),
        repo_digests: familiar(index.digests_of(id)),
        size: layers.map(|layer| layer.size).sum(),
        last_tagged: record.last_tagged,
        parent: parent_of(index, id),
        damage: None,
    }
}

fn parent_of(index: &Index, id: &Digest) -> Option<Digest> {
    index.images.get(id)?.parent.filter(|parent| is_listed(index, parent))
}

fn is_listed(index: &Index, id: &Digest) -> bool {
    index.images.get(id).is_some_and(|record| !record.is_retired)
}

/// `name@digest` with the platform's own manifest, where the name came with the digest of a list.
fn by_own_manifest(index: &Index, reference: &ImageRef) -> Option<Digest> {
    let (digest, repository) = (reference.digest()?, reference.repository());
    let is_own =
        |record: &ImageRecord| record.manifest.as_ref().is_some_and(|manifest| manifest.digest == *digest);
    let is_named =
        |id: &Digest| index.digests.iter().any(|(name, of)| of == id && repository_of(name) == repository);
    let mut found = index.images.iter().filter(|(id, record)| is_own(record) && is_listed(index, id));
    found.find(|(id, _)| is_named(id)).map(|(id, _)| *id)
}

/// The images whose id begins like this; where there is none and it is long enough, those whose manifest does, or the
/// list by which they were pulled.
fn by_prefix(index: &Index, prefix: &str) -> BTreeSet<Digest> {
    let fits = |digest: &Digest| digest.hex().starts_with(prefix);
    let listed = |id: &&Digest| is_listed(index, id);
    let by_id: BTreeSet<Digest> = index.images.keys().filter(|id| fits(id)).filter(listed).copied().collect();
    if !by_id.is_empty() || prefix.len() < MANIFEST_PREFIX_LEN_MIN {
        return by_id;
    }
    let manifest_fits =
        |record: &ImageRecord| record.manifest.as_ref().is_some_and(|manifest| fits(&manifest.digest));
    let name_fits = |name: &str| name.split_once("@sha256:").is_some_and(|(_, hex)| hex.starts_with(prefix));
    let own = index.images.iter().filter(|(_, record)| manifest_fits(record)).map(|(id, _)| id);
    let named = index.digests.iter().filter(|(name, _)| name_fits(name)).map(|(_, id)| id);
    own.chain(named).filter(listed).copied().collect()
}

pub(crate) fn parse_config(bytes: &[u8], id: &Digest) -> Result<ImageConfig> {
    serde_json::from_slice(bytes)
        .map_err(|source| ImageError::Malformed { what: format!("the image configuration {id}"), source })
}

pub(crate) fn find_in(index: &Index, reference: &ImageRef) -> Option<Digest> {
    if let Some(digest) = reference.digest() {
        let key = format!("{}@{digest}", reference.repository());
        return index.digests.get(&key).copied();
    }
    index.tags.get(&reference.with_default_tag().to_string()).copied()
}

fn familiar(names: Vec<String>) -> Vec<String> {
    let show = |name: String| ImageRef::parse(&name).map_or(name, |parsed| parsed.familiar());
    let mut shown: Vec<String> = names.into_iter().map(show).collect();
    shown.sort();
    shown
}

fn parse_time(text: Option<&str>) -> Timestamp {
    text.and_then(Timestamp::parse_rfc3339).unwrap_or(Timestamp::ZERO)
}
