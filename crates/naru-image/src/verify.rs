//! `naru image verify`: whether what is listed is still what its digests say.
//!
//! Configurations and manifests are hashed. Of each layer the exact archive is put together again
//! ([`crate::split`]) and hashed, and its headers are held against the tree ([`expected`], [`layer`]), because the
//! archive's digest alone says nothing about the modes, owners, links and marks that containers see.
//!
//! One digest covers all of a layer's contents: a file that has kept its size but not its bytes makes the layer
//! known as damaged without a name. What is missing, cut short or changed in its attributes is named.

mod expected;
mod layer;
pub mod repair;
mod walk;

use crate::error::{ImageError, Result};
use crate::index::{ImageRecord, Index};
use crate::store::Store;
use naru_types::Digest;
use std::collections::{BTreeMap, BTreeSet};

/// Most damaged places that are told of one layer; that there are more is told too.
const DAMAGE_PER_LAYER_MAX: usize = 100;

/// What a digest in the index stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DamagedPart {
    Config(Digest),
    Manifest(Digest),
    Layer(Digest),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub part: DamagedPart,
    /// The file in the layer, where it can be named.
    pub path: Option<String>,
    pub what: String,
}

/// One image's result.
#[derive(Clone, Debug)]
pub struct Verdict {
    pub id: Digest,
    /// Tags and digests, as Docker shows them.
    pub names: Vec<String>,
    pub damage: Vec<Damage>,
}

#[derive(Clone, Debug, Default)]
pub struct Verified {
    pub images: Vec<Verdict>,
    /// Of layers that only the build cache holds; looked at when no image is named.
    pub cache: Vec<Damage>,
    pub layers: usize,
    /// Of the archives that were put together and hashed.
    pub bytes: u64,
}

impl Verified {
    pub fn is_sound(&self) -> bool {
        self.cache.is_empty() && self.images.iter().all(|image| image.damage.is_empty())
    }
}

/// What is known of the layers looked at so far: several images share them.
#[derive(Default)]
struct Seen {
    layers: BTreeMap<Digest, Vec<Damage>>,
    bytes: u64,
}

impl Store {
    /// Verifies the named images, or all and the build cache's layers. `tell` hears of each image as it is done.
    /// An error means that it could not be found out, not that something is damaged.
    pub fn verify(&self, names: &[String], tell: &dyn Fn(&Verdict)) -> naru_types::Result<Verified> {
        Ok(self.verify_inner(names, tell)?)
    }

    fn verify_inner(&self, names: &[String], tell: &dyn Fn(&Verdict)) -> Result<Verified> {
        let ids: BTreeSet<Digest> = if names.is_empty() {
            self.index().images.keys().copied().collect()
        } else {
            names.iter().map(|name| self.resolve(name)).collect::<Result<_>>()?
        };
        let mut seen = Seen::default();
        let mut verified = Verified::default();
        for id in ids {
            // Removed meanwhile: there is nothing to say about it.
            let Some(verdict) = self.verify_image(&id, &mut seen)? else { continue };
            tell(&verdict);
            verified.images.push(verdict);
        }
        if names.is_empty() {
            let pinned: BTreeSet<Digest> = self.index().pins.values().flatten().copied().collect();
            for layer in pinned {
                if !seen.layers.contains_key(&layer) {
                    verified.cache.extend(self.verify_layer(&layer, &mut seen)?);
                }
            }
        }
        (verified.layers, verified.bytes) = (seen.layers.len(), seen.bytes);
        Ok(verified)
    }

    fn verify_image(&self, id: &Digest, seen: &mut Seen) -> Result<Option<Verdict>> {
        let index = self.index();
        let Some(record) = index.images.get(id) else { return Ok(None) };
        let mut damage = self.verify_content(id, record)?;
        for layer in &record.layers {
            damage.extend(self.verify_layer(layer, seen)?);
        }
        let is_gone = !self.index().images.contains_key(id);
        Ok((!is_gone).then(|| Verdict { id: *id, names: shown_names(&index, id), damage }))
    }

    fn verify_content(&self, id: &Digest, record: &ImageRecord) -> Result<Vec<Damage>> {
        let manifest = record.manifest.as_ref().map(|manifest| DamagedPart::Manifest(manifest.digest));
        let mut damage = Vec::new();
        for part in [Some(DamagedPart::Config(*id)), manifest].into_iter().flatten() {
            let (DamagedPart::Config(digest) | DamagedPart::Manifest(digest) | DamagedPart::Layer(digest)) =
                part;
            match self.read_blob(&digest) {
                Ok(_) => {}
                Err(error @ (ImageError::BlobMissing { .. } | ImageError::BlobDamaged { .. })) => {
                    damage.push(Damage { part, path: None, what: error.to_string() });
                }
                Err(ImageError::Io { step, path, source }) if layer::is_damage(&source) => {
                    damage.push(Damage {
                        part,
                        path: None,
                        what: format!("cannot {step} {}: {source}", path.display()),
                    });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(damage)
    }

    fn verify_layer(&self, layer: &Digest, seen: &mut Seen) -> Result<Vec<Damage>> {
        if let Some(known) = seen.layers.get(layer) {
            return Ok(known.clone());
        }
        // Held, so that a removal does not pull the tree away under the look at it.
        let lease = self.lease();
        match lease.hold_inner(layer) {
            Ok(()) => {}
            // Removed meanwhile, with the image.
            Err(ImageError::NoSuchLayer { .. }) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        }
        let found = layer::check(&self.layer_path(layer), layer)?;
        seen.bytes += found.bytes;
        let part = DamagedPart::Layer(*layer);
        let damage: Vec<Damage> =
            found.damage.into_iter().map(|(path, what)| Damage { part, path, what }).collect();
        seen.layers.insert(*layer, damage.clone());
        Ok(damage)
    }
}

fn shown_names(index: &Index, id: &Digest) -> Vec<String> {
    let show = |name: String| naru_types::ImageRef::parse(&name).map_or(name, |parsed| parsed.familiar());
    [index.tags_of(id), index.digests_of(id)].concat().into_iter().map(show).collect()
}
