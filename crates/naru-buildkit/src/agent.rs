//! `--ssh`: an agent of the client's as a socket here. Each connection to it becomes a call over the session.

use crate::error::{Error, Result};
use crate::grpc::{Messages, Writer};
use crate::session::Session;
use crate::wire::{self, Out};
use naru_build::{ContextDir, SshAgent};
use std::fs::{File, Permissions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener as StdListener;
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

const CHECK_AGENT: &str = "/moby.sshforward.v1.SSH/CheckAgent";
const FORWARD_AGENT: &str = "/moby.sshforward.v1.SSH/ForwardAgent";
const AGENT_ID: &str = "buildkit.ssh.id";
/// Only the owner of the step's files may talk to the agent, as with BuildKit.
const SOCKET_MODE: u32 = 0o600;
/// Connections of one step at once; more wait.
const CONNECTIONS_MAX: usize = 32;
/// Bytes of one message.
const CHUNK_BYTES: usize = 32 << 10;

/// `None`: the client forwards no such agent. Blocks.
pub fn forward(session: &Session, runtime: &Handle, id: &str, scratch: &Path) -> Result<Option<SshAgent>> {
    if !session.serves(FORWARD_AGENT) {
        return Ok(None);
    }
    let mut asked = session.clone();
    match runtime.block_on(asked.unary(CHECK_AGENT, &Out::default().text(1, id))) {
        Ok(_) => {}
        // It knows other agents, and says so in words of its own.
        Err(Error::Returned { .. }) => return Ok(None),
        Err(error) => return Err(error),
    }
    let dir = ContextDir::make(scratch)?;
    let listener = listen(dir.path())?;
    let listener = {
        let _context = runtime.enter();
        UnixListener::from_std(listener).map_err(Error::io("listen for SSH clients"))?
    };
    let socket = dir.path().join("agent");
    let task = runtime.spawn(serve(listener, session.clone(), id.to_owned()));
    Ok(Some(SshAgent { socket, guard: Some(Box::new(Forwarding { task, _dir: dir })) }))
}

/// Ends when it is dropped; connections that are open end with their clients.
struct Forwarding {
    task: JoinHandle<()>,
    _dir: ContextDir,
}

impl Drop for Forwarding {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// By the directory's descriptor, since the path may be longer than a socket's name can be (108 bytes, unix(7)).
fn listen(dir: &Path) -> Result<StdListener> {
    let failed = || Error::io("make a socket for SSH clients");
    let held = File::open(dir).map_err(failed())?;
    let path = format!("/proc/self/fd/{}/agent", held.as_raw_fd());
    let listener = StdListener::bind(&path).map_err(failed())?;
    std::fs::set_permissions(&path, Permissions::from_mode(SOCKET_MODE)).map_err(failed())?;
    listener.set_nonblocking(true).map_err(failed())?;
    Ok(listener)
}

async fn serve(listener: UnixListener, session: Session, id: String) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else { return };
        let (session, id) = (session.clone(), id.clone());
        tokio::spawn(async move {
            // The step's client sees its connection end, which is all that can be said to it.
            let _ = connect(stream, session, &id).await;
            drop(permit);
        });
    }
}

async fn connect(stream: UnixStream, mut session: Session, id: &str) -> Result<()> {
    let (writer, answer) = session.begin(FORWARD_AGENT, &[(AGENT_ID, id)])?;
    let (reading, writing) = stream.into_split();
    let (_, to_client) =
        tokio::join!(to_agent(reading, writer), async { to_client(answer.await?, writing).await });
    to_client
}

/// Dropped at the end, the writer ends the agent's input.
async fn to_agent(mut reading: OwnedReadHalf, writer: Writer) -> Result<()> {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        match reading.read(&mut buffer).await {
            Ok(0) | Err(_) => return Ok(()),
            Ok(len) => {
                let data = buffer.get(..len).unwrap_or_default();
                writer.send(&Out::default().bytes(1, data).0).await?;
            }
        }
    }
}

async fn to_client(mut messages: Messages, mut writing: OwnedWriteHalf) -> Result<()> {
    while let Some(message) = messages.next().await? {
        writing.write_all(wire::data(&message)?).await.map_err(Error::io("hand on the agent's answer"))?;
    }
    Ok(())
}
