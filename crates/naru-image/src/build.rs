//! Layers and images made here.
use crate::store::{Lease, Store};
use crate::query::Image;
use naru_types::{Digest, ImageRef, Result, image::ImageConfig};
use std::path::Path;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    pub diff_id: Digest,
    pub size: u64,
}

impl Store {
    /// Turns an overlay upper directory into a stored layer. `take`: the directory may be moved into the store.
    pub fn commit_layer(&self, _upper: &Path, _take: bool, _lease: &Lease) -> Result<Layer> {
        todo!()
    }
    pub fn create_image(&self, _config: ImageConfig, _layers: &[Digest], _tags: &[ImageRef]) -> Result<Image> {
        todo!()
    }
}
