//! The HTTPS reverse proxy: a process of its own that is told a table of routes and serves it.
//!
//! # What it is
//! TLS (from naru's own development CA) and plain HTTP in front; HTTP/1.1 to the backends behind, over a
//! bounded pool. The daemon replaces the whole [`RouteTable`] through a unix socket; the last one is kept on
//! disk, so that the proxy serves with no daemon at all and a daemon restart drops no request.
//! [`run`] can be started and benchmarked alone.
//!
//! # What it must not do
//! It knows no containers, no engine and no database. It buffers no body. It serves no certificate for a host
//! that is not in its table. ACME, HTTP/3, wildcard hosts, HTTP/2 to backends (so gRPC) and caching are not
//! here yet.
//!
//! # Start reading at
//! [`table`], then `forward` (one request), then `gate` (what is refused before the HTTP parser sees it).
//!
//! # Invariants
//! A table is replaced whole and is on disk before the answer says so. A request that was begun ends on the
//! backend it began on. A request is sent twice only when it provably never reached a backend, or when it is
//! idempotent and has no body. A private key never shows in `Debug`, in a log or outside a file of mode 0600.
//!
//! # How it is tested
//! Against real sockets on loopback: a TLS client that checks the CA, small hostile and friendly backends, and
//! a table of smuggling attempts (`tests/`).

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod access_log;
mod body;
mod ca;
pub mod client;
pub mod config;
pub mod control;
mod durable;
pub mod error;
mod forward;
mod gate;
mod headers;
pub mod launch;
mod leaf;
mod pages;
mod pool;
mod port_owner;
mod serve;
mod state;
pub mod table;
mod tls;
mod tunnel;

pub use ca::CA_CERTIFICATE_FILE;
pub use config::ProxyConfig;
pub use error::ProxyError;
pub use serve::{Proxy, run};
pub use table::{Route, RouteTable};
