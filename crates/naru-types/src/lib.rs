//! The nouns of naru, as types.
//!
//! # What it is
//! Ids, names, digests, image references, sizes, signals, the one [`spec::ContainerSpec`], image
//! configuration, events, the log record codec and the error that crosses crate borders.
//!
//! # What it must not do
//! No I/O, no clock, no randomness, no async, no knowledge of Docker's JSON (that is `naru-wire`).
//!
//! # Start reading at
//! [`spec`], then [`error`].
//!
//! # Invariants
//! A value of these types is valid: parsing is the only way in.
//!
//! # How it is tested
//! Tables of input and expectation beside each parser.

pub mod capability;
pub mod change;
pub mod digest;
pub mod dockerignore;
pub mod error;
pub mod event;
pub mod gomode;
pub mod id;
pub mod image;
pub mod logrec;
pub mod pattern;
pub mod platform;
pub mod quantity;
pub mod reference;
pub mod signal;
pub mod spec;
pub mod suggest;
pub mod time;

pub use digest::Digest;
pub use error::{Error, Kind, Result};
pub use id::{ContainerId, ExecId, NetworkId};
pub use reference::ImageRef;
pub use time::Timestamp;
