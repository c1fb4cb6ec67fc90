//! A layer on its way into the store: unpacked in staging, not yet visible.
//!
//! Two pulls that need the same layer share one [`Staged`] ([`crate::flight`]). Whoever commits first
//! renames it into place; nobody waits for another's commit.

use crate::blob::{HashingReader, HashingWriter};
use crate::error::{ImageError, Result};
use crate::index::{BlobRecord, LayerRecord};
use crate::leftovers::Leftovers;
use crate::pack::{self, PackOptions};
use crate::split::SplitWriter;
use crate::store::{Store, locked};
use crate::tree;
use crate::unpack::{self, UnpackOptions};
use naru_tar::{Reader, TarError};
use naru_types::Digest;
use rustix::fd::AsFd;
use rustix::fs::{CWD, RenameFlags};
use std::fs::{self, DirBuilder};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

const LAYER_DIR_MODE: u32 = 0o700;
/// The mode of a layer's root where its archive says nothing: what overlayfs shows as `/`.
const ROOT_MODE: u32 = 0o755;

/// An unpacked layer in staging; deletes itself unless it is moved into place.
pub(crate) struct Staged {
    dir: Mutex<Option<PathBuf>>,
    leftovers: Arc<Leftovers>,
    pub diff_id: Digest,
    pub size: u64,
    pub tar_size: u64,
    blob: Mutex<Option<BlobRecord>>,
}

/// Owns a directory in staging until it is kept.
struct StagingDir {
    path: Option<PathBuf>,
    leftovers: Arc<Leftovers>,
}

impl StagingDir {
    fn create(store: &Store) -> Result<Self> {
        let path = store.staging_path("layer");
        DirBuilder::new().mode(LAYER_DIR_MODE).create(&path).map_err(ImageError::io("create", &path))?;
        Ok(Self { path: Some(path), leftovers: Arc::clone(&store.inner.leftovers) })
    }

    fn path(&self) -> &Path {
        self.path.as_deref().unwrap_or(Path::new(""))
    }
}

impl Drop for StagingDir {
    fn drop(&mut self) {
        if let Some(path) = self.path.take() {
            self.leftovers.remove(path);
        }
    }
}

impl Staged {
    fn new(mut dir: StagingDir, diff_id: Digest, size: u64, tar_size: u64) -> Self {
        let leftovers = Arc::clone(&dir.leftovers);
        Self { dir: Mutex::new(dir.path.take()), leftovers, diff_id, size, tar_size, blob: Mutex::default() }
    }

    /// Notes the compressed form that the layer came in.
    pub fn set_blob(&self, blob: BlobRecord) {
        *locked(&self.blob) = Some(blob);
    }

    pub fn blob(&self) -> Option<BlobRecord> {
        locked(&self.blob).clone()
    }

    pub fn record(&self) -> LayerRecord {
        LayerRecord { size: self.size, tar_size: self.tar_size, blobs: Vec::new() }
    }

    /// Renames the layer to where it stays.
    pub fn move_to(&self, path: &Path) -> Result<()> {
        let mut dir = locked(&self.dir);
        let Some(from) = dir.as_deref() else {
            return Err(ImageError::NoSuchLayer { diff_id: self.diff_id });
        };
        fs::rename(from, path).map_err(ImageError::io("rename to", path))?;
        *dir = None;
        Ok(())
    }
}

impl Staged {
    /// Takes the place of the layer at `path`, whose tree is now the one that is deleted in the end.
    pub fn exchange_with(&self, path: &Path) -> Result<()> {
        let dir = locked(&self.dir);
        let Some(from) = dir.as_deref() else {
            return Err(ImageError::NoSuchLayer { diff_id: self.diff_id });
        };
        rustix::fs::renameat_with(CWD, from, CWD, path, RenameFlags::EXCHANGE)
            .map_err(|errno| ImageError::io("exchange", path)(errno.into()))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Some(path) = locked(&self.dir).take() {
            self.leftovers.remove(path);
        }
    }
}

impl Store {
    /// Unpacks an uncompressed layer archive into staging, to the end of the stream.
    pub(crate) fn stage_tar(&self, input: impl Read) -> Result<Staged> {
        let dir = StagingDir::create(self)?;
        let fs_path = dir.path().join("fs");
        make_root(&fs_path)?;
        let root = tree::open_root(&fs_path)?;
        let mut split = SplitWriter::create(dir.path())?;
        let mut hashing = HashingReader::new(input);
        let mut reader = Reader::recording(&mut hashing);
        let unpacked =
            unpack::unpack_recording(root.as_fd(), &mut reader, &UnpackOptions::layer(), Some(&mut split))
                .map_err(flatten)?;
        split.finish()?;
        Ok(Staged::new(dir, hashing.digest(), unpacked.bytes, hashing.bytes))
    }

    /// Makes a layer of an overlay's upper directory. With `take` the directory itself becomes the layer
    /// (a copy is made all the same when it is on another file system).
    pub(crate) fn stage_upper(&self, upper: &Path, take: bool) -> Result<Staged> {
        if take && same_device(upper, &self.inner.staging)? {
            return self.stage_taken(upper);
        }
        let root = tree::open_root(upper)?;
        let (reader, mut writer) = io::pipe().map_err(ImageError::io("make a pipe for", upper))?;
        std::thread::scope(|scope| {
            let packing = scope.spawn(move || {
                let options = PackOptions { rename: None, whiteouts: true };
                pack::tar_tree(root.as_fd(), Path::new("."), &mut writer, &options)
            });
            let staged = self.stage_tar(reader);
            match packing.join().unwrap_or(Err(ImageError::Cancelled)) {
                Ok(()) => staged,
                // The unpacker gave up and its end of the pipe was closed: its error says why.
                Err(ImageError::Write { source }) => staged.and(Err(ImageError::Write { source })),
                Err(error) => Err(error),
            }
        })
    }

    fn stage_taken(&self, upper: &Path) -> Result<Staged> {
        let dir = StagingDir::create(self)?;
        let mut split = SplitWriter::create(dir.path())?;
        let root = tree::open_root(upper)?;
        let mut sink = HashingWriter::new(io::sink());
        let options = PackOptions { rename: None, whiteouts: true };
        let size =
            pack::tar_tree_recording(root.as_fd(), Path::new("."), &mut sink, &options, Some(&mut split))?;
        split.finish()?;
        fs::rename(upper, dir.path().join("fs")).map_err(ImageError::io("take over", upper))?;
        Ok(Staged::new(dir, sink.digest(), size, sink.bytes))
    }
}

fn make_root(path: &Path) -> Result<()> {
    DirBuilder::new().mode(ROOT_MODE).create(path).map_err(ImageError::io("create", path))?;
    let mode = rustix::fs::Mode::from_raw_mode(ROOT_MODE);
    rustix::fs::chmod(path, mode).map_err(|errno| ImageError::io("set the mode of", path)(errno.into()))
}

fn same_device(one: &Path, other: &Path) -> Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let device =
        |path: &Path| fs::metadata(path).map(|found| found.dev()).map_err(ImageError::io("look at", path));
    Ok(device(one)? == device(other)?)
}

/// An error of ours that travelled through `io::Error` (a download below a decompressor) comes back out.
pub(crate) fn flatten(error: ImageError) -> ImageError {
    match error {
        ImageError::Tar(TarError::Read { source }) => match source.downcast::<ImageError>() {
            Ok(inner) => inner,
            Err(source) => ImageError::tar_read(source),
        },
        other => other,
    }
}
