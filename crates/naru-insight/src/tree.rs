//! The layers put on top of each other, as overlayfs shows them; and what of them stays hidden.

use crate::{InsightError, Layer, LayerInput, Result, Waste, WastedFile};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Most files of an image; the largest known have about a million.
const FILES_MAX: usize = 5_000_000;
/// Deepest directory, because each level holds one descriptor open.
const DEPTH_MAX: usize = 512;
/// The marks of directories that hide what lies below (Documentation/filesystems/overlayfs.rst).
const OPAQUE_XATTRS: [&str; 2] = ["trusted.overlay.opaque", "user.overlay.opaque"];

/// A file or directory that a container would see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub kind: FileType,
    /// Of a regular file; a second name of the same file counts nothing.
    pub size: u64,
    pub mode: u32,
    /// Index of the layer that it comes from.
    pub layer: usize,
}

/// Paths have no slash at the beginning. Names that aren't UTF-8 are shown with replacement characters and never opened.
pub struct Tree {
    nodes: BTreeMap<String, Node>,
    pub layers: Vec<Layer>,
    dirs: Vec<PathBuf>,
    wasted: Vec<WastedFile>,
}

impl Tree {
    pub fn read(inputs: &[LayerInput]) -> Result<Self> {
        let mut tree =
            Self { nodes: BTreeMap::new(), layers: Vec::new(), dirs: Vec::new(), wasted: Vec::new() };
        for input in inputs {
            tree.layers.push(Layer {
                digest: input.digest.clone(),
                created_by: input.created_by.clone(),
                ..Layer::default()
            });
            tree.dirs.push(input.dir.clone());
            let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
            let root = rustix::fs::openat(CWD, &input.dir, flags, Mode::empty())
                .map_err(|errno| io("open", &input.dir)(errno.into()))?;
            let mut seen = HashSet::new();
            tree.directory(root.as_fd(), "", &mut seen, 0)?;
        }
        for wasted in &tree.wasted {
            tree.layers[wasted.layer - 1].wasted_bytes += wasted.bytes;
        }
        Ok(tree)
    }

    /// Regular files, by path.
    pub fn files(&self) -> impl Iterator<Item = (&str, &Node)> {
        let all = self.nodes.iter().map(|(path, node)| (path.as_str(), node));
        all.filter(|(_, node)| node.kind == FileType::RegularFile)
    }

    pub fn node(&self, path: &str) -> Option<&Node> {
        self.nodes.get(path)
    }

    /// What lies beneath a directory, at any depth.
    pub fn beneath<'a>(&'a self, directory: &str) -> impl Iterator<Item = (&'a str, &'a Node)> + 'a {
        let prefix = format!("{directory}/");
        let from = self.nodes.range(prefix.clone()..);
        from.take_while(move |(path, _)| path.starts_with(&prefix)).map(|(path, node)| (path.as_str(), node))
    }

    /// Opens a regular file of the merged view. The layer it comes from is entered without following any link.
    pub fn open(&self, path: &str) -> Result<File> {
        let shown = || PathBuf::from(format!("/{path}"));
        let missing = || io("open", &shown())(std::io::ErrorKind::NotFound.into());
        let node = self.node(path).filter(|node| node.kind == FileType::RegularFile).ok_or_else(missing)?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let root_flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, &self.dirs[node.layer], root_flags, Mode::empty())
            .map_err(|errno| io("open", &self.dirs[node.layer])(errno.into()))?;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let fd = rustix::fs::openat2(&root, path, flags, Mode::empty(), resolve)
            .map_err(|errno| io("open", &shown())(errno.into()))?;
        Ok(File::from(fd))
    }

    /// A whole file of at most `limit` bytes; a longer one is refused.
    pub fn bytes(&self, path: &str, limit: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = self.open(path)?.take(limit + 1).read_to_end(&mut bytes);
        read.map_err(io("read", Path::new(path)))?;
        if bytes.len() as u64 > limit {
            return Err(io("read", Path::new(path))(std::io::Error::other(format!(
                "it has more than {limit} bytes"
            ))));
        }
        Ok(bytes)
    }

    pub fn text(&self, path: &str, limit: u64) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.bytes(path, limit)?).into_owned())
    }

    /// Bytes of files beneath each directory.
    pub fn directory_sizes(&self) -> BTreeMap<String, u64> {
        let mut sizes = BTreeMap::new();
        for (path, node) in self.files() {
            for (at, _) in path.match_indices('/') {
                *sizes.entry(path[..at].to_owned()).or_default() += node.size;
            }
        }
        sizes
    }

    pub fn waste(&self, listed_max: usize) -> Waste {
        let sum = |removed| {
            self.wasted.iter().filter(|file| file.is_removed == removed).map(|file| file.bytes).sum()
        };
        let mut files: Vec<WastedFile> = self.wasted.iter().filter(|file| file.bytes > 0).cloned().collect();
        files.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.path.cmp(&b.path)));
        files.truncate(listed_max);
        Waste { overwritten_bytes: sum(false), removed_bytes: sum(true), files }
    }

    fn directory(
        &mut self,
        dir: BorrowedFd<'_>,
        path: &str,
        seen: &mut HashSet<(u64, u64)>,
        depth: usize,
    ) -> Result<()> {
        let shown = PathBuf::from(format!("/{path}"));
        let failed = |errno: rustix::io::Errno| io("list", &shown)(errno.into());
        if depth > DEPTH_MAX {
            return Err(failed(rustix::io::Errno::LOOP));
        }
        let mut names = Vec::new();
        for item in Dir::read_from(dir).map_err(failed)? {
            let name = item.map_err(failed)?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(name);
            }
        }
        names.sort();
        for name in names {
            let text = String::from_utf8_lossy(&name);
            let child = if path.is_empty() { text.into_owned() } else { format!("{path}/{text}") };
            let stat = rustix::fs::statat(dir, OsStr::from_bytes(&name), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(failed)?;
            self.child(dir, &name, &child, &stat, seen, depth)?;
        }
        Ok(())
    }

    fn child(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        path: &str,
        stat: &Stat,
        seen: &mut HashSet<(u64, u64)>,
        depth: usize,
    ) -> Result<()> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::CharacterDevice && stat.st_rdev == 0 {
            // overlayfs's mark of a removed file.
            self.hide(path, true, true);
            return Ok(());
        }
        let layer = self.layers.len() - 1;
        let was_directory = self.nodes.get(path).is_some_and(|node| node.kind == FileType::Directory);
        let mut size = 0;
        if kind == FileType::RegularFile {
            let is_first = stat.st_nlink < 2 || seen.insert((stat.st_dev, stat.st_ino));
            size = if is_first { stat.st_size as u64 } else { 0 };
            self.layers[layer].files += 1;
            self.layers[layer].bytes += size;
        }
        let mut opened = None;
        if kind == FileType::Directory {
            let fd = open_directory(dir, name).map_err(|errno| io("open", Path::new(path))(errno.into()))?;
            if !was_directory || is_opaque(&fd) {
                self.hide(path, true, true);
            }
            opened = Some(fd);
        } else {
            self.hide(path, was_directory, false);
        }
        if self.nodes.len() >= FILES_MAX {
            return Err(InsightError::TooManyFiles { limit: FILES_MAX });
        }
        self.nodes.insert(path.to_owned(), Node { kind, size, mode: stat.st_mode & 0o7777, layer });
        match opened {
            Some(fd) => self.directory(fd.as_fd(), path, seen, depth + 1),
            None => Ok(()),
        }
    }

    /// Takes a path of lower layers, and with `below` all beneath it, out of view.
    fn hide(&mut self, path: &str, below: bool, is_removed: bool) {
        let mut gone: Vec<String> = Vec::new();
        if below {
            gone.extend(self.beneath(path).map(|(path, _)| path.to_owned()));
        }
        if self.nodes.contains_key(path) {
            gone.push(path.to_owned());
        }
        let hidden_by = self.layers.len();
        for path in gone {
            if let Some(node) = self.nodes.remove(&path)
                && node.kind == FileType::RegularFile
                && node.layer + 1 < hidden_by
            {
                self.wasted.push(WastedFile {
                    path,
                    bytes: node.size,
                    layer: node.layer + 1,
                    hidden_by,
                    is_removed,
                });
            }
        }
    }
}

