//! Archives that are hostile in the ways that archives have been: names that lead out, links swapped for
//! directories between two entries, whiteouts, sparse maps, pax records that contradict the header.

use crate::random::Random;
use naru_tar::{BLOCK_BYTES, Entry, EntryKind, encode, padding, trailer};

/// What an escape would touch; [`super::unpack`] makes it beside the root.
pub const OUTSIDE: &str = "outside";

pub const WORDS: &[&[u8]] = &[
    b"../outside/f",
    b"../../",
    b"/",
    b".wh.",
    b".wh..wh..opq",
    b".wh..wh.plnk",
    b"ustar\x0000",
    b"ustar  \0",
    b"GNU.sparse.major=1\n",
    b"22 GNU.sparse.major=1\n",
    b"22 GNU.sparse.minor=0\n",
    b"30 GNU.sparse.realsize=100000\n",
    b"16 path=../../x\n",
    b"17 linkpath=/etc\n",
    b"18 size=99999999999\n",
    b"999999999 path=x\n",
    b"\x80\0\0\0\0\0\0\0\0\0\xff\xff",
    b"\xff\xff\xff\xff\xff\xff\xff\xff",
    b"77777777777\0",
    b"L",
    b"K",
    b"x",
    b"g",
    b"S",
];

const NAMES: [&str; 14] = [
    "a",
    "b",
    "d",
    "d/a",
    "d/e/f",
    "l",
    "l/x",
    "l/../x",
    "../outside/f",
    "/../outside/new",
    "./d/./a",
    "d/.wh.a",
    "d/.wh..wh..opq",
    ".wh.d",
];
const TARGETS: [&str; 9] = ["a", "d", "..", "../outside", "../outside/f", "/", "d/a", "l", "."];
const KINDS: [EntryKind; 8] = [
    EntryKind::File,
    EntryKind::File,
    EntryKind::Directory,
    EntryKind::Symlink,
    EntryKind::HardLink,
    EntryKind::Fifo,
    EntryKind::CharDevice,
    EntryKind::Directory,
];

/// Up to twelve entries with few names, so that they meet.
pub fn archive(random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..=random.below(12) {
        match random.below(16) {
            0 => sparse_pax(&mut bytes, random),
            1 => sparse_gnu(&mut bytes, random),
            _ => plain(&mut bytes, random),
        }
    }
    if !random.one_in(8) {
        bytes.extend(trailer());
    }
    bytes
}

fn plain(bytes: &mut Vec<u8>, random: &mut Random) {
    let kind = KINDS[random.below(KINDS.len())];
    let mut name = random.pick(&NAMES).as_bytes().to_vec();
    if random.one_in(20) {
        let long = 90 + random.below(200);
        name.extend(vec![b'n'; long]);
    }
    if random.one_in(20) {
        name.extend([b'/', 0xff, 0xfe]);
    }
    let mut entry = Entry::new(name, kind);
    entry.mode = (random.word() & 0o7777) as u32;
    entry.uid = if random.one_in(40) { u32::MAX } else { random.below(3) as u32 };
    entry.mtime_secs = random.below(1 << 31) as i64;
    entry.mtime_nanos = if random.one_in(2) { 0 } else { random.below(1_000_000_000) as u32 };
    if matches!(kind, EntryKind::Symlink | EntryKind::HardLink) {
        entry.link = random.pick(&TARGETS).as_bytes().to_vec();
    }
    if random.one_in(10) {
        entry.xattrs =
            vec![(b"user.a".to_vec(), random.bytes(3)), (b"trusted.overlay.opaque".to_vec(), b"y".to_vec())];
    }
    if kind == EntryKind::File {
        entry.size = random.below(2000) as u64;
    }
    bytes.extend(encode(&entry));
    let content = entry.size as usize;
    bytes.extend(random.bytes(content));
    bytes.resize(bytes.len() + padding(entry.size), 0);
}

/// PAX 1.0: the map is in front of the data (GNU tar manual, "Storing Sparse Files").
fn sparse_pax(bytes: &mut Vec<u8>, random: &mut Random) {
    let (at, count, real) = (random.below(5000), random.below(1500), random.below(9000));
    let mut map = format!("1\n{at}\n{count}\n").into_bytes();
    map.resize(BLOCK_BYTES, 0);
    map.extend(random.bytes(count));
    let mut records = Vec::new();
    for (key, value) in [
        ("GNU.sparse.major", "1".to_owned()),
        ("GNU.sparse.minor", "0".to_owned()),
        ("GNU.sparse.name", random.pick(&NAMES).to_owned()),
        ("GNU.sparse.realsize", real.to_string()),
    ] {
        records.extend(record(key, &value));
    }
    let mut header = Entry::new("PaxHeaders/s", EntryKind::File);
    header.size = records.len() as u64;
    let mut block = encode(&header);
    block[156] = b'x';
    seal(&mut block);
    bytes.extend(block);
    records.resize(records.len() + padding(header.size), 0);
    bytes.extend(records);
    let mut entry = Entry::new("GNUSparseFile.0/s", EntryKind::File);
    entry.size = map.len() as u64;
    bytes.extend(encode(&entry));
    map.resize(map.len() + padding(entry.size), 0);
    bytes.extend(map);
}

/// The old GNU form: four pairs in the header, real size behind them.
fn sparse_gnu(bytes: &mut Vec<u8>, random: &mut Random) {
    let (at, count, real) = (random.below(5000), random.below(1500), random.below(9000));
    let mut entry = Entry::new(random.pick(&NAMES), EntryKind::File);
    entry.size = count as u64;
    let mut block = encode(&entry);
    if block.len() == BLOCK_BYTES {
        block[156] = b'S';
        block[257..265].copy_from_slice(b"ustar  \0");
        block[345..].fill(0);
        for (place, value) in [(386, at), (398, count), (483, real)] {
            block[place..place + 12].copy_from_slice(format!("{value:011o}\0").as_bytes());
        }
        seal(&mut block);
    }
    bytes.extend(block);
    bytes.extend(random.bytes(count));
    bytes.resize(bytes.len() + padding(count as u64), 0);
}

/// `LENGTH KEY=VALUE\n`, the length counting itself (POSIX, pax, "Extended Header").
fn record(key: &str, value: &str) -> Vec<u8> {
    let bare = key.len() + value.len() + 3;
    let mut length = bare;
    while length != bare + length.to_string().len() {
        length = bare + length.to_string().len();
    }
    format!("{length} {key}={value}\n").into_bytes()
}

/// The checksum of the first block.
fn seal(bytes: &mut [u8]) {
    bytes[148..156].fill(b' ');
    let sum: u32 = bytes[..BLOCK_BYTES].iter().map(|byte| u32::from(*byte)).sum();
    bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// Puts right the checksum of every block that looks like a header: otherwise each mutation of a header
/// would be refused at the door.
pub fn mend_checksums(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(BLOCK_BYTES) {
        if &block[257..262] == b"ustar" {
            seal(block);
        }
    }
}
