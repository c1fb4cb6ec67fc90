//! Images by name.
use crate::store::Store;
use naru_types::{Digest, ImageRef, Result, Timestamp, image::ImageConfig};
use std::path::PathBuf;

#[derive(Clone, Debug)]
pub struct Image {
    pub id: Digest,
    pub config: ImageConfig,
    /// Familiar, sorted: `nginx:latest`.
    pub repo_tags: Vec<String>,
    /// Familiar, sorted: `nginx@sha256:…`.
    pub repo_digests: Vec<String>,
    /// Unpacked bytes of all layers.
    pub size: u64,
    pub created: Timestamp,
    pub last_tagged: Timestamp,
}

#[derive(Clone, Debug)]
pub struct HistoryEntry {
    /// Of the image for the newest entry, `None` ("<missing>") below.
    pub id: Option<Digest>,
    pub created: Timestamp,
    pub created_by: String,
    pub comment: String,
    pub size: u64,
    pub tags: Vec<String>,
}

impl Image {
    pub fn layers(&self) -> &[Digest] {
        &self.config.rootfs.diff_ids
    }
    pub fn is_dangling(&self) -> bool {
        self.repo_tags.is_empty()
    }
}

impl Store {
    pub fn get(&self, _name: &str) -> Result<Image> {
        todo!()
    }
    pub fn get_by_id(&self, _id: &Digest) -> Result<Image> {
        todo!()
    }
    pub fn find(&self, _reference: &ImageRef) -> Option<Digest> {
        todo!()
    }
    pub fn list(&self) -> Result<Vec<Image>> {
        todo!()
    }
    pub fn history(&self, _image: &Image) -> Result<Vec<HistoryEntry>> {
        todo!()
    }
    pub fn layer_dirs(&self, _image: &Image) -> Result<Vec<PathBuf>> {
        todo!()
    }
    pub fn layer_dir(&self, _diff_id: &Digest) -> Result<PathBuf> {
        todo!()
    }
    pub fn layer_size(&self, _diff_id: &Digest) -> Result<u64> {
        todo!()
    }
}
