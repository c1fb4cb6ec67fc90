//! Import.
use crate::{query::Image, store::Store};
use naru_types::{ImageRef, Result, Timestamp, image::RunConfig, platform::Platform};
use std::io::Read;

pub struct ImportOptions {
    pub config: RunConfig,
    pub message: Option<String>,
    pub platform: Option<Platform>,
    pub tag: Option<ImageRef>,
    /// Becomes the image's `created`.
    pub now: Timestamp,
}

impl Store {
    pub fn import(&self, _reader: &mut dyn Read, _options: ImportOptions) -> Result<Image> {
        todo!()
    }
}
