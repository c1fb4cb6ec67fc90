//! The command line: Docker's verbs with Docker's output, and naru's own (`up`, `down`, `alerts`, `ca`).
//!
//! # What it is
//! A client of the daemon's API like any other, over `naru_wire::client`. When no daemon answers on the
//! default socket it starts one and waits for it, so that a newcomer types one command.
//!
//! # What it must not do
//! No local mode: it never touches images, containers or networks itself. No async: it starts in a millisecond.
//! No external program but `docker-credential-*`, whose command line is the interface that Docker documents.
//!
//! # Start reading at
//! [`run`], then [`flags`] for what can be typed and `commands/<verb>.rs` for what it does.
//!
//! # Invariants
//! stdout is data, stderr is talk. Exit codes are Docker's: 125 when the daemon refused, 126 and 127 when the
//! program could not be run, else the container's own.
//!
//! # How it is tested
//! Flag parsing and request bodies by tables here; behaviour end to end against a real daemon in `crates/naru/tests`.

mod client;
mod commands;
mod credentials;
mod daemon;
pub mod flags;
mod output;
mod project;
mod request;
mod stdio;
mod table;
mod tar;
mod template;
mod terminal;

use clap::Parser;
pub use client::{Endpoint, default_socket};
use std::ffi::OsString;
use std::process::ExitCode;

/// What a command ends with: the exit code, or an error that the printer shows.
pub(crate) type Outcome = Result<u8, CliError>;

/// An error and the exit code it means.
#[derive(Debug)]
pub struct CliError {
    pub error: naru_types::Error,
    pub exit_code: u8,
}

impl From<naru_types::Error> for CliError {
    fn from(error: naru_types::Error) -> Self {
        Self { error, exit_code: 1 }
    }
}

impl CliError {
    /// `docker run` and `create` answer 125 when the daemon itself refused.
    pub(crate) fn with_exit_code(self, exit_code: u8) -> Self {
        Self { exit_code, ..self }
    }
}

/// Parses `args` (the program's name first), runs the command and turns its outcome into an exit code.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match flags::Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(usage) => return output::usage(&usage),
    };
    let endpoint = Endpoint::choose(cli.host.as_deref());
    match commands::dispatch(cli.command, &endpoint) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            output::print_error(&failure.error);
            ExitCode::from(failure.exit_code)
        }
    }
}
