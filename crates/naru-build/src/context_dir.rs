//! Where a client's build context is put for one build.

use naru_image::blob::decompressed;
use naru_image::tar::Reader;
use naru_image::unpack::{UnpackOptions, unpack};
use naru_kernel::random;
use naru_types::{Error, Result, id};
use rustix::fd::AsFd;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Largest context, in unpacked bytes.
const CONTEXT_BYTES_MAX: u64 = 32 << 30;

/// A directory that is removed with everything in it when it is dropped: when the build ends, however it ends.
pub struct ContextDir(PathBuf);

impl ContextDir {
    /// An empty one beneath `parent`.
    pub fn make(parent: &Path) -> Result<Self> {
        let draw =
            random::bytes::<8>().map_err(|error| Error::internal("cannot draw a name").with_source(error))?;
        let path = parent.join(id::hex(&draw));
        std::fs::create_dir_all(&path).map_err(|error| {
            Error::internal(format!("cannot make the build context {}", path.display())).with_source(error)
        })?;
        Ok(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for ContextDir {
    fn drop(&mut self) {
        // What cannot be removed now is swept at the next start.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Unpacks a context that came as an archive, compressed or not.
pub fn unpack_context(archive: impl Read, into: &Path) -> Result<()> {
    let bounded = Bounded { inner: decompressed(archive)?, left: CONTEXT_BYTES_MAX };
    let root = File::open(into).map_err(|error| {
        Error::internal(format!("cannot open the build context {}", into.display())).with_source(error)
    })?;
    unpack(root.as_fd(), &mut Reader::new(bounded), &UnpackOptions::plain())
        .map_err(|error| Error::from(error).context("cannot unpack the build context"))?;
    Ok(())
}

/// Fails, rather than ends, when more comes than is allowed.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| {
            io::Error::other(format!("the build context is larger than {CONTEXT_BYTES_MAX} bytes"))
        })?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_bounded() {
        let mut bounded = Bounded { inner: &b"abcdef"[..], left: 3 };
        let mut buffer = [0; 2];
        assert_eq!(bounded.read(&mut buffer).unwrap(), 2);
        assert!(bounded.read(&mut buffer).is_err());
    }
}
