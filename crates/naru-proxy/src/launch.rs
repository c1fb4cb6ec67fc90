//! Starting the proxy's process from the daemon, when none is there.
//!
//! The child is the same binary, `exe proxy --run … --root … --http … --https …`. It leaves the daemon's
//! session by itself (`setsid` at its start), so that the daemon's end is not its own.

use crate::client::ProxyClient;
use crate::config::ProxyConfig;
use crate::error::ProxyError;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for the socket, in seconds. Making the CA takes a few milliseconds.
const SOCKET_SECS_MAX: u64 = 10;
/// How often the socket is looked for, in milliseconds.
const LOOK_MS: u64 = 10;
/// What is quoted of the log of a proxy that died at its start, in bytes.
const QUOTE_LEN_MAX: u64 = 4096;

/// Makes sure that a proxy answers: uses the one that does, or starts `exe`. Blocks until its socket answers.
/// What the child says (only when it cannot start) goes to `<root>/proxy/proxy.log`.
pub fn launch(exe: &Path, config: &ProxyConfig) -> Result<ProxyClient, ProxyError> {
    let client = ProxyClient::new(&config.run);
    if client.status().is_ok() {
        return Ok(client);
    }
    let dir = config.dir();
    crate::durable::create_private_dir(&dir)?;
    let log_path = dir.join("proxy.log");
    // A new file for each start: it only ever holds the last words of one process.
    let log = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&log_path)
        .map_err(ProxyError::disk("create", &log_path))?;
    let child = spawn(exe, config, &log).map_err(|source| ProxyError::Spawn { exe: exe.into(), source })?;
    wait_for_socket(child, client, log)
}

fn spawn(exe: &Path, config: &ProxyConfig, log: &File) -> std::io::Result<Child> {
    Command::new(exe)
        .arg("proxy")
        .arg("--run")
        .arg(&config.run)
        .arg("--root")
        .arg(&config.root)
        .args(["--http", &config.http.to_string(), "--https", &config.https.to_string()])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log.try_clone()?)
        .spawn()
}

fn wait_for_socket(mut child: Child, client: ProxyClient, log: File) -> Result<ProxyClient, ProxyError> {
    let deadline = Instant::now() + Duration::from_secs(SOCKET_SECS_MAX);
    loop {
        if client.status().is_ok() {
            reap_later(child);
            return Ok(client);
        }
        if let Ok(Some(status)) = child.try_wait() {
            return Err(ProxyError::DiedAtStart { status: status.to_string(), said: last_words(log) });
        }
        if Instant::now() >= deadline {
            // It is ours and of no use to anybody: do not leave it behind half alive.
            let _ = child.kill();
            let _ = child.wait();
            return Err(ProxyError::NoSocket { socket: client.socket().into(), seconds: SOCKET_SECS_MAX });
        }
        std::thread::sleep(Duration::from_millis(LOOK_MS));
    }
}

/// A proxy that ends while the daemon lives must not stay a zombie. The thread ends with the child.
fn reap_later(mut child: Child) {
    let reaper = std::thread::Builder::new().name("proxy-reaper".into());
    // Without the thread the kernel keeps a zombie until the daemon ends; nothing else depends on it.
    let _ = reaper.spawn(move || child.wait());
}

fn last_words(mut log: File) -> String {
    let mut said = String::new();
    let _ = log.seek(SeekFrom::Start(0)).and_then(|_| log.take(QUOTE_LEN_MAX).read_to_string(&mut said));
    let said = said.trim();
    if said.is_empty() { "it said nothing".into() } else { said.to_owned() }
}
