//! The files that a container of the image would see, and how they are opened.

use crate::merge::Hidden;
use crate::{InsightError, LayerInput, Result};
use naru_wire::analysis::{Layer, Waste};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Bytes of the files beneath each directory.
pub type DirectorySizes<'a> = BTreeMap<&'a [u8], u64>;

/// A file or directory that a container would see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub kind: FileType,
    /// Of a regular file, in bytes, as `stat` says it: holes count.
    pub size: u64,
    pub mode: u32,
    /// Index of the layer that it comes from.
    pub layer: usize,
    /// Names of one file have the same number.
    pub(crate) link: Option<u32>,
}

/// Paths are bytes, because names of files are, and have no slash at the beginning.
#[derive(Default)]
pub struct Tree {
    pub(crate) nodes: BTreeMap<Vec<u8>, Node>,
    pub layers: Vec<Layer>,
    pub notes: Vec<String>,
    pub(crate) dirs: Vec<PathBuf>,
    pub(crate) hidden: Hidden,
}

impl Tree {
    /// Puts the layers on top of each other, lowest first.
    pub fn read(inputs: &[LayerInput]) -> Result<Self> {
        crate::merge::read(inputs)
    }

    /// Regular files, by path.
    pub fn files(&self) -> impl Iterator<Item = (&[u8], &Node)> {
        let all = self.nodes.iter().map(|(path, node)| (path.as_slice(), node));
        all.filter(|(_, node)| node.kind == FileType::RegularFile)
    }

    /// Regular files, each by the first of its names.
    pub fn distinct_files(&self) -> impl Iterator<Item = (&[u8], &Node)> {
        let mut seen = HashSet::new();
        self.files().filter(move |(_, node)| node.link.is_none_or(|link| seen.insert(link)))
    }

    pub fn node(&self, path: impl AsRef<[u8]>) -> Option<&Node> {
        self.nodes.get(path.as_ref())
    }

    /// What lies beneath a directory, at any depth.
    pub fn beneath(&self, directory: &[u8]) -> impl Iterator<Item = (&[u8], &Node)> {
        let prefix = [directory, b"/"].concat();
        let from = self.nodes.range(prefix.clone()..).map(|(path, node)| (path.as_slice(), node));
        from.take_while(move |(path, _)| path.starts_with(&prefix))
    }

    /// Opens a regular file of the merged view. The layer it comes from is entered without following any link.
    pub fn open(&self, path: impl AsRef<[u8]>) -> Result<File> {
        let path = path.as_ref();
        let failed = |source: std::io::Error| InsightError::Io { step: "open", path: absolute(path), source };
        let node = self.node(path).ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))?;
        if node.kind != FileType::RegularFile {
            return Err(failed(std::io::Error::other(
                "it is not a regular file, and links are not followed",
            )));
        }
        let root_flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, &self.dirs[node.layer], root_flags, Mode::empty())
            .map_err(|errno| failed(errno.into()))?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let file = rustix::fs::openat2(&root, OsStr::from_bytes(path), flags, Mode::empty(), resolve)
            .map_err(|errno| failed(errno.into()))?;
        Ok(File::from(file))
    }

    /// A whole file of at most `limit` bytes; a longer one is refused.
    pub fn text(&self, path: impl AsRef<[u8]>, limit: u64) -> Result<String> {
        let path = path.as_ref();
        let bytes = self.head(path, limit + 1)?;
        if bytes.len() as u64 > limit {
            return Err(InsightError::TooLarge { path: absolute(path), limit });
        }
        Ok(lossy(bytes))
    }

    /// The first `limit` bytes of a file.
    pub fn head(&self, path: impl AsRef<[u8]>, limit: u64) -> Result<Vec<u8>> {
        let path = path.as_ref();
        let mut bytes = Vec::new();
        let read = self.open(path)?.take(limit).read_to_end(&mut bytes);
        read.map_err(|source| InsightError::Io { step: "read", path: absolute(path), source })?;
        Ok(bytes)
    }

    /// In one pass, since what is beneath a directory stands together in the order of paths.
    pub fn directory_sizes(&self) -> DirectorySizes<'_> {
        let mut sizes: DirectorySizes<'_> = BTreeMap::new();
        let mut open: Vec<(&[u8], u64)> = Vec::new();
        let mut close = |open: &mut Vec<(&[u8], u64)>, directory, size: u64| {
            if let Some(parent) = open.last_mut() {
                parent.1 = parent.1.saturating_add(size);
            }
            sizes.insert(directory, size);
        };
        for (path, node) in self.distinct_files() {
            while let Some((directory, size)) = open.pop_if(|(directory, _)| !is_beneath(path, directory)) {
                close(&mut open, directory, size);
            }
            let known = open.last().map_or(0, |(directory, _)| directory.len() + 1);
            let slashes = path.iter().enumerate().skip(known).filter(|(_, byte)| **byte == b'/');
            open.extend(slashes.map(|(at, _)| (&path[..at], 0)));
            if let Some(parent) = open.last_mut() {
                parent.1 = parent.1.saturating_add(node.size);
            }
        }
        while let Some((directory, size)) = open.pop() {
            close(&mut open, directory, size);
        }
        sizes
    }

    pub fn waste(&self) -> Waste {
        self.hidden.waste()
    }
}

