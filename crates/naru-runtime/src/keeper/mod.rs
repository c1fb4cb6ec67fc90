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
//! | [`server`] | the process itself: set-up and loop; `requests`, `start`, `starting`, `adopt`, `exits` are its verbs |
//! | `process`, `input`, `attached` | one process's streams and who is attached |
//! | `logfile`, `spool`, `ttyspool` | the log, and why no line is lost when the keeper is killed |
//! | [`Role`] | what the process was started for |
//! | `upgrade`, [`state`], `saved` | another program takes the process over |
//! | `adopt`, `pipes` | going on after a killed keeper |
//! | `poller`, `peers`, `table` | epoll and timers, connections, who is who |
//!
//! What it is not: no restart policies, no state machine of containers, no networking. Those are the engine's.

mod adopt;
mod attached;
pub mod client;
mod connection;
mod exits;
#[cfg(test)]
mod fuzz;
pub mod held;
mod inherited;
mod input;
mod journal;
mod launch;
mod logfile;
mod peers;
mod pipes;
mod poller;
mod process;
pub mod protocol;
mod requests;
mod role;
mod saved;
pub mod server;
mod spool;
mod start;
mod starting;
pub mod state;
mod stdio;
mod table;
mod ttyspool;
mod upgrade;
mod wire;

pub use launch::{LaunchError, launch};
pub use role::{Role, RoleError};
pub use upgrade::build_of;

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

fn tty_spool_path(run_dir: &Path) -> PathBuf {
    run_dir.join("keeper.tty-spool")
}
