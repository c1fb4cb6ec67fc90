//! Making the thing that an entry describes.

use super::{Place, Unpacker, Whiteouts, attributes, unpack_error};
use crate::error::{ImageError, Result};
use crate::tree;
use naru_tar::{Entry, EntryKind, Reader};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;

/// How a file exists before its attributes are set: for its owner only.
const FRESH_FILE_MODE: Mode = Mode::from_raw_mode(0o600);
const FRESH_DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o700);

impl Unpacker<'_> {
    pub(super) fn create<R: Read>(
        &mut self,
        place: &Place<'_>,
        entry: &Entry,
        reader: &mut Reader<R>,
    ) -> Result<()> {
        match entry.kind {
            EntryKind::File => self.file(place, entry, reader),
            EntryKind::Directory => self.directory(place, entry),
            EntryKind::HardLink => self.hard_link(place, entry),
            EntryKind::Symlink => {
                let target = OsStr::from_bytes(&entry.link);
                self.exclusively(place, entry, || rustix::fs::symlinkat(target, place.parent, place.name))?;
                attributes::set_on_symlink(place, entry, self.options.owner)
            }
            EntryKind::CharDevice => self.node(place, entry, FileType::CharacterDevice),
            EntryKind::BlockDevice => self.node(place, entry, FileType::BlockDevice),
            EntryKind::Fifo => self.node(place, entry, FileType::Fifo),
        }
    }

    fn file<R: Read>(&mut self, place: &Place<'_>, entry: &Entry, reader: &mut Reader<R>) -> Result<()> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd: OwnedFd = self.exclusively(place, entry, || {
            rustix::fs::openat(place.parent, place.name, flags, FRESH_FILE_MODE)
        })?;
        let mut file = File::from(fd);
        if reader.is_sparse() {
            self.copy_sparse(&mut file, entry, reader)?;
        } else {
            self.copy(&mut file, entry, reader)?;
            if let Some(split) = self.split.as_mut().filter(|_| entry.size > 0) {
                split.file(place.path.as_os_str().as_bytes(), entry.size)?;
            }
        }
        self.done.bytes += entry.size;
        attributes::set_on_fd(file.as_fd(), entry, self.options.owner)?;
        attributes::set_time(file.as_fd(), entry)
    }

    fn copy<R: Read>(&mut self, file: &mut File, entry: &Entry, reader: &mut Reader<R>) -> Result<()> {
        loop {
            let got = reader.read(&mut self.buffer).map_err(ImageError::tar_read)?;
            if got == 0 {
                return Ok(());
            }
            file.write_all(&self.buffer[..got]).map_err(unpack_error("write", entry))?;
        }
    }

    fn copy_sparse<R: Read>(&mut self, file: &mut File, entry: &Entry, reader: &mut Reader<R>) -> Result<()> {
        while let Some((run, is_stored)) = reader.sparse_run().filter(|(run, _)| *run > 0) {
            if is_stored {
                let got = reader.read(&mut self.buffer).map_err(ImageError::tar_read)?;
                file.write_all(&self.buffer[..got]).map_err(unpack_error("write", entry))?;
                self.record(reader)?;
            } else {
                reader.skip_hole();
                let hole =
                    i64::try_from(run).map_err(|_| ImageError::tar("a hole too large", Some(&entry.path)))?;
                file.seek(SeekFrom::Current(hole)).map_err(unpack_error("write", entry))?;
            }
        }
        file.set_len(entry.size).map_err(unpack_error("set the size of", entry))
    }

    fn directory(&mut self, place: &Place<'_>, entry: &Entry) -> Result<()> {
        let overlay = self.options.whiteouts == Whiteouts::Overlay;
        let existing = tree::stat(place.parent, place.name.as_bytes()).ok();
        let was_removed = overlay && existing.as_ref().is_some_and(tree::is_whiteout);
        let is_there = existing.is_some_and(|stat| tree::file_type(&stat) == FileType::Directory);
        if !is_there {
            self.exclusively(place, entry, || {
                rustix::fs::mkdirat(place.parent, place.name, FRESH_DIRECTORY_MODE)
            })?;
        }
        let failed = |errno: Errno| unpack_error("open the directory", entry)(errno.into());
        let dir = tree::open_beneath(place.parent, place.name.as_ref(), OFlags::DIRECTORY).map_err(failed)?;
        if was_removed {
            // Removed and made again in one layer: nothing from below may shine through.
            tree::set_opaque(dir.as_fd()).map_err(failed)?;
        }
        self.directory_times.push((place.path.clone(), entry.mtime_secs, entry.mtime_nanos));
        attributes::set_on_fd(dir.as_fd(), entry, self.options.owner)
    }

    fn hard_link(&mut self, place: &Place<'_>, entry: &Entry) -> Result<()> {
        let parts = naru_tar::components(&entry.link)?;
        let Some((name, parents)) = parts.split_last() else {
            return Err(ImageError::tar("a hard link to the root", Some(&entry.path)));
        };
        let target = tree::join(&parts);
        if target == place.path {
            return Err(ImageError::tar("a hard link to itself", Some(&entry.path)));
        }
        let from = self.open_directory(&tree::join(parents)).map_err(|errno| match errno {
            Errno::NOENT => self.hard_link_target_missing(entry),
            errno => super::parent_error(entry, errno),
        })?;
        let name = OsStr::from_bytes(name);
        match tree::stat(from.as_fd(), name.as_bytes()) {
            Ok(stat) if tree::file_type(&stat) == FileType::Directory => {
                return Err(ImageError::tar("a hard link to a directory", Some(&entry.path)));
            }
            Ok(_) => {}
            Err(_) => return Err(self.hard_link_target_missing(entry)),
        }
        self.exclusively(place, entry, || {
            rustix::fs::linkat(&from, name, place.parent, place.name, AtFlags::empty())
        })
    }

    fn hard_link_target_missing(&self, entry: &Entry) -> ImageError {
        let target = String::from_utf8_lossy(&entry.link).into_owned();
        if self.options.whiteouts == Whiteouts::Overlay {
            // It may lie in a lower layer. But a layer is stored once, for all images, whatever lies below it in each.
            let entry = String::from_utf8_lossy(&entry.path).into_owned();
            return ImageError::LinkOutOfLayer { entry, target };
        }
        ImageError::tar(format!("a hard link to {target:?}, which is not there"), Some(&entry.path))
    }

    fn node(&mut self, place: &Place<'_>, entry: &Entry, kind: FileType) -> Result<()> {
        let device = rustix::fs::makedev(entry.device.0, entry.device.1);
        self.exclusively(place, entry, || {
            rustix::fs::mknodat(place.parent, place.name, kind, FRESH_FILE_MODE, device)
        })?;
        attributes::set_on_node(place, entry, self.options.owner)
    }

    /// Runs `make`; where something has the name already, that is put away first.
    fn exclusively<T>(
        &mut self,
        place: &Place<'_>,
        entry: &Entry,
        make: impl Fn() -> Result<T, Errno>,
    ) -> Result<T> {
        let failed = |errno: Errno| unpack_error("create", entry)(errno.into());
        match make() {
            Err(Errno::EXIST) => {
                self.put_away(place, entry)?;
                make().map_err(failed)
            }
            result => result.map_err(failed),
        }
    }

    fn put_away(&mut self, place: &Place<'_>, entry: &Entry) -> Result<()> {
        let failed = |errno: Errno| unpack_error("replace", entry)(errno.into());
        let stat = tree::stat(place.parent, place.name.as_bytes()).map_err(failed)?;
        let old_is_dir = tree::file_type(&stat) == FileType::Directory;
        let new_is_dir = entry.kind == EntryKind::Directory;
        if self.options.keep_kind && old_is_dir != new_is_dir {
            let words =
                if old_is_dir { ["directory", "non-directory"] } else { ["non-directory", "directory"] };
            let shown = place.path.display();
            return Err(ImageError::BadArchive {
                what: format!("cannot overwrite {} \"{}\" with {} \"{}\"", words[0], shown, words[1], shown),
            });
        }
        match &mut self.split {
            // The archive's earlier content of this name is needed to write the archive again.
            Some(split) if !tree::is_whiteout(&stat) => {
                split.put_away(place.parent, place.name, place.path.as_os_str().as_bytes())
            }
            _ => tree::remove(place.parent, place.name.as_bytes()).map_err(unpack_error("replace", entry)),
        }
    }
}
