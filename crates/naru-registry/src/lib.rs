//! A container registry: the OCI distribution specification 1.1 over HTTP and HTTPS.
//!
//! # What it is
//! Blobs as files, everything else in SQLite; pull, push, mount, tags, referrers, deletion; tokens and
//! quotas per repository; garbage collection that runs beside pushes.
//!
//! # What it must not do
//! It unpacks nothing, runs nothing, trusts no name, and knows nothing of the engine or its image store.
//!
//! # Start reading at
//! [`serve`], then `http::route` for what can be asked, and [`store`] for what is kept how.
//!
//! # Invariants
//! - Durable before acknowledged: a blob is synced, renamed, its directory synced and its row committed
//!   before 201; a manifest is a row.
//! - A manifest is only taken when all that it names is in its repository.
//! - No text of a client becomes part of a path: files are named by checked digests and random ids.
//! - Every client's share is bounded: connections, heads, uploads, waiting times.
//!
//! # How it is tested
//! Grammar and manifests by tables beside the code; the server over sockets in `tests/`: the protocol case
//! by case, hostile clients, pushes and pulls beside the garbage collection, `kill -9` during pushes, and
//! skopeo, podman and docker as clients.

mod database;
mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod gc;
mod http;
mod manifest;
mod manifests;
mod name;
mod report;
pub mod store;
mod token;
mod upload;

pub use error::RegistryError;
pub use gc::{Collected, GRACE_DEFAULT, GcOptions};
pub use http::server::{ServeOptions, TlsFiles, serve};
pub use manifest::MANIFEST_BYTES_MAX;
pub use name::RepositoryName;
pub use report::RepositoryReport;
pub use store::Store;
pub use token::{Pattern, Rights, Secret, Token};
