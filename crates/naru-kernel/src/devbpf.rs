//! Device access control of cgroup v2: a BPF_PROG_TYPE_CGROUP_DEVICE program on the group (bpf(2)).

use crate::sys::check;
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// One eBPF instruction, `struct bpf_insn`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    pub code: u8,
    /// Destination register in the low nibble, source in the high one.
    pub registers: u8,
    pub offset: i16,
    pub immediate: i32,
}

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_ATTACH: libc::c_long = 8;
const BPF_PROG_DETACH: libc::c_long = 9;
const BPF_PROG_GET_FD_BY_ID: libc::c_long = 13;
const BPF_PROG_QUERY: libc::c_long = 16;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
/// Several programs may be attached, and all must agree (ours and an outer manager's).
const BPF_F_ALLOW_MULTI: u32 = 2;
const BPF_F_REPLACE: u32 = 4;

/// linux/bpf-cgroup.h: BPF_CGROUP_MAX_PROGS, as many as a group can have.
const ATTACHED_MAX: usize = 64;

/// The union bpf_attr as far as BPF_PROG_LOAD reads it.
#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

/// The union bpf_attr as far as BPF_PROG_ATTACH reads it.
#[repr(C)]
#[derive(Default)]
struct AttachAttr {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
}

/// The union bpf_attr as far as BPF_PROG_QUERY reads it.
#[repr(C)]
#[derive(Default)]
struct QueryAttr {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    padding: u32,
}

/// The union bpf_attr as far as BPF_PROG_GET_FD_BY_ID reads it.
#[repr(C)]
#[derive(Default)]
struct ByIdAttr {
    prog_id: u32,
    next_id: u32,
    open_flags: u32,
}

/// Loads `program` and makes it the only one of the cgroup v2 directory `cgroup`. It lives as long as the group does.
/// There is no moment without a program: one that is there is replaced in one step (BPF_F_REPLACE, Linux 5.6);
/// where that cannot be done the new one is added before the old ones go, and until then all of them must agree.
pub fn attach(cgroup: impl AsFd, program: &[Instruction]) -> Result<(), Errno> {
    let cgroup = cgroup.as_fd();
    let program = load(program)?;
    let old = attached(cgroup)?;
    if let [only] = old.as_slice()
        && change(cgroup, &program, BPF_F_ALLOW_MULTI | BPF_F_REPLACE, Some(only)).is_ok()
    {
        return Ok(());
    }
    change(cgroup, &program, BPF_F_ALLOW_MULTI, None)?;
    old.iter().try_for_each(|program| detach(cgroup, program))
}

/// How many device programs the group itself has (not those of its parents).
pub fn count(cgroup: impl AsFd) -> Result<usize, Errno> {
    attached_ids(cgroup.as_fd()).map(|ids| ids.len())
}

fn attached(cgroup: BorrowedFd<'_>) -> Result<Vec<OwnedFd>, Errno> {
    let mut programs = Vec::new();
    for id in attached_ids(cgroup)? {
        let attr = ByIdAttr { prog_id: id, ..ByIdAttr::default() };
        // SAFETY: `attr` is a prefix of union bpf_attr whose size is passed.
        let fd = check(unsafe {
            libc::syscall(libc::SYS_bpf, BPF_PROG_GET_FD_BY_ID, &raw const attr, size_of::<ByIdAttr>())
        });
        match fd {
            // SAFETY: the kernel just made this descriptor for us, and nobody else knows it.
            Ok(fd) => programs.push(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) }),
            // Detached meanwhile, and with that gone.
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(programs)
}

fn attached_ids(cgroup: BorrowedFd<'_>) -> Result<Vec<u32>, Errno> {
    let mut ids = [0u32; ATTACHED_MAX];
    let mut attr = QueryAttr {
        target_fd: cgroup.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: ATTACHED_MAX as u32,
        ..QueryAttr::default()
    };
    // SAFETY: `attr` is a prefix of union bpf_attr whose size is passed; `ids` has room for `prog_cnt` numbers and
    // outlives the call.
    check(unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_QUERY, &raw mut attr, size_of::<QueryAttr>()) })?;
    Ok(ids.into_iter().take(attr.prog_cnt as usize).collect())
}

fn change(
    cgroup: BorrowedFd<'_>,
    program: &OwnedFd,
    flags: u32,
    replace: Option<&OwnedFd>,
) -> Result<(), Errno> {
    let attr = AttachAttr {
        target_fd: cgroup.as_raw_fd() as u32,
        attach_bpf_fd: program.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: flags,
        replace_bpf_fd: replace.map_or(0, |old| old.as_raw_fd() as u32),
    };
    // SAFETY: `attr` is a prefix of union bpf_attr whose size is passed; its descriptors are open for the call.
    check(unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_ATTACH, &raw const attr, size_of::<AttachAttr>()) })
        .map(|_| ())
}

fn detach(cgroup: BorrowedFd<'_>, program: &OwnedFd) -> Result<(), Errno> {
    let attr = AttachAttr {
        target_fd: cgroup.as_raw_fd() as u32,
        attach_bpf_fd: program.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        ..AttachAttr::default()
    };
    // SAFETY: `attr` is a prefix of union bpf_attr whose size is passed; its descriptors are open for the call.
    let done = check(unsafe {
        libc::syscall(libc::SYS_bpf, BPF_PROG_DETACH, &raw const attr, size_of::<AttachAttr>())
    });
    match done {
        Ok(_) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn load(program: &[Instruction]) -> Result<OwnedFd, Errno> {
    let attr = LoadAttr {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: u32::try_from(program.len()).map_err(|_| Errno::INVAL)?,
        insns: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        ..LoadAttr::default()
    };
    // SAFETY: `attr` is a prefix of union bpf_attr whose size is passed; its pointers outlive the call.
    let fd = check(unsafe {
        libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const attr, size_of::<LoadAttr>())
    })?;
    // SAFETY: the kernel just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
}
