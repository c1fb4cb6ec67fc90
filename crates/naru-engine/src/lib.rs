//! The engine: containers, execs, volumes, networks, health, restarts and events over one state database.
//!
//! # What it is
//! [`Engine`] turns typed requests into effects: keeper, networks, image store and disk. It is the only
//! owner of container state.
//!
//! # What it must not do
//! No HTTP, no Docker JSON, no external programs, no blocking call on an async thread.
//!
//! # Start reading at
//! [`Engine`], then `machine`.
//!
//! # Invariants
//! What a method acknowledged is in the database already. One task owns one container. A half-made thing
//! is unmade by whoever made it, or by the next start-up.
//!
//! # How it is tested
//! The state machine in a seeded simulator; the whole against real containers, as root.

mod db;
mod events;
mod face;
mod ids;
mod machine;
mod merge;
mod names;
mod options;
mod record;
mod stats_view;
mod view;

pub use face::{Engine, WaitHandle};
pub use options::*;
pub use stats_view::*;
pub use view::*;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Locks a mutex whose holders do not panic half way; should one have, its data is still the best there is.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
