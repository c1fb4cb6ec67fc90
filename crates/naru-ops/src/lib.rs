//! Operations above the engine: routes to the proxy, alerts to Discord, records of deploys.
//!
//! # What it is
//! A reader of the engine's events. [`Ops`] computes the proxy's table from labels, judges events by the
//! alert rules, keeps alerts in a durable outbox until a webhook has them, and records deploys.
//!
//! # What it must not do
//! It starts and stops no container and keeps no state that the engine owns. It speaks no HTTP to users.
//!
//! # Start reading at
//! [`Ops`], then `rules` (pure), then `outbox` and `sender`.
//!
//! # Invariants
//! An alert is committed before it is sent and is sent at least once, or carries the recorded error that
//! stopped it. The webhook's address shows in no log, error or `Debug`. No text from a container can mention
//! anybody or leave its code block.
//!
//! # How it is tested
//! The rules as tables of events; the sender against a local receiver that refuses, delays and hangs up;
//! the router against a fake engine.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

pub mod config;
mod db;
mod deploys;
mod discord;
mod embed;
mod error;
pub mod events;
mod message;
pub mod ops;
mod outbox;
mod port;
mod router;
mod routes;
mod rules;
mod sender;
#[cfg(test)]
mod tests;
pub mod views;
mod watch;
pub mod webhook;

pub use config::OpsConfig;
pub use ops::Ops;
pub use views::{AlertState, AlertView, DeployId, DeployState, DeployView, ProxyState, RoutesView};
pub use webhook::WebhookUrl;
