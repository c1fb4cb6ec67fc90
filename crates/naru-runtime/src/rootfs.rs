//! A container's root file system as a detached mount: nobody's mount table shows it until the container's own does.

use naru_kernel::mount::{self, Propagation};
use naru_kernel::process::{self, CloneArgs};
use naru_kernel::{Errno, caps, exec, ns, pidfd, unix};
use serde::{Deserialize, Serialize};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
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
    /// As [`Rootfs::open`], with files that belong inside to whom they belong on the disk: root's are those of `userns`'
    /// root, whose ids outside are `root`. Nothing is copied or changed. Needs Linux 5.19 for an overlay.
    pub fn open_idmapped(&self, userns: BorrowedFd<'_>, root: (u32, u32)) -> Result<OwnedFd, RootfsError> {
        match self {
            Self::Overlay { lower, upper, work } => idmapped_overlay(lower, (upper, work), userns, root),
            Self::Directory(path) => idmapped(path, userns, true),
        }
    }

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
    overlay(&lower, &join_layers(&lower), (&upper, &work), ns::in_user_namespace()).map_err(failed)
}

/// An overlay cannot be idmapped, its layers can. They are mounted over their own directories in a mount namespace of a
/// short-lived child, where the overlay is then made in the ordinary way; it outlives that namespace, since overlayfs
/// holds the layers by private copies of their mounts.
fn idmapped_overlay(
    lower: &[PathBuf],
    (upper, work): (&Path, &Path),
    userns: BorrowedFd<'_>,
    root: (u32, u32),
) -> Result<OwnedFd, RootfsError> {
    let failed = |step, path: &Path, source| RootfsError { step, path: path.to_owned(), source };
    // Both in one mount: overlayfs wants it so.
    let own = upper.parent().filter(|parent| work.parent() == Some(parent));
    let own = own.ok_or_else(|| failed("idmap the work directory beside", upper, Errno::XDEV))?;
    let mut layers = Vec::with_capacity(lower.len() + 1);
    for path in lower.iter().map(PathBuf::as_path).chain([own]) {
        layers.push((idmapped(path, userns, false)?, c_path(path)?));
    }
    let lower = lower.iter().map(|path| c_path(path)).collect::<Result<Vec<_>, _>>()?;
    let joined = join_layers(&lower);
    let (c_upper, c_work) = (c_path(upper)?, c_path(work)?);
    let (user_xattrs, rights) = (ns::in_user_namespace(), caps::permitted());
    let (ours, theirs) =
        unix::seqpacket_pair().map_err(|error| failed("make a socket pair for", upper, io_errno(&error)))?;
    let child = process::spawn(&CloneArgs { namespaces: ns::NEWNS, ..CloneArgs::default() }, || {
        let overlay = mount::set_root_propagation(Propagation::Private)
            .and_then(|()| layers.iter().try_for_each(|(layer, at)| mount::attach_host(layer, at)))
            .and_then(|()| {
                // What overlayfs makes for itself it makes as whoever mounted it, and the machine's root has no number on
                // an idmapped layer.
                exec::set_fs_ids(root.0, root.1);
                caps::set(rights, rights, 0)
            })
            .and_then(|()| overlay(&lower, &joined, (&c_upper, &c_work), user_xattrs));
        // A parent that is gone needs no answer.
        let _ = match overlay {
            Ok(overlay) => unix::send(&theirs, &0_i32.to_ne_bytes(), &[overlay.as_fd()]),
            Err(errno) => unix::send(&theirs, &errno.raw_os_error().to_ne_bytes(), &[]),
        };
        0
    })
    .map_err(|errno| failed("make a mount namespace for", upper, errno))?;
    drop(theirs);
    let mut errno = [0; 4];
    let heard = unix::recv(&ours, &mut errno);
    // It has nothing left to do, so this does not wait long.
    let _ = pidfd::wait(&child.pidfd);
    let mut heard = heard.map_err(|error| failed("hear of the overlay on", upper, io_errno(&error)))?;
    match (heard.fds.pop(), i32::from_ne_bytes(errno)) {
        (Some(overlay), 0) => Ok(overlay),
        (_, 0) => Err(failed("mount an idmapped overlay on", upper, Errno::IO)),
        (_, errno) => Err(failed("mount an idmapped overlay on", upper, Errno::from_raw_os_error(errno))),
    }
}

/// A detached copy of the mount at `path`, idmapped.
fn idmapped(path: &Path, userns: BorrowedFd<'_>, recursive: bool) -> Result<OwnedFd, RootfsError> {
    let failed = |step, source| RootfsError { step, path: path.to_owned(), source };
    let copy = mount::clone_host_tree(&c_path(path)?, recursive)
        .map_err(|errno| failed("clone the mount at", errno))?;
    mount::set_idmap(copy.as_fd(), userns, recursive)
        .map_err(|errno| failed("idmap (its file system may not support that)", errno))?;
    Ok(copy)
}

fn io_errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// Child-safe. `lower` and `joined` are the same layers. `user_xattrs`: the marks of overlayfs are `user.overlay.*`, as
/// nobody but root of the machine may set `trusted.*` (overlayfs.rst, "User xattr").
fn overlay(
    lower: &[CString],
    joined: &CStr,
    (upper, work): (&CStr, &CStr),
    user_xattrs: bool,
) -> Result<OwnedFd, Errno> {
    let tail = [(c"upperdir", Some(upper)), (c"workdir", Some(work))];
    let own = user_xattrs.then_some((c"userxattr", None));
    let layers = lower.iter().map(|layer| (c"lowerdir+", Some(layer.as_c_str())));
    match mount::new_fs(c"overlay", Some(c"overlay"), layers.chain(tail).chain(own), 0) {
        // `lowerdir+` came with Linux 6.7; before, all layers are one option with `:` between them.
        Err(Errno::INVAL) => {
            let options = [(c"lowerdir", Some(joined))].into_iter().chain(tail).chain(own);
            mount::new_fs(c"overlay", Some(c"overlay"), options, 0)
        }
        other => other,
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
