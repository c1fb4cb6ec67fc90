//! Writes a directory tree as a tar archive: the layer of a commit, `export`, `cp` out of a container.
//!
//! Names are visited in byte order and nothing of the moment (access times, inode numbers) is written,
//! so the same tree gives the same bytes and thus the same layer id.

use crate::error::{ImageError, Result};
use crate::split::SplitWriter;
use crate::tree;
use naru_tar::{self as tar, Entry, EntryKind};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{FileType, OFlags, Stat};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Deepest directory, because each level holds one descriptor open.
const DEPTH_MAX: usize = 512;
const COPY_BYTES: usize = 256 * 1024;
/// overlayfs keeps parts of such files and directories elsewhere, so they cannot be packed alone.
const OVERLAY_ELSEWHERE: [&str; 4] = [
    "trusted.overlay.redirect",
    "trusted.overlay.metacopy",
    "user.overlay.redirect",
    "user.overlay.metacopy",
];

#[derive(Clone, Debug, Default)]
pub struct PackOptions {
    /// The first entry's name in the archive, where it isn't the path's own last component.
    pub rename: Option<Vec<u8>>,
    /// Write overlayfs's marks as `.wh.` entries (a layer); otherwise they are left out.
    pub whiteouts: bool,
}

/// Writes `path` (beneath `root`, links not followed) and all beneath it as a tar archive. With the path
/// `.` the entries are those in the root, without one for the root itself.
pub fn tar_tree(root: BorrowedFd<'_>, path: &Path, out: &mut dyn Write, options: &PackOptions) -> Result<()> {
    tar_tree_recording(root, path, out, options, None).map(|_| ())
}

/// As [`tar_tree`]; returns the sum of the regular files' sizes.
pub(crate) fn tar_tree_recording(
    root: BorrowedFd<'_>,
    path: &Path,
    out: &mut dyn Write,
    options: &PackOptions,
    split: Option<&mut SplitWriter>,
) -> Result<u64> {
    let parts = naru_tar::components(path.as_os_str().as_bytes())?;
    let mut packer = Packer {
        out,
        split,
        whiteouts: options.whiteouts,
        links: HashMap::new(),
        buffer: vec![0; COPY_BYTES],
        bytes: 0,
    };
    let open = |parts: &[&[u8]]| {
        let path = tree::join(parts);
        tree::open_beneath(root, &path, OFlags::DIRECTORY | OFlags::RDONLY)
            .map_err(|errno| pack_error("open", path.as_os_str().as_bytes())(errno))
    };
    match parts.split_last() {
        None => {
            let dir = open(&[])?;
            let prefix = options.rename.clone().unwrap_or_default();
            packer.children(dir.as_fd(), &prefix, 0)?;
        }
        Some((name, parents)) => {
            let parent = open(parents)?;
            let shown = options.rename.clone().unwrap_or_else(|| name.to_vec());
            packer.node(parent.as_fd(), name, &shown, 0)?;
        }
    }
    packer.raw(&tar::trailer())?;
    Ok(packer.bytes)
}

struct Packer<'a> {
    out: &'a mut dyn Write,
    split: Option<&'a mut SplitWriter>,
    whiteouts: bool,
    /// The first path of each file with several names.
    links: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
    bytes: u64,
}

