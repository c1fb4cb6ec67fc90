//! Layers put on top of each other, as overlayfs shows them (Documentation/filesystems/overlayfs.rst); and what of them stays
//! hidden. Directories are walked by descriptor, so that no name of the image is resolved as a path.

use crate::tree::{Node, Tree, absolute, shown};
use crate::{InsightError, LISTED_MAX, LayerInput, Result};
use naru_wire::analysis::{Layer, Waste, WastedFile};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// Most files and directories that a container sees; the largest images known have about a million.
const FILES_MAX: usize = 2_000_000;
/// Most bytes of their paths, which are all kept.
const PATHS_BYTES_MAX: usize = 512 << 20;
/// Deepest directory that is read, because each level holds one descriptor open.
const DEPTH_MAX: usize = 512;
/// Most notes about directories.
const NOTES_MAX: usize = 20;
/// The marks of directories that hide what lies below.
const OPAQUE_XATTRS: [&str; 2] = ["trusted.overlay.opaque", "user.overlay.opaque"];

/// What later layers took out of view: sums, and the largest files.
#[derive(Default)]
pub(crate) struct Hidden {
    overwritten_bytes: u64,
    removed_bytes: u64,
    largest: Vec<WastedFile>,
    /// How many names of each file with several names are in view.
    names: Vec<u32>,
}

pub(crate) fn read(inputs: &[LayerInput]) -> Result<Tree> {
    let mut tree = Tree::default();
    for input in inputs {
        tree.layers.push(Layer {
            digest: input.digest.clone(),
            created_by: input.created_by.clone(),
            ..Layer::default()
        });
        tree.dirs.push(input.dir.clone());
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, &input.dir, flags, Mode::empty()).map_err(|errno| {
            InsightError::Io { step: "open", path: input.dir.clone(), source: errno.into() }
        })?;
        let layer = tree.layers.len() - 1;
        let path_bytes = tree.nodes.keys().map(Vec::len).sum();
        let mut walk = Walk { tree: &mut tree, layer, links: HashMap::new(), path_bytes };
        walk.directory(root, &mut Vec::new(), 0)?;
    }
    Ok(tree)
}

/// One layer being laid upon those below.
struct Walk<'a> {
    tree: &'a mut Tree,
    layer: usize,
    /// Files with several names: device and inode, to their number.
    links: HashMap<(u64, u64), u32>,
    path_bytes: usize,
}

