//! Names of images: giving, taking away, and what is deleted when the last one goes.
//!
//! The rules and texts are moby's (`daemon/images/image_delete.go`): a name is untagged; the image goes
//! when its last name does; by id it goes only when it has at most one name, or by force. What an image was
//! committed on stays for as long as that image does, and goes with it when it has no name.

use crate::build::tag_name;
use crate::error::{ImageError, Result};
use crate::index::{ImageRecord, Index};
use crate::query::{Image, find_in};
use crate::store::{Store, now};
use naru_types::id::is_full_id;
use naru_types::{Digest, ImageRef};
use std::collections::BTreeSet;

/// What a removal did, in the order in which Docker lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    /// A name, as Docker shows it.
    Untagged(String),
    /// An image, or one of its layers (by chain id, as Docker names them).
    Deleted(Digest),
}

/// A container's claim on an image, told by the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageUser {
    /// The container's id.
    pub container: String,
    pub is_running: bool,
}

pub struct RemoveOptions<'a> {
    pub force: bool,
    /// The nameless images that it was committed on stay.
    pub keep_parents: bool,
    /// The containers made from an image.
    pub users: &'a dyn Fn(&Digest) -> Vec<ImageUser>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    pub removed: Vec<Removed>,
    /// Unpacked bytes of the deleted layers.
    pub bytes: u64,
}

impl Store {
    /// Gives the image another name; the name is taken from any image that had it.
    pub fn tag(&self, id: &Digest, target: &ImageRef) -> naru_types::Result<()> {
        Ok(self.transact(|index| {
            let name = tag_name(target)?;
            let missing = || ImageError::NoSuchImage { name: id.to_string() };
            let record = index.images.get_mut(id).ok_or_else(missing)?;
            record.last_tagged = now();
            record.is_retired = false;
            index.tags.insert(name, *id);
            Ok(())
        })?)
    }

    /// `docker rmi`.
    pub fn remove(&self, name: &str, options: &RemoveOptions<'_>) -> naru_types::Result<Vec<Removed>> {
        Ok(self.transact(|index| {
            // All is asked for under the writer's lock: the name means what it meant when it was looked up,
            // a lease taken before is seen, a later one sees the removal.
            let id = self.resolve(name)?;
            let users = (options.users)(&id);
            let leased = self.leased();
            forget_retired(index, &|id| !(options.users)(id).is_empty(), &leased);
            let in_use = |id: &Digest| !(options.users)(id).is_empty();
            let RemoveOptions { force, keep_parents, .. } = *options;
            let removal =
                Removal { id, users: &users, in_use: &in_use, force, keep_parents, leased: &leased };
            match named(index, name, &id) {
                Some(key) => removal.by_name(index, name, &key),
                None => removal.by_id(index),
            }
        })?)
    }

    /// Deletes every image that `select` accepts and `in_use` does not claim, with all its names.
    pub fn prune(
        &self,
        select: &dyn Fn(&Image) -> bool,
        in_use: &dyn Fn(&Digest) -> bool,
    ) -> naru_types::Result<Pruned> {
        let candidates = self.list()?;
        Ok(self.transact(|index| {
            // Asked for under the writer's lock: a lease taken before is seen, a later one sees the removal.
            let leased = self.leased();
            let before = stored_bytes(index);
            let mut pruned = Pruned::default();
            forget_retired(index, in_use, &leased);
            let mut left: Vec<Digest> =
                candidates.iter().filter(|image| select(image)).map(|image| image.id).collect();
            // What others were committed on may go after these.
            while let Some(at) = left.iter().position(|id| !has_children(index, id)) {
                let id = left.remove(at);
                // It may have got a name, or gone, since it was listed. A damaged one stays: what it is cannot be asked.
                let is_same = self.image(index, &id).is_ok_and(|now| select(&now));
                if is_same && !in_use(&id) {
                    let (force, keep_parents, leased) = (true, false, &leased);
                    let removal = Removal { id, users: &[], in_use, force, keep_parents, leased };
                    pruned.removed.extend(removal.by_id(index)?);
                }
            }
            pruned.bytes = before - stored_bytes(index);
            Ok(pruned)
        })?)
    }

