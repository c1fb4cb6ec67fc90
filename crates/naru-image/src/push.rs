//! Push.
use crate::{progress::ProgressFn, registry::auth::Credentials, store::Store};
use naru_types::{Digest, ImageRef, Result};
use std::sync::atomic::AtomicBool;

pub struct PushOptions<'a> {
    pub credentials: Credentials,
    pub progress: &'a ProgressFn<'a>,
    pub cancel: &'a AtomicBool,
}

#[derive(Clone, Debug)]
pub struct PushedImage {
    pub digest: Digest,
    pub size: u64,
}

impl Store {
    pub fn push(&self, _reference: &ImageRef, _options: &PushOptions<'_>) -> Result<PushedImage> {
        todo!()
    }
}
