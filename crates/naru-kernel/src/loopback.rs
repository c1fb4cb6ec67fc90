//! Brings `lo` of the calling thread's network namespace up (netdevice(7)), without netlink. Child-safe.

use crate::sys::check_int;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::os::fd::AsRawFd;

/// Sets IFF_UP on `lo`; the kernel adds 127.0.0.1 and ::1 by itself.
pub fn up() -> Result<(), Errno> {
    #[repr(C)]
    struct FlagsRequest {
        name: [u8; libc::IFNAMSIZ],
        flags: libc::c_short,
        rest: [u8; 22],
    }
    let mut name = [0u8; libc::IFNAMSIZ];
    name[..2].copy_from_slice(b"lo");
    let flags = (libc::IFF_UP | libc::IFF_RUNNING | libc::IFF_LOOPBACK) as libc::c_short;
    let request = FlagsRequest { name, flags, rest: [0; 22] };
    let socket =
        rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: `request` has the size and layout of struct ifreq with its flags member, and outlives the call.
    check_int(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) }).map(|_| ())
}
