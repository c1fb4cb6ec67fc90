//! From packages to a tree of files, and from a configured tree back to a layer's archive.

use crate::deb;
use crate::error::{BootstrapError, Result};
use naru_image::pack::{PackOptions, tar_tree};
use naru_image::unpack::{UnpackOptions, unpack};
use naru_tar::{Entry, EntryKind, Reader, components, encode, padding, trailer};
use naru_types::Timestamp;
use rustix::fd::AsFd;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// Where the packages are mounted while they are installed.
pub const PACKAGES_DIR: &str = "/naru-bootstrap";
/// Directories that are links into /usr (the file hierarchy that Debian has had since bookworm).
const MERGED: [&str; 3] = ["bin", "lib", "sbin"];
/// Also on machines whose ABI names its dynamic linker there.
const MERGED_LIB64: &str = "lib64";

/// What installing leaves that belongs to this machine or this moment.
const DROPPED: [&str; 11] = [
    ".dockerenv",
    "etc/.pwd.lock",
    "etc/hostname",
    "etc/hosts",
    "etc/resolv.conf",
    "naru-bootstrap",
    "var/cache/ldconfig/aux-cache",
    "var/lib/dpkg/lock",
    "var/lib/dpkg/lock-frontend",
    "var/log/alternatives.log",
    "var/log/dpkg.log",
];
/// Of these directories only the directory is kept.
const EMPTIED: [&str; 7] = ["dev", "proc", "sys", "tmp", "run", "var/log/apt", "var/lib/apt/lists"];

/// Collects entries of a new root as one archive.
pub struct Assembly {
    out: BufWriter<File>,
    path: PathBuf,
    merged: Vec<&'static str>,
    directories: BTreeSet<Vec<u8>>,
    date: Timestamp,
}

impl Assembly {
    pub fn new(path: PathBuf, date: Timestamp) -> Result<Self> {
        let file = File::create_new(&path).map_err(BootstrapError::io("create", &path))?;
        Ok(Self { out: BufWriter::new(file), path, merged: Vec::new(), directories: BTreeSet::new(), date })
    }

    /// Makes /bin, /sbin and /lib links into /usr, and sends there what packages put into them.
    pub fn merge_usr(&mut self, architecture: &str) -> Result<()> {
        let lib64 = ["amd64", "loong64", "ppc64el", "s390x"].contains(&architecture);
        let names: Vec<&'static str> = MERGED.into_iter().chain(lib64.then_some(MERGED_LIB64)).collect();
        for name in names {
            self.directory(&format!("usr/{name}"), 0o755)?;
            self.link(name, &format!("usr/{name}"))?;
            self.merged.push(name);
        }
        Ok(())
    }

    pub fn directory(&mut self, path: &str, mode: u32) -> Result<()> {
        let mut entry = self.entry(path, EntryKind::Directory);
        entry.mode = mode;
        self.add(entry, &mut std::io::empty())
    }