    /// Deletes what was kept for a container only (a removed image that nobody uses any more) and the
    /// layers that no image, pin or lease reaches. Returns the bytes deleted.
    pub fn collect(&self, in_use: &dyn Fn(&Digest) -> bool) -> naru_types::Result<u64> {
        Ok(self.transact(|index| {
            // Asked for under the writer's lock: a lease taken before is seen, a later one sees the removal.
            let leased = self.leased();
            let before = stored_bytes(index);
            forget_retired(index, in_use, &leased);
            let all: Vec<Digest> = index.layers.keys().copied().collect();
            index.drop_layers(&all, &leased);
            Ok(before - stored_bytes(index))
        })?)
    }
}

/// The key of the name that `text` means, or `None` when it is (a prefix of) the id.
fn named(index: &Index, text: &str, id: &Digest) -> Option<String> {
    let reference = ImageRef::parse(text).ok()?;
    if is_full_id(text) || find_in(index, &reference) != Some(*id) {
        return None;
    }
    Some(match reference.digest() {
        Some(digest) => format!("{}@{digest}", reference.repository()),
        None => reference.with_default_tag().to_string(),
    })
}

pub(crate) struct Removal<'a> {
    pub id: Digest,
    pub users: &'a [ImageUser],
    /// Whether a container was made from an image.
    pub in_use: &'a dyn Fn(&Digest) -> bool,
    pub force: bool,
    pub keep_parents: bool,
    pub leased: &'a BTreeSet<Digest>,
}

impl Removal<'_> {
    fn by_name(&self, index: &mut Index, shown: &str, key: &str) -> Result<Vec<Removed>> {
        let must_force = !self.force && is_single(index, &self.id);
        if let Some(user) = self.users.first().filter(|_| must_force) {
            let (container, image) = (short(&user.container), self.id.short());
            return Err(ImageError::Conflict(format!(
                "conflict: unable to remove repository reference {shown:?} (must force) - container {container} is using its referenced image {image}"
            )));
        }
        let mut removed = vec![untag(index, key)];
        let repository = repository_of(key);
        let has_tag = index.tags_of(&self.id).iter().any(|name| repository_of(name) == repository);
        if !key.contains('@') && !has_tag {
            for name in index.digests_of(&self.id) {
                if repository_of(&name) == repository {
                    removed.push(untag(index, &name));
                }
            }
        }
        let names_left = !index.tags_of(&self.id).is_empty() || !index.digests_of(&self.id).is_empty();
        // A container that runs keeps the nameless image; Docker stays silent about it as well.
        let keeps_running = self.users.iter().any(|user| user.is_running);
        if !names_left && !keeps_running && !has_children(index, &self.id) {
            self.delete_with_parents(index, &mut removed);
        }
        Ok(removed)
    }

    pub(crate) fn by_id(&self, index: &mut Index) -> Result<Vec<Removed>> {
        if has_children(index, &self.id) {
            return Err(self.conflict("cannot", "image has dependent child images"));
        }
        if let Some(user) = self.users.iter().find(|user| user.is_running) {
            return Err(self.conflict(
                "cannot",
                &format!("image is being used by running container {}", short(&user.container)),
            ));
        }
        if !self.force {
            if !is_single(index, &self.id) {
                return Err(self.conflict("must", "image is referenced in multiple repositories"));
            }
            if let Some(user) = self.users.first() {
                let why = format!("image is being used by stopped container {}", short(&user.container));
                return Err(self.conflict("must", &why));
            }
        }
        let names = [index.tags_of(&self.id), index.digests_of(&self.id)].concat();
        let mut removed: Vec<Removed> = names.iter().map(|name| untag(index, name)).collect();
        self.delete_with_parents(index, &mut removed);
        Ok(removed)
    }

    fn conflict(&self, force: &str, why: &str) -> ImageError {
        let force = if force == "must" { "must be forced" } else { "cannot be forced" };
        ImageError::Conflict(format!("conflict: unable to delete {} ({force}) - {why}", self.id.short()))
    }

    fn delete_with_parents(&self, index: &mut Index, removed: &mut Vec<Removed>) {
        let mut parent = index.images.get(&self.id).and_then(|record| record.parent);
        self.delete(index, removed);
        let is_gone = |index: &Index, id: &Digest| !index.images.contains_key(id);
        if self.keep_parents || !is_gone(index, &self.id) {
            return;
        }
        while let Some(id) = parent.filter(|id| self.is_forgotten(index, id)) {
            parent = index.images.get(&id).and_then(|record| record.parent);
            Removal { id, users: &[], ..*self }.delete(index, removed);
        }
    }

    /// Listed, and wanted by nobody: no name, no container, nothing committed on it.
    fn is_forgotten(&self, index: &Index, id: &Digest) -> bool {
        let is_named = || !index.tags_of(id).is_empty() || !index.digests_of(id).is_empty();
        index.images.get(id).is_some_and(|record| !record.is_retired && !is_leased(id, record, self.leased))
            && !is_named()
            && !has_children(index, id)
            && !(self.in_use)(id)
    }

    fn delete(&self, index: &mut Index, removed: &mut Vec<Removed>) {
        removed.push(Removed::Deleted(self.id));
        let Some(record) = index.images.get_mut(&self.id) else { return };
        // A lease may be held for a container that is being made of the image and isn't known yet.
        if !self.users.is_empty() || is_leased(&self.id, record, self.leased) {
            record.is_retired = true;
            return;
        }
        let layers = forget_image(index, &self.id);
        let chains = chain_ids(&layers);
        index.drop_layers(&layers, self.leased);
        let gone = layers.iter().zip(chains).rev().filter(|(layer, _)| !index.layers.contains_key(layer));
        removed.extend(gone.map(|(_, chain)| Removed::Deleted(chain)));
    }
}

