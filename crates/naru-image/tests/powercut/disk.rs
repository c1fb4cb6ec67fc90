//! Disks for the driver: made, mounted, and cut.

use crate::dice::Dice;
use crate::recorder::{FLUSH, WRITE};
use rustix::mount::{MountFlags, UnmountFlags};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Bytes of a disk.
pub const DISK_BYTES: u64 = 320 << 20;
/// What a disk writes as one, at least: a logical sector.
const SECTOR_BYTES: usize = 512;
/// What a file system writes as one.
const BLOCK_BYTES: usize = 4096;

/// Where the recorder keeps the disks, and where they are seen through it.
pub struct Rack {
    pub backing: PathBuf,
    pub seen: PathBuf,
}

/// A file system on a disk, mounted; unmounts itself.
pub struct Mounted {
    pub path: PathBuf,
}

impl Rack {
    /// A disk with a fresh file system; all that is written to it from now on is recorded.
    pub fn make(&self, name: &str, file_system: &str) {
        let backing = self.backing.join(name);
        File::create(&backing).unwrap().set_len(DISK_BYTES).unwrap();
        // Everything is initialized now, so that the kernel has nothing to write later by itself.
        let made = match file_system {
            "ext4" => Command::new("mkfs.ext4")
                .args(["-q", "-F", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"])
                .arg(&backing)
                .status(),
            other => Command::new(format!("mkfs.{other}")).arg("-q").arg(&backing).status(),
        };
        assert!(made.unwrap().success(), "mkfs.{file_system}");
        File::create(self.backing.join(format!("{name}.log"))).unwrap();
    }

    pub fn mount(&self, name: &str, file_system: &str, at: &Path) -> Mounted {
        let _ = fs::create_dir(at);
        let mounted = Command::new("mount")
            .args(["-t", file_system, "-o", "loop"])
            .arg(self.seen.join(name))
            .arg(at)
            .output()
            .unwrap();
        assert!(mounted.status.success(), "mount {name}: {}", String::from_utf8_lossy(&mounted.stderr));
        Mounted { path: at.to_owned() }
    }

    /// Bytes of the log: a moment of the recording.
    pub fn moment(&self, name: &str) -> u64 {
        fs::metadata(self.backing.join(format!("{name}.log"))).unwrap().len()
    }

    pub fn remove(&self, name: &str) {
        fs::remove_file(self.backing.join(name)).unwrap();
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Nothing may hold it any more; the loop device goes with the last use (autoclear).
        if let Err(errno) = rustix::mount::unmount(&self.path, UnmountFlags::empty()) {
            println!("cannot unmount {}: {errno}", self.path.display());
            let _ = rustix::mount::unmount(&self.path, UnmountFlags::DETACH);
        }
    }
}

/// Mounts the recorder, which reads from the other end of descriptor 0.
pub fn mount_recorder(at: &Path) {
    let options = c"fd=0,rootmode=40000,user_id=0,group_id=0,max_read=1048576";
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount("powercut", at, "fuse", flags, options).unwrap();
    // Its death must end the connection.
    rustix::stdio::dup2_stdin(File::open("/dev/null").unwrap()).unwrap();
}

enum Event {
    Write { offset: u64, at: usize, size: usize },
    Flush,
}

/// What was written to a disk since it was made, and the disk as it was at some moment of that.
pub struct Recording {
    bytes: Vec<u8>,
    /// With the moment at which each was complete.
    events: Vec<(u64, Event)>,
    /// All that was flushed up to event `flushed`.
    durable: File,
    flushed: usize,
    /// Bytes that are written as one, at least.
    atom: usize,
}

pub struct Cut {
    /// Writes since the last flush, and how many of their parts were lost.
    pub pending: usize,
    pub lost: usize,
}

impl Recording {
    /// `fresh` is a copy of the disk as mkfs left it.
    pub fn open(log: &Path, fresh: &Path, file_system: &str) -> Self {
        // The superblocks of btrfs (4 KiB) and ext4 (1 KiB) have one checksum each; both trust the disk not to tear them. That
        // of xfs is one sector.
        let atom = if file_system == "xfs" { SECTOR_BYTES } else { BLOCK_BYTES };
        let bytes = fs::read(log).unwrap();
        let mut events = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let event = match bytes[at] {
                WRITE => {
                    let offset = u64::from_le_bytes(bytes[at + 1..at + 9].try_into().unwrap());
                    let size = u32::from_le_bytes(bytes[at + 9..at + 13].try_into().unwrap()) as usize;
                    at += 13 + size;
                    Event::Write { offset, at: at - size, size }
                }
                FLUSH => {
                    at += 1;
                    Event::Flush
                }
                other => panic!("a record of type {other} in the log"),
            };
            events.push((at as u64, event));
        }
        let durable = File::options().read(true).write(true).open(fresh).unwrap();
        Self { bytes, events, durable, flushed: 0, atom }
    }

    pub fn moments(&self) -> impl Iterator<Item = u64> {
        self.events.iter().map(|(moment, _)| *moment)
    }

    pub fn flushes(&self) -> usize {
        self.events.iter().filter(|(_, event)| matches!(event, Event::Flush)).count()
    }

    /// Makes in `to` the disk that a power cut at `moment` leaves; moments must not go back. Of the writes since the
    /// last flush some are there and some are not; a later one may be there without an earlier one.
    pub fn cut(&mut self, moment: u64, to: &Path, dice: &mut Dice) -> Cut {
        let end = self.events.partition_point(|(complete, _)| *complete <= moment);
        let is_flush = |(_, event): &(u64, Event)| matches!(event, Event::Flush);
        let flushed = self.events[..end].iter().rposition(is_flush).map_or(0, |at| at + 1);
        for (_, event) in &self.events[self.flushed.min(flushed)..flushed] {
            if let Event::Write { offset, at, size } = event {
                self.durable.write_all_at(&self.bytes[*at..at + size], *offset).unwrap();
            }
        }
        self.flushed = self.flushed.max(flushed);
        copy_sparse(&self.durable, to);
        let disk = File::options().write(true).open(to).unwrap();
        // Every request as a whole, every block of it, or every sector of it meets its own fate.
        let grain = [usize::MAX, BLOCK_BYTES, self.atom][dice.below(3) as usize];
        let kept_of_16 = [0, 4, 8, 12, 15, 16][dice.below(6) as usize];
        let mut cut = Cut { pending: 0, lost: 0 };
        for (_, event) in &self.events[flushed..end] {
            let Event::Write { offset, at, size } = event else { continue };
            cut.pending += 1;
            for (number, part) in self.bytes[*at..at + size].chunks(grain.min(*size)).enumerate() {
                if dice.below(16) < kept_of_16 {
                    disk.write_all_at(part, offset + (number * grain.min(*size)) as u64).unwrap();
                } else {
                    cut.lost += 1;
                }
            }
        }
        cut
    }
}

/// Only what isn't a hole.
pub fn copy_sparse(from: &File, to: &Path) {
    let to = File::create(to).unwrap();
    to.set_len(DISK_BYTES).unwrap();
    let mut at = 0;
    let mut buffer = vec![0; 1 << 20];
    while let Ok(data) = rustix::fs::seek(from, rustix::fs::SeekFrom::Data(at)) {
        let hole = rustix::fs::seek(from, rustix::fs::SeekFrom::Hole(data)).unwrap();
        at = data;
        while at < hole {
            let size = buffer.len().min((hole - at) as usize);
            from.read_exact_at(&mut buffer[..size], at).unwrap();
            to.write_all_at(&buffer[..size], at).unwrap();
            at += size as u64;
        }
    }
}
