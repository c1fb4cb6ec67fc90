//! The file of what is known of a kept context's files: by inode number, the digest of content and attributes.
//!
//! After a line that names the format: the sum of the sizes, then records of little-endian numbers and a digest as
//! [`Record`] has them, then the BLAKE3 of all that. A file that was cut off or damaged is as good as none.

use rustix::fs::Stat;
use std::collections::HashMap;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

const MAGIC: &[u8; 16] = b"naru known ctx1\n";
const SUM_BYTES: usize = 32;
const SOURCE_NUMBERS: usize = 7;
const OWN_NUMBERS: usize = 5;
const NUMBERS: usize = OWN_NUMBERS + SOURCE_NUMBERS;
const RECORD_BYTES: usize = NUMBERS * 8 + 32;
/// Of files beyond that the content is read each time.
const RECORDS_MAX: usize = 1_000_000;

#[derive(Default)]
pub(super) struct Known {
    pub(super) records: HashMap<u64, Record>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    size: u64,
    mtime: (i64, u64),
    pub(super) digest: [u8; 32],
    source: Source,
    /// Under which path layers have it by a link, as a hash; zero: none has.
    pub(super) home: u64,
}

/// The file of this machine that one of the tree is a copy of, when that is known: device, inode, size, and both times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Source([u64; SOURCE_NUMBERS]);

impl Source {
    pub(super) fn of(stat: &Stat) -> Self {
        let (mtime, ctime) = (stat.st_mtime.cast_unsigned(), stat.st_ctime.cast_unsigned());
        let times = [mtime, stat.st_mtime_nsec, ctime, stat.st_ctime_nsec];
        let [mtime, mtime_ns, ctime, ctime_ns] = times;
        Self([stat.st_dev, stat.st_ino, stat.st_size as u64, mtime, mtime_ns, ctime, ctime_ns])
    }

    /// Whether both times are before this one, in seconds.
    pub(super) fn is_settled(&self, before: i64) -> bool {
        let [.., mtime, _, ctime, _] = self.0;
        mtime.cast_signed() < before && ctime.cast_signed() < before
    }
}

impl Record {
    pub(super) fn new(stat: &Stat, digest: [u8; 32]) -> Self {
        Self {
            size: stat.st_size as u64,
            mtime: (stat.st_mtime, stat.st_mtime_nsec),
            digest,
            source: Source::default(),
            home: 0,
        }
    }

    pub(super) fn with(self, source: Source) -> Self {
        Self { source, ..self }
    }

    pub(super) fn is_copy_of(&self, source: &Source) -> bool {
        self.source != Source::default() && self.source == *source
    }

    /// The inode number alone would do, since whoever changes the tree says so. (The inode's own change time can't be asked
    /// for: each hard link of a layer moves it.)
    pub(super) fn is_of(&self, stat: &Stat) -> bool {
        (self.size, self.mtime) == (stat.st_size as u64, (stat.st_mtime, stat.st_mtime_nsec))
    }
}

impl Known {
    /// Whether that was news.
    pub(super) fn learn(&mut self, inode: u64, record: Record) -> bool {
        let has_room = self.records.len() < RECORDS_MAX || self.records.contains_key(&inode);
        has_room && self.records.insert(inode, record) != Some(record)
    }

    /// `None`: nothing is known.
    pub(super) fn read(path: &Path) -> Option<Self> {
        let file_bytes_max = MAGIC.len() + 8 + RECORDS_MAX * RECORD_BYTES + SUM_BYTES;
        let mut bytes = Vec::new();
        let read =
            fs::File::open(path).and_then(|file| file.take(file_bytes_max as u64).read_to_end(&mut bytes));
        read.ok().and_then(|_| Self::parse(&bytes))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (content, sum) = bytes.split_last_chunk::<SUM_BYTES>()?;
        let (_, records) = content.strip_prefix(MAGIC)?.split_first_chunk::<8>()?;
        if blake3::hash(content) != *sum {
            return None;
        }
        let record = |chunk: &[u8]| {
            let (numbers, digest) = chunk.split_last_chunk::<32>()?;
            let number =
                |at: usize| Some(u64::from_le_bytes(numbers.get(at * 8..at * 8 + 8)?.try_into().ok()?));
            let mtime = (number(2)?.cast_signed(), number(3)?);
            let mut source = Source::default();
            for (at, place) in source.0.iter_mut().enumerate() {
                *place = number(OWN_NUMBERS + at)?;
            }
            Some((number(0)?, Record { size: number(1)?, mtime, digest: *digest, source, home: number(4)? }))
        };
        Some(Self { records: records.chunks(RECORD_BYTES).map(record).collect::<Option<_>>()? })
    }

    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        let total: u64 = self.records.values().map(|record| record.size).sum();
        let mut bytes = Vec::with_capacity(MAGIC.len() + 8 + self.records.len() * RECORD_BYTES + SUM_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&total.to_le_bytes());
        for (inode, record) in &self.records {
            let mtime = (record.mtime.0.cast_unsigned(), record.mtime.1);
            let own: [u64; OWN_NUMBERS] = [*inode, record.size, mtime.0, mtime.1, record.home];
            for number in own.into_iter().chain(record.source.0) {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
            bytes.extend_from_slice(&record.digest);
        }
        let sum = blake3::hash(&bytes);
        bytes.extend_from_slice(sum.as_bytes());
        let staged = path.with_extension("new");
        fs::write(&staged, bytes)?;
        fs::rename(&staged, path)
    }

    /// The sum of the sizes that the file at `path` tells.
    pub(super) fn bytes_of(path: &Path) -> u64 {
        let mut head = [0; 24];
        let read = fs::File::open(path).and_then(|mut file| file.read_exact(&mut head));
        match (read, head.split_last_chunk::<8>()) {
            (Ok(()), Some((magic, total))) if magic == MAGIC => u64::from_le_bytes(*total),
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("known");
        let mut known = Known::default();
        let record =
            Record { size: 7, mtime: (-1, 5), digest: [9; 32], source: Source([8; SOURCE_NUMBERS]), home: 6 };
        assert!(known.learn(3, record));
        assert!(!known.learn(3, record));
        known.write(&path).unwrap();
        assert_eq!(Known::read(&path).unwrap().records, known.records);
        assert_eq!(Known::bytes_of(&path), 7);
        let whole = fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            assert!(Known::parse(&whole[..cut]).is_none(), "{cut}");
            let mut flipped = whole.clone();
            flipped[cut] ^= 1;
            assert!(Known::parse(&flipped).is_none(), "{cut}");
        }
    }
}
