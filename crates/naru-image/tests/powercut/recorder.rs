//! A disk that remembers: a FUSE server (linux/fuse.h, protocol 7.31) with one file per disk. A loop device over such a
//! file turns the block layer's writes into FUSE_WRITE and its flushes into FUSE_FSYNC, in the order in which the
//! device completes them; where `<name>.log` exists, each is appended to it before it is answered.
//!
//! The server runs in a process of its own, outside of the mount namespace in which the disks are used: when that
//! process is killed its last writes can still be answered, its namespace and all mounts go, and then this ends.
//!
//! Writes that are answered before a flush was read count as covered by it. A real disk need not cover those that were
//! under way when the flush was sent; no file system relies on these.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const ROOT: u64 = 1;
/// Largest write, in bytes; the kernel splits longer ones.
const WRITE_BYTES_MAX: u32 = 1 << 20;
/// A request: the write, its headers and some room (fuse_dev_do_read wants at least 4 KiB above the write).
const REQUEST_BYTES: usize = WRITE_BYTES_MAX as usize + 8192;
const HEADER_BYTES: usize = 40;
/// Names and attributes never change under the kernel, in seconds.
const VALID_SECS: u64 = 3600;
/// FUSE_BIG_WRITES and FUSE_MAX_PAGES.
const INIT_FLAGS: u32 = 1 << 5 | 1 << 22;

/// First byte of a record in a log.
pub const WRITE: u8 = 1;
pub const FLUSH: u8 = 2;

struct Node {
    file: File,
    log: Option<File>,
    size: u64,
    lookups: u64,
    name: Vec<u8>,
}

pub struct Recorder {
    dir: PathBuf,
    nodes: HashMap<u64, Node>,
    next: u64,
}

struct Request<'a> {
    opcode: u32,
    unique: u64,
    node: u64,
    body: &'a [u8],
}

impl Request<'_> {
    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.body[at..at + 4].try_into().unwrap())
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.body[at..at + 8].try_into().unwrap())
    }
}

/// An errno, or the body of the answer.
type Answer = Result<Vec<u8>, i32>;

const ENOENT: i32 = 2;
const EIO: i32 = 5;
const ENOSYS: i32 = 38;

