//! The daemon's life: claim the socket, wire everybody together, serve until a signal or a client ends it.

use crate::config::DaemonConfig;
use crate::wiring;
use naru_engine::{ROOT_DIR_MODE, RUN_DIR_MODE};
use naru_types::{Error, Result};
use std::fs::File;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};

/// Threads that answer requests. Blocking work has a pool of its own.
const WORKER_THREADS: usize = 2;

/// How long the daemon's end waits for work that can't be interrupted, such as the hashing of a huge layer. What is cut short
/// is as if the daemon had been killed: the next one sweeps it.
const WORK_WAIT: Duration = Duration::from_secs(10);

pub fn run(config: DaemonConfig) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .enable_all()
        .build()
        .map_err(|error| Error::internal("cannot start the daemon's threads").with_source(error))?;
    let outcome = runtime.block_on(serve(config));
    runtime.shutdown_timeout(WORK_WAIT);
    outcome
}

async fn serve(config: DaemonConfig) -> Result<()> {
    private_dir(&config.engine.root, ROOT_DIR_MODE)?;
    private_dir(&config.engine.run, RUN_DIR_MODE)?;
    let _lock = Lock::take(&config.engine.run)?;
    let socket = Socket::bind(&config.socket)?;
    let daemon = wiring::Daemon::start(&config).await?;
    if config.detached {
        forget_starter();
    }
    let mut terminate = on(SignalKind::terminate())?;
    let mut interrupt = on(SignalKind::interrupt())?;
    let asked = daemon.shutdown_asked();
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = asked => {}
        }
    };
    daemon.serve(socket.listener()?, stop).await;
    socket.remove();
    daemon.stop().await
}

fn on(kind: SignalKind) -> Result<tokio::signal::unix::Signal> {
    signal(kind).map_err(|error| Error::internal("cannot listen for signals").with_source(error))
}

/// The daemon's directory; one that is there already keeps its mode until the engine sets it.
fn private_dir(path: &Path, mode: u32) -> Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(mode).create(path).map_err(|error| {
        let hint = "run as root, or choose directories of your own with --root and --run";
        Error::internal(format!("cannot make {}", path.display())).with_hint(hint).with_source(error)
    })
}

/// The CLI reads the daemon's standard error until it answers; afterwards nobody does, and a full pipe would block.
fn forget_starter() {
    if let Ok(null) = File::options().write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stderr(&null);
    }
}

/// One daemon per run directory: an advisory lock that the kernel releases however the process ends.
struct Lock {
    _file: File,
}

impl Lock {
    fn take(run: &Path) -> Result<Self> {
        let path = run.join("daemon.lock");
        let broken = |error| Error::internal(format!("cannot lock {}", path.display())).with_source(error);
        // flock(2) takes a descriptor of any kind: who can read the file could keep every daemon from starting.
        let private = std::fs::Permissions::from_mode(0o600);
        let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = file.and_then(|file| file.set_permissions(private).map(|()| file)).map_err(broken)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(std::fs::TryLockError::WouldBlock) => {
                Err(Error::conflict(format!("a daemon runs already in {}", run.display()))
                    .with_hint("stop it with `naru system stop`, or choose another --run"))
            }
            Err(std::fs::TryLockError::Error(error)) => Err(broken(error)),
        }
    }
}

/// The API's socket: bound before anything starts, so that a client that waits connects and is answered when all is ready.
struct Socket {
    path: PathBuf,
    listener: std::os::unix::net::UnixListener,
}

impl Socket {
    fn bind(path: &Path) -> Result<Self> {
        let broken =
            |error| Error::internal(format!("cannot listen on {}", path.display())).with_source(error);
        // The lock is ours: a socket that is there belongs to a daemon that was killed.
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(broken(error)),
            _ => {}
        }
        let listener = std::os::unix::net::UnixListener::bind(path).map_err(broken)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(broken)?;
        listener.set_nonblocking(true).map_err(broken)?;
        Ok(Self { path: path.to_owned(), listener })
    }

    fn listener(&self) -> Result<UnixListener> {
        let broken =
            |error| Error::internal(format!("cannot listen on {}", self.path.display())).with_source(error);
        let listener = self.listener.try_clone().map_err(broken)?;
        UnixListener::from_std(listener).map_err(broken)
    }

    fn remove(&self) {
        // A socket that is left is removed by the next start.
        let _ = std::fs::remove_file(&self.path);
    }
}