    pub fn link(&mut self, path: &str, target: &str) -> Result<()> {
        let mut entry = self.entry(path, EntryKind::Symlink);
        entry.mode = 0o777;
        entry.link = target.into();
        self.add(entry, &mut std::io::empty())
    }

    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        let mut entry = self.entry(path, EntryKind::File);
        entry.mode = mode;
        entry.size = content.len() as u64;
        self.add(entry, &mut &*content)
    }

    /// All files of a package, or those that `wanted` says (by their path without a leading slash).
    pub fn package(&mut self, deb: &Path, name: &str, wanted: &dyn Fn(&[u8]) -> bool) -> Result<()> {
        let failed = |error: naru_tar::TarError| BootstrapError::Unpack {
            package: name.to_owned(),
            source: error.into(),
        };
        let mut reader = Reader::new(deb::data(deb, name)?);
        while let Some(entry) = reader.next_entry().map_err(failed)? {
            let parts = components(&entry.path).map_err(failed)?;
            if !parts.is_empty() && wanted(&parts.join(&b'/')) {
                self.add(entry, &mut reader)?;
            }
        }
        Ok(())
    }

    /// Ends the archive and unpacks it into the directory `root`.
    pub fn unpack(mut self, root: &Path) -> Result<()> {
        self.write(&trailer())?;
        self.out.flush().map_err(BootstrapError::io("write", &self.path))?;
        let file = File::open(&self.path).map_err(BootstrapError::io("open", &self.path))?;
        let to = naru_image::tree::open_root(root).map_err(|error| BootstrapError::Engine(error.into()))?;
        // Packages of Debian name what lies in a merged directory by either path, so links are followed, within the root.
        let options = UnpackOptions { follow_parents: true, ..UnpackOptions::plain() };
        unpack(to.as_fd(), &mut Reader::new(BufReader::new(file)), &options)
            .map_err(|error| BootstrapError::Engine(error.into()))?;
        std::fs::remove_file(&self.path).map_err(BootstrapError::io("remove", &self.path))
    }

    fn entry(&self, path: &str, kind: EntryKind) -> Entry {
        Entry { mtime_secs: self.date.secs(), ..Entry::new(path, kind) }
    }

    fn add(&mut self, mut entry: Entry, content: &mut dyn Read) -> Result<()> {
        entry.path = self.merged_path(&entry.path)?;
        match entry.kind {
            EntryKind::Directory if self.is_merged(&entry.path) => return Ok(()),
            // The first package that brings a directory decides about it, as with dpkg.
            EntryKind::Directory if !self.directories.insert(entry.path.clone()) => return Ok(()),
            EntryKind::Symlink if self.is_merged(&entry.path) => return Ok(()),
            EntryKind::HardLink => entry.link = self.merged_path(&entry.link)?,
            _ => {}
        }
        self.write(&encode(&entry))?;
        let copied = std::io::copy(content.take(entry.size).by_ref(), &mut self.out);
        let copied = copied.map_err(BootstrapError::io("copy files of a package to", &self.path))?;
        if copied != entry.size {
            let package = String::from_utf8_lossy(&entry.path).into_owned();
            return Err(BootstrapError::Package { package, what: "a file of it is cut off".into() });
        }
        self.write(&vec![0; padding(entry.size)])
    }

    fn is_merged(&self, path: &[u8]) -> bool {
        self.merged.iter().any(|name| name.as_bytes() == path)
    }

    /// Without `./`, and beneath /usr where the first component is a link to there.
    fn merged_path(&self, path: &[u8]) -> Result<Vec<u8>> {
        let parts = components(path).map_err(|error| BootstrapError::Engine(error.into()))?;
        let joined = parts.join(&b'/');
        let is_beneath = parts.len() > 1 && self.is_merged(parts[0]);
        Ok(if is_beneath { [b"usr/", &joined[..]].concat() } else { joined })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(BootstrapError::io("write", &self.path))
    }
}

/// Writes the layer of a configured root: nothing of this machine, and no file newer than `date`.
pub fn layer(root: &Path, scratch: &Path, date: Timestamp) -> Result<File> {
    let engine = |error: naru_image::ImageError| BootstrapError::Engine(error.into());
    let from = naru_image::tree::open_root(root).map_err(engine)?;
    let path = scratch.join("layer.tar");
    let file = File::create_new(&path).map_err(BootstrapError::io("create", &path))?;
    let (reader, mut writer) = std::io::pipe().map_err(BootstrapError::io("make a pipe for", root))?;
    std::thread::scope(|scope| {
        let packing =
            scope.spawn(move || tar_tree(from.as_fd(), Path::new("."), &mut writer, &PackOptions::default()));
        let filtered = filter(BufReader::new(reader), BufWriter::new(&file), date);
        match packing.join().unwrap_or(Err(naru_image::ImageError::Cancelled)) {
            // The filter gave up first: its error says why.
            Err(naru_image::ImageError::Write { .. }) => filtered,
            Err(error) => Err(engine(error)),
            Ok(()) => filtered,
        }
    })?;
    File::open(&path).map_err(BootstrapError::io("open", &path))
}

