//! Keeping the running binary out of a container's reach (CVE-2019-5736).
//!
//! A container that gets hold of /proc/<pid>/exe of a process that still runs the host's binary can write to that
//! binary once it is no longer busy. So the process executes itself again from a read-only copy of the mount the binary
//! is on. The copy is detached: it belongs to no mount namespace, so nobody can make it writable again, and writing
//! through it is `EROFS` for everybody. It costs no memory, unlike a sealed copy in a memfd.

use crate::exec::StringArray;
use crate::inherit;
use crate::mount::{self, Change, RDONLY};
use crate::sys::last_errno;
use rustix::fs::{Mode, OFlags, StatVfsMountFlags};
use rustix::io::Errno;
use std::ffi::{CStr, CString, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

const PATH: &CStr = c"/proc/self/exe";

/// What the kernel calls a program that was executed by its descriptor (execveat(2), "NOTES").
const BY_DESCRIPTOR: &str = "/dev/fd/";

/// Whether the running binary is reached through a read-only mount.
pub fn is_read_only() -> Result<bool, Errno> {
    let exe = rustix::fs::open(PATH, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    Ok(rustix::fs::fstatvfs(&exe)?.f_flag.contains(StatVfsMountFlags::RDONLY))
}

/// Returns at once when the binary is read-only already. Otherwise the process starts over, with the same number,
/// arguments, environment and inheritable descriptors; what is returned then is why it could not.
pub fn make_read_only() -> Result<(), Errno> {
    if is_read_only()? {
        return Ok(());
    }
    execute_read_only(PATH, std::env::args_os().collect())
}

/// The mount that this program was executed from by [`make_read_only`] or `naru_entry`, once. The one descriptor keeps it
/// together: closing it costs a wait for the whole kernel (`dissolve_on_fput`, an RCU grace period), so that whoever is in
/// a hurry does it while there is something else to wait for. The program stays read-only without it.
pub fn take_mount() -> Option<OwnedFd> {
    // SAFETY: getauxval takes a number and touches no memory.
    let name = unsafe { libc::getauxval(libc::AT_EXECFN) } as *const libc::c_char;
    if name.is_null() {
        return None;
    }
    // SAFETY: the kernel keeps this NUL-terminated string on the stack for as long as the process lives.
    let name = unsafe { CStr::from_ptr(name) };
    let number = name.to_str().ok()?.strip_prefix(BY_DESCRIPTOR)?.parse().ok()?;
    inherit::take(number).ok()
}

/// Puts another program in this one's place, from a read-only detached mount as above. The process keeps its number,
/// children, environment and the descriptors that are not close-on-exec. What is returned is why it could not.
pub fn replace(binary: BorrowedFd<'_>, args: Vec<OsString>) -> Result<(), Errno> {
    let path = CString::new(format!("/proc/self/fd/{}", binary.as_raw_fd())).map_err(|_| Errno::INVAL)?;
    execute_read_only(&path, args)
}

fn execute_read_only(path: &CStr, args: Vec<OsString>) -> Result<(), Errno> {
    let copy = mount::clone_host_tree(path, false)?;
    mount::set_attributes(copy.as_fd(), c"", Change { set: RDONLY, ..Change::default() })?;
    let words = |list: Vec<Vec<u8>>| list.into_iter().map(CString::new).collect::<Result<Vec<_>, _>>();
    let args = args.into_iter().map(OsStringExt::into_vec).collect();
    let env =
        std::env::vars_os().map(|(key, value)| [key.into_vec(), value.into_vec()].join(&b'=')).collect();
    let args = StringArray::new(words(args).map_err(|_| Errno::INVAL)?);
    inherit::keep(&copy)?;
    let env = StringArray::new(words(env).map_err(|_| Errno::INVAL)?);
    Err(execute(copy.as_fd(), &args, &env))
}

fn execute(binary: BorrowedFd<'_>, args: &StringArray, env: &StringArray) -> Errno {
    // SAFETY: the path is an empty C string, and both arrays end with NULL and borrow strings that live in them.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            binary.as_raw_fd(),
            c"".as_ptr(),
            args.as_ptr(),
            env.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    last_errno()
}
