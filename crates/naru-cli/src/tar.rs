//! The client's side of archives: packing a local tree (the build context, `cp` into a container) and
//! unpacking beneath a local directory (`cp` out of one).
//!
//! The format is naru-tar's. What a container sends is hostile: every entry is reached by descriptor from
//! the target directory, without following a symbolic link (openat2(2), `RESOLVE_BENEATH` and
//! `RESOLVE_NO_SYMLINKS`), so neither `..` nor a link that an earlier entry placed leads out of it. Files
//! belong to whoever runs the client, as with `docker cp`.

use naru_tar::{Entry, EntryKind, Reader, components, encode, padding, trailer};
use naru_types::{Error, Result};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Size of the copy buffer.
const COPY_BYTES: usize = 128 * 1024;
/// Permissions of a directory until all beneath it is there, and of a parent that no entry describes.
const PARENT_MODE: u32 = 0o755;

pub struct Writer<W: Write> {
    out: W,
    /// (device, inode) → the name under which a file with several links was first written.
    links: HashMap<(u64, u64), Vec<u8>>,
}

impl<W: Write> Writer<W> {
    pub fn new(out: W) -> Self {
        Self { out, links: HashMap::new() }
    }

    /// Appends `path` under `name` (no leading slash), not what is beneath it. Sockets and devices are
    /// skipped, as Docker's client does with sockets.
    pub fn append(&mut self, path: &Path, name: &Path) -> io::Result<()> {
        let metadata = std::fs::symlink_metadata(path)?;
        let kind = metadata.file_type();
        if kind.is_dir() {
            let mut entry = describe(name, EntryKind::Directory, &metadata);
            entry.path.push(b'/');
            self.out.write_all(&encode(&entry))
        } else if kind.is_symlink() {
            let mut entry = describe(name, EntryKind::Symlink, &metadata);
            entry.link = std::fs::read_link(path)?.into_os_string().into_encoded_bytes();
            self.out.write_all(&encode(&entry))
        } else if kind.is_fifo() {
            self.out.write_all(&encode(&describe(name, EntryKind::Fifo, &metadata)))
        } else if kind.is_file() {
            self.file(path, name, &metadata)
        } else {
            Ok(())
        }
    }

    fn file(&mut self, path: &Path, name: &Path, metadata: &Metadata) -> io::Result<()> {
        let mut entry = describe(name, EntryKind::File, metadata);
        if metadata.nlink() > 1 {
            let identity = (metadata.dev(), metadata.ino());
            if let Some(first) = self.links.get(&identity) {
                (entry.kind, entry.link) = (EntryKind::HardLink, first.clone());
                return self.out.write_all(&encode(&entry));
            }
            self.links.insert(identity, entry.path.clone());
        }
        let mut file = File::open(path)?;
        let size = metadata.len();
        entry.size = size;
        self.out.write_all(&encode(&entry))?;
        // A file that shrinks while it is read is padded, one that grows is cut: the header is already out.
        let copied = io::copy(&mut (&mut file).take(size), &mut self.out)?;
        io::copy(&mut io::repeat(0).take(size - copied + padding(size) as u64), &mut self.out).map(drop)
    }

    pub fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&trailer())?;
        self.out.flush()?;
        Ok(self.out)
    }
}

fn describe(name: &Path, kind: EntryKind, metadata: &Metadata) -> Entry {
    let mut entry = Entry::new(name.as_os_str().as_bytes(), kind);
    entry.mode = metadata.mode() & 0o7777;
    (entry.uid, entry.gid) = (metadata.uid(), metadata.gid());
    entry.mtime_secs = metadata.mtime();
    entry.mtime_nanos = u32::try_from(metadata.mtime_nsec()).unwrap_or(0);
    entry
}

/// Unpacks beneath `root`, each entry under the name that `rename` gives it (empty: the root itself, left as
/// it is). Returns the names of device nodes, which are not made on the client.
pub fn unpack(input: impl Read, root: &Path, rename: impl Fn(&Path) -> PathBuf) -> Result<Vec<PathBuf>> {
    let failed = |error: Errno| {
        Error::invalid(format!("cannot open the directory {}", root.display())).with_source(error)
    };
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(root, flags, Mode::empty()).map_err(failed)?;
    let mut target = Target { root: fd, directories: Vec::new(), buffer: vec![0; COPY_BYTES] };
    let mut reader = Reader::new(input);
    let mut skipped = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        let name = rename(&path_of(&components(&entry.path)?));
        if name.as_os_str().is_empty() {
            continue;
        }
        if matches!(entry.kind, EntryKind::CharDevice | EntryKind::BlockDevice) {
            skipped.push(name);
            continue;
        }
        let link = match entry.kind {
            EntryKind::HardLink => rename(&path_of(&components(&entry.link)?)),
            _ => PathBuf::new(),
        };
        target.entry(&mut reader, &entry, &name, &link).map_err(|error| {
            Error::internal(format!("cannot write {}", root.join(&name).display())).with_source(error)
        })?;
    }
    target.finish().map_err(|error| {
        Error::internal(format!("cannot set the attributes of directories in {}", root.display()))
            .with_source(error)
    })?;
    Ok(skipped)
}

