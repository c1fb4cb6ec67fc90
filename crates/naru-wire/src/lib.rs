//! The words of the Docker Engine API, and of naru's own, as they go over the wire.
//!
//! # What it is
//! JSON types written by hand (requests decode as tolerantly as Go does, responses write the `null`s
//! that Go writes), the 8-byte framing of multiplexed streams, progress messages, percent-encoding, and a small
//! synchronous HTTP/1.1 client over a unix socket.
//!
//! # What it must not do
//! No knowledge of the engine, no async, no decision about what a request means: the conversion into
//! a `ContainerSpec` is `naru-api`'s.
//!
//! # Start reading at
//! [`create`] and [`fold`] for requests, [`inspect`] for responses, [`client`] for the client.
//!
//! # Invariants
//! A key is matched without regard to case and an explicit `null` means "not given", as with Go's
//! `encoding/json`. A response field without `skip_serializing_if` is always written.
//!
//! # How it is tested
//! Golden answers of a real dockerd in `naru-api`; tables and a socket pair here.

#![allow(clippy::zero_sized_map_values)] // Go's map[string]struct{} is what goes over the wire

pub mod analysis;
pub mod client;
pub mod create;
pub mod event;
pub mod exec;
pub mod fold;
pub mod frame;
pub mod host_config;
pub mod image;
pub mod inspect;
pub mod message;
pub mod naru;
pub mod network;
pub mod stats;
pub mod system;
pub mod url;
pub mod volume;

/// The newest version of Docker's API that naru speaks.
pub const API_VERSION: &str = "1.50";
/// The oldest.
pub const API_VERSION_MIN: &str = "1.24";
/// The product part of the `User-Agent` by which naru's own client is known.
pub const USER_AGENT_PREFIX: &str = "naru/";
