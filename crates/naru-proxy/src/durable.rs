//! Files that are whole or absent after a power cut: written beside, synced, renamed, directory synced.

use crate::error::ProxyError;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

const PRIVATE_FILE: u32 = 0o600;
const PRIVATE_DIR: u32 = 0o700;

/// Makes `dir` and its parents; `dir` itself is for its owner only.
pub fn create_private_dir(dir: &Path) -> Result<(), ProxyError> {
    DirBuilder::new()
        .recursive(true)
        .mode(PRIVATE_DIR)
        .create(dir)
        .map_err(ProxyError::disk("create", dir))?;
    std::fs::set_permissions(dir, Permissions::from_mode(PRIVATE_DIR))
        .map_err(ProxyError::disk("protect", dir))
}

/// Replaces `path` with `content`, mode 0600.
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), ProxyError> {
    let beside = path.with_extension("new");
    let fail = |step| ProxyError::disk(step, path);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(PRIVATE_FILE)
        .open(&beside)
        .map_err(fail("create"))?;
    // A file left by a crash keeps its old mode, so it is set again.
    file.set_permissions(Permissions::from_mode(PRIVATE_FILE)).map_err(fail("protect"))?;
    file.write_all(content).map_err(fail("write"))?;
    file.sync_all().map_err(fail("sync"))?;
    std::fs::rename(&beside, path).map_err(fail("replace"))?;
    match path.parent() {
        Some(dir) => File::open(dir).and_then(|dir| dir.sync_all()).map_err(fail("sync the directory of")),
        None => Ok(()),
    }
}
