//! Writing a result where the client wants it: moby.filesync.v1.FileSend/DiffCopy, as one stream of bytes or as a tree.
//!
//! The client answers nothing until it has got something, so what is sent goes ahead of its first word.

use crate::error::{Error, Result};
use crate::filesync::{DATA, ERR, FIN, Packet, REQ, STAT};
use crate::grpc::{Messages, Writer};
use crate::session::Session;
use crate::tree::{Tree, Walked};
use crate::wire::Out;
use std::io::{self, Read, Write};
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

const DIFF_COPY: &str = "/moby.filesync.v1.FileSend/DiffCopy";
/// Which of the client's outputs is meant.
const EXPORTER_ID: &str = "buildkit-attachable-exporter-id";
/// Bytes of one message; a client takes four megabytes at most.
const CHUNK_BYTES: usize = 256 << 10;

/// Sends what `write` writes as the content of one file.
pub async fn bytes(
    mut session: Session,
    exporter: u64,
    write: impl FnOnce(&mut dyn Write) -> Result<()> + Send + 'static,
) -> Result<()> {
    let (writer, response) = session.begin(DIFF_COPY, &[(EXPORTER_ID, &exporter.to_string())])?;
    let runtime = Handle::current();
    let written = tokio::task::spawn_blocking(move || {
        let mut chunks = Chunks { runtime, writer, held: Vec::with_capacity(CHUNK_BYTES) };
        write(&mut chunks).and_then(|()| chunks.flush().map_err(Error::io("send the result")))
    });
    let written = written.await.map_err(|_| Error::Broken)?;
    // A client that stopped reading says why, which is better to know than that it did.
    response.await?.next().await?;
    written
}

/// Collects what is written into messages.
struct Chunks {
    runtime: Handle,
    writer: Writer,
    held: Vec<u8>,
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = CHUNK_BYTES - self.held.len();
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.held.extend_from_slice(taken);
        if self.held.len() == CHUNK_BYTES {
            self.flush()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.held.is_empty() {
            let message = Out::default().bytes(1, &self.held);
            self.held.clear();
            let sent = self.runtime.block_on(self.writer.send(&message.0));
            sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        }
        Ok(())
    }
}

/// Sends a tree, file by file as the client asks for their content.
pub async fn tree(mut session: Session, exporter: u64, tree: Tree) -> Result<()> {
    let (writer, response) = session.begin(DIFF_COPY, &[(EXPORTER_ID, &exporter.to_string())])?;
    let (tree, runtime) = (Arc::new(tree), Handle::current());
    let walk = {
        let (tree, writer, runtime) = (Arc::clone(&tree), writer.clone(), runtime.clone());
        tokio::task::spawn_blocking(move || {
            let send = |out: &Out| runtime.block_on(writer.send(&out.0));
            tree.walk(&mut |walked: &Walked| send(&packet(STAT).message(2, &walked.stat())))?;
            send(&packet(STAT))
        })
    };
    let (ask, asked) = mpsc::unbounded_channel();
    let contents = {
        let (tree, writer) = (Arc::clone(&tree), writer.clone());
        tokio::task::spawn_blocking(move || send_contents(&tree, &writer, &runtime, asked))
    };
    let served = serve(response.await?, ask).await;
    for task in [walk, contents] {
        let done = task.await.map_err(|_| Error::Broken)?;
        served.as_ref().map_or(Ok(()), |_| done)?;
    }
    let mut messages = served?;
    writer.send(&packet(FIN).0).await?;
    drop(writer);
    messages.next().await.map(drop)
}

fn packet(kind: u64) -> Out {
    Out::default().number(1, kind)
}

/// Hears what the client asks for, until it has all it wants.
async fn serve(mut messages: Messages, ask: mpsc::UnboundedSender<u64>) -> Result<Messages> {
    while let Some(message) = messages.next().await? {
        let packet = Packet::decode(message)?;
        match packet.kind {
            // Nobody takes it any more: the other side's own error is on its way.
            REQ => drop(ask.send(packet.number)),
            FIN => return Ok(messages),
            ERR => {
                let message = String::from_utf8_lossy(&packet.data).into_owned();
                return Err(Error::Refused { dir: "the result".into(), message });
            }
            _ => return Err(Error::Malformed { what: "an unexpected packet of a transfer" }),
        }
    }
    Err(Error::Malformed { what: "a transfer that is cut off" })
}

fn send_contents(
    tree: &Tree,
    writer: &Writer,
    runtime: &Handle,
    mut asked: mpsc::UnboundedReceiver<u64>,
) -> Result<()> {
    let mut buffer = vec![0; CHUNK_BYTES];
    while let Some(number) = asked.blocking_recv() {
        let mut file = tree.open(number)?;
        loop {
            let len = file.read(&mut buffer).map_err(Error::io("read a file of the result"))?;
            let data = buffer.get(..len).unwrap_or_default();
            // An empty one ends the file.
            runtime.block_on(writer.send(&packet(DATA).number(3, number).bytes(4, data).0))?;
            if len == 0 {
                break;
            }
        }
    }
    Ok(())
}
