//! Garbage collection of images, by a policy that is off unless the daemon's configuration sets it.
//!
//! What goes are images that no container was made from and no lease holds, the ones that were named longest ago
//! first; with them the layers that nothing reaches any more. The build cache's layers count, but have a clean-up of
//! their own; volumes are no part of the store. All is decided and done in one change of the index: who takes a lease
//! sees the image either whole or gone.

use crate::error::{ImageError, Result};
use crate::index::Index;
use crate::refs::{Removal, forget_retired, has_children, is_leased, repository_of, stored_bytes};
use crate::store::{Store, now};
use naru_types::{Digest, ImageRef};
use std::collections::{BTreeMap, BTreeSet};

/// Each limit stands for itself; `None` is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GcPolicy {
    /// Unpacked bytes of all layers, at most.
    pub keep_bytes: Option<u64>,
    /// Seconds since an image was pulled, made or given a name, at most.
    pub age_secs_max: Option<u64>,
    /// Images of one repository, at most.
    pub per_repository_max: Option<usize>,
    /// How full the file system of the store may be, in percent.
    pub disk_percent_max: Option<u8>,
}

impl GcPolicy {
    pub fn is_off(&self) -> bool {
        *self == Self::default()
    }
}

/// Which limit made an image go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GcReason {
    Age,
    PerRepository,
    Bytes,
    Disk,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GcImage {
    pub id: Digest,
    /// As Docker shows them.
    pub names: Vec<String>,
    pub reason: GcReason,
    /// Unpacked bytes of the layers that went with it.
    pub bytes: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GcOutcome {
    pub images: Vec<GcImage>,
    /// Unpacked bytes of all layers that went, those that nothing reached before among them.
    pub bytes: u64,
}

/// Bytes of a file system: all, and those that are free for its users.
struct Disk {
    total: u64,
    free: u64,
}

impl Store {
    /// Collects what the policy gives up; with `dry_run` only says what that would be.
    pub fn gc(
        &self,
        policy: &GcPolicy,
        in_use: &dyn Fn(&Digest) -> bool,
        dry_run: bool,
    ) -> naru_types::Result<GcOutcome> {
        let run = |index: &mut Index| -> Result<GcOutcome> {
            let leased = self.leased();
            let disk = self.disk()?;
            Ok(Collection { policy, in_use, leased: &leased, disk }.run(index))
        };
        if dry_run {
            let mut copy = Index::clone(&self.index());
            return Ok(run(&mut copy)?);
        }
        Ok(self.transact(run)?)
    }

    fn disk(&self) -> Result<Disk> {
        let root = &self.inner.staging;
        let stat = rustix::fs::statvfs(root)
            .map_err(|errno| ImageError::io("look at the file system of", root)(errno.into()))?;
        Ok(Disk { total: stat.f_blocks * stat.f_frsize, free: stat.f_bavail * stat.f_frsize })
    }
}

struct Collection<'a> {
    policy: &'a GcPolicy,
    in_use: &'a dyn Fn(&Digest) -> bool,
    leased: &'a BTreeSet<Digest>,
    disk: Disk,
}

impl Collection<'_> {
    fn run(&self, index: &mut Index) -> GcOutcome {
        let before = stored_bytes(index);
        forget_retired(index, self.in_use, self.leased);
        let all: Vec<Digest> = index.layers.keys().copied().collect();
        index.drop_layers(&all, self.leased);
        let surplus = self.surplus(index);
        let mut outcome = GcOutcome::default();
        let mut left = self.candidates(index);
        // What others were committed on may go after these.
        while let Some(at) = left.iter().position(|id| !has_children(index, id)) {
            let id = left.remove(at);
            let Some(reason) = self.reason(index, &id, &surplus, before) else { continue };
            let names = [index.tags_of(&id), index.digests_of(&id)].concat().into_iter().map(shown).collect();
            let held = stored_bytes(index);
            let (in_use, leased) = (self.in_use, self.leased);
            let removal = Removal { id, users: &[], in_use, force: true, keep_parents: true, leased };
            // By force, without users and children nothing is in the way of it.
            if removal.by_id(index).is_ok() {
                outcome.images.push(GcImage { id, names, reason, bytes: held - stored_bytes(index) });
            }
        }
        outcome.bytes = before - stored_bytes(index);
        outcome
    }

    /// Nobody's images, those named longest ago first.
    fn candidates(&self, index: &Index) -> Vec<Digest> {
        let mut free: Vec<_> = index
            .images
            .iter()
            .filter(|(id, record)| {
                !record.is_retired && !is_leased(id, record, self.leased) && !(self.in_use)(id)
            })
            .map(|(id, record)| (record.last_tagged, *id))
            .collect();
        free.sort();
        free.into_iter().map(|(_, id)| id).collect()
    }

    fn reason(
        &self,
        index: &Index,
        id: &Digest,
        surplus: &BTreeSet<Digest>,
        before: u64,
    ) -> Option<GcReason> {
        let record = index.images.get(id)?;
        let age = now().secs().saturating_sub(record.last_tagged.secs());
        let stored = stored_bytes(index);
        let used = (self.disk.total - self.disk.free.min(self.disk.total)).saturating_sub(before - stored);
        let percent = |limit: u8| self.disk.total / 100 * u64::from(limit);
        if self.policy.age_secs_max.is_some_and(|limit| u64::try_from(age).is_ok_and(|age| age > limit)) {
            Some(GcReason::Age)
        } else if surplus.contains(id) {
            Some(GcReason::PerRepository)
        } else if self.policy.keep_bytes.is_some_and(|limit| stored > limit) {
            Some(GcReason::Bytes)
        } else if self.policy.disk_percent_max.is_some_and(|limit| used > percent(limit)) {
            Some(GcReason::Disk)
        } else {
            None
        }
    }

    /// Images that are not among the newest of any repository that has a name for them.
    fn surplus(&self, index: &Index) -> BTreeSet<Digest> {
        let Some(limit) = self.policy.per_repository_max else { return BTreeSet::new() };
        let mut repositories: BTreeMap<&str, BTreeSet<Digest>> = BTreeMap::new();
        for (name, id) in index.tags.iter().chain(&index.digests) {
            repositories.entry(repository_of(name)).or_default().insert(*id);
        }
        let (mut kept, mut over) = (BTreeSet::new(), BTreeSet::new());
        for ids in repositories.into_values() {
            let mut ids: Vec<_> = ids
                .into_iter()
                .map(|id| (index.images.get(&id).map(|record| record.last_tagged), id))
                .collect();
            ids.sort_by(|one, other| other.cmp(one));
            kept.extend(ids.iter().take(limit).map(|(_, id)| *id));
            over.extend(ids.iter().skip(limit).map(|(_, id)| *id));
        }
        &over - &kept
    }
}

fn shown(name: String) -> String {
    ImageRef::parse(&name).map_or(name, |parsed| parsed.familiar())
}
