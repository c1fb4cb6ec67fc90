//! `naru image verify --repair`: what is damaged comes again from the registry that it came from.
//!
//! The image is pulled once more by its manifest's digest, with the damaged layers taken for missing; each new tree is
//! exchanged with the damaged one in one step (renameat2(2), `RENAME_EXCHANGE`), so a listed image is never without its
//! layer. A layer that a running container is mounted on stays as it is, because the container still reads from it.

use super::{Damage, DamagedPart, Verdict, Verified};
use crate::error::{ImageError, Result};
use crate::progress::Progress;
use crate::pull::PullOptions;
use crate::refs::repository_of;
use crate::registry::auth::Credentials;
use crate::store::{Store, locked};
use naru_types::{Digest, ImageRef};
use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;

pub struct RepairOptions<'a> {
    /// Whether a container that runs, or is about to, was made from an image.
    pub is_running: &'a dyn Fn(&Digest) -> bool,
    /// For the registry of a reference.
    pub credentials: &'a dyn Fn(&ImageRef) -> Credentials,
    pub cancel: &'a AtomicBool,
}

/// What became of one damaged image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repaired {
    pub id: Digest,
    /// Why it could not be healed; `None`: it is sound again.
    pub failure: Option<String>,
}

impl Store {
    /// Tries to heal what `verified` found, and verifies it again.
    pub fn repair(
        &self,
        verified: &Verified,
        options: &RepairOptions<'_>,
    ) -> naru_types::Result<Vec<Repaired>> {
        let mut done: Vec<Repaired> = Vec::new();
        for verdict in verified.images.iter().filter(|verdict| !verdict.damage.is_empty()) {
            let failure = self.repair_image(verdict, options).err().map(|error| {
                let error = naru_types::Error::from(error);
                match error.hint() {
                    Some(hint) => format!("{}; {hint}", error.message()),
                    None => error.message().to_owned(),
                }
            });
            done.push(Repaired { id: verdict.id, failure });
        }
        // Another image may have brought a layer that this one had no registry for.
        for repaired in done.iter_mut().filter(|repaired| repaired.failure.is_some()) {
            let again = self.verify(&[repaired.id.to_string()], &|_| {})?;
            if again.is_sound() {
                repaired.failure = None;
            }
        }
        Ok(done)
    }

    fn repair_image(&self, verdict: &Verdict, options: &RepairOptions<'_>) -> Result<()> {
        let layers: BTreeSet<Digest> = verdict.damage.iter().filter_map(layer_of).collect();
        for layer in &layers {
            self.refuse_running(layer, options.is_running)?;
        }
        let (source, is_known) = self.source_of(&verdict.id)?;
        let healing = Healing::begin(self, layers);
        let pull = PullOptions {
            credentials: (options.credentials)(&source),
            platform: None,
            progress: &|_: Progress| {},
            cancel: options.cancel,
        };
        let pulled = self.pull_to_heal(&source, &pull);
        drop(healing);
        if !is_known {
            // The pull gave it a name that it didn't have.
            let name = source.to_string();
            self.transact(|index| {
                index.digests.remove(&name);
                Ok(())
            })?;
        }
        pulled?;
        let again = self.verify_inner(&[verdict.id.to_string()], &|_| {})?;
        match again.images.first().and_then(|verdict| verdict.damage.first()) {
            None => Ok(()),
            Some(damage) => Err(ImageError::NotHealed { what: damage.what.clone() }),
        }
    }

    /// Errors of a pull come with their hint; here they are a cause.
    fn pull_to_heal(&self, source: &ImageRef, options: &PullOptions<'_>) -> Result<()> {
        let failed = |error: naru_types::Error| ImageError::NotHealed { what: error.message().to_owned() };
        self.pull(source, options).map(drop).map_err(failed)
    }

    /// Where the image's own manifest can be had again, and whether the image is listed under that name.
    fn source_of(&self, id: &Digest) -> Result<(ImageRef, bool)> {
        let index = self.index();
        let manifest = index.images.get(id).and_then(|record| record.manifest.as_ref());
        let names = index.digests_of(id);
        let name = match (manifest, names.first()) {
            (Some(manifest), Some(name)) => format!("{}@{}", repository_of(name), manifest.digest),
            // Made here and pushed: its name has the digest of the manifest that was pushed.
            (None, Some(name)) => name.clone(),
            (_, None) => return Err(ImageError::NoSource { id: *id }),
        };
        let source = ImageRef::parse(&name).map_err(|_| ImageError::NoSource { id: *id })?;
        Ok((source, index.digests.contains_key(&name)))
    }

    fn refuse_running(&self, layer: &Digest, is_running: &dyn Fn(&Digest) -> bool) -> Result<()> {
        let index = self.index();
        let users = index.images.iter().filter(|(_, record)| record.layers.contains(layer));
        match users.map(|(id, _)| id).find(|id| is_running(id)) {
            Some(id) => Err(ImageError::LayerInUse { diff_id: *layer, image: *id }),
            None => Ok(()),
        }
    }

    /// Whether a layer is stored and need not be fetched: one that is being healed is to be fetched.
    pub(crate) fn has_whole(&self, diff_id: &Digest) -> bool {
        self.index().layers.contains_key(diff_id) && !self.is_healing(diff_id)
    }

    pub(crate) fn is_healing(&self, diff_id: &Digest) -> bool {
        locked(&self.inner.healing).contains(diff_id)
    }
}

fn layer_of(damage: &Damage) -> Option<Digest> {
    match damage.part {
        DamagedPart::Layer(layer) => Some(layer),
        DamagedPart::Config(_) | DamagedPart::Manifest(_) => None,
    }
}

/// Layers that pulls take for missing while this lives.
struct Healing<'a> {
    store: &'a Store,
    layers: BTreeSet<Digest>,
}

impl<'a> Healing<'a> {
    fn begin(store: &'a Store, layers: BTreeSet<Digest>) -> Self {
        locked(&store.inner.healing).extend(layers.iter().copied());
        Self { store, layers }
    }
}

impl Drop for Healing<'_> {
    fn drop(&mut self) {
        let mut healing = locked(&self.store.inner.healing);
        healing.retain(|layer| !self.layers.contains(layer));
    }
}
