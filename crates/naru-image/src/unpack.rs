//! Unpack.
use crate::{error::Result, tar::Reader};
use rustix::fd::BorrowedFd;
use std::io::Read;

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
    /// Existing directories and files may be replaced (`cp`), or the root is fresh (a layer).
    pub replace: bool,
    /// A directory must not replace a non-directory and the other way round (`cp`'s noOverwriteDirNonDir).
    pub keep_kind: bool,
    /// All files get this owner in place of the archive's.
    pub owner: Option<(u32, u32)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    pub entries: u64,
    /// Sum of the regular files' sizes.
    pub bytes: u64,
}

pub fn unpack<R: Read>(_root: BorrowedFd<'_>, _reader: &mut Reader<R>, _options: &UnpackOptions) -> Result<Unpacked> {
    todo!()
}
