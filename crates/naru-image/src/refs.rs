//! Tag and remove.
use crate::{query::Image, store::Store};
use naru_types::{Digest, ImageRef, Result};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    Untagged(String),
    Deleted(Digest),
}

/// A container's claim on an image, told by the caller.
#[derive(Clone, Debug)]
pub struct ImageUser {
    /// Short container id.
    pub container: String,
    pub running: bool,
}

pub struct RemoveOptions<'a> {
    pub force: bool,
    /// The containers that use the image.
    pub users: &'a dyn Fn(&Digest) -> Vec<ImageUser>,
}

#[derive(Clone, Debug, Default)]
pub struct Pruned {
    pub removed: Vec<Removed>,
    pub bytes: u64,
}

impl Store {
    pub fn tag(&self, _id: &Digest, _target: &ImageRef) -> Result<()> {
        todo!()
    }
    pub fn remove(&self, _name: &str, _options: &RemoveOptions<'_>) -> Result<Vec<Removed>> {
        todo!()
    }
    /// Removes every unused image that `select` accepts.
    pub fn prune(&self, _select: &dyn Fn(&Image) -> bool, _in_use: &dyn Fn(&Digest) -> bool) -> Result<Pruned> {
        todo!()
    }
    /// Deletes layers that no image, pin or lease reaches and retired images that nobody uses any more.
    pub fn collect(&self, _in_use: &dyn Fn(&Digest) -> bool) -> Result<u64> {
        todo!()
    }
}