/// A path through which a library that wants a name reaches an open file.
pub fn descriptor_path(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_fd().as_raw_fd())
}

fn open_directory(parent: BorrowedFd<'_>, name: &[u8]) -> std::result::Result<OwnedFd, rustix::io::Errno> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, OsStr::from_bytes(name), flags, Mode::empty())
}

fn is_opaque(dir: &OwnedFd) -> bool {
    let mut value = [0u8; 1];
    let mut read = |name: &str| {
        rustix::fs::fgetxattr(dir, name, &mut value[..]).is_ok_and(|length| length == 1 && value[0] == b'y')
    };
    OPAQUE_XATTRS.into_iter().any(&mut read)
}

fn io<'a>(step: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> InsightError + use<'a> {
    move |source| InsightError::Io { step, path: path.to_owned(), source }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use std::fs;

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
    fn later_layers_hide_earlier_ones() {
        let dir = tempfile::tempdir().unwrap();
        let inputs = layers(
            dir.path(),
            &[
                &[("a/one", b"12345"), ("a/two", b"12"), ("b", b"1")],
                &[("a/one", b"123"), ("b/now/a", b"1234")],
            ],
        );
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("1/link")).unwrap();
        fs::hard_link(dir.path().join("0/a/two"), dir.path().join("0/a/three")).unwrap();
        let tree = Tree::read(&inputs).unwrap();
        let paths: Vec<&str> = tree.files().map(|(path, _)| path).collect();
        assert_eq!(paths, ["a/one", "a/three", "a/two", "b/now/a"]);
        assert_eq!(tree.bytes("a/one", 10).unwrap(), b"123");
        assert!(tree.open("link").is_err());
        assert!(tree.bytes("a/one", 2).is_err());
        assert_eq!(tree.layers[0].bytes, 8, "a hard link counts once");
        assert_eq!(tree.layers[0].wasted_bytes, 6);
        let waste = tree.waste(10);
        assert_eq!((waste.overwritten_bytes, waste.removed_bytes), (5, 1));
        assert_eq!(waste.files[0].path, "a/one");
        assert_eq!(tree.directory_sizes()["a"], 5);
    }

    #[test]
    fn whiteouts_remove() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let inputs = layers(dir.path(), &[&[("a/one", b"12345"), ("a/two", b"12")], &[("a/x", b"")]]);
        let mode = Mode::empty();
        rustix::fs::mknodat(CWD, dir.path().join("1/a/one"), FileType::CharacterDevice, mode, 0).unwrap();
        let tree = Tree::read(&inputs).unwrap();
        assert!(tree.node("a/one").is_none() && tree.node("a/two").is_some());
        assert_eq!(tree.waste(10).removed_bytes, 5);
        assert!(tree.waste(10).files[0].is_removed);
    }
}