impl Recorder {
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), nodes: HashMap::new(), next: ROOT + 1 }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Answers until the file system is unmounted.
    pub fn serve(mut self, mut device: File) -> io::Result<()> {
        let mut buffer = vec![0; REQUEST_BYTES];
        loop {
            let got = match device.read(&mut buffer) {
                Ok(got) => got,
                // ENODEV: unmounted. ENOENT: a request was taken back. EAGAIN, EINTR: nothing yet.
                Err(error) if error.raw_os_error() == Some(19) => return Ok(()),
                Err(error) if matches!(error.raw_os_error(), Some(2 | 4 | 11)) => continue,
                Err(error) => return Err(error),
            };
            let field = |at: usize| u32::from_le_bytes(buffer[at..at + 4].try_into().unwrap());
            let wide = |at: usize| u64::from_le_bytes(buffer[at..at + 8].try_into().unwrap());
            let body = &buffer[HEADER_BYTES..got];
            let request = Request { opcode: field(4), unique: wide(8), node: wide(16), body };
            let Some(answer) = self.answer(&request) else { continue };
            let (error, body) = match answer {
                Ok(body) => (0, body),
                Err(errno) => (-errno, Vec::new()),
            };
            let mut reply = (16 + body.len() as u32).to_le_bytes().to_vec();
            reply.extend(error.to_le_bytes());
            reply.extend(request.unique.to_le_bytes());
            reply.extend(body);
            match device.write(&reply) {
                Ok(_) => {}
                // ENOENT: the one who asked has gone.
                Err(error) if matches!(error.raw_os_error(), Some(2 | 19)) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn answer(&mut self, request: &Request<'_>) -> Option<Answer> {
        Some(match request.opcode {
            1 => self.lookup(request.body.strip_suffix(b"\0").unwrap_or(request.body)),
            2 => return self.forget(request.node, request.u64(0)),
            // FUSE_INTERRUPT has no answer.
            36 => return None,
            // FUSE_BATCH_FORGET
            42 => {
                for at in 0..request.u32(0) as usize {
                    self.forget(request.u64(8 + 16 * at), request.u64(16 + 16 * at));
                }
                return None;
            }
            // FUSE_GETATTR and FUSE_SETATTR: a disk keeps its size.
            3 | 4 => self
                .attributes(request.node)
                .map(|attributes| [&VALID_SECS.to_le_bytes()[..], &[0; 8], &attributes].concat()),
            // FUSE_OPEN, FUSE_OPENDIR: a handle that isn't needed, no flags.
            14 | 27 => Ok(vec![0; 16]),
            15 => self.read(request),
            16 => self.write(request),
            // FUSE_RELEASE, FUSE_FLUSH (of close), FUSE_RELEASEDIR, FUSE_ACCESS
            18 | 25 | 29 | 34 => Ok(Vec::new()),
            20 => self.flush(request.node),
            26 => Ok(init()),
            // FUSE_READDIR: nobody lists this.
            28 => Ok(Vec::new()),
            _ => Err(ENOSYS),
        })
    }

    fn lookup(&mut self, name: &[u8]) -> Answer {
        let known = self.nodes.iter().find(|(_, node)| node.name == name).map(|(id, _)| *id);
        let id = match known {
            Some(id) => id,
            None => {
                let text = std::str::from_utf8(name).map_err(|_| ENOENT)?;
                let path = self.dir.join(text);
                let file = File::options().read(true).write(true).open(&path).map_err(|_| ENOENT)?;
                let size = file.metadata().map_err(|_| EIO)?.len();
                let log = File::options().append(true).open(self.dir.join(format!("{text}.log"))).ok();
                self.next += 1;
                self.nodes.insert(self.next, Node { file, log, size, lookups: 0, name: name.to_vec() });
                self.next
            }
        };
        self.nodes.get_mut(&id).ok_or(EIO)?.lookups += 1;
        let attributes = self.attributes(id)?;
        let valid = VALID_SECS.to_le_bytes();
        Ok([&id.to_le_bytes()[..], &[0; 8], &valid, &valid, &[0; 8], &attributes].concat())
    }

    fn forget(&mut self, id: u64, lookups: u64) -> Option<Answer> {
        let node = self.nodes.get_mut(&id)?;
        node.lookups = node.lookups.saturating_sub(lookups);
        if node.lookups == 0 {
            self.nodes.remove(&id);
        }
        None
    }

    /// struct fuse_attr
    fn attributes(&self, id: u64) -> Answer {
        let (mode, size) = match self.nodes.get(&id) {
            _ if id == ROOT => (0o040_755u32, 0),
            Some(node) => (0o100_600, node.size),
            None => return Err(ENOENT),
        };
        let words = [id, size, size / 512, 0, 0, 0].map(u64::to_le_bytes).concat();
        // Nanoseconds of three times, mode, links, uid, gid, device, block size, flags.
        let halves = [0, 0, 0, mode, 1, 0, 0, 0, 4096, 0].map(u32::to_le_bytes).concat();
        Ok([words, halves].concat())
    }

    fn read(&self, request: &Request<'_>) -> Answer {
        let node = self.nodes.get(&request.node).ok_or(ENOENT)?;
        let (offset, size) = (request.u64(8), u64::from(request.u32(16)));
        let mut bytes = vec![0; size.min(node.size.saturating_sub(offset)) as usize];
        node.file.read_exact_at(&mut bytes, offset).map_err(|_| EIO)?;
        Ok(bytes)
    }

    fn write(&mut self, request: &Request<'_>) -> Answer {
        let node = self.nodes.get_mut(&request.node).ok_or(ENOENT)?;
        let (offset, size) = (request.u64(8), request.u32(16));
        let bytes = &request.body[40..40 + size as usize];
        node.file.write_all_at(bytes, offset).map_err(|_| EIO)?;
        if let Some(log) = &mut node.log {
            let head = [&[WRITE][..], &offset.to_le_bytes(), &size.to_le_bytes()].concat();
            log.write_all(&[&head[..], bytes].concat()).map_err(|_| EIO)?;
        }
        Ok([size.to_le_bytes(), [0; 4]].concat())
    }

    fn flush(&mut self, id: u64) -> Answer {
        let node = self.nodes.get_mut(&id).ok_or(ENOENT)?;
        match &mut node.log {
            Some(log) => log.write_all(&[FLUSH]).map(|()| Vec::new()).map_err(|_| EIO),
            None => Ok(Vec::new()),
        }
    }
}

/// struct fuse_init_out: protocol 7.31, the flags, the write's size in bytes and pages.
fn init() -> Vec<u8> {
    let mut out = [7u32, 31, 128 * 1024, INIT_FLAGS].map(u32::to_le_bytes).concat();
    out.extend([64u16, 48].map(u16::to_le_bytes).concat());
    out.extend([WRITE_BYTES_MAX, 1].map(u32::to_le_bytes).concat());
    out.extend(((WRITE_BYTES_MAX / 4096) as u16).to_le_bytes());
    out.resize(64, 0);
    out
}
