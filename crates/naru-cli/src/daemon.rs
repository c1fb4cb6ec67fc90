//! Starting the daemon where none answers on the default socket, so that a newcomer types one command.

use crate::client::default_socket;
use naru_types::{Error, Result};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const START_SECS_MAX: u64 = 20;
const POLL_MS: u64 = 10;

/// Makes sure that a daemon answers on naru's own socket. A socket that was named by the user is left alone.
pub fn ensure_running(socket: &Path) -> Result<()> {
    if UnixStream::connect(socket).is_ok() || socket != default_socket() {
        return Ok(());
    }
    start(socket)
}

/// Starts `naru daemon` detached and waits for its socket.
pub fn start(socket: &Path) -> Result<()> {
    let exe = std::env::current_exe()
        .map_err(|error| Error::internal("cannot find naru's own binary").with_source(error))?;
    let mut child = Command::new(exe)
        .arg("daemon")
        .arg("--detached")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| Error::internal("cannot start the daemon").with_source(error))?;
    let deadline = Instant::now() + Duration::from_secs(START_SECS_MAX);
    while Instant::now() < deadline {
        if UnixStream::connect(socket).is_ok() {
            return Ok(());
        }
        if let Ok(Some(status)) = child.try_wait() {
            return Err(died(&mut child, status));
        }
        std::thread::sleep(Duration::from_millis(POLL_MS));
    }
    Err(Error::unavailable(format!("the daemon was started but doesn't answer on {}", socket.display()))
        .with_hint("run `naru daemon` in another terminal to see what it says"))
}

fn died(child: &mut std::process::Child, status: std::process::ExitStatus) -> Error {
    let mut said = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        let _ = std::io::Read::read_to_string(&mut stderr, &mut said);
    }
    let said = said.trim();
    let reason =
        if said.is_empty() { status.to_string() } else { said.trim_start_matches("error: ").to_owned() };
    Error::unavailable(format!("cannot start the naru daemon: {reason}"))
}
