//! What of the zip format (APPNOTE.TXT) is needed to look into Java archives: the directory at the end, and members that are
//! stored or deflated. No zip64, no encryption.

use std::borrow::Cow;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;

/// Largest directory that is read; one of 65,535 members with long names has 10 MB.
const DIRECTORY_BYTES_MAX: u64 = 16 << 20;
/// The end of the directory lies within the last 64 KiB, its comment, and its own 22 bytes.
const END_BYTES: u64 = 22;
const END_MAGIC: &[u8] = b"PK\x05\x06";
const DIRECTORY_MAGIC: &[u8] = b"PK\x01\x02";
const MEMBER_MAGIC: &[u8] = b"PK\x03\x04";
const DIRECTORY_ENTRY_BYTES: usize = 46;
const MEMBER_HEADER_BYTES: usize = 30;
const METHOD_STORED: u16 = 0;
const METHOD_DEFLATED: u16 = 8;

/// Where an archive's bytes are.
pub enum Source {
    File(File),
    /// An archive within an archive.
    Memory(Vec<u8>),
}

pub struct Archive {
    source: Source,
    directory: Vec<u8>,
    count: usize,
}

pub struct Member<'a> {
    pub name: Cow<'a, str>,
    method: u16,
    packed_bytes: u64,
    header_at: u64,
}

impl Archive {
    /// `None` when it is no such file.
    pub fn open(source: Source) -> Option<Self> {
        let len = source.len()?;
        let tail_at = len.saturating_sub(END_BYTES + u64::from(u16::MAX));
        let tail = source.bytes(tail_at, len - tail_at)?;
        let at = tail.windows(END_MAGIC.len()).rposition(|window| window == END_MAGIC)?;
        let count = usize::from(short(&tail, at + 10)?);
        let (bytes, start) = (u64::from(int(&tail, at + 12)?), u64::from(int(&tail, at + 16)?));
        if bytes > DIRECTORY_BYTES_MAX {
            return None;
        }
        let directory = source.bytes(start, bytes)?;
        Some(Self { source, directory, count })
    }

    /// By the directory, which is what Java reads; ends where it is damaged.
    pub fn members(&self) -> impl Iterator<Item = Member<'_>> {
        let mut rest = self.directory.as_slice();
        std::iter::from_fn(move || {
            let name_bytes = usize::from(short(rest, 28)?);
            let more = usize::from(short(rest, 30)?) + usize::from(short(rest, 32)?);
            let end = DIRECTORY_ENTRY_BYTES + name_bytes;
            let name = rest.get(DIRECTORY_ENTRY_BYTES..end).filter(|_| rest.starts_with(DIRECTORY_MAGIC))?;
            let member = Member {
                name: String::from_utf8_lossy(name),
                method: short(rest, 10)?,
                packed_bytes: u64::from(int(rest, 20)?),
                header_at: u64::from(int(rest, 42)?),
            };
            rest = rest.get(end + more..)?;
            Some(member)
        })
        .take(self.count)
    }

    /// A member's content of at most `limit` bytes, whatever sizes the archive claims; `None` when it is longer or damaged.
    pub fn content(&self, member: &Member<'_>, limit: u64) -> Option<Vec<u8>> {
        let header = self.source.bytes(member.header_at, MEMBER_HEADER_BYTES as u64)?;
        if !header.starts_with(MEMBER_MAGIC) || member.packed_bytes > limit {
            return None;
        }
        let names = u64::from(short(&header, 26)?) + u64::from(short(&header, 28)?);
        let start = member.header_at + MEMBER_HEADER_BYTES as u64 + names;
        let packed = self.source.bytes(start, member.packed_bytes)?;
        match member.method {
            METHOD_STORED => Some(packed),
            METHOD_DEFLATED => {
                let mut content = Vec::new();
                let inflated = flate2::read::DeflateDecoder::new(packed.as_slice());
                inflated.take(limit + 1).read_to_end(&mut content).ok()?;
                (content.len() as u64 <= limit).then_some(content)
            }
            _ => None,
        }
    }
}

impl Source {
    fn len(&self) -> Option<u64> {
        match self {
            Source::File(file) => file.metadata().ok().map(|metadata| metadata.len()),
            Source::Memory(bytes) => Some(bytes.len() as u64),
        }
    }

    /// Never more than there is: a claimed length reserves no memory.
    fn bytes(&self, at: u64, count: u64) -> Option<Vec<u8>> {
        let end = at.checked_add(count).filter(|end| self.len().is_some_and(|len| *end <= len))?;
        match self {
            Source::File(file) => {
                let mut bytes = vec![0; usize::try_from(count).ok()?];
                file.read_exact_at(&mut bytes, at).ok()?;
                Some(bytes)
            }
            Source::Memory(bytes) => {
                Some(bytes[usize::try_from(at).ok()?..usize::try_from(end).ok()?].to_vec())
            }
        }
    }
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn int(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use std::io::Write;

    /// An archive of deflated members.
    pub fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
        let (mut file, mut directory) = (Vec::new(), Vec::new());
        for (name, content) in members {
            let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
            encoder.write_all(content).unwrap();
            let packed = encoder.finish().unwrap();
            let at = file.len() as u32;
            let sizes = [(packed.len() as u32).to_le_bytes(), (content.len() as u32).to_le_bytes()].concat();
            // Version, flags, method, time, date, checksum; then the sizes and the lengths of the names.
            let common = [
                &[20, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0][..],
                &sizes,
                &(name.len() as u16).to_le_bytes(),
                &[0, 0],
            ]
            .concat();
            file.extend([MEMBER_MAGIC, &common, name.as_bytes(), &packed].concat());
            directory.extend(
                [DIRECTORY_MAGIC, &[20, 0], &common, &[0; 10], &at.to_le_bytes(), name.as_bytes()].concat(),
            );
        }
        let count = (members.len() as u16).to_le_bytes();
        let place = [(directory.len() as u32).to_le_bytes(), (file.len() as u32).to_le_bytes()].concat();
        [&file, &directory, END_MAGIC, &[0; 4], &count, &count, &place, &[0, 0]].concat()
    }

    fn first(bytes: Vec<u8>, limit: u64) -> Option<Vec<u8>> {
        let archive = Archive::open(Source::Memory(bytes))?;
        let member = archive.members().next()?;
        archive.content(&member, limit)
    }

    #[test]
    fn members_have_limits() {
        let bytes = archive(&[("a", &[7; 100_000]), ("b", b"x")]);
        assert_eq!(first(bytes.clone(), 100_000).unwrap().len(), 100_000);
        assert_eq!(first(bytes.clone(), 99_999), None);
        let names: Vec<String> = Archive::open(Source::Memory(bytes.clone()))
            .unwrap()
            .members()
            .map(|member| member.name.into_owned())
            .collect();
        assert_eq!(names, ["a", "b"]);
        // The last two bytes are the comment's length, which nobody asks for.
        for at in 0..bytes.len() - 2 {
            assert!(Archive::open(Source::Memory(bytes[..at].to_vec())).is_none(), "{at}");
            let mut changed = bytes.clone();
            changed[at] ^= 0xff;
            first(changed, 100_000);
        }
    }
}
