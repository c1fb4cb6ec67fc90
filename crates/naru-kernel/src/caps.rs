//! Capability sets of the calling thread (capabilities(7)).

use crate::sys::{check, check_int};
use rustix::io::Errno;

/// Bit n is capability n.
pub type CapBits = u64;

const LINUX_CAPABILITY_VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: libc::c_int,
}

#[repr(C)]
#[derive(Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Sets the effective, permitted and inheritable sets (capset(2), version 3). Child-safe.
pub fn set(effective: CapBits, permitted: CapBits, inheritable: CapBits) -> Result<(), Errno> {
    let header = Header { version: LINUX_CAPABILITY_VERSION_3, pid: 0 };
    let half = |shift: u32| Data {
        effective: (effective >> shift) as u32,
        permitted: (permitted >> shift) as u32,
        inheritable: (inheritable >> shift) as u32,
    };
    let data = [half(0), half(32)];
    // SAFETY: `header` and the two data halves have the layout of version 3 and outlive the call.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) }).map(|_| ())
}

/// The calling thread's permitted set (capget(2)). Child-safe.
pub fn permitted() -> CapBits {
    let header = Header { version: LINUX_CAPABILITY_VERSION_3, pid: 0 };
    let mut data = [Data::default(), Data::default()];
    // SAFETY: `header` and the two data halves have the layout of version 3; the kernel writes the latter.
    let read = check(unsafe { libc::syscall(libc::SYS_capget, &raw const header, data.as_mut_ptr()) });
    let [low, high] = data.map(|half| CapBits::from(half.permitted));
    if read.is_ok() { low | high << 32 } else { 0 }
}

/// Takes one capability out of the bounding set. Child-safe.
pub fn drop_bounding(capability: u32) -> Result<(), Errno> {
    // SAFETY: PR_CAPBSET_DROP takes a number and touches no memory.
    check_int(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability), 0, 0, 0) })
        .map(|_| ())
}

/// Empties the ambient set. Child-safe.
pub fn clear_ambient() -> Result<(), Errno> {
    // SAFETY: PR_CAP_AMBIENT takes numbers and touches no memory.
    check_int(unsafe {
        libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong, 0, 0, 0)
    })
    .map(|_| ())
}

/// Adds one capability, permitted and inheritable already, to the ambient set. Child-safe.
pub fn raise_ambient(capability: u32) -> Result<(), Errno> {
    let raise = libc::PR_CAP_AMBIENT_RAISE as libc::c_ulong;
    // SAFETY: PR_CAP_AMBIENT takes numbers and touches no memory.
    check_int(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, raise, libc::c_ulong::from(capability), 0, 0) })
        .map(|_| ())
}

/// The highest capability this kernel knows (`/proc/sys/kernel/cap_last_cap`); 40 when it cannot be read.
pub fn last() -> u32 {
    const CAP_CHECKPOINT_RESTORE: u32 = 40;
    std::fs::read_to_string("/proc/sys/kernel/cap_last_cap")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(CAP_CHECKPOINT_RESTORE)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_permitted_set_is_the_kernels() {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("CapPrm:")).unwrap();
        assert_eq!(super::permitted(), u64::from_str_radix(line.trim(), 16).unwrap());
    }
}
