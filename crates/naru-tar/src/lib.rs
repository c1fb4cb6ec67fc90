//! The tar format, read strictly and written reproducibly.
//!
//! # What it is
//! The one archive codec of naru: layers, `load`, `save`, `cp`, `export` and the build context go
//! through it, in the daemon as in the client. Read: ustar (POSIX.1-1988), pax (POSIX.1-2001, `pax(1)`), GNU long names, base-256 numbers and GNU
//! sparse files (old form and pax 1.0). An archive has exactly one meaning here: where formats overlap,
//! pax wins over GNU and GNU over ustar, and what fits none is refused, because two readers that
//! disagree about an entry's length are how files get smuggled (CVE-2025-62518). Written: ustar, with a
//! pax header only where ustar cannot say it, so equal trees give equal bytes.
//!
//! # What it must not do
//! No file system: it turns bytes into entries and back. Making files of entries is its users' work,
//! which [`components`] helps to keep inside of a directory.
//!
//! # Start reading at
//! [`Entry`], then [`Reader`].
//!
//! # Invariants
//! - Memory is bounded by the constants below, whatever the archive says.
//! - The same entry always gives the same bytes.
//!
//! # How it is tested
//! Tables beside the parsers; naru-image reads archives made by GNU tar and hostile ones.

mod entry;
mod error;
pub mod header;
mod path;
mod pax;
mod reader;
mod sparse;
mod writer;

pub use error::{Result, TarError};
pub use path::components;
pub use reader::Reader;
pub use writer::{encode, trailer};

pub const BLOCK_BYTES: usize = 512;
/// Longest path or link target, in bytes (PATH_MAX without its NUL).
pub const PATH_BYTES_MAX: usize = 4095;
/// Largest pax or GNU long name record, in bytes. Extended attributes of 64 KiB fit several times.
pub const EXTENSION_BYTES_MAX: u64 = 1 << 20;
/// Most extension headers before one entry; writers use two at most.
pub const EXTENSIONS_MAX: usize = 16;
/// Most bytes that all global pax headers of an archive may take together: each entry gets a copy.
pub const GLOBAL_BYTES_MAX: u64 = 1 << 20;
/// Most entries of one archive; about ten times the largest images known.
pub const ENTRIES_MAX: u64 = 10_000_000;
/// Most bytes after the end-of-archive mark, which writers pad with zeros to their record size.
pub const TRAILING_BYTES_MAX: u64 = 4 << 20;
/// Most pieces of one sparse file.
pub const SPARSE_PIECES_MAX: usize = 100_000;

/// The pax key prefix of an extended attribute, as GNU tar, star, libarchive and Go write it.
pub(crate) const XATTR_PREFIX: &[u8] = b"SCHILY.xattr.";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    File,
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
}

/// One archive member, all extensions applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// As written in the archive and thus hostile; [`components`] makes it safe.
    pub path: Vec<u8>,
    pub kind: EntryKind,
    /// Permission bits, set-id and sticky included; never a file type.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Bytes of content. For a sparse file: with its holes.
    pub size: u64,
    pub mtime_secs: i64,
    pub mtime_nanos: u32,
    /// Target of a hard link or a symbolic link.
    pub link: Vec<u8>,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Sorted by name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Entry {
    /// An entry with mode 0644 (0755 for a directory), root's, from 1970.
    pub fn new(path: impl Into<Vec<u8>>, kind: EntryKind) -> Self {
        let mode = if kind == EntryKind::Directory { 0o755 } else { 0o644 };
        Self {
            path: path.into(),
            kind,
            mode,
            uid: 0,
            gid: 0,
            size: 0,
            mtime_secs: 0,
            mtime_nanos: 0,
            link: Vec::new(),
            device: (0, 0),
            xattrs: Vec::new(),
        }
    }
}

/// Bytes from `size` to the next block border.
pub fn padding(size: u64) -> usize {
    let over = (size % BLOCK_BYTES as u64) as usize;
    if over == 0 { 0 } else { BLOCK_BYTES - over }
}
