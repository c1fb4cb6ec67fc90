//! Puts an archive's entries into a directory, never outside of it.
//!
//! Parents are opened with openat2 beneath the root, files are made with `O_EXCL`, attributes are set
//! through the new file's own descriptor: an archive that swaps a directory for a symbolic link between
//! two of its entries gets an error, not a way out. A layer's whiteouts (OCI image-spec, layer.md)
//! become the marks that overlayfs reads.

mod attributes;
mod create;

use crate::error::{ImageError, Result};
use crate::split::SplitWriter;
use crate::tree;
use naru_tar::{Entry, EntryKind, Reader};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

pub(crate) const WHITEOUT_PREFIX: &[u8] = b".wh.";
pub(crate) const WHITEOUT_META_PREFIX: &[u8] = b".wh..wh.";
pub(crate) const WHITEOUT_OPAQUE: &[u8] = b".wh..wh..opq";
/// Most content that a whiteout entry may have; none is usual.
const WHITEOUT_BYTES_MAX: u64 = 4096;
/// Size of the one copy buffer of an unpacking.
const COPY_BYTES: usize = 256 * 1024;
const PARENT_MODE: Mode = Mode::from_raw_mode(0o755);

/// How `.wh.` entries are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whiteouts {
    /// An image layer: they become overlayfs's own marks.
    Overlay,
    /// Any other archive: they are plain files.
    Plain,
}

#[derive(Clone, Copy, Debug)]
pub struct UnpackOptions {
    pub whiteouts: Whiteouts,
    /// Parents of entries may be symbolic links that were there before, resolved within the root (`cp`
    /// into a container). Otherwise such an entry is refused.
    pub follow_parents: bool,
    /// A directory must not replace a non-directory or the other way round (`noOverwriteDirNonDir`).
    pub keep_kind: bool,
    /// All files get this owner in place of the archive's.
    pub owner: Option<(u32, u32)>,
}

impl UnpackOptions {
    pub fn layer() -> Self {
        Self { whiteouts: Whiteouts::Overlay, follow_parents: false, keep_kind: false, owner: None }
    }

    pub fn plain() -> Self {
        Self { whiteouts: Whiteouts::Plain, ..Self::layer() }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    pub entries: u64,
    /// Sum of the regular files' sizes.
    pub bytes: u64,
}

/// Unpacks all of `reader` into the directory `root`. What exists already is replaced, directories are
/// merged.
pub fn unpack<R: Read>(
    root: BorrowedFd<'_>,
    reader: &mut Reader<R>,
    options: &UnpackOptions,
) -> Result<Unpacked> {
    unpack_recording(root, reader, options, None)
}

/// As [`unpack`]; all that the tree cannot give back goes to `split`.
pub(crate) fn unpack_recording<R: Read>(
    root: BorrowedFd<'_>,
    reader: &mut Reader<R>,
    options: &UnpackOptions,
    split: Option<&mut SplitWriter>,
) -> Result<Unpacked> {
    let mut unpacker = Unpacker {
        root,
        options: *options,
        split,
        parent: None,
        directory_times: Vec::new(),
        buffer: vec![0; COPY_BYTES],
        done: Unpacked::default(),
    };
    while let Some(entry) = reader.next_entry()? {
        unpacker.record(reader)?;
        unpacker.entry(&entry, reader)?;
    }
    unpacker.record(reader)?;
    unpacker.finish()
}

struct Unpacker<'a> {
    root: BorrowedFd<'a>,
    options: UnpackOptions,
    split: Option<&'a mut SplitWriter>,
    /// The parent used last: entries mostly come directory by directory.
    parent: Option<(PathBuf, OwnedFd)>,
    /// Set at the end, because making a file changes its directory's time.
    directory_times: Vec<(PathBuf, i64, u32)>,
    buffer: Vec<u8>,
    done: Unpacked,
}

/// Where an entry goes: an open parent directory and a name in it.
struct Place<'a> {
    parent: BorrowedFd<'a>,
    name: &'a OsStr,
    path: PathBuf,
}

