//! Compose files: text in, a checked project of container descriptions out.
//!
//! # What it is
//! The loader of the Compose Specification's file format, with variables, anchors and merge keys, and its
//! one conversion into [`naru_types::spec::ContainerSpec`].
//!
//! # What it must not do
//! No I/O: files that a compose file names (`.env`, `env_file`) come through a function of the caller. No
//! engine, no network, no opinion on what runs already.
//!
//! # Start reading at
//! [`load`], then [`model`]; a service's conversion is in `service`.
//!
//! # Invariants
//! - Every key is either honoured or an error with file, line and path; none is read and ignored but `x-…`.
//! - The first error is reported, alone, and there is no partial result.
//! - The same input gives the same project and the same configuration hashes.
//!
//! # How it is tested
//! Tables of good and bad files beside the code.

mod dotenv;
mod error;
mod interpolate;
mod keys;
pub mod model;
mod order;
mod project;
mod read;
mod resources;
mod service;
mod service_net;
mod service_ports;
mod service_run;
mod service_volumes;
#[cfg(test)]
mod tests;
mod top_level;
mod words;
mod yaml;

pub use project::{LoadInput, ReadFile, load};
