//! The daemon's end of the control socket: synchronous, one connection per question.

use crate::control::{LINE_LEN_MAX, Reply, Request, Status};
use crate::error::ProxyError;
use crate::table::RouteTable;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest wait for one answer, in seconds. A table is written to disk before it is answered.
const ANSWER_SECS_MAX: u64 = 10;

/// Knows where the socket is; holds no connection.
#[derive(Clone, Debug)]
pub struct ProxyClient {
    socket: PathBuf,
}

impl ProxyClient {
    /// `run` is the run directory that the proxy was started with.
    pub fn new(run: &Path) -> Self {
        Self { socket: crate::config::socket_path(run) }
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Replaces the table; returns its generation. It is durable when this returns.
    pub fn set_routes(&self, table: &RouteTable) -> Result<u64, ProxyError> {
        match self.ask(&Request::SetRoutes(table.clone()))? {
            Reply::Ok { generation } => Ok(generation),
            other => Err(unexpected(&other)),
        }
    }

    pub fn status(&self) -> Result<Status, ProxyError> {
        match self.ask(&Request::Status {})? {
            Reply::Status(status) => Ok(status),
            other => Err(unexpected(&other)),
        }
    }

    /// Asks the proxy to end: it stops listening at once and lets begun requests finish for a while.
    pub fn shutdown(&self) -> Result<(), ProxyError> {
        match self.ask(&Request::Shutdown {})? {
            Reply::Ok { .. } => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    fn ask(&self, request: &Request) -> Result<Reply, ProxyError> {
        let broke = |step: &'static str| {
            move |source: std::io::Error| ProxyError::Conversation {
                step,
                socket: self.socket.clone(),
                source,
            }
        };
        let stream = UnixStream::connect(&self.socket)
            .map_err(|source| ProxyError::NotRunning { socket: self.socket.clone(), source })?;
        let patience = Some(Duration::from_secs(ANSWER_SECS_MAX));
        stream.set_read_timeout(patience).map_err(broke("setting its timeout"))?;
        stream.set_write_timeout(patience).map_err(broke("setting its timeout"))?;
        let mut line =
            serde_json::to_vec(request).map_err(std::io::Error::other).map_err(broke("encoding"))?;
        line.push(b'\n');
        (&stream).write_all(&line).map_err(broke("asking"))?;
        let mut answer = String::new();
        BufReader::new((&stream).take(LINE_LEN_MAX as u64))
            .read_line(&mut answer)
            .map_err(broke("waiting for its answer"))?;
        match serde_json::from_str(&answer)
            .map_err(std::io::Error::other)
            .map_err(broke("reading its answer"))?
        {
            Reply::Error { message } => Err(ProxyError::Refused { message }),
            reply => Ok(reply),
        }
    }
}

fn unexpected(reply: &Reply) -> ProxyError {
    ProxyError::Refused { message: format!("answered {reply:?} to another question") }
}