fn filter(from: impl Read, mut to: impl Write, date: Timestamp) -> Result<()> {
    let failed = |error: naru_tar::TarError| BootstrapError::Engine(error.into());
    let mut reader = Reader::new(from);
    let mut write = |bytes: &[u8]| to.write_all(bytes).map_err(BootstrapError::io("write", "the layer"));
    while let Some(mut entry) = reader.next_entry().map_err(failed)? {
        let path = components(&entry.path).map_err(failed)?.join(&b'/');
        if is_dropped(&path) {
            continue;
        }
        if entry.kind == EntryKind::HardLink
            && is_dropped(&components(&entry.link).map_err(failed)?.join(&b'/'))
        {
            let path = String::from_utf8_lossy(&path).into_owned();
            return Err(BootstrapError::Package {
                package: path,
                what: "it is a link to a file that is not kept".into(),
            });
        }
        if entry.mtime_secs >= date.secs() {
            (entry.mtime_secs, entry.mtime_nanos) = (date.secs(), 0);
        }
        write(&encode(&entry))?;
        let mut left = entry.size;
        let mut buffer = vec![0; 64 * 1024];
        while left > 0 {
            let got = reader.read(&mut buffer).map_err(BootstrapError::io("read", "the layer"))?;
            if got == 0 {
                break;
            }
            write(&buffer[..got])?;
            left -= got as u64;
        }
        write(&vec![0; padding(entry.size)])?;
    }
    write(&trailer())?;
    to.flush().map_err(BootstrapError::io("write", "the layer"))
}

fn is_dropped(path: &[u8]) -> bool {
    let is_at = |known: &str| path == known.as_bytes();
    let is_beneath =
        |known: &str| path.strip_prefix(known.as_bytes()).is_some_and(|rest| rest.starts_with(b"/"));
    // dpkg and debconf keep the state before their last change beside the present one.
    let is_backup = path.ends_with(b"-old")
        && (is_beneath("var/lib/dpkg") || is_beneath("var/cache/debconf"))
        && (is_beneath("var/cache/debconf") || path.iter().filter(|byte| **byte == b'/').count() == 3);
    is_backup
        || DROPPED.iter().any(|known| is_at(known) || is_beneath(known))
        || EMPTIED.iter().any(|known| is_beneath(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped() {
        for path in [
            "dev/null",
            "etc/hosts",
            "var/lib/dpkg/status-old",
            "var/cache/debconf/config.dat-old",
            "tmp/x",
            "naru-bootstrap/a.deb",
        ] {
            assert!(is_dropped(path.as_bytes()), "{path}");
        }
        for path in
            ["dev", "etc/host.conf", "var/lib/dpkg/status", "var/lib/dpkg/info/x-old", "device", "tmp"]
        {
            assert!(!is_dropped(path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn files_go_where_the_links_lead() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir(&root).unwrap();
        let date = Timestamp::from_parts(1_000_000, 0);
        let mut assembly = Assembly::new(dir.path().join("a.tar"), date).unwrap();
        assembly.merge_usr("amd64").unwrap();
        assembly.directory("lib", 0o755).unwrap();
        assembly.file("./lib/x", 0o644, b"hello").unwrap();
        assembly.unpack(&root).unwrap();
        assert_eq!(std::fs::read_link(root.join("lib")).unwrap(), Path::new("usr/lib"));
        assert_eq!(std::fs::read(root.join("usr/lib/x")).unwrap(), b"hello");

        std::fs::create_dir(root.join("tmp")).unwrap();
        std::fs::write(root.join("tmp/left"), "").unwrap();
        let mut first = Vec::new();
        layer(&root, dir.path(), date).unwrap().read_to_end(&mut first).unwrap();
        std::fs::remove_file(dir.path().join("layer.tar")).unwrap();
        std::fs::write(root.join("tmp/other"), "").unwrap();
        let mut second = Vec::new();
        layer(&root, dir.path(), date).unwrap().read_to_end(&mut second).unwrap();
        assert!(first == second, "the same root gives the same layer");
    }
}
