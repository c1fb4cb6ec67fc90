//! Clearing away what a step's mounts made in its layer.

use crate::error::{BuildError, Result};
use crate::files::at;
use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Takes away the empty directories and files that were made in `upper` only as mount points, deepest
/// first. Whatever is no longer empty, or no longer what it was, stays.
pub(crate) fn remove_mount_points(upper: &Path, points: &[PathBuf]) -> Result<()> {
    let root = at::open_root(upper).map_err(BuildError::sys("open", upper))?;
    for point in points {
        let Ok(parent) = at::open_dir_beneath(&root, point.parent().unwrap_or(Path::new(""))) else {
            continue;
        };
        let name: OsString = point.file_name().unwrap_or_default().to_owned();
        let Ok(stat) = at::stat(&parent, &name) else { continue };
        let flags = if at::is_dir(&stat) { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        if !at::is_dir(&stat) && (at::kind(&stat) != FileType::RegularFile || stat.st_size != 0) {
            continue;
        }
        match rustix::fs::unlinkat(&parent, &name, flags) {
            Ok(()) | Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT) => {}
            Err(errno) => return Err(BuildError::sys("remove the mount point", point)(errno)),
        }
    }
    Ok(())
}
