//! Resource limits of the calling process (prlimit(2)), by raw number.

use crate::sys::check;
use rustix::io::Errno;

/// Unlimited.
pub const INFINITY: u64 = u64::MAX;

const NAMES: [&str; 16] = [
    "CPU",
    "FSIZE",
    "DATA",
    "STACK",
    "CORE",
    "RSS",
    "NPROC",
    "NOFILE",
    "MEMLOCK",
    "AS",
    "LOCKS",
    "SIGPENDING",
    "MSGQUEUE",
    "NICE",
    "RTPRIO",
    "RTTIME",
];

/// The number of `NOFILE`, `nofile` or `RLIMIT_NOFILE`. The numbers are those of asm-generic/resource.h, which x86
/// and arm share.
pub fn number(name: &str) -> Option<u32> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("RLIMIT_").unwrap_or(&upper);
    NAMES.iter().position(|known| *known == bare).map(|index| index as u32)
}

/// The (soft, hard) limit. Child-safe.
pub fn get(resource: u32) -> Result<(u64, u64), Errno> {
    let mut old = [0u64; 2];
    let none = std::ptr::null::<[u64; 2]>();
    // SAFETY: `old` has the layout of struct rlimit64 and is writable; a null new limit means "only read".
    check(unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, none, old.as_mut_ptr()) })?;
    Ok((old[0], old[1]))
}

/// Sets the soft and hard limit. Child-safe.
pub fn set(resource: u32, soft: u64, hard: u64) -> Result<(), Errno> {
    let new = [soft, hard];
    let none = std::ptr::null_mut::<[u64; 2]>();
    // SAFETY: `new` has the layout of struct rlimit64; a null old limit is allowed.
    check(unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, new.as_ptr(), none) }).map(|_| ())
}

/// As [`set`] for another process.
pub fn set_of(pid: i32, resource: u32, soft: u64, hard: u64) -> Result<(), Errno> {
    let new = [soft, hard];
    let none = std::ptr::null_mut::<[u64; 2]>();
    // SAFETY: `new` has the layout of struct rlimit64; a null old limit is allowed.
    check(unsafe { libc::syscall(libc::SYS_prlimit64, pid, resource, new.as_ptr(), none) }).map(|_| ())
}

#[cfg(test)]
mod tests {
    #[test]
    fn names() {
        assert_eq!(super::number("nofile"), Some(7));
        assert_eq!(super::number("RLIMIT_RTTIME"), Some(15));
        assert_eq!(super::number("x"), None);
        assert!(super::get(7).unwrap().0 > 0);
    }
}