impl Walk<'_> {
    fn directory(&mut self, fd: OwnedFd, path: &mut Vec<u8>, depth: usize) -> Result<()> {
        if depth > DEPTH_MAX {
            if self.tree.notes.len() < NOTES_MAX {
                let start = shown(&path[..path.len().min(80)]);
                self.tree.notes.push(format!(
                    "not read: directories more than {DEPTH_MAX} levels deep, beneath /{start}…"
                ));
            }
            return Ok(());
        }
        let mut dir = Dir::new(fd).map_err(|errno| io("list", path, errno))?;
        while let Some(item) = dir.next() {
            let item = item.map_err(|errno| io("list", path, errno))?;
            let name = item.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let parent_len = path.len();
            if parent_len > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(name);
            let parent = dir.fd().map_err(|errno| io("list", path, errno))?;
            self.child(parent, name, path, depth)?;
            path.truncate(parent_len);
        }
        Ok(())
    }

    fn child(&mut self, parent: BorrowedFd<'_>, name: &[u8], path: &mut Vec<u8>, depth: usize) -> Result<()> {
        let stat = rustix::fs::statat(parent, OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| io("stat", path, errno))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::CharacterDevice && stat.st_rdev == 0 {
            // overlayfs's mark of a removed file.
            self.hide(path, true, true);
            return Ok(());
        }
        let was_directory = self.tree.node(&path).is_some_and(|node| node.kind == FileType::Directory);
        if kind != FileType::Directory {
            self.hide(path, was_directory, false);
            return self.insert(path, kind, &stat);
        }
        let fd = open_directory(parent, name).map_err(|errno| io("open", path, errno))?;
        if !was_directory || is_opaque(&fd) {
            self.hide(path, true, true);
        }
        self.insert(path, kind, &stat)?;
        self.directory(fd, path, depth + 1)
    }

    fn insert(&mut self, path: &[u8], kind: FileType, stat: &Stat) -> Result<()> {
        let mut node = Node { kind, size: 0, mode: stat.st_mode & 0o7777, layer: self.layer, link: None };
        if kind == FileType::RegularFile {
            node.size = u64::try_from(stat.st_size).unwrap_or(0);
            let mut is_first = true;
            if stat.st_nlink > 1 {
                let names = &mut self.tree.hidden.names;
                let next = names.len() as u32;
                let link = *self.links.entry((stat.st_dev, stat.st_ino)).or_insert(next);
                is_first = link == next;
                if is_first {
                    names.push(0);
                }
                names[link as usize] += 1;
                node.link = Some(link);
            }
            let layer = &mut self.tree.layers[self.layer];
            layer.files += 1;
            layer.bytes = layer.bytes.saturating_add(if is_first { node.size } else { 0 });
        }
        if self.tree.nodes.insert(path.to_vec(), node).is_none() {
            self.path_bytes += path.len();
        }
        if self.tree.nodes.len() > FILES_MAX || self.tree.hidden.names.len() > FILES_MAX {
            return Err(InsightError::TooManyFiles { limit: FILES_MAX });
        }
        if self.path_bytes > PATHS_BYTES_MAX {
            return Err(InsightError::PathsTooLong { limit: PATHS_BYTES_MAX });
        }
        Ok(())
    }

    /// Takes a path of lower layers, and with `below` all beneath it, out of view.
    fn hide(&mut self, path: &[u8], below: bool, is_removed: bool) {
        let mut gone: Vec<Vec<u8>> = Vec::new();
        if below {
            gone.extend(self.tree.beneath(path).map(|(path, _)| path.to_vec()));
        }
        if self.tree.node(path).is_some() {
            gone.push(path.to_vec());
        }
        for path in gone {
            let Some(node) = self.tree.nodes.remove(&path) else { continue };
            self.path_bytes -= path.len();
            if node.kind == FileType::RegularFile {
                self.waste(&path, &node, is_removed);
            }
        }
    }

    fn waste(&mut self, path: &[u8], node: &Node, is_removed: bool) {
        let hidden = &mut self.tree.hidden;
        if let Some(link) = node.link {
            let names = &mut hidden.names[link as usize];
            *names -= 1;
            if *names > 0 {
                // Another name keeps it in view.
                return;
            }
        }
        let below = &mut self.tree.layers[node.layer];
        below.wasted_bytes = below.wasted_bytes.saturating_add(node.size);
        hidden.add(WastedFile {
            path: shown(path),
            bytes: node.size,
            layer: node.layer + 1,
            hidden_by: self.layer + 1,
            is_removed,
        });
    }
}

impl Hidden {
    fn add(&mut self, file: WastedFile) {
        let sum = if file.is_removed { &mut self.removed_bytes } else { &mut self.overwritten_bytes };
        *sum = sum.saturating_add(file.bytes);
        if file.bytes > 0 {
            self.largest.push(file);
        }
        if self.largest.len() > 4 * LISTED_MAX {
            self.largest = self.listed();
        }
    }

    fn listed(&self) -> Vec<WastedFile> {
        let mut files = self.largest.clone();
        files.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| (&a.path, a.layer).cmp(&(&b.path, b.layer))));
        files.truncate(LISTED_MAX);
        files
    }

    pub fn waste(&self) -> Waste {
        Waste {
            overwritten_bytes: self.overwritten_bytes,
            removed_bytes: self.removed_bytes,
            files: self.listed(),
        }
    }
}

fn open_directory(parent: BorrowedFd<'_>, name: &[u8]) -> std::result::Result<OwnedFd, Errno> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, OsStr::from_bytes(name), flags, Mode::empty())
}

fn is_opaque(dir: &OwnedFd) -> bool {
    let mut value = [0u8; 1];
    OPAQUE_XATTRS.into_iter().any(|name| {
        rustix::fs::fgetxattr(dir, name, &mut value[..]).is_ok_and(|length| length == 1 && value[0] == b'y')
    })
}

