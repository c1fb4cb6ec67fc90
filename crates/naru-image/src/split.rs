//! The exact archive of a layer without keeping the archive.
//!
//! A layer's id is the digest of its tar, and writing a tree as tar again does not give the same bytes
//! unless one knows every header. So each stored layer has a file `split.zst` with all bytes of the
//! archive that are not the content of a plain file, and references to those contents in the tree
//! (the idea of Docker's tar-split). An archive that names a file twice keeps the first content in
//! `replaced/<n>`.
//!
//! Format, after zstd: the line [`MAGIC`], then records of a tag byte and little-endian numbers:
//! 0 raw (u32 length, bytes) · 1 content (u32 length, path, u64 size) · 2 replaced (u32 length, path,
//! u32 n: what earlier records call `path` is now `replaced/<n>`) · 3 end.

use crate::error::{ImageError, Result};
use crate::tree;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, RenameFlags};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const MAGIC: &[u8] = b"naru-split 1\n";
const FILE_NAME: &str = "split.zst";
const REPLACED_NAME: &str = "replaced";
const TREE_NAME: &str = "fs";
/// zstd level: headers repeat so much that more effort gains little.
const LEVEL: i32 = 1;
/// Most names that one archive may give twice.
const REPLACED_MAX: u32 = 10_000;
/// Largest raw piece that a record may claim, against a damaged file.
const RECORD_BYTES_MAX: usize = 64 << 20;

const TAG_RAW: u8 = 0;
const TAG_CONTENT: u8 = 1;
const TAG_REPLACED: u8 = 2;
const TAG_END: u8 = 3;

/// Writes a layer's `split.zst` while it is unpacked or packed.
pub struct SplitWriter {
    layer: OwnedFd,
    path: PathBuf,
    out: zstd::Encoder<'static, BufWriter<File>>,
    replaced: u32,
}

impl SplitWriter {
    pub fn create(layer_dir: &Path) -> Result<Self> {
        let path = layer_dir.join(FILE_NAME);
        let failed = |path: &Path| ImageError::io("create", path.to_owned());
        let file = File::create_new(&path).map_err(failed(&path))?;
        let mut out = zstd::Encoder::new(BufWriter::new(file), LEVEL).map_err(failed(&path))?;
        out.write_all(MAGIC).map_err(failed(&path))?;
        Ok(Self { layer: tree::open_root(layer_dir)?, path, out, replaced: 0 })
    }

    pub fn raw(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.record(TAG_RAW, bytes, &[])
    }

    pub fn file(&mut self, path: &[u8], size: u64) -> Result<()> {
        self.record(TAG_CONTENT, path, &size.to_le_bytes())
    }

    /// Moves what has the name `path` out of the tree.
    pub(crate) fn put_away(&mut self, parent: BorrowedFd<'_>, name: &OsStr, path: &[u8]) -> Result<()> {
        if self.replaced >= REPLACED_MAX {
            return Err(ImageError::tar(format!("more than {REPLACED_MAX} names given twice"), Some(path)));
        }
        let failed = |errno: rustix::io::Errno| ImageError::Unpack {
            step: "put away the first",
            entry: String::from_utf8_lossy(path).into_owned(),
            source: errno.into(),
        };
        if self.replaced == 0 {
            rustix::fs::mkdirat(&self.layer, REPLACED_NAME, Mode::RWXU).map_err(failed)?;
        }
        let to = format!("{REPLACED_NAME}/{}", self.replaced);
        rustix::fs::renameat_with(parent, name, &self.layer, &to, RenameFlags::NOREPLACE).map_err(failed)?;
        self.record(TAG_REPLACED, path, &self.replaced.to_le_bytes())?;
        self.replaced += 1;
        Ok(())
    }

    /// Writes the end; the caller syncs the file system.
    pub fn finish(mut self) -> Result<()> {
        let path = self.path.clone();
        self.out.write_all(&[TAG_END]).map_err(ImageError::io("write", &path))?;
        let mut file = self.out.finish().map_err(ImageError::io("write", &path))?;
        file.flush().map_err(ImageError::io("write", &path))
    }

    fn record(&mut self, tag: u8, bytes: &[u8], tail: &[u8]) -> Result<()> {
        let len = u32::try_from(bytes.len()).map_err(|_| ImageError::tar("a header too large", None))?;
        let mut head = [tag, 0, 0, 0, 0];
        head[1..].copy_from_slice(&len.to_le_bytes());
        [&head[..], bytes, tail]
            .into_iter()
            .try_for_each(|piece| self.out.write_all(piece))
            .map_err(ImageError::io("write", &self.path))
    }
}

enum Record {
    Raw(Vec<u8>),
    Content { path: PathBuf, size: u64 },
    Replaced { path: PathBuf, number: u32 },
}

