//! The build context and `cp`: a small tar writer and reader for regular files, directories and links.
//!
//! The CLI has one of its own because the store's reader lives in a layer that a client may not reach
//! (see the layer table); it writes pax headers where ustar is too small, and reads what the daemon writes.

use naru_types::{Error, Result};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::Metadata;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

const BLOCK: usize = 512;
/// A pax header larger than this is no header that naru's daemon writes.
const PAX_LEN_MAX: u64 = 1 << 20;

pub struct Writer<W: Write> {
    out: W,
    /// (device, inode) → the name under which a file with several links was first written.
    links: BTreeMap<(u64, u64), Vec<u8>>,
}

impl<W: Write> Writer<W> {
    pub fn new(out: W) -> Self {
        Self { out, links: BTreeMap::new() }
    }

    /// Appends `path` under `name` (no leading slash). Sockets are skipped, as Docker does.
    pub fn append(&mut self, path: &Path, name: &Path) -> std::io::Result<()> {
        let metadata = std::fs::symlink_metadata(path)?;
        let kind = metadata.file_type();
        let mut raw = name.as_os_str().as_bytes().to_vec();
        if kind.is_dir() {
            raw.push(b'/');
            self.header(&raw, &metadata, b'5', 0, b"")
        } else if kind.is_symlink() {
            let target = std::fs::read_link(path)?;
            self.header(&raw, &metadata, b'2', 0, target.as_os_str().as_bytes())
        } else if kind.is_file() {
            self.file(path, raw, &metadata)
        } else {
            Ok(())
        }
    }

    fn file(&mut self, path: &Path, raw: Vec<u8>, metadata: &Metadata) -> std::io::Result<()> {
        if metadata.nlink() > 1 {
            if let Some(first) = self.links.get(&(metadata.dev(), metadata.ino())).cloned() {
                return self.header(&raw, metadata, b'1', 0, &first);
            }
            self.links.insert((metadata.dev(), metadata.ino()), raw.clone());
        }
        let mut file = std::fs::File::open(path)?;
        let size = metadata.len();
        self.header(&raw, metadata, b'0', size, b"")?;
        // A file that shrinks while it is read is padded, one that grows is cut: the header is already out.
        let copied = std::io::copy(&mut (&mut file).take(size), &mut self.out)?;
        std::io::copy(&mut std::io::repeat(0).take(size - copied), &mut self.out)?;
        self.pad(size)
    }

    pub fn finish(mut self) -> std::io::Result<W> {
        self.out.write_all(&[0; BLOCK * 2])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn pad(&mut self, size: u64) -> std::io::Result<()> {
        let rest = (size % BLOCK as u64) as usize;
        if rest == 0 { Ok(()) } else { self.out.write_all(&[0; BLOCK][rest..]) }
    }

    fn header(
        &mut self,
        name: &[u8],
        metadata: &Metadata,
        kind: u8,
        size: u64,
        link: &[u8],
    ) -> std::io::Result<()> {
        let mut pax = Vec::new();
        if name.len() > 100 {
            pax_record(&mut pax, "path", name);
        }
        if link.len() > 100 {
            pax_record(&mut pax, "linkpath", link);
        }
        if size >= 1 << 33 {
            pax_record(&mut pax, "size", size.to_string().as_bytes());
        }
        if !pax.is_empty() {
            let block = ustar(b"pax", 0o644, (0, 0), pax.len() as u64, 0, b'x', b"");
            self.out.write_all(&block)?;
            self.out.write_all(&pax)?;
            self.pad(pax.len() as u64)?;
        }
        let mode = metadata.mode() & 0o7777;
        let owner = (metadata.uid(), metadata.gid());
        self.out.write_all(&ustar(name, mode, owner, size, metadata.mtime(), kind, link))
    }
}

/// `length key=value\n`, where length counts itself (pax, POSIX.1-2001).
fn pax_record(pax: &mut Vec<u8>, key: &str, value: &[u8]) {
    let body = key.len() + value.len() + 3;
    let mut total = body + 1;
    while total != body + total.to_string().len() {
        total = body + total.to_string().len();
    }
    pax.extend_from_slice(format!("{total} {key}=").as_bytes());
    pax.extend_from_slice(value);
    pax.push(b'\n');
}

fn ustar(
    name: &[u8],
    mode: u32,
    owner: (u32, u32),
    size: u64,
    mtime: i64,
    kind: u8,
    link: &[u8],
) -> [u8; BLOCK] {
    let mut block = [0u8; BLOCK];
    let put = |block: &mut [u8; BLOCK], at: usize, bytes: &[u8], len: usize| {
        let len = bytes.len().min(len);
        block[at..at + len].copy_from_slice(&bytes[..len]);
    };
    let octal = |value: u64, width: usize| {
        format!("{:0width$o}\0", value & ((1u64 << (3 * width)) - 1), width = width)
    };
    put(&mut block, 0, name, 100);
    put(&mut block, 100, octal(u64::from(mode), 7).as_bytes(), 8);
    put(&mut block, 108, octal(u64::from(owner.0), 7).as_bytes(), 8);
    put(&mut block, 116, octal(u64::from(owner.1), 7).as_bytes(), 8);
    put(&mut block, 124, octal(size, 11).as_bytes(), 12);
    put(&mut block, 136, octal(mtime.max(0) as u64, 11).as_bytes(), 12);
    block[156] = kind;
    put(&mut block, 157, link, 100);
    put(&mut block, 257, b"ustar\x0000", 8);
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    put(&mut block, 148, format!("{sum:06o}\0 ").as_bytes(), 8);
    block
}

/// One entry of an archive that is being read.
#[derive(Debug)]
pub struct Entry {
    pub name: PathBuf,
    pub kind: u8,
    pub mode: u32,
    pub size: u64,
    pub link: PathBuf,
}

pub struct Reader<R: Read> {
    input: R,
    /// Bytes of the current entry that were not read yet, padding included.
    left: u64,
}

impl<R: Read> Reader<R> {
    pub fn new(input: R) -> Self {
        Self { input, left: 0 }
    }

