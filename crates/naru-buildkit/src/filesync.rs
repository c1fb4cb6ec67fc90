//! Fetching a directory from the client: moby.filesync.v1.FileSync/DiffCopy with fsutil's packets. The client names
//! every entry first, in one go; we ask for the content of files by the entry's number; each side ends with FIN.

use crate::error::{Error, Result};
use crate::grpc::Writer;
use crate::receive::{Receiver, Stat};
use crate::session::Session;
use crate::wire::{Out, fields};
use bytes::Bytes;
use naru_build::KeptContext;
use std::path::PathBuf;
use std::sync::Arc;

const DIFF_COPY: &str = "/moby.filesync.v1.FileSync/DiffCopy";

pub const STAT: u64 = 0;
pub const REQ: u64 = 1;
pub const DATA: u64 = 2;
pub const FIN: u64 = 3;
pub const ERR: u64 = 4;

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

/// Where what is fetched goes.
pub enum Into {
    /// An empty directory.
    Empty(PathBuf),
    Kept(Arc<KeptContext>),
}

/// Copies it and tells how many bytes of content came.
pub async fn fetch(session: &mut Session, wanted: &Wanted, into: &Into) -> Result<u64> {
    let metadata = metadata(wanted);
    let metadata: Vec<_> = metadata.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let (writer, mut messages) = session.call(DIFF_COPY, &metadata).await?;
    let mut receiver = match into {
        Into::Empty(path) => Receiver::new(&wanted.dir, path)?,
        Into::Kept(context) => Receiver::into_kept(&wanted.dir, Arc::clone(context))?,
    };
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

/// As headers. Values of a name that holds anything but ASCII are escaped, all of them, and another header says so
/// (BuildKit, session/filesync, `encodeOpts`).
fn metadata(wanted: &Wanted) -> Vec<(String, String)> {
    let lists = [
        ("dir-name", std::slice::from_ref(&wanted.dir)),
        ("followpaths", &wanted.follow),
        ("exclude-patterns", &wanted.exclude),
    ];
    let mut headers = Vec::new();
    for (name, values) in lists {
        let escaped = values.iter().any(|value| !value.is_ascii());
        let value = |value: &String| if escaped { escape(value) } else { value.clone() };
        headers.extend(values.iter().map(|text| (name.to_owned(), value(text))));
        if escaped {
            headers.push((format!("{name}-encoded"), "1".to_owned()));
        }
    }
    headers
}

fn escape(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

/// At most `OPEN_FILES_MAX` small packets are under way, so that this never waits for a client that waits for us.
async fn ask(receiver: &mut Receiver, writer: &Writer) -> Result<()> {
    for number in receiver.ask()? {
        writer.send(&Out::default().number(1, REQ).number(3, number).0).await?;
    }
    Ok(())
}

#[derive(Default)]
pub struct Packet {
    pub kind: u64,
    pub stat: Option<Stat>,
    pub number: u64,
    pub data: Vec<u8>,
}

impl Packet {
    pub fn decode(message: Bytes) -> Result<Self> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beyond_ascii_are_escaped() {
        let exclude = vec!["a b".to_owned(), "ü/*".to_owned()];
        let wanted = Wanted { dir: "context".into(), follow: Vec::new(), exclude };
        let headers = metadata(&wanted);
        let headers: Vec<_> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        let expect = [
            ("dir-name", "context"),
            ("exclude-patterns", "a%20b"),
            ("exclude-patterns", "%C3%BC%2F%2A"),
            ("exclude-patterns-encoded", "1"),
        ];
        assert_eq!(headers, expect);
    }

    #[test]
    fn garbage_is_no_packet() {
        for bad in [&b"\x12\xff"[..], b"\x0a\x01x", b"\x12\x02\x0a\x05", b"\x18\x80"] {
            assert!(Packet::decode(Bytes::copy_from_slice(bad)).is_err(), "{bad:?}");
        }
    }
}
