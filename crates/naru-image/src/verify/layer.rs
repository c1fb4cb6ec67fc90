//! One layer: its archive put together again, hashed, and held against its tree.

use super::DAMAGE_PER_LAYER_MAX;
use super::expected::Expected;
use super::walk;
use crate::blob::HashingReader;
use crate::error::{ImageError, Result};
use crate::split::{self, Piece};
use crate::tree;
use naru_tar::{Reader, TarError};
use naru_types::Digest;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, PipeReader, Read, Write};
use std::path::Path;

const COPY_BYTES: usize = 256 * 1024;

#[derive(Default)]
pub(super) struct Found {
    /// Where it can be named, the file; and what is wrong.
    pub damage: Vec<(Option<String>, String)>,
    /// Length of the archive.
    pub bytes: u64,
}

impl Found {
    /// One remark on each file is enough.
    pub fn add(&mut self, path: Option<&[u8]>, what: impl Into<String>) {
        let path = path.map(|path| String::from_utf8_lossy(path).into_owned());
        if path.is_some() && self.damage.iter().any(|(known, _)| *known == path) {
            return;
        }
        if self.damage.len() < DAMAGE_PER_LAYER_MAX {
            self.damage.push((path, what.into()));
        } else if self.damage.len() == DAMAGE_PER_LAYER_MAX {
            self.damage.push((None, format!("and more than these {DAMAGE_PER_LAYER_MAX}")));
        }
    }
}

/// Looks at the layer in `dir`, which should have the digest `diff_id`.
pub(super) fn check(dir: &Path, diff_id: &Digest) -> Result<Found> {
    let (reader, writer) = io::pipe().map_err(ImageError::io("make a pipe for", dir))?;
    let (rebuilt, read) = std::thread::scope(|scope| {
        let writing = scope.spawn(move || rebuild(dir, writer));
        let read = read_back(reader);
        (writing.join().unwrap_or(Err(ImageError::Cancelled)), read)
    });
    let (mut found, is_whole) = rebuilt?;
    let read = read?;
    found.bytes = read.bytes;
    let is_unexplained = found.damage.is_empty() && read.digest != *diff_id;
    // Without all of the headers there is nothing to hold against the tree.
    match &read.broken {
        Some(what) if is_whole => found.add(None, what),
        None if is_whole => match tree::open_root(&dir.join("fs")) {
            Ok(root) => walk::compare(root.as_fd(), &read.expected, &mut found)?,
            Err(ImageError::Io { source, .. }) if is_damage(&source) => {
                found.add(None, format!("the directory with its files cannot be opened: {source}"));
            }
            Err(error) => return Err(error),
        },
        _ => {}
    }
    if is_unexplained && read.broken.is_none() {
        let what =
            format!("the content of a file was changed: its archive now has the digest {}", read.digest);
        found.add(None, what);
    }
    Ok(found)
}

/// Whether an error of reading tells of the stored data, not of this process's means.
pub(super) fn is_damage(error: &io::Error) -> bool {
    match error.raw_os_error() {
        // EUCLEAN: the file system found its own structures damaged.
        Some(code) => {
            [Errno::NOENT, Errno::NOTDIR, Errno::LOOP, Errno::ISDIR, Errno::IO, Errno::UCLEAN, Errno::BADMSG]
                .iter()
                .any(|errno| errno.raw_os_error() == code)
        }
        None => true,
    }
}

/// Writes the archive to `out`. In the place of content that is missing come zeros, so that what follows is still
/// read; the digest is wrong then anyway. Also says whether all the headers were there.
fn rebuild(dir: &Path, mut out: impl Write) -> Result<(Found, bool)> {
    let mut found = Found::default();
    let layer = match tree::open_root(dir) {
        Err(ImageError::Io { source, .. }) if is_damage(&source) => {
            found.add(None, format!("the layer's directory cannot be opened: {source}"));
            return Ok((found, false));
        }
        opened => opened?,
    };
    let mut buffer = vec![0; COPY_BYTES];
    let written = split::each_piece(dir, |piece| match piece {
        Piece::Raw(bytes) => out.write_all(bytes).map_err(|source| ImageError::Write { source }),
        Piece::Content { place, size } => {
            let copied = copy(layer.as_fd(), &place, size, &mut out, &mut buffer)?;
            if let Some(what) = copied {
                let shown = place.strip_prefix("fs").unwrap_or(&place);
                found.add(Some(shown.as_os_str().as_encoded_bytes()), what);
            }
            Ok(())
        }
    });
    match written {
        Ok(()) => Ok((found, true)),
        // The reader gave up on a damaged header and will say so.
        Err(ImageError::Write { source }) if source.kind() == io::ErrorKind::BrokenPipe => Ok((found, true)),
        Err(ImageError::Io { path, source, .. }) if is_damage(&source) => {
            found.add(None, format!("{} cannot be read: {source}", path.display()));
            Ok((found, false))
        }
        Err(error) => Err(error),
    }
}

/// Exactly `size` bytes of the file; says what was wrong with it.
fn copy(
    layer: BorrowedFd<'_>,
    place: &Path,
    size: u64,
    out: &mut impl Write,
    buffer: &mut [u8],
) -> Result<Option<String>> {
    let failed = |source| ImageError::Pack { step: "read", entry: place.display().to_string(), source };
    let mut left = size;
    let mut wrong = None;
    match tree::open_beneath(layer, place, OFlags::RDONLY | OFlags::NONBLOCK).map_err(io::Error::from) {
        Ok(file) => {
            let mut file = File::from(file);
            while left > 0 && wrong.is_none() {
                let want = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                match file.read(&mut buffer[..want]) {
                    Ok(0) => wrong = Some(format!("{left} of its {size} bytes are missing")),
                    Ok(got) => {
                        out.write_all(&buffer[..got]).map_err(|source| ImageError::Write { source })?;
                        left -= got as u64;
                    }
                    Err(error) if is_damage(&error) => wrong = Some(format!("cannot be read: {error}")),
                    Err(error) => return Err(failed(error)),
                }
            }
        }
        Err(error) if is_damage(&error) => wrong = Some(format!("cannot be opened: {error}")),
        Err(error) => return Err(failed(error)),
    }
    buffer.fill(0);
    while left > 0 {
        let put = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        out.write_all(&buffer[..put]).map_err(|source| ImageError::Write { source })?;
        left -= put as u64;
    }
    Ok(wrong)
}

struct ReadBack {
    digest: Digest,
    bytes: u64,
    expected: Expected,
    /// The headers themselves make no sense.
    broken: Option<String>,
}

fn read_back(pipe: PipeReader) -> Result<ReadBack> {
    let mut hashing = HashingReader::new(pipe);
    let mut expected = Expected::default();
    let mut reader = Reader::new(&mut hashing);
    let broken = loop {
        match reader.next_entry() {
            Ok(None) => break None,
            Ok(Some(entry)) => match expected.enter(entry, &mut reader) {
                Ok(()) => {}
                Err(error @ ImageError::Tar(TarError::Format { .. })) => break Some(error.to_string()),
                Err(error) => return Err(error),
            },
            Err(TarError::Read { source }) if source.kind() != io::ErrorKind::UnexpectedEof => {
                return Err(ImageError::tar_read(source));
            }
            Err(error) => break Some(format!("its archive cannot be read: {error}")),
        }
    };
    drop(reader);
    Ok(ReadBack { digest: hashing.digest(), bytes: hashing.bytes, expected, broken })
}
