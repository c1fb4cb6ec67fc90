//! What a client lends a build and no image or cache may keep: secrets and SSH agents.

use naru_types::Result;
use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// The biggest secret, in bytes: BuildKit's limit.
pub const SECRET_BYTES_MAX: usize = 500 << 10;

/// Asked when a step needs it, so that a client can answer over a connection.
pub trait BuildSession: Send + Sync {
    /// `None`: the client has no secret of this name.
    fn secret(&self, id: &str) -> Result<Option<Secret>>;
    /// `None`: the client forwards no agent of this name (`default` is the usual one).
    fn ssh_agent(&self, id: &str) -> Result<Option<SshAgent>>;
}

/// A value that never shows itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("****")
    }
}

/// The socket of an agent, open while the guard lives.
pub struct SshAgent {
    pub socket: PathBuf,
    /// Ends the forwarding when dropped.
    pub guard: Option<Box<dyn Any + Send>>,
}

/// A client that lends nothing.
#[derive(Debug)]
pub struct NoSession;

impl BuildSession for NoSession {
    fn secret(&self, _: &str) -> Result<Option<Secret>> {
        Ok(None)
    }

    fn ssh_agent(&self, _: &str) -> Result<Option<SshAgent>> {
        Ok(None)
    }
}

/// Secrets that came along with the request, and agents of this host by their sockets.
#[derive(Clone, Debug, Default)]
pub struct Lent {
    pub secrets: BTreeMap<String, Secret>,
    pub agents: BTreeMap<String, PathBuf>,
}

impl BuildSession for Lent {
    fn secret(&self, id: &str) -> Result<Option<Secret>> {
        Ok(self.secrets.get(id).cloned())
    }

    fn ssh_agent(&self, id: &str) -> Result<Option<SshAgent>> {
        Ok(self.agents.get(id).map(|socket| SshAgent { socket: socket.clone(), guard: None }))
    }
}
