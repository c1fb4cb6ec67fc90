//! Load.
use crate::{progress::ProgressFn, store::Store};
use naru_types::{Digest, Result};
use std::io::Read;

#[derive(Clone, Debug)]
pub struct LoadedImage {
    pub id: Digest,
    pub tags: Vec<String>,
}

impl Store {
    pub fn load(&self, _reader: &mut dyn Read, _progress: &ProgressFn<'_>) -> Result<Vec<LoadedImage>> {
        todo!()
    }
}