fn is_beneath(path: &[u8], directory: &[u8]) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.first() == Some(&b'/'))
}

/// A path for people and for JSON; what isn't UTF-8 is replaced.
pub fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

pub(crate) fn absolute(path: &[u8]) -> PathBuf {
    Path::new("/").join(OsStr::from_bytes(path))
}

/// Bytes as text, without a second copy of what is UTF-8 already.
pub(crate) fn lossy(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    /// Layers of plain files, for tests of this crate.
    pub fn layers(dir: &Path, files: &[&[(&str, &[u8])]]) -> Vec<LayerInput> {
        let layer = |(number, files): (usize, &&[(&str, &[u8])])| {
            let root = dir.join(number.to_string());
            fs::create_dir_all(&root).unwrap();
            for (path, content) in *files {
                fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
                fs::write(root.join(path), content).unwrap();
            }
            LayerInput { dir: root, digest: format!("sha256:{number}"), created_by: String::new() }
        };
        files.iter().enumerate().map(layer).collect()
    }

    #[test]
    fn nothing_outside_of_the_layer_is_opened() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "secret").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let inputs = layers(dir.path(), &[&[("etc/a", b"1")]]);
        let root = dir.path().join("0");
        symlink(outside.path().join("secret"), root.join("etc/link")).unwrap();
        symlink(outside.path(), root.join("var")).unwrap();
        let mut tree = Tree::read(&inputs).unwrap();
        assert_eq!(tree.text("etc/a", 10).unwrap(), "1");
        let error = tree.open("etc/link").unwrap_err().sentence();
        assert_eq!(error, "cannot open /etc/link: it is not a regular file, and links are not followed");
        // Even what the walk believed to be a file is not reached through a link.
        let node = tree.node("etc/a").unwrap().clone();
        for path in ["var/secret", "etc/link", "../0/etc/a", "/etc/passwd"] {
            tree.nodes.insert(path.into(), node.clone());
            assert!(tree.open(path).is_err(), "{path}");
        }
    }

    #[test]
    fn sizes_of_directories() {
        let dir = tempfile::tempdir().unwrap();
        let files: &[(&str, &[u8])] =
            &[("a/b/c/x", b"1"), ("a/b/y", b"12"), ("a-b/x", b"123"), ("a/z/x", b"1234"), ("top", b"1")];
        let inputs = layers(dir.path(), &[files]);
        let tree = Tree::read(&inputs).unwrap();
        let sizes: Vec<(String, u64)> =
            tree.directory_sizes().into_iter().map(|(path, bytes)| (shown(path), bytes)).collect();
        let expect = [("a", 7), ("a-b", 3), ("a/b", 3), ("a/b/c", 1), ("a/z", 4)];
        assert_eq!(sizes, expect.map(|(path, bytes)| (path.to_owned(), bytes)));
    }

    #[test]
    fn files_have_limits() {
        let dir = tempfile::tempdir().unwrap();
        let inputs = layers(dir.path(), &[&[("a", b"12345")]]);
        let tree = Tree::read(&inputs).unwrap();
        assert_eq!(tree.text("a", 5).unwrap(), "12345");
        assert!(matches!(tree.text("a", 4), Err(InsightError::TooLarge { limit: 4, .. })));
        assert_eq!(tree.head("a", 2).unwrap(), b"12");
        assert!(tree.open("b").is_err());
    }
}
