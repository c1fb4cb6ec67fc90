//! Loading a classic BPF program as the calling thread's seccomp filter (seccomp(2)).

use crate::sys::check;
use rustix::fd::{FromRawFd, OwnedFd, RawFd};
use rustix::io::Errno;

const SET_MODE_FILTER: libc::c_ulong = 1;
const GET_ACTION_AVAIL: libc::c_ulong = 2;
const FLAG_NEW_LISTENER: u64 = 1 << 3;

/// One instruction, `struct sock_filter` of linux/filter.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    pub code: u16,
    pub jump_true: u8,
    pub jump_false: u8,
    pub value: u32,
}

/// Loads `program`. Needs CAP_SYS_ADMIN or no_new_privs. `flags`: SECCOMP_FILTER_FLAG_*, but not NEW_LISTENER.
/// Child-safe.
pub fn load(program: &[Instruction], flags: u64) -> Result<(), Errno> {
    set_filter(program, flags & !FLAG_NEW_LISTENER).map(|_| ())
}

/// As [`load`], with NEW_LISTENER: returns the descriptor on which notified calls are heard and answered
/// (seccomp_unotify(2)). It is close-on-exec. Child-safe.
pub fn load_listening(program: &[Instruction], flags: u64) -> Result<OwnedFd, Errno> {
    let descriptor = set_filter(program, flags | FLAG_NEW_LISTENER)? as RawFd;
    // SAFETY: the kernel has just returned this descriptor, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Whether the kernel knows an action (SECCOMP_RET_*).
pub fn action_available(action: u32) -> bool {
    // SAFETY: the kernel reads one u32, which outlives the call.
    check(unsafe { libc::syscall(libc::SYS_seccomp, GET_ACTION_AVAIL, 0, &raw const action) }).is_ok()
}

/// Whether the kernel knows a set of flags (SECCOMP_FILTER_FLAG_*). Loads nothing.
pub fn flags_known(flags: u64) -> bool {
    // The system call takes 32 bits of them.
    if flags > u64::from(u32::MAX) {
        return false;
    }
    let none = std::ptr::null::<libc::c_void>();
    // SAFETY: a null program is never read; the kernel looks at the flags first and then fails with EFAULT (seccomp(2)).
    check(unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, flags, none) }) == Err(Errno::FAULT)
}

fn set_filter(program: &[Instruction], flags: u64) -> Result<libc::c_long, Errno> {
    #[repr(C)]
    struct Program {
        len: libc::c_ushort,
        filter: *const Instruction,
    }
    let len = libc::c_ushort::try_from(program.len()).map_err(|_| Errno::INVAL)?;
    let program = Program { len, filter: program.as_ptr() };
    // SAFETY: `program` describes `len` instructions of the kernel's layout and outlives the call.
    check(unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, flags, &raw const program) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_knows() {
        assert!(action_available(0x7fff_0000));
        assert!(!action_available(0x1234_0000));
        assert!(flags_known(1 << 2));
        assert!(!flags_known(1 << 40));
        assert!(!flags_known(1 << 30));
    }
}