    pub fn next_entry(&mut self) -> Result<Option<Entry>> {
        let mut long: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        loop {
            std::io::copy(&mut (&mut self.input).take(self.left), &mut std::io::sink()).map_err(broken)?;
            self.left = 0;
            let mut block = [0u8; BLOCK];
            if let Err(error) = self.input.read_exact(&mut block) {
                return if error.kind() == std::io::ErrorKind::UnexpectedEof {
                    Ok(None)
                } else {
                    Err(broken(error))
                };
            }
            if block.iter().all(|byte| *byte == 0) {
                return Ok(None);
            }
            let size = number(&block[124..136]).ok_or_else(|| Error::invalid("archive: bad size"))?;
            if block[156] == b'x' {
                long = self.pax(size)?;
                continue;
            }
            let text = |key: &str, field: &[u8]| match long.get(key) {
                Some(value) => PathBuf::from(OsStr::from_bytes(value)),
                None => {
                    PathBuf::from(OsStr::from_bytes(field.split(|byte| *byte == 0).next().unwrap_or(b"")))
                }
            };
            let size = match long.get("size") {
                Some(text) => {
                    String::from_utf8_lossy(text).parse().map_err(|_| Error::invalid("archive: bad size"))?
                }
                None => size,
            };
            let has_data = matches!(block[156], b'0' | 0);
            self.left = if has_data { size.next_multiple_of(BLOCK as u64) } else { 0 };
            return Ok(Some(Entry {
                name: text("path", &block[0..100]),
                kind: if block[156] == 0 { b'0' } else { block[156] },
                mode: number(&block[100..108]).unwrap_or(0o644) as u32 & 0o7777,
                size,
                link: text("linkpath", &block[157..257]),
            }));
        }
    }

    /// Copies the current entry's data.
    pub fn copy_data(&mut self, entry: &Entry, out: &mut impl Write) -> std::io::Result<()> {
        let copied = std::io::copy(&mut (&mut self.input).take(entry.size), out)?;
        self.left -= copied;
        if copied == entry.size { Ok(()) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) }
    }

    fn pax(&mut self, size: u64) -> Result<BTreeMap<String, Vec<u8>>> {
        if size > PAX_LEN_MAX {
            return Err(Error::invalid("archive: pax header too large"));
        }
        let mut bytes = vec![0; size.next_multiple_of(BLOCK as u64) as usize];
        self.input.read_exact(&mut bytes).map_err(broken)?;
        let mut rest = &bytes[..size as usize];
        let mut map = BTreeMap::new();
        while let Some(space) = rest.iter().position(|byte| *byte == b' ') {
            let bad = || Error::invalid("archive: bad pax header");
            let len: usize =
                std::str::from_utf8(&rest[..space]).ok().and_then(|t| t.parse().ok()).ok_or_else(bad)?;
            let record = rest.get(space + 1..len.saturating_sub(1)).ok_or_else(bad)?;
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(bad)?;
            map.insert(
                String::from_utf8_lossy(&record[..equals]).into_owned(),
                record[equals + 1..].to_vec(),
            );
            rest = rest.get(len..).ok_or_else(bad)?;
        }
        Ok(map)
    }
}

