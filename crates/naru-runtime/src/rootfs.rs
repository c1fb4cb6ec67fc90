//! A container's root file system as a detached mount: nobody's mount table shows it until the container's own does.

use naru_kernel::Errno;
use serde::{Deserialize, Serialize};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Where the root file system comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rootfs {
    /// An overlay; `lower` top-most first.
    Overlay { lower: Vec<PathBuf>, upper: PathBuf, work: PathBuf },
    /// A plain directory, bind-mounted.
    Directory(PathBuf),
}

/// A mount of the root file system could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step} {}", path.display())]
pub struct RootfsError {
    pub step: &'static str,
    pub path: PathBuf,
    #[source]
    pub source: Errno,
}
