//! Small content by digest: configurations and manifests (`content/blobs/sha256/<hex>`), and readers
//! that hash and decompress what passes through them.

use crate::error::{ImageError, Result};
use crate::index::sync_dir;
use crate::store::Store;
use naru_types::Digest;
use sha2::{Digest as _, Sha256};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

/// Largest configuration or manifest, in bytes (registries commonly stop at 4 MiB).
pub const BLOB_BYTES_MAX: u64 = 8 << 20;
const BUFFER_BYTES: usize = 256 * 1024;

pub fn sha256(bytes: &[u8]) -> Digest {
    Digest::from_sha256(Sha256::digest(bytes).into())
}

impl Store {
    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.inner.blobs.join(digest.hex())
    }

    /// Stores `bytes`; durable when this returns.
    pub(crate) fn put_blob(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = sha256(bytes);
        let path = self.blob_path(&digest);
        if self.read_blob(&digest).is_ok() {
            return Ok(digest);
        }
        let staged = self.staging_path("blob");
        let result = write_synced(&staged, bytes)
            .and_then(|()| fs::rename(&staged, &path).map_err(ImageError::io("rename to", &path)));
        if result.is_err() {
            // What stays behind is swept at the next start.
            let _ = fs::remove_file(&staged);
        }
        result?;
        sync_dir(&self.inner.blobs)?;
        Ok(digest)
    }

    /// The content of `digest`, checked again.
    pub(crate) fn read_blob(&self, digest: &Digest) -> Result<Vec<u8>> {
        let path = self.blob_path(digest);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ImageError::BlobMissing { digest: *digest });
            }
            Err(source) => return Err(ImageError::Io { step: "read", path, source }),
        };
        let found = sha256(&bytes);
        if found != *digest {
            return Err(ImageError::BlobDamaged { path, expected: *digest, found });
        }
        Ok(bytes)
    }

    pub(crate) fn remove_blob(&self, digest: &Digest) {
        // Nothing points at it any more; a file that stays behind is swept at the next start.
        let _ = fs::remove_file(self.blob_path(digest));
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = File::create_new(path).map_err(ImageError::io("create", path))?;
    file.write_all(bytes).map_err(ImageError::io("write", path))?;
    file.sync_all().map_err(ImageError::io("sync", path))
}

/// Hashes and counts what is read through it.
pub(crate) struct HashingReader<R> {
    inner: R,
    hasher: Sha256,
    pub bytes: u64,
}

impl<R: Read> HashingReader<R> {
    pub fn new(inner: R) -> Self {
        Self { inner, hasher: Sha256::new(), bytes: 0 }
    }

    pub fn digest(&self) -> Digest {
        Digest::from_sha256(self.hasher.clone().finalize().into())
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..got]);
        self.bytes += got as u64;
        Ok(got)
    }
}

/// Hashes and counts what is written through it.
pub(crate) struct HashingWriter<W> {
    pub inner: W,
    hasher: Sha256,
    pub bytes: u64,
}

impl<W: Write> HashingWriter<W> {
    pub fn new(inner: W) -> Self {
        Self { inner, hasher: Sha256::new(), bytes: 0 }
    }

    pub fn digest(&self) -> Digest {
        Digest::from_sha256(self.hasher.clone().finalize().into())
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let put = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..put]);
        self.bytes += put as u64;
        Ok(put)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Decompresses by what the first bytes say, as Docker does: media types are often wrong.
pub fn decompressed<'a>(input: impl Read + 'a) -> Result<Box<dyn Read + 'a>> {
    let failed = ImageError::tar_read;
    let mut input = BufReader::with_capacity(BUFFER_BYTES, input);
    let head = input.fill_buf().map_err(failed)?;
    let starts = |magic: &[u8]| head.starts_with(magic);
    let unsupported = |name: &str| ImageError::Unsupported {
        what: format!("{name} compression is not supported"),
        hint: "compress with gzip or zstd, or not at all",
    };
    if starts(&[0x1f, 0x8b]) {
        return Ok(Box::new(BufReader::with_capacity(
            BUFFER_BYTES,
            flate2::bufread::MultiGzDecoder::new(input),
        )));
    }
    if starts(&[0x28, 0xb5, 0x2f, 0xfd]) {
        let decoder = zstd::Decoder::with_buffer(input).map_err(failed)?;
        return Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, decoder)));
    }
    if starts(b"BZh") {
        return Err(unsupported("bzip2"));
    }
    if starts(b"\xfd7zXZ\0") {
        return Err(unsupported("xz"));
    }
    Ok(Box::new(input))
}
