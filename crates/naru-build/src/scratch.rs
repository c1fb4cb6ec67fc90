//! Directories that a build works in. Each is gone when its guard is, and what a crash left is swept
//! when the builder opens next.

use crate::error::{BuildError, Result};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

const DIR_MODE: u32 = 0o755;
/// Of a build's own directory and of where they all lie: what is half-made, and what a client lends, is nobody else's to see.
const BUILD_MODE: u32 = 0o700;

/// Owns one directory beneath `<root>/build-tmp`.
pub(crate) struct Scratch {
    path: PathBuf,
}

impl Scratch {
    pub(crate) fn make(base: &Path) -> Result<Self> {
        let path = base.join(naru_types::id::hex(&random::<8>()?));
        fs::DirBuilder::new()
            .mode(BUILD_MODE)
            .create(&path)
            .map_err(BuildError::io("make the directory", &path))?;
        Ok(Self { path })
    }

    /// A new directory inside, mode 0755.
    pub(crate) fn dir(&self, name: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        fs::create_dir(&path).map_err(BuildError::io("make the directory", &path))?;
        // It may become the root of a layer, whose mode containers see on `/`: no umask may have a say.
        fs::set_permissions(&path, fs::Permissions::from_mode(DIR_MODE))
            .map_err(BuildError::io("chmod", &path))?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What can't be removed now is swept at the next start.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Empties `base`, which no build uses yet.
pub(crate) fn sweep(base: &Path) -> Result<()> {
    match fs::remove_dir_all(base) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(BuildError::io("remove", base)(error));
        }
        _ => {}
    }
    let made = fs::DirBuilder::new().recursive(true).mode(BUILD_MODE).create(base);
    made.map_err(BuildError::io("make the directory", base))
}

pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    naru_kernel::random::bytes().map_err(BuildError::io("draw random bytes for", "a name"))
}
