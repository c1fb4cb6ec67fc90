//! The root filesystem that some layers make together, for reading: a detached overlay mount that no
//! mount table shows and that goes with its descriptor.

use crate::error::{BuildError, Result};
use crate::files::at;
use naru_kernel::mount;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// `lowers` topmost first. `empty` is an empty directory: it is the view of no layers at all, and makes a
/// single layer two, which overlayfs needs (and which hides the layer's whiteouts).
pub(crate) fn open(lowers: &[PathBuf], empty: &Path) -> Result<OwnedFd> {
    if lowers.is_empty() {
        return at::open_root(empty).map_err(BuildError::sys("open", empty));
    }
    let mounted =
        mount_overlay(lowers, empty).map_err(BuildError::sys("mount the layers above", &lowers[0]))?;
    // The mount's descriptor is O_PATH; reading a directory needs another one.
    at::open_dir_beneath(&mounted, Path::new("."))
        .map_err(BuildError::sys("open the layers above", &lowers[0]))
}

fn mount_overlay(lowers: &[PathBuf], empty: &Path) -> std::result::Result<OwnedFd, Errno> {
    let dirs: Vec<CString> = lowers
        .iter()
        .map(PathBuf::as_path)
        .chain([empty])
        .map(|dir| CString::new(dir.as_os_str().as_bytes()).map_err(|_| Errno::INVAL))
        .collect::<std::result::Result<_, _>>()?;
    // Whiteouts and opaque marks are `user.overlay.*` where `trusted.*` cannot be set (overlayfs.rst, "User xattr").
    let own = naru_kernel::ns::in_user_namespace().then_some((c"userxattr", None));
    // `lowerdir+` is Linux 6.5's and has no limit on the length of all together (overlayfs.rst).
    let one_by_one = dirs.iter().map(|dir| (c"lowerdir+", Some(dir.as_c_str())));
    match mount::new_fs(c"overlay", Some(c"naru-build"), one_by_one.chain(own), mount::RDONLY) {
        Err(Errno::INVAL) => {}
        other => return other,
    }
    let joined: Vec<u8> = dirs.iter().map(|dir| dir.as_bytes().to_vec()).collect::<Vec<_>>().join(&b':');
    let joined = CString::new(joined).map_err(|_| Errno::INVAL)?;
    let options = [(c"lowerdir", Some(joined.as_c_str()))];
    mount::new_fs(c"overlay", Some(c"naru-build"), options.into_iter().chain(own), mount::RDONLY)
}
