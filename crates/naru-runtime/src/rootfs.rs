//! A container's root file system as a detached mount: nobody's mount table shows it until the container's own does.

use naru_kernel::{Errno, mount};
use serde::{Deserialize, Serialize};
use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
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
#[error("cannot {step} {}: {source}", path.display())]
pub struct RootfsError {
    pub step: &'static str,
    pub path: PathBuf,
    #[source]
    pub source: Errno,
}

impl Rootfs {
    /// The detached mount; it vanishes when the descriptor is closed, unless it was attached.
    pub fn open(&self) -> Result<OwnedFd, RootfsError> {
        match self {
            Self::Overlay { lower, upper, work } => open_detached(lower, upper, work),
            Self::Directory(path) => mount::clone_host_tree(&c_path(path)?, true)
                .map_err(|source| RootfsError { step: "clone the mount at", path: path.clone(), source }),
        }
    }
}

/// An overlay of `lower` (top-most first), `upper` and `work` as a detached mount. Files in it are reached by openat2
/// beneath the descriptor; closing it unmounts.
pub fn open_detached(lower: &[PathBuf], upper: &Path, work: &Path) -> Result<OwnedFd, RootfsError> {
    let failed = |source| RootfsError { step: "mount an overlay on", path: upper.to_owned(), source };
    let lower = lower.iter().map(|path| c_path(path)).collect::<Result<Vec<_>, _>>()?;
    let (upper, work) = (c_path(upper)?, c_path(work)?);
    let tail = [(c"upperdir", Some(&*upper)), (c"workdir", Some(&*work))];
    let layers = lower.iter().map(|layer| (c"lowerdir+", Some(layer.as_c_str())));
    match mount::new_fs(c"overlay", Some(c"overlay"), layers.chain(tail), 0) {
        // `lowerdir+` came with Linux 6.7; before, all layers are one option with `:` between them.
        Err(Errno::INVAL) => {
            let joined = join_layers(&lower);
            let options = [(c"lowerdir", Some(&*joined))].into_iter().chain(tail);
            mount::new_fs(c"overlay", Some(c"overlay"), options, 0).map_err(failed)
        }
        other => other.map_err(failed),
    }
}

/// Layers with `:` between them; `:`, `,` and `\` in a path are escaped as overlayfs wants it.
fn join_layers(layers: &[CString]) -> CString {
    let mut joined = Vec::new();
    for layer in layers {
        if !joined.is_empty() {
            joined.push(b':');
        }
        for byte in CStr::to_bytes(layer) {
            if matches!(byte, b':' | b'\\') {
                joined.push(b'\\');
            }
            joined.push(*byte);
        }
    }
    // Every part came from a CString, so there is no NUL inside.
    CString::new(joined).unwrap_or_default()
}

fn c_path(path: &Path) -> Result<CString, RootfsError> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| RootfsError {
        step: "use",
        path: path.to_owned(),
        source: Errno::INVAL,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_escaped() {
        let layers = [c"/a:b".to_owned(), c"/c\\d".to_owned()];
        assert_eq!(join_layers(&layers).as_c_str(), c"/a\\:b:/c\\\\d");
    }
}
