//! Pack.
use crate::error::Result;
use rustix::fd::BorrowedFd;
use std::io::Write;
use std::path::Path;

#[derive(Clone, Debug, Default)]
pub struct PackOptions {
    /// The name of the first entry in the archive, where it isn't the path's own last component.
    pub rename: Option<Vec<u8>>,
    /// Write overlayfs's marks as `.wh.` entries.
    pub whiteouts: bool,
}

/// Writes `path` (beneath `root`, not following its last component) and all beneath it as a tar archive.
pub fn tar_tree(_root: BorrowedFd<'_>, _path: &Path, _out: &mut dyn Write, _options: &PackOptions) -> Result<()> {
    todo!()
}