/// Writes the exact archive of the layer in `layer_dir` to `out`. The caller checks its digest.
pub fn write_tar(layer_dir: &Path, out: &mut dyn Write) -> Result<()> {
    let layer = tree::open_root(layer_dir)?;
    let mut buffer = vec![0; 256 * 1024];
    each_piece(layer_dir, |piece| match piece {
        Piece::Raw(bytes) => out.write_all(bytes).map_err(|source| ImageError::Write { source }),
        Piece::Content { place, size } => copy_content(layer.as_fd(), &place, size, out, &mut buffer),
    })
}

/// A part of a layer's archive.
pub(crate) enum Piece<'a> {
    Raw(&'a [u8]),
    /// `size` bytes of the file at `place`, relative to the layer's directory.
    Content {
        place: PathBuf,
        size: u64,
    },
}

/// The pieces that a layer's archive is made of, in order.
pub(crate) fn each_piece(layer_dir: &Path, mut each: impl FnMut(Piece<'_>) -> Result<()>) -> Result<()> {
    let mut replaced = Vec::new();
    let mut position = 0u64;
    each_record(layer_dir, |record| {
        if let Record::Replaced { path, number } = record {
            replaced.push((position, path, number));
        }
        position += 1;
        Ok(())
    })?;
    position = 0;
    each_record(layer_dir, |record| {
        position += 1;
        match record {
            Record::Raw(bytes) => each(Piece::Raw(&bytes)),
            Record::Replaced { .. } => Ok(()),
            Record::Content { path, size } => {
                each(Piece::Content { place: place_of(&path, position - 1, &replaced), size })
            }
        }
    })
}

/// Where the content that record `position` calls `path` is now, relative to the layer's directory.
fn place_of(path: &Path, position: u64, replaced: &[(u64, PathBuf, u32)]) -> PathBuf {
    for (at, prefix, number) in replaced {
        if *at > position
            && let Ok(rest) = path.strip_prefix(prefix)
        {
            let moved = Path::new(REPLACED_NAME).join(number.to_string());
            return if rest.as_os_str().is_empty() { moved } else { moved.join(rest) };
        }
    }
    Path::new(TREE_NAME).join(path)
}

fn copy_content(
    layer: BorrowedFd<'_>,
    path: &Path,
    size: u64,
    out: &mut dyn Write,
    buffer: &mut [u8],
) -> Result<()> {
    let failed = |source| ImageError::Pack { step: "read", entry: path.display().to_string(), source };
    let file = tree::open_beneath(layer, path, OFlags::RDONLY).map_err(|errno| failed(errno.into()))?;
    let mut content = File::from(file).take(size);
    let mut left = size;
    while left > 0 {
        let got = content.read(buffer).map_err(failed)?;
        if got == 0 {
            return Err(failed(std::io::ErrorKind::UnexpectedEof.into()));
        }
        out.write_all(&buffer[..got]).map_err(|source| ImageError::Write { source })?;
        left -= got as u64;
    }
    Ok(())
}

fn each_record(layer_dir: &Path, mut each: impl FnMut(Record) -> Result<()>) -> Result<()> {
    let path = layer_dir.join(FILE_NAME);
    let failed = |source| ImageError::Io { step: "read", path: path.clone(), source };
    let file = File::open(&path).map_err(failed)?;
    let decoder = zstd::Decoder::new(file).map_err(failed)?;
    let mut input = BufReader::with_capacity(128 * 1024, decoder);
    let mut magic = [0; MAGIC.len()];
    input.read_exact(&mut magic).map_err(failed)?;
    if magic != MAGIC {
        return Err(failed(std::io::Error::other("unknown format")));
    }
    while let Some(record) = read_record(&mut input).map_err(failed)? {
        each(record)?;
    }
    Ok(())
}

fn read_record(input: &mut impl Read) -> std::io::Result<Option<Record>> {
    let mut tag = [0];
    input.read_exact(&mut tag)?;
    if tag[0] == TAG_END {
        return Ok(None);
    }
    let mut word = [0; 4];
    input.read_exact(&mut word)?;
    let len = u32::from_le_bytes(word) as usize;
    if len > RECORD_BYTES_MAX {
        return Err(std::io::Error::other("damaged record"));
    }
    let mut bytes = vec![0; len];
    input.read_exact(&mut bytes)?;
    let as_path = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
    Ok(Some(match tag[0] {
        TAG_RAW => Record::Raw(bytes),
        TAG_CONTENT => {
            let mut size = [0; 8];
            input.read_exact(&mut size)?;
            Record::Content { path: as_path(&bytes), size: u64::from_le_bytes(size) }
        }
        TAG_REPLACED => {
            input.read_exact(&mut word)?;
            Record::Replaced { path: as_path(&bytes), number: u32::from_le_bytes(word) }
        }
        _ => return Err(std::io::Error::other("unknown record")),
    }))
}
