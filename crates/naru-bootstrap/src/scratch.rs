//! The directory in which a root is made. It is gone when its guard is; what a crash left is swept when the daemon starts.

use crate::error::{BootstrapError, Result};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Set-id programs of a half-made root are nobody's to run.
const PRIVATE_MODE: u32 = 0o700;
const ROOT_MODE: u32 = 0o755;

pub struct Scratch(PathBuf);

impl Scratch {
    pub fn make(base: &Path) -> Result<Self> {
        let random: [u8; 8] =
            naru_kernel::random::bytes().map_err(BootstrapError::io("draw a name in", base))?;
        let path = base.join(naru_types::id::hex(&random));
        let made = fs::DirBuilder::new().mode(PRIVATE_MODE).create(&path);
        made.map_err(BootstrapError::io("make the directory", &path))?;
        let scratch = Self(path);
        for name in ["root", "lower", "packages"] {
            scratch.dir(name)?;
        }
        Ok(scratch)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn root(&self) -> PathBuf {
        self.0.join("root")
    }

    pub fn packages(&self) -> PathBuf {
        self.0.join("packages")
    }

    /// A new directory, mode 0755 whatever the umask: containers see the mode of their root.
    pub fn dir(&self, name: &str) -> Result<PathBuf> {
        let path = self.0.join(name);
        fs::create_dir(&path).map_err(BootstrapError::io("make the directory", &path))?;
        let mode = fs::set_permissions(&path, fs::Permissions::from_mode(ROOT_MODE));
        mode.map_err(BootstrapError::io("set the mode of", &path))?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What can't be removed now is swept at the next start.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Empties `base`, which nothing uses yet.
pub fn sweep(base: &Path) -> Result<()> {
    match fs::remove_dir_all(base) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(BootstrapError::io("remove", base)(error));
        }
        _ => {}
    }
    let made = fs::DirBuilder::new().recursive(true).mode(PRIVATE_MODE).create(base);
    made.map_err(BootstrapError::io("make the directory", base))
}
