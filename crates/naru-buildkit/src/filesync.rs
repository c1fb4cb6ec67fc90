//! Fetching a directory from the client: moby.filesync.v1.FileSync/DiffCopy with fsutil's packets. The client names
//! every entry first, in one go; we ask for the content of files by the entry's number; each side ends with FIN.

use crate::error::{Error, Result};
use crate::grpc::Writer;
use crate::receive::{Receiver, Stat};
use crate::session::Session;
use crate::wire::{Out, fields};
use bytes::Bytes;
use std::path::Path;

const DIFF_COPY: &str = "/moby.filesync.v1.FileSync/DiffCopy";

const STAT: u64 = 0;
const REQ: u64 = 1;
const DATA: u64 = 2;
const FIN: u64 = 3;
const ERR: u64 = 4;

/// What of one of the client's directories is wanted.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// `context`, `dockerfile`, or a named context.
    pub dir: String,
    /// Only these paths, with what their links lead to; none: all.
    pub follow: Vec<String>,
    /// Patterns of .dockerignore.
    pub exclude: Vec<String>,
}

/// Copies it below `into`.
pub async fn fetch(session: &mut Session, wanted: &Wanted, into: &Path) -> Result<()> {
    let mut metadata = vec![("dir-name", wanted.dir.as_str())];
    metadata.extend(wanted.follow.iter().map(|path| ("followpaths", path.as_str())));
    metadata.extend(wanted.exclude.iter().map(|pattern| ("exclude-patterns", pattern.as_str())));
    let (writer, mut messages) = session.call(DIFF_COPY, &metadata).await?;
    let mut receiver = Receiver::new(&wanted.dir, into)?;
    let (mut all_named, mut fin_sent) = (false, false);
    while let Some(message) = messages.next().await? {
        let packet = Packet::decode(message)?;
        match packet.kind {
            STAT => match packet.stat {
                Some(stat) => receiver.entry(stat)?,
                None => all_named = true,
            },
            DATA => receiver.data(packet.number, &packet.data)?,
            FIN if fin_sent => return receiver.finish(),
            ERR => {
                let message = String::from_utf8_lossy(&packet.data).into_owned();
                return Err(Error::Refused { dir: wanted.dir.clone(), message });
            }
            _ => return Err(Error::Malformed { what: "an unexpected packet of a transfer" }),
        }
        ask(&mut receiver, &writer).await?;
        if all_named && receiver.is_settled() && !fin_sent {
            fin_sent = true;
            writer.send(&Out::default().number(1, FIN).0).await?;
        }
    }
    Err(Error::Malformed { what: "a transfer that is cut off" })
}

/// At most `OPEN_FILES_MAX` small packets are under way, so that this never waits for a client that waits for us.
async fn ask(receiver: &mut Receiver, writer: &Writer) -> Result<()> {
    for number in receiver.ask()? {
        writer.send(&Out::default().number(1, REQ).number(3, number).0).await?;
    }
    Ok(())
}

#[derive(Default)]
struct Packet {
    kind: u64,
    stat: Option<Stat>,
    number: u64,
    data: Vec<u8>,
}

impl Packet {
    fn decode(message: Bytes) -> Result<Self> {
        let mut packet = Self::default();
        fields(&message, |field, value| {
            match field {
                1 => packet.kind = value.number()?,
                2 => packet.stat = Some(Stat::decode(value.bytes()?)?),
                3 => packet.number = value.number()?,
                4 => packet.data = value.bytes()?.to_vec(),
                _ => {}
            }
            Ok(())
        })?;
        Ok(packet)
    }
}
