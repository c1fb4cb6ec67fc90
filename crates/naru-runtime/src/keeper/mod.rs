//! The keeper: one small single-threaded process for all containers.
//!
//! It forks the containers, holds their pipes and ptys, writes their logs, serves attach sockets, reaps
//! them and records how they ended, *before* it tells anybody. The daemon is a client of it and may come
//! and go. One process rather than one shim per container, because a fixed ~2 MB beats 0.5–5 MB each.
//!
//! | file | what |
//! |---|---|
//! | [`protocol`] | the messages |
//! | `wire` | one message with its descriptors over SOCK_SEQPACKET |
//! | [`client`] | what the daemon uses |
//! | [`launch`] | starting the process |
//! | [`held`] | what the daemon holds so that a killed keeper breaks no pipe |
//! | [`server`] | the process itself: set-up and loop; `requests`, `start`, `exits` are its verbs |
//! | `process`, `input`, `attached` | one process's streams and who is attached |
//! | `logfile`, `spool` | the log, and why no line is lost when the keeper is killed |
//! | `poller`, `peers`, `table` | epoll and timers, connections, who is who |
//!
//! What it is not: no restart policies, no state machine of containers, no networking. Those are the engine's.

mod attached;
pub mod client;
mod connection;
mod exits;
pub mod held;
mod inherited;
mod input;
mod journal;
mod launch;
mod logfile;
mod peers;
mod poller;
mod process;
pub mod protocol;
mod requests;
pub mod server;
mod spool;
mod start;
mod stdio;
mod table;
mod wire;

pub use launch::{LaunchError, launch};

use std::path::{Path, PathBuf};

/// The keeper's socket in the run directory.
pub fn socket_path(run_dir: &Path) -> PathBuf {
    run_dir.join("keeper.sock")
}

fn lock_path(run_dir: &Path) -> PathBuf {
    run_dir.join("keeper.lock")
}

fn log_path(run_dir: &Path) -> PathBuf {
    run_dir.join("keeper.log")
}

fn spool_path(run_dir: &Path) -> PathBuf {
    run_dir.join("keeper.spool")
}
