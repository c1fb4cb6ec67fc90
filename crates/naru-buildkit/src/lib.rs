//! BuildKit's gRPC interface over naru's builder, so that an unmodified `docker buildx` builds with it.
//!
//! # What it is
//! A small gRPC server on a connection that the client has had upgraded (`POST /grpc`), a gRPC client on another
//! one (`POST /session`) through which the build context is fetched, and between them the translation of
//! BuildKit's frontend attributes and exporters into a [`naru_build::BuildRequest`].
//!
//! # What it must not do
//! It evaluates no LLB: the client names the frontend `dockerfile.v0` and naru's own builder is that frontend.
//! It knows no Docker HTTP routes; those hand the connections over.
//!
//! # Start reading at
//! [`BuildKit`] in `server`, then `control` for what a client asks in which order.
//!
//! # Invariants
//! - Every message, transfer and table that a client can fill has a limit.
//! - A path that a client names is walked from the transfer's own directory without following links.
//! - A client that has gone cancels its build.
//!
//! # How it is tested
//! Hostile frames and transfers beside each part; the real plugin in the end-to-end tests of `naru`.

mod agent;
mod bridge;
mod builds;
mod control;
mod details;
mod error;
mod fetch;
mod filesync;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod grpc;
mod lend;
mod options;
mod outputs;
mod progress;
mod receive;
mod send;
mod server;
mod session;
mod subrequest;
mod tree;
mod tunnel;
mod upload;
mod usage;
mod waiting;
mod wire;

pub use server::{BuildKit, Host};
pub use session::SessionHead;
