//! `linux.netDevices`: devices of the host's that move into the container's network namespace (config-linux.md, "Network
//! Devices").
//!
//! The parent moves them while the child waits at its first point, before any hook. They are not moved back: when the
//! namespace ends, the kernel returns a physical device to the machine's first namespace and deletes a virtual one.

use crate::compile::namespaces::Caller;
use crate::errors::StartError;
use crate::oci;
use crate::outside::Outside;
use crate::request::{NetNs, SpawnError};
use naru_kernel::netlink::route::{Link, RouteSocket};
use naru_kernel::netlink::transfer::{LastingAddress, TransferSocket};
use naru_kernel::ns;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// Bytes of a device's name with its NUL (IFNAMSIZ).
const NAME_BYTES: usize = 16;

/// One device to move.
#[derive(Debug)]
pub(crate) struct Device {
    pub name: String,
    /// In the container; `%d` in it is a number that the kernel chooses.
    pub inside: String,
    /// The namespace; `None`: the child's, which is new.
    netns: Option<OwnedFd>,
}

/// What is to be done outside for the devices of the spec.
pub(crate) fn plan(
    spec: &oci::Spec,
    netns: &NetNs,
    caller: Caller,
    error: StartError,
) -> Result<Vec<Outside>, SpawnError> {
    let devices = &spec.linux.net_devices;
    if devices.is_empty() {
        return Ok(Vec::new());
    }
    if caller.worker || !caller.privileged {
        return Err(error.plain("network devices are not supported for rootless containers"));
    }
    let mut moves = Vec::with_capacity(devices.len());
    for (name, device) in devices {
        let inside = if device.name.is_empty() { name } else { &device.name };
        for name in [name, inside] {
            if !is_name(name) {
                return Err(error.plain(&format!("invalid network device name {name:?}")));
            }
        }
        let netns = match netns {
            NetNs::New => None,
            NetNs::Host => {
                return Err(error.plain("unable to move network devices without a NET namespace"));
            }
            NetNs::Fd(fd) => {
                Some(fd.try_clone().map_err(|cause| error.io("copy the network namespace", &cause))?)
            }
        };
        moves.push(Outside::NetDevice(Device { name: name.clone(), inside: inside.clone(), netns }));
    }
    Ok(moves)
}

/// As the kernel's dev_valid_name.
fn is_name(name: &str) -> bool {
    let bad = |letter: char| letter == '/' || letter == ':' || letter == '\0' || letter.is_ascii_whitespace();
    !name.is_empty() && name.len() < NAME_BYTES && name != "." && name != ".." && !name.contains(bad)
}

impl Device {
    /// Moves it into the namespace of `pid`, with its lasting addresses, and brings it up there.
    pub fn perform(&self, pid: i32) -> io::Result<()> {
        let opened;
        let netns = if let Some(fd) = &self.netns {
            fd.as_fd()
        } else {
            opened = ns::open(&format!("/proc/{pid}/ns/net"))?;
            opened.as_fd()
        };
        let link = RouteSocket::open()?.link(&self.name)?.ok_or(io::ErrorKind::NotFound);
        let link = link.map_err(|_| io::Error::from_raw_os_error(NO_SUCH_DEVICE))?;
        let mut here = TransferSocket::open()?;
        // Before it goes down, which takes away addresses of IPv6.
        let addresses = here.lasting_addresses(link.index)?;
        let before = ns::run_in(netns, ns::NEWNET, links)??;
        // The kernel moves first and renames then: a name that is taken would leave the device inside, under its old one.
        if before.iter().any(|link| link.name == self.inside) {
            return Err(io::Error::from_raw_os_error(NAME_IS_TAKEN));
        }
        here.set_down(link.index)?;
        if let Err(refused) = here.move_to(link.index, &self.inside, netns) {
            if link.up {
                // It stays, so it shall be as it was; the refusal is the error to tell.
                let _ = here.set_up(link.index);
                for address in &addresses {
                    let _ = here.add(link.index, address);
                }
            }
            return Err(refused);
        }
        ns::run_in(netns, ns::NEWNET, || set_up(&self.inside, &before, &addresses))?
    }
}

const NO_SUCH_DEVICE: i32 = naru_kernel::Errno::NODEV.raw_os_error();
const NAME_IS_TAKEN: i32 = naru_kernel::Errno::EXIST.raw_os_error();

fn links() -> io::Result<Vec<Link>> {
    RouteSocket::open()?.links()
}

/// On a thread in the new namespace. Under a name with `%d` it is the one that was not there `before`.
fn set_up(name: &str, before: &[Link], addresses: &[LastingAddress]) -> io::Result<()> {
    let links = links()?;
    let is_it = |link: &&Link| {
        if name.contains('%') { before.iter().all(|old| old.index != link.index) } else { link.name == name }
    };
    let gone = || io::Error::from_raw_os_error(NO_SUCH_DEVICE);
    let index = links.iter().find(is_it).ok_or_else(gone)?.index;
    let mut there = TransferSocket::open()?;
    for address in addresses {
        there.add(index, address)?;
    }
    there.set_up(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_devices() {
        for good in ["eth0", "eth%d", "a.b", "fifteen-letters"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a:b", "a b", "sixteen-letters-"] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