struct Target {
    root: OwnedFd,
    /// Set at the end: a read-only directory takes no files, and making a file changes the time.
    directories: Vec<(PathBuf, u32, Timestamps)>,
    buffer: Vec<u8>,
}

impl Target {
    fn entry<R: Read>(
        &mut self,
        reader: &mut Reader<R>,
        entry: &Entry,
        path: &Path,
        link: &Path,
    ) -> io::Result<()> {
        let parent = self.parent_of(path)?;
        let name = path.file_name().ok_or(Errno::INVAL)?;
        match entry.kind {
            EntryKind::Directory => {
                match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(PARENT_MODE)) {
                    Err(Errno::EXIST) => drop(self.open(path, OFlags::DIRECTORY)?),
                    result => result?,
                }
                self.directories.push((path.to_owned(), entry.mode, times(entry)));
                Ok(())
            }
            EntryKind::File => {
                make_room(&parent, name)?;
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let fresh = Mode::from_raw_mode(0o600);
                let mut file = File::from(rustix::fs::openat(&parent, name, flags, fresh)?);
                self.content(reader, &mut file)?;
                file.set_len(entry.size)?;
                rustix::fs::fchmod(&file, Mode::from_raw_mode(entry.mode))?;
                Ok(rustix::fs::futimens(&file, &times(entry))?)
            }
            EntryKind::Symlink => {
                make_room(&parent, name)?;
                rustix::fs::symlinkat(OsStr::from_bytes(&entry.link), &parent, name)?;
                Ok(rustix::fs::utimensat(&parent, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW)?)
            }
            EntryKind::HardLink => {
                let from = self.parent_of(link)?;
                let first = link.file_name().ok_or(Errno::INVAL)?;
                make_room(&parent, name)?;
                Ok(rustix::fs::linkat(&from, first, &parent, name, AtFlags::empty())?)
            }
            EntryKind::Fifo => {
                make_room(&parent, name)?;
                let mode = Mode::from_raw_mode(entry.mode);
                Ok(rustix::fs::mknodat(&parent, name, FileType::Fifo, mode, 0)?)
            }
            EntryKind::CharDevice | EntryKind::BlockDevice => Ok(()),
        }
    }

    /// The content of a file; holes of a sparse one stay holes.
    fn content<R: Read>(&mut self, reader: &mut Reader<R>, file: &mut File) -> io::Result<()> {
        loop {
            if let Some((hole, false)) = reader.sparse_run().filter(|(run, _)| *run > 0) {
                reader.skip_hole();
                file.seek(SeekFrom::Current(i64::try_from(hole).map_err(io::Error::other)?))?;
                continue;
            }
            let got = reader.read(&mut self.buffer)?;
            if got == 0 {
                return Ok(());
            }
            file.write_all(&self.buffer[..got])?;
        }
    }

    /// Opens the directory that holds `path`, making what is missing of it.
    fn parent_of(&self, path: &Path) -> io::Result<OwnedFd> {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        match self.open(parent, OFlags::DIRECTORY) {
            Err(Errno::NOENT) => {
                let above = self.parent_of(parent)?;
                let name = parent.file_name().ok_or(Errno::NOENT)?;
                rustix::fs::mkdirat(&above, name, Mode::from_raw_mode(PARENT_MODE))?;
                Ok(self.open(parent, OFlags::DIRECTORY)?)
            }
            Err(Errno::LOOP | Errno::XDEV) => {
                Err(io::Error::other(format!("{} leads through a symbolic link", parent.display())))
            }
            result => Ok(result?),
        }
    }

    fn open(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        loop {
            match rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve) {
                // openat2(2): EAGAIN when a rename elsewhere made the check uncertain.
                Err(Errno::AGAIN | Errno::INTR) => {}
                result => return result,
            }
        }
    }

    fn finish(mut self) -> io::Result<()> {
        // The deepest come last in an archive and are done first, while their parents can still be entered.
        while let Some((path, mode, times)) = self.directories.pop() {
            let dir = self.open(&path, OFlags::DIRECTORY)?;
            rustix::fs::fchmod(&dir, Mode::from_raw_mode(mode))?;
            rustix::fs::futimens(&dir, &times)?;
        }
        Ok(())
    }
}

/// Takes away a file or link of that name; a directory stays and is the caller's error.
fn make_room(parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {
            Err(io::Error::new(io::ErrorKind::IsADirectory, "a directory is there already"))
        }
        result => Ok(result?),
    }
}

fn path_of(parts: &[&[u8]]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(&parts.join(&b'/')))
}

