//! Pull.
use crate::{progress::ProgressFn, query::Image, registry::auth::Credentials, store::Store};
use naru_types::{Digest, ImageRef, Result, platform::Platform};
use std::sync::atomic::AtomicBool;

pub struct PullOptions<'a> {
    pub credentials: Credentials,
    pub platform: Option<Platform>,
    pub progress: &'a ProgressFn<'a>,
    pub cancel: &'a AtomicBool,
}

#[derive(Clone, Debug)]
pub struct PulledImage {
    pub image: Image,
    pub digest: Digest,
    /// False: it was there already.
    pub is_new: bool,
}

impl Store {
    pub fn pull(&self, _reference: &ImageRef, _options: &PullOptions<'_>) -> Result<PulledImage> {
        todo!()
    }
}
