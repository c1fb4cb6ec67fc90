//! Images: where they are kept, how they come in and how they go out.
//!
//! # What it is
//! A store of image configurations, manifests and unpacked layers; a registry client that pulls in one
//! pass and pushes what the other side lacks; `load`, `save`, `import`, `commit`; the
//! unpacker and packer of trees that all of them (and `cp`, `export` and the build context) go through.
//!
//! # What it must not do
//! No mounts (the runtime mounts what [`Store::layer_dirs`] names), no async, no external program, no
//! knowledge of containers: who uses an image is asked through a callback of the caller.
//!
//! # Start reading at
//! [`store`], then [`pull`]; for archives [`unpack`] and [`pack`].
//!
//! # Invariants
//! - Durable before visible: a layer is unpacked in staging, synced, renamed, and only then entered in
//!   the index; a listed image is whole on disk.
//! - What is stored under a digest was hashed by us; both the compressed and the uncompressed digest of
//!   a pulled layer are checked before it can be seen.
//! - No archive entry reaches a path outside of the directory it is unpacked into.
//! - The exact tar of every layer can be written again ([`split`]), so that its digest never changes.
//!
//! # How it is tested
//! Unit tests beside the code; `tests/` runs pulls and pushes against a real registry, archives made by
//! GNU tar, hostile archives, interrupted and concurrent pulls; `tests/storm.rs` cancels and kills them.

pub mod blob;
pub mod build;
pub mod changes;
pub mod copy;
pub mod error;
mod flight;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod gc;
pub mod import;
pub mod index;
pub mod layer;
mod leftovers;
pub mod load;
pub mod pack;
pub mod progress;
pub mod pull;
pub mod push;
pub mod query;
pub mod refs;
pub mod registry;
pub mod remote;
pub mod save;
pub mod split;
pub mod store;
pub mod tree;
pub mod unpack;
pub mod verify;

/// The codec under its old name.
pub use naru_tar as tar;

pub use build::Layer;
pub use copy::{CopiedImage, CopyOptions};
pub use error::ImageError;
pub use gc::{GcImage, GcOutcome, GcPolicy, GcReason};
pub use progress::{LayerStep, Progress};
pub use pull::{PullOptions, PulledImage};
pub use push::{PushOptions, PushedImage};
pub use query::{HistoryEntry, Image};
pub use refs::{ImageUser, Pruned, RemoveOptions, Removed};
pub use registry::auth::{Credentials, Secret};
pub use registry::login::Login;
pub use remote::{Distribution, Referrer, RemoteManifest, RemoteOptions};
pub use store::{Lease, Store, StoreConfig};
pub use verify::repair::{RepairOptions, Repaired};
pub use verify::{Damage, DamagedPart, Verdict, Verified};
