//! Starting the keeper process, detached from whoever starts it.
//!
//! `fork` by hand would need `unsafe` and forks a threaded daemon; so the binary is executed again in its keeper role, and
//! that role calls setsid itself (which a group leader could not: so no `process_group(0)` here). It is left running:
//! when the starter ends, pid 1 takes it.

use super::client::{ClientError, Connection};
use super::{log_path, socket_path};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a new keeper may take until it answers.
const START_TIMEOUT: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(5);

#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    #[error("cannot execute {} keeper", exe.display())]
    Execute { exe: PathBuf, source: std::io::Error },
    #[error("the keeper ended at once ({status}); its log is {}", log.display())]
    Ended { status: std::process::ExitStatus, log: PathBuf },
    #[error("the keeper did not answer on {} within {} s", socket.display(), START_TIMEOUT.as_secs())]
    Silent { socket: PathBuf, source: ClientError },
}

/// Makes sure that a keeper answers in `run_dir`: starts `exe keeper --run run_dir` when none does, and waits until it
/// does. Two callers at once are safe: the keeper that comes second finds the lock taken and ends, and both callers
/// reach the first.
pub fn launch(exe: &Path, run_dir: &Path) -> Result<(), LaunchError> {
    if answers(run_dir).is_ok() {
        return Ok(());
    }
    let deadline = Instant::now() + START_TIMEOUT;
    let mut child = start(exe, run_dir)?;
    while let Err(source) = answers(run_dir) {
        if Instant::now() > deadline {
            return Err(LaunchError::Silent { socket: socket_path(run_dir), source });
        }
        std::thread::sleep(POLL_INTERVAL);
        match child.try_wait() {
            // The lock was taken: by another that is about to listen, or by a killed one that the kernel is still
            // clearing away.
            Ok(Some(status)) if status.success() => child = start(exe, run_dir)?,
            Ok(Some(status)) => return Err(LaunchError::Ended { status, log: log_path(run_dir) }),
            Ok(None) | Err(_) => {}
        }
    }
    // Whoever lives longer than the keeper has to reap it; a thread does, and ends with it or with us.
    let _ = std::thread::Builder::new().name("keeper-reaper".into()).spawn(move || child.wait());
    Ok(())
}

fn start(exe: &Path, run_dir: &Path) -> Result<Child, LaunchError> {
    Command::new(exe)
        .arg("keeper")
        .arg("--run")
        .arg(run_dir)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|source| LaunchError::Execute { exe: exe.to_owned(), source })
}

fn answers(run_dir: &Path) -> Result<(), ClientError> {
    Connection::open(run_dir).map(drop)
}
