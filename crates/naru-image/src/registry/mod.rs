//! Registry.
pub mod auth;
