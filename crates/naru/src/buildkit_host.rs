//! What BuildKit's interface needs of the engine: names are events, and a result's files are looked at through an overlay.

use naru_buildkit::Host;
use naru_engine::Engine;
use naru_image::Image;
use naru_types::{Digest, Error, ImageRef, Result};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

pub struct EngineHost(pub Arc<Engine>);

impl Host for EngineHost {
    fn tagged(&self, image: &Digest, name: &ImageRef) {
        naru_api::tell_tagged(&self.0, &image.to_string(), &name.with_default_tag().familiar());
    }

    fn open_image(&self, image: &Image, scratch: &Path) -> Result<OwnedFd> {
        let lower = self.0.images().layer_dirs(image)?;
        let made = |name: &str| {
            let path = scratch.join(name);
            let failed =
                |error| Error::internal(format!("cannot make {}", path.display())).with_source(error);
            std::fs::create_dir(&path).map_err(failed).map(|()| path.clone())
        };
        let (upper, work, empty) = (made("upper")?, made("work")?, made("empty")?);
        // An image without layers has no files.
        let lower = if lower.is_empty() { vec![empty] } else { lower };
        naru_runtime::rootfs::open_detached(&lower, &upper, &work)
            .map_err(|error| Error::internal(error.to_string()).with_source(error))
    }
}
