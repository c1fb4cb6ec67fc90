//! Loading a classic BPF program as the calling thread's seccomp filter (seccomp(2)).

use crate::sys::check;
use rustix::io::Errno;

/// One instruction, `struct sock_filter` of linux/filter.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    pub code: u16,
    pub jump_true: u8,
    pub jump_false: u8,
    pub value: u32,
}

/// Loads `program`. Needs CAP_SYS_ADMIN or no_new_privs. `flags`: SECCOMP_FILTER_FLAG_*. Child-safe.
pub fn load(program: &[Instruction], flags: u64) -> Result<(), Errno> {
    #[repr(C)]
    struct Program {
        len: libc::c_ushort,
        filter: *const Instruction,
    }
    const SECCOMP_SET_MODE_FILTER: libc::c_ulong = 1;
    let len = libc::c_ushort::try_from(program.len()).map_err(|_| Errno::INVAL)?;
    let program = Program { len, filter: program.as_ptr() };
    // SAFETY: `program` describes `len` instructions of the kernel's layout and outlives the call.
    check(unsafe { libc::syscall(libc::SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &raw const program) })
        .map(|_| ())
}
