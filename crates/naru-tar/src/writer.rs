//! Writes headers: ustar, preceded by a pax header only for what ustar cannot hold. The same entry
//! always gives the same bytes (no time of writing, no user names, records in a fixed order).

use crate::header::{self, Block, field};
use crate::{BLOCK_BYTES, Entry, EntryKind, XATTR_PREFIX, padding};

/// The header blocks of `entry`. Its content, padded to a block border, follows.
pub fn encode(entry: &Entry) -> Vec<u8> {
    let mut records = Vec::new();
    let block = encode_block(entry, &mut records);
    let mut out = Vec::with_capacity(BLOCK_BYTES);
    if !records.is_empty() {
        out.extend_from_slice(&pax_block(records.len() as u64));
        out.extend_from_slice(&records);
        out.resize(out.len() + padding(records.len() as u64), 0);
    }
    out.extend_from_slice(&block);
    out
}

/// The end of an archive: two zero blocks.
pub fn trailer() -> [u8; 2 * BLOCK_BYTES] {
    [0; 2 * BLOCK_BYTES]
}

fn encode_block(entry: &Entry, records: &mut Vec<u8>) -> Block {
    let mut block: Block = [0; BLOCK_BYTES];
    put_path(&mut block, &entry.path, records);
    if !header_text(&mut block, field::LINK, &entry.link) {
        record(records, b"linkpath", &entry.link);
    }
    header::put_octal(&mut block, field::MODE, u64::from(entry.mode & 0o7777));
    for (which, key, value) in [(field::UID, "uid", entry.uid), (field::GID, "gid", entry.gid)] {
        if !header::put_octal(&mut block, which, u64::from(value)) {
            record(records, key.as_bytes(), value.to_string().as_bytes());
        }
    }
    let size = if entry.kind == EntryKind::File { entry.size } else { 0 };
    if !header::put_octal(&mut block, field::SIZE, size) {
        record(records, b"size", size.to_string().as_bytes());
    }
    put_mtime(&mut block, entry, records);
    for (name, value) in &entry.xattrs {
        record(records, &[XATTR_PREFIX, name].concat(), value);
    }
    block[field::TYPE] = match entry.kind {
        EntryKind::File => header::TYPE_FILE,
        EntryKind::HardLink => header::TYPE_HARD_LINK,
        EntryKind::Symlink => header::TYPE_SYMLINK,
        EntryKind::CharDevice => header::TYPE_CHAR,
        EntryKind::BlockDevice => header::TYPE_BLOCK,
        EntryKind::Directory => header::TYPE_DIRECTORY,
        EntryKind::Fifo => header::TYPE_FIFO,
    };
    header::put(&mut block, field::MAGIC, b"ustar\x0000");
    header::put_octal(&mut block, field::MAJOR, u64::from(entry.device.0));
    header::put_octal(&mut block, field::MINOR, u64::from(entry.device.1));
    header::seal(&mut block);
    block
}

fn put_path(block: &mut Block, path: &[u8], records: &mut Vec<u8>) {
    if header_text(block, field::NAME, path) {
        return;
    }
    // ustar can split a long path at a slash: at most 155 bytes before it and 100 behind it.
    let splits =
        |at: &usize| path[*at] == b'/' && path.len() - at - 1 <= field::NAME.1 && path.len() > at + 1;
    let ascii = path.is_ascii();
    match (1..path.len().min(field::PREFIX.1 + 1)).find(splits) {
        Some(at) if ascii => {
            block[..field::NAME.1].fill(0);
            header::put(block, field::PREFIX, &path[..at]);
            header::put(block, field::NAME, &path[at + 1..]);
        }
        _ => record(records, b"path", path),
    }
}

/// `false` when `bytes` does not fit; a truncated form is left for readers without pax.
fn header_text(block: &mut Block, which: field::Field, bytes: &[u8]) -> bool {
    header::put(block, which, bytes);
    bytes.len() <= which.1
}

fn put_mtime(block: &mut Block, entry: &Entry, records: &mut Vec<u8>) {
    let fits = u64::try_from(entry.mtime_secs).is_ok_and(|secs| header::put_octal(block, field::MTIME, secs));
    if !fits {
        header::put_octal(block, field::MTIME, 0);
    }
    if fits && entry.mtime_nanos == 0 {
        return;
    }
    let (secs, nanos) = (entry.mtime_secs, entry.mtime_nanos);
    let text = match (secs < 0, nanos) {
        (_, 0) => secs.to_string(),
        (false, _) => format!("{secs}.{nanos:09}").trim_end_matches('0').to_owned(),
        (true, _) => format!("-{}.{:09}", (secs + 1).unsigned_abs(), 1_000_000_000 - nanos)
            .trim_end_matches('0')
            .to_owned(),
    };
    record(records, b"mtime", text.as_bytes());
}

/// Appends one record; its length counts its own digits.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let body = key.len() + value.len() + 3;
    let mut len = body + 1;
    while len != body + len.to_string().len() {
        len = body + len.to_string().len();
    }
    records.extend_from_slice(len.to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

fn pax_block(size: u64) -> Block {
    let mut block: Block = [0; BLOCK_BYTES];
    header::put(&mut block, field::NAME, b"PaxHeaders.0/entry");
    for (which, value) in
        [(field::MODE, 0o644), (field::UID, 0), (field::GID, 0), (field::SIZE, size), (field::MTIME, 0)]
    {
        header::put_octal(&mut block, which, value);
    }
    block[field::TYPE] = header::TYPE_PAX;
    header::put(&mut block, field::MAGIC, b"ustar\x0000");
    header::seal(&mut block);
    block
}