fn broken(error: std::io::Error) -> Error {
    Error::internal("the archive ended early").with_source(error)
}

fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        return Some(field[1..].iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte)));
    }
    let text = std::str::from_utf8(field).ok()?.trim_matches(['\0', ' ']);
    if text.is_empty() { Some(0) } else { u64::from_str_radix(text, 8).ok() }
}

/// Unpacks below `root`. Names that leave it are refused; links are made, never followed.
pub fn unpack(input: impl Read, root: &Path, rename: impl Fn(&Path) -> PathBuf) -> Result<()> {
    let mut reader = Reader::new(input);
    while let Some(entry) = reader.next_entry()? {
        let name = rename(&entry.name);
        if name.components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir)) {
            return Err(Error::invalid(format!("archive entry {} would leave the target", name.display())));
        }
        let path = root.join(&name);
        unpack_one(&mut reader, &entry, root, &path).map_err(|error| {
            Error::internal(format!("cannot write {}", path.display())).with_source(error)
        })?;
    }
    Ok(())
}

fn unpack_one<R: Read>(
    reader: &mut Reader<R>,
    entry: &Entry,
    root: &Path,
    path: &Path,
) -> std::io::Result<()> {
    no_link_on_the_way(root, path)?;
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    match entry.kind {
        b'5' => {
            if !path.is_dir() {
                std::fs::create_dir(path)?;
            }
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(entry.mode))
        }
        b'2' => {
            let _ = std::fs::remove_file(path);
            std::os::unix::fs::symlink(&entry.link, path)
        }
        b'0' => {
            let _ = std::fs::remove_file(path);
            let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(path)?;
            reader.copy_data(entry, &mut file)?;
            file.set_permissions(std::fs::Permissions::from_mode(entry.mode))
        }
        // Device nodes and hard links of a container's file system are not made on the client.
        _ => Ok(()),
    }
}

/// An archive could first place a link and then write through it.
fn no_link_on_the_way(root: &Path, path: &Path) -> std::io::Result<()> {
    for above in path.ancestors().skip(1).take_while(|above| above.starts_with(root) && *above != root) {
        if above.is_symlink() {
            return Err(std::io::Error::other(format!("{} is a symbolic link", above.display())));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_with_long_names_and_links() {
        let base = std::env::temp_dir().join(format!("naru-cli-tar-{}", std::process::id()));
        let (source, target) = (base.join("source"), base.join("target"));
        let long = "x".repeat(120);
        std::fs::create_dir_all(source.join(&long)).unwrap();
        std::fs::create_dir_all(&target).unwrap();
        std::fs::write(source.join(&long).join("data"), b"hello").unwrap();
        std::os::unix::fs::symlink("data", source.join(&long).join("link")).unwrap();
        let mut writer = Writer::new(Vec::new());
        for name in [long.clone(), format!("{long}/data"), format!("{long}/link")] {
            writer.append(&source.join(&name), Path::new(&name)).unwrap();
        }
        let bytes = writer.finish().unwrap();
        unpack(&bytes[..], &target, Path::to_path_buf).unwrap();
        assert_eq!(std::fs::read(target.join(&long).join("link")).unwrap(), b"hello");
        std::fs::remove_dir_all(&base).unwrap();
    }

    #[test]
    fn entries_cannot_leave_the_target() {
        let target = std::env::temp_dir().join(format!("naru-cli-escape-{}", std::process::id()));
        std::fs::create_dir_all(&target).unwrap();
        for name in ["../x", "/etc/x", "a/../../x"] {
            let mut bytes = ustar(name.as_bytes(), 0o644, (0, 0), 0, 0, b'0', b"").to_vec();
            bytes.extend_from_slice(&[0; BLOCK * 2]);
            assert!(unpack(&bytes[..], &target, Path::to_path_buf).is_err(), "{name}");
        }
        let mut bytes = ustar(b"out", 0o777, (0, 0), 0, 0, b'2', b"/tmp").to_vec();
        bytes.extend_from_slice(&ustar(b"out/x", 0o644, (0, 0), 0, 0, b'0', b""));
        assert!(unpack(&bytes[..], &target, Path::to_path_buf).is_err());
        std::fs::remove_dir_all(&target).unwrap();
    }
}
