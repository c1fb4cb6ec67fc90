//! Changes.
use naru_types::Result;
use std::path::{Path, PathBuf};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    Modified = 0,
    Added = 1,
    Deleted = 2,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Absolute within the container, such as `/etc/passwd`.
    pub path: PathBuf,
    pub kind: ChangeKind,
}

/// What `upper` changes relative to `lowers` (topmost first), sorted by path.
pub fn changes(_upper: &Path, _lowers: &[PathBuf]) -> Result<Vec<Change>> {
    todo!()
}
