//! Attributes of a task that a specification can ask for: priorities, CPUs, memory placement, personality.
//!
//! All functions are child-safe. Where a pid is taken, 0 means the calling thread.

use crate::sys::check;
use rustix::io::Errno;

/// CPUs or memory nodes that a mask here can name; the kernel's own limits (NR_CPUS 8192, MAX_NUMNODES 1024) are below.
pub const MASK_BITS: usize = 8192;

/// Bit n is CPU or node n.
pub type Mask = [u64; MASK_BITS / 64];

/// ioprio_set(2); `class` is 1 (real time), 2 (best effort) or 3 (idle), `level` 0 to 7.
pub fn set_io_priority(pid: i32, class: u16, level: u16) -> Result<(), Errno> {
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    const IOPRIO_CLASS_SHIFT: u32 = 13;
    let value = libc::c_int::from(class) << IOPRIO_CLASS_SHIFT | libc::c_int::from(level);
    // SAFETY: ioprio_set takes numbers only.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, pid, value) }).map(drop)
}

/// struct sched_attr of linux/sched/types.h, SCHED_ATTR_SIZE_VER0.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SchedAttr {
    /// Filled in by [`set_scheduler`].
    pub size: u32,
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    /// Nanoseconds, as the two that follow.
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
}

/// sched_setattr(2).
pub fn set_scheduler(pid: i32, attr: SchedAttr) -> Result<(), Errno> {
    let attr = SchedAttr { size: size_of::<SchedAttr>() as u32, ..attr };
    // SAFETY: `attr` has the kernel's layout, says its own size and outlives the call.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, pid, &raw const attr, 0) }).map(drop)
}

/// sched_setaffinity(2).
pub fn set_affinity(pid: i32, mask: &Mask) -> Result<(), Errno> {
    // SAFETY: the pointer and the length in bytes describe `mask`.
    check(unsafe { libc::syscall(libc::SYS_sched_setaffinity, pid, size_of::<Mask>(), mask.as_ptr()) })
        .map(drop)
}

/// sched_getaffinity(2).
pub fn affinity(pid: i32) -> Result<Mask, Errno> {
    let mut mask = [0; MASK_BITS / 64];
    // SAFETY: the pointer and the length in bytes describe `mask`, which the kernel writes.
    check(unsafe { libc::syscall(libc::SYS_sched_getaffinity, pid, size_of::<Mask>(), mask.as_mut_ptr()) })?;
    Ok(mask)
}

/// set_mempolicy(2): `mode` with its flags; `nodes` is cut to what the kernel takes.
pub fn set_memory_policy(mode: i32, nodes: &Mask) -> Result<(), Errno> {
    // The kernel refuses set bits beyond its MAX_NUMNODES, and ignores cleared ones; it reads one bit less than it is told.
    let highest = nodes.iter().rposition(|word| *word != 0).map_or(0, |index| (index + 1) * 64 + 1);
    let pointer = if highest == 0 { std::ptr::null() } else { nodes.as_ptr() };
    // SAFETY: `pointer` is null with no bits, or points at more bits than are announced.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, pointer, highest) }).map(drop)
}

/// personality(2).
pub fn set_personality(domain: u32) -> Result<(), Errno> {
    // SAFETY: personality takes a number.
    check(unsafe { libc::syscall(libc::SYS_personality, libc::c_ulong::from(domain)) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_affinity_and_priority() {
        let mask = affinity(0).unwrap();
        assert!(mask.iter().any(|word| *word != 0));
        set_affinity(0, &mask).unwrap();
        set_io_priority(0, 2, 4).unwrap();
        assert_eq!(set_io_priority(0, 7, 0), Err(Errno::INVAL));
        set_memory_policy(0, &[0; MASK_BITS / 64]).unwrap();
    }
}