impl Packer<'_> {
    fn raw(&mut self, bytes: &[u8]) -> Result<()> {
        if let Some(split) = &mut self.split {
            split.raw(bytes)?;
        }
        self.out.write_all(bytes).map_err(|source| ImageError::Write { source })
    }

    fn children(&mut self, dir: BorrowedFd<'_>, path: &[u8], depth: usize) -> Result<()> {
        if depth > DEPTH_MAX {
            return Err(pack_error("go deeper than 512 directories into", path)(Errno::LOOP));
        }
        for name in tree::names(dir).map_err(pack_error("list", path))? {
            let child = if path.is_empty() { name.clone() } else { [path, b"/", &name].concat() };
            self.node(dir, &name, &child, depth)?;
        }
        Ok(())
    }

    fn node(&mut self, parent: BorrowedFd<'_>, name: &[u8], path: &[u8], depth: usize) -> Result<()> {
        let stat = tree::stat(parent, name).map_err(pack_error("look at", path))?;
        if tree::is_whiteout(&stat) {
            return self.whiteout(path);
        }
        let Some(mut entry) = self.describe(parent, name, path, &stat)? else { return Ok(()) };
        match entry.kind {
            EntryKind::Directory => {
                entry.path.push(b'/');
                self.raw(&tar::encode(&entry))?;
                let dir = tree::open_beneath(parent, OsStr::from_bytes(name).as_ref(), OFlags::DIRECTORY)
                    .map_err(pack_error("open", path))?;
                if self.whiteouts
                    && tree::is_opaque(dir.as_fd()).map_err(pack_error("read the mark of", path))?
                {
                    self.raw(&tar::encode(&Entry::new([path, b"/.wh..wh..opq"].concat(), EntryKind::File)))?;
                }
                self.children(dir.as_fd(), path, depth + 1)
            }
            EntryKind::File => self.file(parent, name, &entry),
            EntryKind::HardLink
            | EntryKind::Symlink
            | EntryKind::CharDevice
            | EntryKind::BlockDevice
            | EntryKind::Fifo => self.raw(&tar::encode(&entry)),
        }
    }

    fn whiteout(&mut self, path: &[u8]) -> Result<()> {
        if !self.whiteouts {
            return Ok(());
        }
        let slash = path.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
        let name = [&path[..slash], b".wh.", &path[slash..]].concat();
        self.raw(&tar::encode(&Entry::new(name, EntryKind::File)))
    }

    /// The entry for what is there; `None` for a socket, which no archive can hold.
    fn describe(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        stat: &Stat,
    ) -> Result<Option<Entry>> {
        let kind = match tree::file_type(stat) {
            FileType::RegularFile => EntryKind::File,
            FileType::Directory => EntryKind::Directory,
            FileType::Symlink => EntryKind::Symlink,
            FileType::CharacterDevice => EntryKind::CharDevice,
            FileType::BlockDevice => EntryKind::BlockDevice,
            FileType::Fifo => EntryKind::Fifo,
            _ => return Ok(None),
        };
        let mut entry = Entry::new(path, kind);
        entry.mode = stat.st_mode & 0o7777;
        (entry.uid, entry.gid) = (stat.st_uid, stat.st_gid);
        (entry.mtime_secs, entry.mtime_nanos) = (stat.st_mtime, stat.st_mtime_nsec as u32);
        if kind != EntryKind::Directory && stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                entry.kind = EntryKind::HardLink;
                entry.link.clone_from(first);
                return Ok(Some(entry));
            }
            self.links.insert((stat.st_dev, stat.st_ino), path.to_vec());
        }
        match kind {
            EntryKind::File => entry.size = stat.st_size as u64,
            EntryKind::Symlink => {
                entry.link = rustix::fs::readlinkat(parent, OsStr::from_bytes(name), Vec::new())
                    .map_err(pack_error("read the link", path))?
                    .into_bytes();
            }
            EntryKind::CharDevice | EntryKind::BlockDevice => {
                entry.device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
            }
            EntryKind::Directory | EntryKind::Fifo | EntryKind::HardLink => {}
        }
        if kind != EntryKind::Symlink {
            attributes(parent, name, &mut entry)?;
        }
        Ok(Some(entry))
    }

    fn file(&mut self, parent: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Result<()> {
        self.raw(&tar::encode(entry))?;
        if entry.size == 0 {
            return Ok(());
        }
        let fd = tree::open_beneath(parent, OsStr::from_bytes(name).as_ref(), OFlags::RDONLY)
            .map_err(pack_error("open", &entry.path))?;
        let mut content = File::from(fd).take(entry.size);
        let mut left = entry.size;
        while left > 0 {
            let failed = |source| ImageError::Pack {
                step: "read",
                entry: String::from_utf8_lossy(&entry.path).into_owned(),
                source,
            };
            let got = content.read(&mut self.buffer).map_err(failed)?;
            if got == 0 {
                return Err(failed(std::io::Error::other("it became shorter while it was read")));
            }
            self.out.write_all(&self.buffer[..got]).map_err(|source| ImageError::Write { source })?;
            left -= got as u64;
        }
        self.bytes += entry.size;
        if let Some(split) = &mut self.split {
            split.file(&entry.path, entry.size)?;
        }
        self.raw(&[0; tar::BLOCK_BYTES][..tar::padding(entry.size)])
    }
}

/// Capabilities and `user.*`; labels of the host's security modules do not travel.
fn attributes(parent: BorrowedFd<'_>, name: &[u8], entry: &mut Entry) -> Result<()> {
    let failed = pack_error("read the attributes of", &entry.path);
    let node = tree::proc_path(parent).join(OsStr::from_bytes(name));
    let names = match tree::xattr_names(&node) {
        Ok(names) => names,
        Err(errno) => return Err(failed(errno)),
    };
    if names.iter().any(|name| OVERLAY_ELSEWHERE.iter().any(|known| known.as_bytes() == name)) {
        return Err(ImageError::Unsupported {
            what: format!("{:?} is stored elsewhere by overlayfs", String::from_utf8_lossy(&entry.path)),
            hint: "mount overlays with redirect_dir=off,metacopy=off",
        });
    }
    if !names.is_empty() {
        entry.xattrs = tree::xattrs(parent, name).map_err(failed)?;
        entry.xattrs.retain(|(name, _)| name == b"security.capability" || name.starts_with(b"user."));
    }
    Ok(())
}

fn pack_error(step: &'static str, path: &[u8]) -> impl Fn(Errno) -> ImageError {
    let entry = String::from_utf8_lossy(path).into_owned();
    move |errno| ImageError::Pack { step, entry: entry.clone(), source: errno.into() }
}