/// Whether a listed image was committed on this one.
pub(crate) fn has_children(index: &Index, id: &Digest) -> bool {
    index.images.values().any(|record| record.parent == Some(*id) && !record.is_retired)
}

/// Takes out the removed images whose last container is gone, and their layers.
pub(crate) fn forget_retired(index: &mut Index, in_use: &dyn Fn(&Digest) -> bool, leased: &BTreeSet<Digest>) {
    let retired: Vec<Digest> = index
        .images
        .iter()
        .filter(|(id, record)| record.is_retired && !in_use(id) && !is_leased(id, record, leased))
        .map(|(id, _)| *id)
        .collect();
    for id in retired {
        let layers = forget_image(index, &id);
        index.drop_layers(&layers, leased);
    }
}

/// Whether somebody holds the image or a layer of it.
pub(crate) fn is_leased(id: &Digest, record: &ImageRecord, leased: &BTreeSet<Digest>) -> bool {
    leased.contains(id) || record.layers.iter().any(|layer| leased.contains(layer))
}

/// Unpacked bytes of all layers.
pub(crate) fn stored_bytes(index: &Index) -> u64 {
    index.layers.values().map(|layer| layer.size).sum()
}

/// Takes the record out; returns its layers, lowest first.
fn forget_image(index: &mut Index, id: &Digest) -> Vec<Digest> {
    let Some(record) = index.images.remove(id) else { return Vec::new() };
    index.dropped_blobs.push(*id);
    index.dropped_blobs.extend(record.manifest.map(|manifest| manifest.digest));
    record.layers
}

/// At most one tag, and all names within one repository (moby's `isSingleReference`).
fn is_single(index: &Index, id: &Digest) -> bool {
    let (tags, digests) = (index.tags_of(id), index.digests_of(id));
    let repositories: BTreeSet<&str> = tags.iter().chain(&digests).map(|name| repository_of(name)).collect();
    tags.len() <= 1 && repositories.len() <= 1
}

fn untag(index: &mut Index, key: &str) -> Removed {
    index.tags.remove(key);
    index.digests.remove(key);
    Removed::Untagged(ImageRef::parse(key).map_or_else(|_| key.to_owned(), |name| name.familiar()))
}

/// `docker.io/library/nginx` of `docker.io/library/nginx:latest` and of `…nginx@sha256:…`.
pub(crate) fn repository_of(key: &str) -> &str {
    let name = key.split_once('@').map_or(key, |(name, _)| name);
    let slash = name.rfind('/').unwrap_or(0);
    name[slash..].rfind(':').map_or(name, |colon| &name[..slash + colon])
}

fn short(container: &str) -> &str {
    container.get(..12).unwrap_or(container)
}

/// OCI image-spec, config.md, "Layer ChainID".
fn chain_ids(layers: &[Digest]) -> Vec<Digest> {
    let mut chain: Option<Digest> = None;
    let mut next = |layer: &Digest| {
        let id = match chain {
            None => *layer,
            Some(parent) => crate::blob::sha256(format!("{parent} {layer}").as_bytes()),
        };
        chain = Some(id);
        id
    };
    layers.iter().map(&mut next).collect()
}
