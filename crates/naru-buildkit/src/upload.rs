//! A context that the client has as an archive: moby.upload.v1.Upload/Pull gives its bytes.

use crate::error::{Error, Result};
use crate::session::Session;
use crate::wire;
use bytes::{Buf, Bytes};
use naru_build::unpack_context;
use std::io::{self, Read};
use std::path::PathBuf;
use tokio::sync::mpsc;

/// A context of this form is fetched from the session.
pub const SCHEME: &str = "http://buildkit-session/";
const PULL: &str = "/moby.upload.v1.Upload/Pull";
/// Messages that wait for the disk.
const QUEUE_MESSAGES: usize = 4;

/// Unpacks it into an empty directory; tells how many bytes came.
pub async fn fetch(mut session: Session, id: &str, into: PathBuf) -> Result<u64> {
    let metadata = [("urlpath", &*format!("/{id}")), ("urlhost", "buildkit-session")];
    let (writer, answer) = session.begin(PULL, &metadata)?;
    // Nothing is said but which archive it is.
    drop(writer);
    let mut messages = answer.await?;
    let (sender, receiver) = mpsc::channel(QUEUE_MESSAGES);
    let unpacked = tokio::task::spawn_blocking(move || {
        let mut received = Received { receiver, held: Bytes::new() };
        unpack_context(&mut received, &into)?;
        // What follows the archive's end is read, so that the client can finish.
        io::copy(&mut received, &mut io::sink()).map_err(Error::io("read the context"))
    });
    let mut count = 0;
    while let Some(message) = messages.next().await? {
        let data = message.slice_ref(wire::data(&message)?);
        count += data.len() as u64;
        if sender.send(data).await.is_err() {
            // It has failed, and says below why.
            break;
        }
    }
    drop(sender);
    unpacked.await.map_err(|_| Error::Broken)??;
    Ok(count)
}

struct Received {
    receiver: mpsc::Receiver<Bytes>,
    held: Bytes,
}

impl Read for Received {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.held.is_empty() {
            match self.receiver.blocking_recv() {
                Some(bytes) => self.held = bytes,
                None => return Ok(0),
            }
        }
        let len = buffer.len().min(self.held.len());
        self.held.copy_to_slice(&mut buffer[..len]);
        Ok(len)
    }
}
