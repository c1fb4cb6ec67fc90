//! ADD's local archives: told by their content, unpacked into a directory of their own first and then
//! copied like any other tree, so that an archive can do no more than a COPY can.

use crate::error::{BuildError, Position, Result};
use crate::files::{at, source::Source, source::SourceTree};
use naru_image::unpack::{UnpackOptions, unpack};
use naru_tar::Reader;
use rustix::fd::AsFd;
use rustix::fs::OFlags;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

/// One tar block (pax(1), ustar).
const BLOCK: usize = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

/// How `source` is packed, or `None` for a plain file. bzip2 and xz are refused rather than copied, since
/// Docker would unpack them.
pub(crate) fn detect(at: &Position, tree: &SourceTree, source: &Source) -> Result<Option<Compression>> {
    if at::kind(&source.stat) != rustix::fs::FileType::RegularFile {
        return Ok(None);
    }
    let mut file = open(tree, source)?;
    let mut start = Vec::new();
    (&file).take(BLOCK as u64).read_to_end(&mut start).map_err(BuildError::io("read", &source.path))?;
    let compression = match start.as_slice() {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
        [b'B', b'Z', b'h', ..] | [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            return Err(at.unsupported(
                format!("ADD cannot unpack {}: bzip2 and xz are not supported", source.path.display()),
                "pack it with gzip or zstd, or use COPY to copy it as it is",
            ));
        }
        _ => return Ok(is_header(&start).then_some(Compression::None)),
    };
    file.rewind().map_err(BuildError::io("read", &source.path))?;
    let mut block = Vec::new();
    // A broken stream is no archive: it is copied as it is, as Docker does.
    let whole =
        reader(file, compression).and_then(|reader| reader.take(BLOCK as u64).read_to_end(&mut block));
    Ok((whole.is_ok() && is_header(&block)).then_some(compression))
}

/// Unpacks into `staging`, an empty directory.
pub(crate) fn extract(
    at: &Position,
    tree: &SourceTree,
    source: &Source,
    compression: Compression,
    staging: &Path,
) -> Result<()> {
    let file = open(tree, source)?;
    let reader = reader(file, compression).map_err(BuildError::io("read", &source.path))?;
    let root = at::open_root(staging).map_err(BuildError::sys("open", staging))?;
    unpack(root.as_fd(), &mut Reader::new(reader), &UnpackOptions::plain()).map_err(|error| {
        let error: naru_types::Error = error.into();
        at.error(format!("ADD cannot unpack {}: {}", source.path.display(), error.message()))
    })?;
    Ok(())
}

fn open(tree: &SourceTree, source: &Source) -> Result<File> {
    at::open_beneath(&tree.root, &source.path, OFlags::RDONLY)
        .map(File::from)
        .map_err(BuildError::sys("open", &source.path))
}

fn reader(file: File, compression: Compression) -> std::io::Result<Box<dyn Read>> {
    Ok(match compression {
        Compression::None => Box::new(file),
        Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(file)),
        Compression::Zstd => Box::new(zstd::Decoder::new(file)?),
    })
}

/// Whether the block's checksum is right: the sum of its bytes, those of the checksum field as spaces.
fn is_header(block: &[u8]) -> bool {
    let Some(field) = block.get(148..156).filter(|_| block.len() == BLOCK) else { return false };
    let text = String::from_utf8_lossy(field);
    let Ok(claimed) = u32::from_str_radix(text.trim_matches([' ', '\0']), 8) else { return false };
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    sum(block) - sum(field) + 8 * u32::from(b' ') == claimed
}
