//! Between Docker's JSON and the engine's types. Pure functions; nothing here asks the engine.

pub mod create;
pub mod endpoint;
pub mod host;
pub mod image;
pub mod image_care;
pub mod image_remote;
pub mod inspect;
pub mod log;
pub mod mounts;
pub mod network;
pub mod ports;
pub mod refuse;
pub mod resources;
pub mod security;
pub mod stats;
pub mod summary;
pub mod time;
pub mod volume;

#[cfg(test)]
mod golden;
