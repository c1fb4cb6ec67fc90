//! Freezing a group: freezer.state of v1, cgroup.freeze of v2.

use super::{Cgroup, CgroupError, files};
use std::path::PathBuf;

/// Where a group is frozen: its directory.
pub(super) enum Freezer {
    V1(PathBuf),
    V2(PathBuf),
}

impl Freezer {
    pub fn of(cgroup: &Cgroup) -> Option<Self> {
        let v1 = cgroup.layout().v1_with("freezer").map(|hierarchy| Self::V1(cgroup.directory_in(hierarchy)));
        v1.or_else(|| cgroup.v2_directory().map(Self::V2))
    }

    /// Whether it is frozen, or on the way.
    pub fn is_asked(&self) -> bool {
        let (file, running) = match self {
            Self::V1(directory) => (directory.join("freezer.state"), "THAWED"),
            Self::V2(directory) => (directory.join("cgroup.freeze"), "0"),
        };
        files::read(&file).is_ok_and(|text| text.trim() != running)
    }

    /// Asks for the state; whether it is reached.
    pub fn ask(&self, frozen: bool) -> Result<bool, CgroupError> {
        match self {
            Self::V1(directory) => {
                let (file, word) =
                    (directory.join("freezer.state"), if frozen { "FROZEN" } else { "THAWED" });
                files::write(&file, word)?;
                Ok(files::read(&file)?.trim() == word)
            }
            Self::V2(directory) => {
                files::write(&directory.join("cgroup.freeze"), if frozen { "1" } else { "0" })?;
                let events = files::flat_keyed(&files::read(&directory.join("cgroup.events"))?);
                Ok(events.get("frozen") == Some(&u64::from(frozen)))
            }
        }
    }
}
