//! From a header block and the extensions before it to an entry.

use crate::error::{Result, TarError};
use crate::header::{self, Block, field};
use crate::pax::Extension;
use crate::{Entry, EntryKind, PATH_BYTES_MAX};

/// All of an entry but its size, which depends on sparse maps too.
pub fn base_entry(block: &Block, extension: &Extension) -> Result<Entry> {
    let path = match &extension.path {
        Some(path) => path.clone(),
        None => header_path(block),
    };
    let invalid = |what: &str| TarError::format(what, Some(&path));
    let kind = match block[field::TYPE] {
        // Before POSIX a directory was a file whose name ends in a slash.
        header::TYPE_FILE_V7 if path.ends_with(b"/") => EntryKind::Directory,
        header::TYPE_FILE | header::TYPE_FILE_V7 | header::TYPE_CONTIGUOUS | header::TYPE_GNU_SPARSE => {
            EntryKind::File
        }
        header::TYPE_HARD_LINK => EntryKind::HardLink,
        header::TYPE_SYMLINK => EntryKind::Symlink,
        header::TYPE_CHAR => EntryKind::CharDevice,
        header::TYPE_BLOCK => EntryKind::BlockDevice,
        header::TYPE_DIRECTORY => EntryKind::Directory,
        header::TYPE_FIFO => EntryKind::Fifo,
        other => return Err(invalid(&format!("unknown entry type {:?}", other as char))),
    };
    let link = extension.link.clone().unwrap_or_else(|| header::text(block, field::LINK).to_vec());
    if path.len() > PATH_BYTES_MAX || link.len() > PATH_BYTES_MAX {
        return Err(invalid("path too long"));
    }
    if path.contains(&0) || link.contains(&0) {
        return Err(invalid("a NUL in a path"));
    }
    let id = |which, said: Option<u32>| {
        let id = said.or_else(|| header::number(block, which).and_then(|id| u32::try_from(id).ok()));
        // To chown(2) the largest number is none: it would leave whatever owner there is.
        id.filter(|id| *id != u32::MAX).ok_or_else(|| invalid("bad owner"))
    };
    let device = |which| header::number(block, which).and_then(|n| u32::try_from(n).ok());
    let is_device = matches!(kind, EntryKind::CharDevice | EntryKind::BlockDevice);
    let mut xattrs = extension.xattrs.clone();
    xattrs.sort();
    let mode = header::number(block, field::MODE).ok_or_else(|| invalid("bad mode"))?;
    let (mtime_secs, mtime_nanos) = match extension.mtime {
        Some(mtime) => mtime,
        None => (header::number(block, field::MTIME).ok_or_else(|| invalid("bad time"))?, 0),
    };
    Ok(Entry {
        kind,
        mode: (mode & 0o7777) as u32,
        uid: id(field::UID, extension.uid)?,
        gid: id(field::GID, extension.gid)?,
        size: 0,
        mtime_secs,
        mtime_nanos,
        link,
        device: match (is_device, device(field::MAJOR), device(field::MINOR)) {
            (true, Some(major), Some(minor)) => (major, minor),
            (true, ..) => return Err(invalid("bad device number")),
            (false, ..) => (0, 0),
        },
        xattrs,
        path,
    })
}

/// The name, with ustar's prefix before it. GNU uses those bytes for other things.
fn header_path(block: &Block) -> Vec<u8> {
    let name = header::text(block, field::NAME);
    let prefix = if header::is_ustar(block) && !header::is_gnu(block) {
        header::text(block, field::PREFIX)
    } else {
        b""
    };
    if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
}