fn times(entry: &Entry) -> Timestamps {
    let time = Timespec { tv_sec: entry.mtime_secs, tv_nsec: entry.mtime_nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("naru-cli-tar-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn archive(entries: &[(Entry, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (entry, content) in entries {
            let mut entry = entry.clone();
            entry.size = content.len() as u64;
            bytes.extend(encode(&entry));
            bytes.extend_from_slice(content);
            bytes.resize(bytes.len() + padding(entry.size), 0);
        }
        bytes.extend(trailer());
        bytes
    }

    fn link(path: &str, kind: EntryKind, to: &str) -> Entry {
        Entry { link: to.into(), ..Entry::new(path, kind) }
    }

    #[test]
    fn a_tree_comes_back_as_it_was() {
        let base = Dir::new("round");
        let (source, target) = (base.0.join("source"), base.0.join("target"));
        let long = "x".repeat(120);
        std::fs::create_dir_all(source.join(&long)).unwrap();
        std::fs::create_dir_all(&target).unwrap();
        std::fs::write(source.join(&long).join("data"), b"hello").unwrap();
        std::fs::hard_link(source.join(&long).join("data"), source.join(&long).join("same")).unwrap();
        std::os::unix::fs::symlink("data", source.join(&long).join("link")).unwrap();
        std::fs::set_permissions(source.join(&long), std::fs::Permissions::from_mode(0o555)).unwrap();
        let mut writer = Writer::new(Vec::new());
        for name in [long.clone(), format!("{long}/data"), format!("{long}/same"), format!("{long}/link")] {
            writer.append(&source.join(&name), Path::new(&name)).unwrap();
        }
        let bytes = writer.finish().unwrap();
        assert!(unpack(&bytes[..], &target, Path::to_path_buf).unwrap().is_empty());
        let stat = |tree: &Path, name: &str| tree.join(&long).join(name).symlink_metadata().unwrap();
        assert_eq!(std::fs::read(target.join(&long).join("link")).unwrap(), b"hello");
        assert_eq!(stat(&target, "data").ino(), stat(&target, "same").ino());
        assert_eq!(target.join(&long).metadata().unwrap().mode() & 0o7777, 0o555);
        for name in ["data", "link", ""] {
            let time = |tree: &Path| (stat(tree, name).mtime(), stat(tree, name).mtime_nsec());
            assert_eq!(time(&source), time(&target), "{name}");
        }
    }

    #[test]
    fn entries_cannot_leave_the_target() {
        let base = Dir::new("escape");
        let (target, outside) = (base.0.join("target"), base.0.join("outside"));
        std::fs::create_dir_all(&target).unwrap();
        std::fs::create_dir_all(&outside).unwrap();
        std::fs::write(outside.join("secret"), "s").unwrap();
        let way_out = link("out", EntryKind::Symlink, "../outside");
        let file = |path: &str| Entry::new(path, EntryKind::File);
        for entries in [
            vec![file("../outside/x")],
            vec![file("a/../../outside/x")],
            vec![way_out.clone(), file("out/x")],
            vec![way_out.clone(), Entry::new("out/x", EntryKind::Directory)],
            vec![way_out.clone(), Entry::new("out", EntryKind::Directory), file("out/x")],
            vec![way_out, link("mine", EntryKind::HardLink, "out/secret")],
            vec![link("mine", EntryKind::HardLink, "../outside/secret")],
        ] {
            let with_content: Vec<(Entry, &[u8])> =
                entries.into_iter().map(|entry| (entry, &b""[..])).collect();
            let result = unpack(&archive(&with_content)[..], &target, Path::to_path_buf);
            assert!(result.is_err(), "{with_content:?}");
            assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1, "{with_content:?}");
        }
        // An absolute name is one beneath the target, as tar(1) reads it.
        unpack(&archive(&[(file("/etc/x"), b"1")])[..], &target, Path::to_path_buf).unwrap();
        assert_eq!(std::fs::read(target.join("etc/x")).unwrap(), b"1");
    }

    #[test]
    fn links_are_replaced_and_directories_stay() {
        let base = Dir::new("replace");
        std::fs::write(base.0.join("kept"), "old").unwrap();
        std::os::unix::fs::symlink("kept", base.0.join("a")).unwrap();
        std::fs::create_dir(base.0.join("d")).unwrap();
        let file = |path: &str| Entry::new(path, EntryKind::File);
        unpack(&archive(&[(file("a"), b"new")])[..], &base.0, Path::to_path_buf).unwrap();
        assert_eq!(std::fs::read(base.0.join("kept")).unwrap(), b"old");
        assert_eq!(std::fs::read(base.0.join("a")).unwrap(), b"new");
        assert!(unpack(&archive(&[(file("d"), b"")])[..], &base.0, Path::to_path_buf).is_err());
        let device = Entry::new("null", EntryKind::CharDevice);
        let skipped = unpack(&archive(&[(device, b"")])[..], &base.0, Path::to_path_buf).unwrap();
        assert_eq!(skipped, [PathBuf::from("null")]);
    }
}
