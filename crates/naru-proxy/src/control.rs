//! The control socket: `<run>/proxy.sock`, mode 0600, one JSON object a line, one answer line each.
//!
//! ```text
//! {"set_routes":{"routes":[…]}}  →  {"ok":{"generation":7}}
//! {"status":{}}                  →  {"status":{…}}
//! {"shutdown":{}}                →  {"ok":{"generation":7}}, then the proxy drains and ends
//! anything else                  →  {"error":{"message":"…"}}
//! ```

use crate::error::ProxyError;
use crate::state::State;
use crate::table::RouteTable;
use serde::{Deserialize, Serialize};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

/// Longest line in bytes: a full table with long names fits.
pub const LINE_LEN_MAX: usize = 16 * 1024 * 1024;
/// A peer that says nothing for so long is hung up on, in seconds.
const IDLE_SECS_MAX: u64 = 60;
/// Pause after a failed accept (usually: out of file descriptors), in milliseconds.
const ACCEPT_PAUSE_MS: u64 = 100;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    SetRoutes(RouteTable),
    Status {},
    Shutdown {},
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    Ok { generation: u64 },
    Status(Status),
    Error { message: String },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub pid: u32,
    pub generation: u64,
    pub routes: usize,
    pub http: String,
    pub https: String,
    /// Client connections that are open now.
    pub connections: usize,
    /// Requests since the start.
    pub requests: u64,
    /// Access log lines that were lost because the disk was slower than the traffic.
    pub log_lines_dropped: u64,
}

/// Binds the socket under a temporary name, protects it, and only then gives it its name: nobody can connect
/// to it while its mode is wrong. A stale socket is replaced; the caller holds the instance's lock.
pub(crate) fn bind(socket: &Path) -> Result<UnixListener, ProxyError> {
    let beside = socket.with_extension("sock.new");
    let _ = std::fs::remove_file(&beside);
    let listener = UnixListener::bind(&beside).map_err(ProxyError::disk("bind", &beside))?;
    std::fs::set_permissions(&beside, Permissions::from_mode(0o600))
        .map_err(ProxyError::disk("protect", &beside))?;
    std::fs::rename(&beside, socket).map_err(ProxyError::disk("place", socket))?;
    Ok(listener)
}

/// Ends when the state's shutdown is asked for.
pub(crate) async fn serve(listener: UnixListener, state: Arc<State>) {
    let mut ending = state.ending();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = ending.wait_for(|ending| *ending) => return,
        };
        match accepted {
            Ok((stream, _)) => drop(tokio::spawn(converse(stream, state.clone()))),
            Err(_) => tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await,
        }
    }
}

async fn converse(stream: UnixStream, state: Arc<State>) {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    loop {
        let mut line = Vec::new();
        let mut limited = (&mut read).take(LINE_LEN_MAX as u64);
        let patience = Duration::from_secs(IDLE_SECS_MAX);
        match tokio::time::timeout(patience, limited.read_until(b'\n', &mut line)).await {
            Ok(Ok(count)) if count > 0 => {}
            _ => return,
        }
        if line.last() != Some(&b'\n') {
            return;
        }
        let (reply, end) = answer(&line, &state).await;
        let Ok(mut bytes) = serde_json::to_vec(&reply) else { return };
        bytes.push(b'\n');
        let written = write.write_all(&bytes).await;
        if end {
            state.end();
        }
        if written.is_err() || end {
            return;
        }
    }
}

/// The answer, and whether the proxy ends after it was written.
async fn answer(line: &[u8], state: &Arc<State>) -> (Reply, bool) {
    match serde_json::from_slice(line) {
        Ok(Request::SetRoutes(table)) => match state.clone().set_routes(table).await {
            Ok(generation) => (Reply::Ok { generation }, false),
            Err(error) => (Reply::Error { message: naru_types::Error::from(error).chain() }, false),
        },
        Ok(Request::Status {}) => (Reply::Status(state.status()), false),
        Ok(Request::Shutdown {}) => (Reply::Ok { generation: state.table().generation }, true),
        Err(error) => (Reply::Error { message: format!("not a request: {error}") }, false),
    }
}
