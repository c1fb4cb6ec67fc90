//! What it takes to move a network device into another namespace and keep its addresses (rtnetlink(7)).

use super::Socket;
use super::message::{Message, attributes, u32_ne};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const NLM_F_CREATE_REPLACE: u16 = 0x500;
const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
const IFA_RT_PRIORITY: u16 = 9;
const IFA_F_PERMANENT: u32 = 0x80;
/// Flags that whoever adds an address may give: NODAD, HOMEADDRESS, MANAGETEMPADDR, NOPREFIXROUTE, MCAUTOJOIN.
const FLAGS_KEPT: u32 = 0x02 | 0x10 | 0x100 | 0x200 | 0x400;
const IFF_UP: u32 = 1;
const RT_SCOPE_UNIVERSE: u8 = 0;

/// An address of any family that was given for good and holds everywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastingAddress {
    family: u8,
    prefix_len: u8,
    flags: u32,
    attributes: Vec<(u16, Vec<u8>)>,
}

/// An rtnetlink conversation with the namespace that the opening thread was in.
#[derive(Debug)]
pub struct TransferSocket {
    socket: Socket,
}

impl TransferSocket {
    pub fn open() -> io::Result<Self> {
        Ok(Self { socket: Socket::route(0)? })
    }

    /// The permanent addresses of global scope.
    pub fn lasting_addresses(&mut self, index: u32) -> io::Result<Vec<LastingAddress>> {
        self.socket.dump(&Message::new(RTM_GETADDR, 0, &[0; 8]), |kind, payload| {
            let (header, rest) = payload.split_first_chunk::<8>()?;
            if kind != RTM_NEWADDR || u32_ne(&header[4..])? != index || header[3] != RT_SCOPE_UNIVERSE {
                return None;
            }
            let mut address = LastingAddress {
                family: header[0],
                prefix_len: header[1],
                flags: u32::from(header[2]),
                attributes: Vec::new(),
            };
            for (kind, value) in attributes(rest) {
                match kind {
                    IFA_FLAGS => address.flags = u32_ne(value)?,
                    IFA_ADDRESS | IFA_LOCAL | IFA_BROADCAST | IFA_RT_PRIORITY => {
                        address.attributes.push((kind, value.to_vec()));
                    }
                    _ => {}
                }
            }
            (address.flags & IFA_F_PERMANENT != 0).then_some(address)
        })
    }

    pub fn add(&mut self, index: u32, address: &LastingAddress) -> io::Result<()> {
        let mut fixed = vec![address.family, address.prefix_len, 0, RT_SCOPE_UNIVERSE];
        fixed.extend(index.to_ne_bytes());
        let message = Message::new(RTM_NEWADDR, NLM_F_CREATE_REPLACE, &fixed)
            .attr_u32(IFA_FLAGS, address.flags & FLAGS_KEPT);
        let message =
            address.attributes.iter().fold(message, |message, (kind, value)| message.attr(*kind, value));
        self.socket.request(message)
    }

    pub fn set_down(&mut self, index: u32) -> io::Result<()> {
        self.socket.request(Message::new(RTM_NEWLINK, 0, &link_header(index, 0, IFF_UP)))
    }

    pub fn set_up(&mut self, index: u32) -> io::Result<()> {
        self.socket.request(Message::new(RTM_NEWLINK, 0, &link_header(index, IFF_UP, IFF_UP)))
    }

    /// Into `netns` under `name`, in one request; the kernel moves it first, under its own name where that is free. A
    /// `%d` in the name is the kernel's to replace.
    pub fn move_to(&mut self, index: u32, name: &str, netns: BorrowedFd<'_>) -> io::Result<()> {
        let message = Message::new(RTM_NEWLINK, 0, &link_header(index, 0, 0))
            .attr_str(IFLA_IFNAME, name)
            .attr_u32(IFLA_NET_NS_FD, netns.as_raw_fd() as u32);
        self.socket.request(message)
    }
}

/// `struct ifinfomsg`.
fn link_header(index: u32, flags: u32, change: u32) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    for word in [index, flags, change] {
        bytes.extend(word.to_ne_bytes());
    }
    bytes
}
