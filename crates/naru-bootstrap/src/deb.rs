//! Binary packages (deb(5)): an ar archive of `debian-binary`, `control.tar` and `data.tar`.

use crate::error::{BootstrapError, Result};
use flate2::read::MultiGzDecoder;
use lzma_rust2::XzReader;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

const AR_MAGIC: &[u8; 8] = b"!<arch>\n";
const AR_HEADER_BYTES: usize = 60;
/// Members before `data.tar`; two are usual.
const MEMBERS_MAX: usize = 16;

/// The files of a package, as an uncompressed tar stream.
pub fn data(path: &Path, package: &str) -> Result<Box<dyn Read>> {
    let malformed =
        |what: &str| BootstrapError::Package { package: package.to_owned(), what: what.to_owned() };
    let cut = |_| malformed("it is cut off");
    let mut file = File::open(path).map_err(BootstrapError::io("open", path))?;
    let mut magic = [0; 8];
    file.read_exact(&mut magic).map_err(cut)?;
    if &magic != AR_MAGIC {
        return Err(malformed("it is not an ar archive"));
    }
    for number in 0..MEMBERS_MAX {
        let mut header = [0; AR_HEADER_BYTES];
        file.read_exact(&mut header).map_err(cut)?;
        let text =
            |from: usize, to: usize| std::str::from_utf8(&header[from..to]).unwrap_or_default().trim_end();
        let name = text(0, 16).trim_end_matches('/');
        let size: u64 = text(48, 58).parse().map_err(|_| malformed("the size of a member"))?;
        if number == 0 {
            let mut version = Vec::new();
            (&mut file).take(size).read_to_end(&mut version).map_err(cut)?;
            // A later minor number is readable too (deb(5)).
            if name != "debian-binary" || !version.starts_with(b"2.") {
                return Err(malformed("it is not a package of format 2"));
            }
            file.seek_relative((size % 2) as i64).map_err(cut)?;
            continue;
        }
        let Some(suffix) = name.strip_prefix("data.tar") else {
            // Members begin at even offsets.
            file.seek(SeekFrom::Current((size + size % 2) as i64)).map_err(cut)?;
            continue;
        };
        let member = BufReader::new(file.take(size));
        return Ok(match suffix {
            "" => Box::new(member),
            ".gz" => Box::new(MultiGzDecoder::new(member)),
            ".xz" => Box::new(XzReader::new(member, true)),
            ".zst" => Box::new(zstd::Decoder::with_buffer(member).map_err(|_| malformed("its zstd frame"))?),
            other => {
                return Err(malformed(&format!(
                    "its files are compressed in a way not known here ({other})"
                )));
            }
        });
    }
    Err(malformed("it has no data.tar"))
}

/// Decompresses an index by its file name; it has been hashed before.
pub fn decompress(bytes: &[u8], name: &str, limit: u64) -> std::io::Result<Vec<u8>> {
    let reader: Box<dyn Read + '_> = if name.ends_with(".xz") {
        Box::new(XzReader::new(bytes, true))
    } else if name.ends_with(".gz") {
        Box::new(MultiGzDecoder::new(bytes))
    } else {
        Box::new(bytes)
    };
    let mut out = Vec::new();
    reader.take(limit + 1).read_to_end(&mut out)?;
    if out.len() as u64 > limit {
        return Err(std::io::Error::other("it is too large"));
    }
    Ok(out)
}
