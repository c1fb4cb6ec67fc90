//! Container networks on one host: bridges, veth pairs, addresses, published ports, names.
//!
//! # What it is
//! A synchronous library that speaks rtnetlink and nfnetlink itself. [`Networks`] holds the model of everything one
//! instance owns on the host (bridges, one nftables table, address leases, port leases, the resolver's names) and
//! makes the kernel agree with it. The engine keeps the durable copy and hands it in at start.
//!
//! # What it must not do
//! No external programs, no tokio, no files of its own, no knowledge of images or processes. It never touches
//! devices, tables or rules that do not carry this instance's mark (table name, interface alias).
//!
//! # Start reading at
//! [`Networks`], then [`model`], then `firewall` (what the packets meet) and `dns` (what names resolve to).
//!
//! # Invariants
//! An address is given out once. A published port is held by a bound socket from before its rule exists until after
//! it is gone. A failed `attach` leaves nothing behind. No socket of ours outlives `detach` inside a container's
//! namespace.
//!
//! # How it is tested
//! Each kernel test runs in its own network namespace with real traffic between namespaces; the packet parsers by
//! tables and by seeded garbage.

pub mod cidr;
mod connect;
mod devices;
mod dns;
mod elements;
mod error;
pub mod files;
mod firewall;
mod ipam;
pub mod model;
mod networks;
mod options;
mod pool;
mod ports;
mod reconcile;
mod state;

pub use cidr::Ipv4Net;
pub use model::{
    AttachRequest, Attachment, Endpoint, EndpointRequest, Mac, NetConfig, Network, NetworkRequest,
    PublishedPort, Wanted, WantedContainer,
};
pub use networks::Networks;
