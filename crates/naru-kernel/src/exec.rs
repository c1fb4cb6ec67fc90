//! execve(2) and closing descriptors before it.

use crate::sys::{check, check_int, last_errno};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd};

/// A NULL-terminated array of C strings, built before the clone so that the child needs no memory.
#[derive(Debug)]
pub struct StringArray {
    // The pointers point into `strings`, whose heap buffers do not move when this struct does.
    pointers: Vec<*const libc::c_char>,
    strings: Vec<CString>,
}

impl StringArray {
    pub fn new(strings: Vec<CString>) -> Self {
        let pointers =
            strings.iter().map(|text| text.as_ptr()).chain(std::iter::once(std::ptr::null())).collect();
        Self { pointers, strings }
    }

    /// For execve and its like: valid as long as this lives.
    pub(crate) fn as_ptr(&self) -> *const *const libc::c_char {
        self.pointers.as_ptr()
    }

    pub fn strings(&self) -> &[CString] {
        &self.strings
    }
}

/// Replaces the program; returns only on failure. Child-safe.
pub fn execve(path: &CStr, args: &StringArray, env: &StringArray) -> Errno {
    // SAFETY: all three are NUL-terminated, and the arrays end with NULL and borrow strings that live in them.
    unsafe { libc::execve(path.as_ptr(), args.as_ptr(), env.as_ptr()) };
    last_errno()
}

/// Marks every descriptor from `first` on close-on-exec. Child-safe.
pub fn cloexec_from(first: u32) -> Result<(), Errno> {
    const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
    // SAFETY: setting a flag on descriptors closes nothing and touches no memory.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, CLOSE_RANGE_CLOEXEC) })
        .map(|_| ())
}

/// Closes every descriptor, for a process that will never use one again (a tiny init): afterwards owners of
/// descriptors in this process must not be dropped, so the caller must end by [`crate::process::exit_now`].
/// Child-safe.
pub fn close_all() {
    // SAFETY: the contract above: nobody in this process uses or drops a descriptor owner after this.
    let _ = unsafe { libc::syscall(libc::SYS_close_range, 0, libc::c_uint::MAX, 0) };
}

/// Closes every descriptor from 3 on but `keep`, for a forked process that goes on with a few of its parent's: owners of
/// the others must be neither used nor dropped in it, so it must end by [`crate::process::exit_now`].
pub fn close_others(keep: &[BorrowedFd<'_>]) {
    let mut numbers: Vec<u32> = keep
        .iter()
        .filter_map(|fd| u32::try_from(fd.as_raw_fd()).ok())
        .filter(|number| *number > 2)
        .collect();
    numbers.sort_unstable();
    let mut first = 3;
    for number in numbers.into_iter().chain([libc::c_uint::MAX]) {
        if let Some(last) = number.checked_sub(1).filter(|last| *last >= first) {
            // SAFETY: the contract above: nobody in this process uses or drops an owner of these after this.
            let _ = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
        first = number.saturating_add(1);
    }
}

/// Makes descriptor number `target` a copy of `from`, without close-on-exec. Child-safe; only for 0, 1 and 2.
pub fn install_stdio(from: BorrowedFd<'_>, target: i32) -> Result<(), Errno> {
    if !(0..=2).contains(&target) {
        return Err(Errno::INVAL);
    }
    if from.as_raw_fd() == target {
        // SAFETY: F_SETFD takes a number; the descriptor stays open.
        return check_int(unsafe { libc::fcntl(target, libc::F_SETFD, 0) }).map(|_| ());
    }
    // SAFETY: replacing 0, 1 or 2 is this function's purpose; nobody in this workspace owns these numbers.
    check_int(unsafe { libc::dup2(from.as_raw_fd(), target) }).map(|_| ())
}

/// Makes descriptor number `target` (3 or above) a copy of `from`, without close-on-exec. Whatever the number meant is
/// closed: only for a child that will execve or exit, and uses none of its descriptors at the targets again. Child-safe.
pub fn install_descriptor(from: BorrowedFd<'_>, target: i32) -> Result<(), Errno> {
    if target < 3 || from.as_raw_fd() == target {
        return Err(Errno::INVAL);
    }
    // SAFETY: the contract above: no owner of the replaced number is used or dropped in this process any more.
    check_int(unsafe { libc::dup2(from.as_raw_fd(), target) }).map(|_| ())
}

/// Sets the calling process's supplementary groups. The raw call: libc's also signals other threads. Child-safe.
pub fn set_groups(groups: &[u32]) -> Result<(), Errno> {
    // SAFETY: the pointer and length describe `groups`.
    check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) }).map(|_| ())
}

/// Sets real, effective and saved group id. Child-safe.
pub fn set_gid(gid: u32) -> Result<(), Errno> {
    // SAFETY: numbers only.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) }).map(|_| ())
}

/// Sets real, effective and saved user id. Child-safe.
pub fn set_uid(uid: u32) -> Result<(), Errno> {
    // SAFETY: numbers only.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(|_| ())
}

/// Sets the ids by which files are reached and made (setfsuid(2)); everything else of the caller stays. The kernel takes
/// the rights over files out of the effective set when the user was root; the caller raises them again. Child-safe.
pub fn set_fs_ids(uid: u32, gid: u32) {
    // SAFETY: numbers only. The calls report no error: they return the id of before.
    unsafe {
        libc::syscall(libc::SYS_setfsgid, gid);
    }
    // SAFETY: as above.
    unsafe {
        libc::syscall(libc::SYS_setfsuid, uid);
    }
}

/// Sets the file mode creation mask. Child-safe.
pub fn set_umask(mask: u32) {
    // SAFETY: umask takes a number and cannot fail.
    unsafe { libc::umask(mask) };
}