fn io(step: &'static str, path: &[u8], errno: Errno) -> InsightError {
    InsightError::Io { step, path: absolute(path), source: errno.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tests::layers;
    use std::fs;
    use std::path::Path;

    fn whiteout(path: &Path) {
        rustix::fs::mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
    }

    fn paths(tree: &Tree) -> Vec<String> {
        tree.files().map(|(path, _)| shown(path)).collect()
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
        fs::hard_link(dir.path().join("0/a/two"), dir.path().join("0/a/three")).unwrap();
        let tree = Tree::read(&inputs).unwrap();
        assert_eq!(paths(&tree), ["a/one", "a/three", "a/two", "b/now/a"]);
        assert_eq!(tree.text("a/one", 10).unwrap(), "123");
        assert_eq!(tree.layers[0].bytes, 8, "a hard link counts once");
        assert_eq!(tree.layers[0].wasted_bytes, 6);
        let waste = tree.waste();
        assert_eq!((waste.overwritten_bytes, waste.removed_bytes), (5, 1));
        assert_eq!(waste.files[0].path, "a/one");
        assert_eq!(tree.directory_sizes()[&b"a"[..]], 5);
    }

    #[test]
    fn whiteouts_and_opaque_directories_remove() {
        if !rustix::process::geteuid().is_root() {
            println!("SKIP: needs root");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let below: &[(&str, &[u8])] =
            &[("a/one", b"12345"), ("a/two", b"12"), ("o/p/x", b"123"), ("o/y", b"1"), ("w/d/z", b"1234")];
        let inputs = layers(dir.path(), &[below, &[("a/x", b""), ("o/y", b"12")], &[("w/d/n", b"")]]);
        whiteout(&dir.path().join("1/a/one"));
        whiteout(&dir.path().join("1/w"));
        let opaque = dir.path().join("1/o");
        rustix::fs::setxattr(&opaque, OPAQUE_XATTRS[0], b"y", rustix::fs::XattrFlags::empty()).unwrap();
        let tree = Tree::read(&inputs).unwrap();
        assert_eq!(paths(&tree), ["a/two", "a/x", "o/y", "w/d/n"]);
        let waste = tree.waste();
        assert_eq!((waste.removed_bytes, waste.overwritten_bytes), (5 + 3 + 1 + 4, 0));
        assert!(waste.files.iter().all(|file| file.is_removed && file.layer == 1 && file.hidden_by == 2));
    }

    #[test]
    fn a_file_with_two_names_is_wasted_with_the_last() {
        if !rustix::process::geteuid().is_root() {
            println!("SKIP: needs root");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let inputs = layers(dir.path(), &[&[("a", b"12345")], &[("x", b"")], &[("x", b"")]]);
        fs::hard_link(dir.path().join("0/a"), dir.path().join("0/b")).unwrap();
        whiteout(&dir.path().join("1/a"));
        let tree = Tree::read(&inputs[..2]).unwrap();
        assert_eq!((tree.waste().removed_bytes, tree.node("b").unwrap().size), (0, 5));
        assert_eq!(tree.distinct_files().map(|(_, node)| node.size).sum::<u64>(), 5);
        whiteout(&dir.path().join("2/b"));
        assert_eq!(Tree::read(&inputs).unwrap().waste().removed_bytes, 5);
    }

    #[test]
    fn names_that_are_not_text_stay_apart() {
        let dir = tempfile::tempdir().unwrap();
        let inputs = layers(dir.path(), &[&[("a", b"1")], &[("b", b"1")]]);
        for (layer, name, content) in [(0, b"\xff", "1"), (0, b"\xfe", "22"), (1, b"\xfe", "333")] {
            fs::write(dir.path().join(layer.to_string()).join(OsStr::from_bytes(name)), content).unwrap();
        }
        let tree = Tree::read(&inputs).unwrap();
        assert_eq!(tree.text(b"\xff", 10).unwrap(), "1");
        assert_eq!(tree.text(b"\xfe", 10).unwrap(), "333");
        assert_eq!(tree.waste().overwritten_bytes, 2);
    }

    #[test]
    fn what_is_too_deep_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let inputs = layers(dir.path(), &[&[("a", b"1")]]);
        let open =
            |at: &Path| rustix::fs::openat(CWD, at, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let mut at = open(&inputs[0].dir).unwrap();
        for _ in 0..DEPTH_MAX + 40 {
            rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
            at = open_directory(std::os::fd::AsFd::as_fd(&at), b"d").unwrap();
        }
        let tree = Tree::read(&inputs).unwrap();
        assert_eq!(tree.notes.len(), 1);
        assert!(tree.notes[0].starts_with("not read: directories more than 512 levels deep, beneath /d/d/"));
        assert_eq!(paths(&tree), ["a"]);
    }
}
