//! The binary must not be reachable from a container (CVE-2019-5736): it is run from a read-only mount that nobody can
//! make writable, and where that is not allowed, and the caller could write to the binary, from a sealed copy.

use naru_kernel::exec::{self, StringArray};
use naru_kernel::{Errno, own_exe};
use rustix::fs::{Access, MemfdFlags, Mode, OFlags, SealFlags};
use std::ffi::CString;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;

use crate::error::OciError;

const PATH: &str = "/proc/self/exe";
const COPY_CHUNK: usize = 1 << 30;

/// Before a process of ours may become visible in a container. May start the program over.
pub(crate) fn own_binary() -> Result<(), OciError> {
    match own_exe::make_read_only() {
        Ok(()) => Ok(()),
        Err(_) if is_sealed() || !is_writable() => Ok(()),
        Err(_) => Err(OciError::kernel("seal a copy of the own binary", run_sealed_copy())),
    }
}

/// A container's root has at most the rights of who runs us.
fn is_writable() -> bool {
    rustix::fs::access(PATH, Access::WRITE_OK) != Err(Errno::ACCESS)
        && rustix::fs::access(PATH, Access::WRITE_OK) != Err(Errno::ROFS)
}

fn is_sealed() -> bool {
    let open = rustix::fs::open(PATH, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    // Only files in memory have seals; others are EINVAL.
    open.and_then(rustix::fs::fcntl_get_seals).is_ok_and(|seals| seals.contains(SealFlags::WRITE))
}

/// Returns only the error.
fn run_sealed_copy() -> Errno {
    let copy = || {
        let from = rustix::fs::open(PATH, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let to = rustix::fs::memfd_create("naru-oci", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        while rustix::fs::sendfile(&to, &from, None, COPY_CHUNK)? > 0 {}
        rustix::fs::fcntl_add_seals(
            &to,
            SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL,
        )?;
        Ok(to)
    };
    let copy = match copy() {
        Ok(copy) => copy,
        Err(errno) => return errno,
    };
    let words = |list: Vec<Vec<u8>>| list.into_iter().map(CString::new).collect::<Result<Vec<_>, _>>();
    let args = std::env::args_os().map(OsStringExt::into_vec).collect();
    let env =
        std::env::vars_os().map(|(key, value)| [key.into_vec(), value.into_vec()].join(&b'=')).collect();
    let (Ok(args), Ok(env), Ok(path)) =
        (words(args), words(env), CString::new(format!("/proc/self/fd/{}", copy.as_raw_fd())))
    else {
        return Errno::INVAL;
    };
    exec::execve(&path, &StringArray::new(args), &StringArray::new(env))
}
