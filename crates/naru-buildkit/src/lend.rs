//! What a client lends its build over the session: secrets and SSH agents. Each is asked for when a step wants it and kept
//! nowhere.

use crate::agent;
use crate::error::{Error, Result};
use crate::session::Session;
use crate::wire::{self, Out};
use naru_build::{BuildSession, Secret, SshAgent};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::runtime::Handle;

const GET_SECRET: &str = "/moby.buildkit.secrets.v1.Secrets/GetSecret";
/// google.rpc.Code.NOT_FOUND.
const NOT_FOUND: u32 = 5;
/// How long a client may take to hand out a secret: it may have to run a helper.
const SECRET_WAIT_MAX: Duration = Duration::from_secs(60);

/// One client's; asked from the build's own thread.
pub struct Lender {
    session: Session,
    runtime: Handle,
    /// Where sockets are put.
    scratch: PathBuf,
}

impl Lender {
    /// To be called on the runtime that the session lives on.
    pub fn new(session: Session, scratch: &Path) -> Self {
        Self { session, runtime: Handle::current(), scratch: scratch.to_owned() }
    }
}

impl BuildSession for Lender {
    fn secret(&self, id: &str) -> naru_types::Result<Option<Secret>> {
        if !self.session.serves(GET_SECRET) {
            return Ok(None);
        }
        let asked = async { tokio::time::timeout(SECRET_WAIT_MAX, fetch(self.session.clone(), id)).await };
        match self.runtime.block_on(asked) {
            Ok(Ok(secret)) => Ok(Some(secret)),
            Ok(Err(Error::Returned { code: NOT_FOUND, .. })) => Ok(None),
            Ok(Err(error)) => {
                Err(naru_types::Error::internal(format!("cannot fetch the secret {id}: {}", error.text())))
            }
            Err(_) => {
                Err(naru_types::Error::internal(format!("the client does not hand out the secret {id}")))
            }
        }
    }

    fn ssh_agent(&self, id: &str) -> naru_types::Result<Option<SshAgent>> {
        let forwarded = agent::forward(&self.session, &self.runtime, id, &self.scratch);
        forwarded.map_err(|error| {
            naru_types::Error::internal(format!("cannot forward the SSH agent {id}: {}", error.text()))
        })
    }
}

async fn fetch(mut session: Session, id: &str) -> Result<Secret> {
    let message = session.unary(GET_SECRET, &Out::default().text(1, id)).await?;
    Ok(Secret::new(wire::data(&message)?))
}