impl Unpacker<'_> {
    fn record<R: Read>(&mut self, reader: &mut Reader<R>) -> Result<()> {
        match &mut self.split {
            Some(split) => split.raw(&reader.take_raw()),
            None => Ok(()),
        }
    }

    fn entry<R: Read>(&mut self, entry: &Entry, reader: &mut Reader<R>) -> Result<()> {
        self.done.entries += 1;
        let parts = naru_tar::components(&entry.path)?;
        let Some((name, parents)) = parts.split_last() else { return self.root_entry(entry) };
        let parent = self.parent_directory(parents, entry)?;
        let result = if self.options.whiteouts == Whiteouts::Overlay && name.starts_with(WHITEOUT_PREFIX) {
            whiteout(parent.as_fd(), &parts, entry)
        } else {
            let place =
                Place { parent: parent.as_fd(), name: OsStr::from_bytes(name), path: tree::join(&parts) };
            self.create(&place, entry, reader)
        };
        self.parent.get_or_insert((tree::join(parents), parent));
        result
    }

    /// The entry `./`: a layer says how its root looks, any other archive has no say over the directory
    /// it is unpacked into.
    fn root_entry(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != EntryKind::Directory {
            return Err(ImageError::tar("the root is not a directory", Some(&entry.path)));
        }
        if self.options.whiteouts == Whiteouts::Plain {
            return Ok(());
        }
        self.directory_times.push((PathBuf::from("."), entry.mtime_secs, entry.mtime_nanos));
        attributes::set_on_fd(self.root, entry, self.options.owner)
    }

    /// Opens the parent, making what is missing of it. Hands the cached descriptor out; `entry` puts it back.
    fn parent_directory(&mut self, parents: &[&[u8]], entry: &Entry) -> Result<OwnedFd> {
        let path = tree::join(parents);
        if let Some((cached, fd)) = self.parent.take()
            && cached == path
        {
            return Ok(fd);
        }
        match self.open_directory(&path) {
            Err(Errno::NOENT | Errno::NOTDIR) => self.make_parents(parents, entry),
            result => result.map_err(|errno| parent_error(entry, errno)),
        }
    }

    fn open_directory(&self, path: &std::path::Path) -> Result<OwnedFd, Errno> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY;
        if self.options.follow_parents {
            tree::open_in_root(self.root, path, flags)
        } else {
            tree::open_beneath(self.root, path, flags)
        }
    }

    fn make_parents(&mut self, parents: &[&[u8]], entry: &Entry) -> Result<OwnedFd> {
        let failed = |errno| parent_error(entry, errno);
        let mut dir = self.open_directory(".".as_ref()).map_err(failed)?;
        for depth in 1..=parents.len() {
            let name = OsStr::from_bytes(parents[depth - 1]);
            let path = tree::join(&parents[..depth]);
            // A directory that an earlier entry of this layer removed below comes back empty: opaque.
            let was_removed = self.options.whiteouts == Whiteouts::Overlay
                && tree::stat(dir.as_fd(), name.as_bytes()).is_ok_and(|stat| tree::is_whiteout(&stat));
            if was_removed {
                rustix::fs::unlinkat(&dir, name, AtFlags::empty()).map_err(failed)?;
            }
            match rustix::fs::mkdirat(&dir, name, PARENT_MODE) {
                Ok(()) => self.directory_times.push((path.clone(), entry.mtime_secs, entry.mtime_nanos)),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(failed(errno)),
            }
            dir = self.open_directory(&path).map_err(failed)?;
            if was_removed {
                tree::set_opaque(dir.as_fd()).map_err(failed)?;
            }
        }
        Ok(dir)
    }

    fn finish(mut self) -> Result<Unpacked> {
        while let Some((path, secs, nanos)) = self.directory_times.pop() {
            // A directory that a later entry replaced has no time to set.
            let Ok(dir) = self.open_directory(&path) else { continue };
            rustix::fs::futimens(&dir, &times(secs, nanos))
                .map_err(|errno| ImageError::io("set the time of", path)(errno.into()))?;
        }
        Ok(self.done)
    }
}

fn whiteout(parent: BorrowedFd<'_>, parts: &[&[u8]], entry: &Entry) -> Result<()> {
    let failed = |errno: Errno| unpack_error("write the whiteout", entry)(errno.into());
    let name = parts.last().copied().unwrap_or_default();
    // A whiteout is an empty file; content would only be kept for writing the archive again.
    if entry.size > WHITEOUT_BYTES_MAX {
        return Err(ImageError::tar("a whiteout with content", Some(&entry.path)));
    }
    if name == WHITEOUT_OPAQUE {
        return tree::set_opaque(parent).map_err(failed);
    }
    if name.starts_with(WHITEOUT_META_PREFIX) {
        // aufs's bookkeeping; Docker ignores it as well.
        return Ok(());
    }
    let target = &name[WHITEOUT_PREFIX.len()..];
    if matches!(target, b"" | b"." | b"..") {
        return Err(ImageError::tar("a whiteout of nothing", Some(&entry.path)));
    }
    let file = OsStr::from_bytes(target);
    let device = rustix::fs::makedev(0, 0);
    match rustix::fs::mknodat(parent, file, rustix::fs::FileType::CharacterDevice, Mode::empty(), device) {
        // A whiteout is about lower layers; what this layer has under the name stays. A directory
        // would be merged with the one below, so it is marked.
        Err(Errno::EXIST) => match tree::open_beneath(parent, file.as_ref(), OFlags::DIRECTORY) {
            Ok(dir) => tree::set_opaque(dir.as_fd()).map_err(failed),
            Err(_) => Ok(()),
        },
        result => result.map_err(failed),
    }
}

fn parent_error(entry: &Entry, errno: Errno) -> ImageError {
    match errno {
        Errno::LOOP | Errno::XDEV => {
            ImageError::tar("an entry beneath a symbolic link, or beneath nothing", Some(&entry.path))
        }
        Errno::NOTDIR => ImageError::tar("an entry beneath a file", Some(&entry.path)),
        errno => unpack_error("make the parent of", entry)(errno.into()),
    }
}

fn unpack_error(step: &'static str, entry: &Entry) -> impl FnOnce(std::io::Error) -> ImageError {
    let entry = String::from_utf8_lossy(&entry.path).into_owned();
    move |source| ImageError::Unpack { step, entry, source }
}

fn times(secs: i64, nanos: u32) -> Timestamps {
    let time = Timespec { tv_sec: secs, tv_nsec: nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}
