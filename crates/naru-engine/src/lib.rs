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

mod actor;
mod archive;
mod attach;
mod attachment;
mod commit;
mod container;
mod copy_up;
mod create;
mod db;
mod emit;
mod engine;
mod events;
mod exec;
mod fdstore;
mod health;
mod ids;
mod keeper_link;
mod launch;
mod logs;
mod lowering;
mod machine;
mod merge;
mod names;
mod networks;
mod open;
mod options;
mod record;
mod refusal;
mod requests;
mod rootview;
mod runtimes;
mod stats;
mod stats_view;
mod step;
mod teardown;
mod update;
mod userns;
mod validate;
mod view;
mod views;
mod volumes;
mod volumes_from;

pub use engine::Engine;
pub use naru_runtime::external::Runtime;
pub use options::*;
pub use requests::WaitHandle;
pub use stats_view::*;
pub use step::StepProcess;
pub use view::*;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex whose holders do not panic half way; should one have, its data is still the best there is.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
