//! The root of a container that shares its creator's mount namespace: a mount over its own directory, which does not go
//! away with the container's processes. `delete` takes it off.

use crate::error::OciError;
use rustix::fs::{AtFlags, CWD, StatxFlags};
use rustix::mount::UnmountFlags;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// STATX_MNT_ID_UNIQUE (Linux 6.8): a number that is never used again. Older kernels answer with the ordinary one.
const MNT_ID_UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RootMount {
    /// The mount that the directory was on before.
    below: u64,
    /// The mount that covers it; `None`: the create has not come that far.
    own: Option<u64>,
}

impl RootMount {
    /// Before the container is made.
    pub fn expected_at(root: &Path) -> Result<Self, OciError> {
        Ok(Self { below: mount_id(root)?, own: None })
    }

    /// Once it is there.
    pub fn note(&mut self, root: &Path) -> Result<(), OciError> {
        self.own = Some(mount_id(root)?);
        Ok(())
    }

    /// Takes it off, unless somebody did, or this is another mount namespace.
    pub fn remove(self, root: &Path) -> Result<(), OciError> {
        let now = match mount_id(root) {
            Err(OciError::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                return Ok(());
            }
            other => other?,
        };
        if self.own.map_or(now == self.below, |own| now != own) {
            return Ok(());
        }
        rustix::mount::unmount(root, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
            .map_err(|errno| OciError::file("unmount", root, errno))
    }
}

fn mount_id(path: &Path) -> Result<u64, OciError> {
    let stat = rustix::fs::statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::MNT_ID | MNT_ID_UNIQUE)
        .map_err(|errno| OciError::file("stat", path, errno))?;
    Ok(stat.stx_mnt_id)
}
