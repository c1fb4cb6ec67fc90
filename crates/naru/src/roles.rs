//! The roles other than the CLI: each parses its own few arguments, runs to its end, and turns that into an exit code.

use crate::config::{DaemonConfig, DaemonFlags};
use clap::Parser;
use naru_proxy::ProxyConfig;
use naru_runtime::keeper::Role;
use naru_runtime::keeper::server::Ended;
use naru_types::Error;
use std::ffi::OsString;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, Parser)]
#[command(name = "naru proxy", about = "Serves the routes over HTTPS; started by the daemon")]
struct ProxyFlags {
    #[arg(long)]
    run: PathBuf,
    #[arg(long)]
    root: PathBuf,
    #[arg(long, default_value_t = ProxyConfig::HTTP_DEFAULT)]
    http: SocketAddr,
    #[arg(long, default_value_t = ProxyConfig::HTTPS_DEFAULT)]
    https: SocketAddr,
}

pub fn daemon(args: &[OsString]) -> ExitCode {
    let flags = match DaemonFlags::try_parse_from(args) {
        Ok(flags) => flags,
        Err(error) => return usage(&error),
    };
    leave_session(flags.detached);
    let started = DaemonConfig::from_flags(flags).and_then(|config| {
        // Before the first thread: a user namespace is joined by a process with one thread only.
        crate::rootless::enter(&config.engine.run)?;
        crate::daemon::run(config)
    });
    match started {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure(&error),
    }
}

pub fn keeper(args: &[OsString]) -> ExitCode {
    // Started by the daemon, or by itself: nobody types this.
    let role = match Role::parse(args.get(1..).unwrap_or_default()) {
        Ok(role) => role,
        Err(error) => return failure(&Error::invalid(error.to_string())),
    };
    leave_session(true);
    match naru_runtime::keeper::server::run(role) {
        Ok(Ended::Shutdown | Ended::AnotherRuns | Ended::Checked) => ExitCode::SUCCESS,
        Err(error) => failure(&Error::internal("the keeper ended").with_source(error)),
    }
}

pub fn proxy(args: &[OsString]) -> ExitCode {
    let flags = match ProxyFlags::try_parse_from(args) {
        Ok(flags) => flags,
        Err(error) => return usage(&error),
    };
    let config = ProxyConfig { root: flags.root, run: flags.run, http: flags.http, https: flags.https };
    match naru_proxy::run(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure(&error.into()),
    }
}

pub fn registry(args: &[OsString]) -> ExitCode {
    match crate::registry::run(args) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => usage(&error),
        Err(error) => failure(&error),
    }
}

/// What outlives its starter must not get the starter's terminal signals. A process group leader can't leave its
/// session; such a one was started by hand and stays where it is.
fn leave_session(wanted: bool) {
    if wanted {
        let _ = rustix::process::setsid();
    }
}

fn usage(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS }
}

/// A standard error that is gone is nobody's problem.
fn failure(error: &Error) -> ExitCode {
    let mut stderr = std::io::stderr().lock();
    let _ = writeln!(stderr, "error: {}", error.chain());
    if let Some(hint) = error.hint() {
        let _ = writeln!(stderr, "hint: {hint}");
    }
    ExitCode::FAILURE
}
