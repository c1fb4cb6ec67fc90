//! What a layer's archive says its tree looks like: its entries played through without a file system, by the rules of
//! [`crate::unpack`].

use crate::blob::HashingReader;
use crate::error::{ImageError, Result};
use crate::unpack::{WHITEOUT_META_PREFIX, WHITEOUT_OPAQUE, WHITEOUT_PREFIX};
use naru_tar::{Entry, EntryKind, Reader};
use naru_types::Digest;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::rc::Rc;

/// What an entry made. Names that are hard links of each other share one.
pub(super) struct Node {
    pub entry: Entry,
    /// Of a sparse file: what it holds is kept with the headers, so that the archive's digest does not cover the tree's.
    pub content: Option<Digest>,
}

pub(super) enum Place {
    Node(Rc<Node>),
    /// A directory that no entry described, only entries below it.
    Implied,
    Whiteout,
}

#[derive(Default)]
pub(super) struct Expected {
    /// By path without a leading slash; the root's is empty.
    pub places: BTreeMap<Vec<u8>, Place>,
    /// Directories that hide what lies below them.
    pub opaque: BTreeSet<Vec<u8>>,
}

impl Expected {
    pub fn enter<R: Read>(&mut self, entry: Entry, reader: &mut Reader<R>) -> Result<()> {
        let parts = naru_tar::components(&entry.path)?;
        let path = parts.join(&b'/');
        let Some((name, parents)) = parts.split_last() else {
            self.places.insert(path, Place::Node(Rc::new(Node { entry, content: None })));
            return Ok(());
        };
        self.imply(parents);
        if name.starts_with(WHITEOUT_PREFIX) {
            self.whiteout(&parents.join(&b'/'), name);
            return Ok(());
        }
        let node = match entry.kind {
            EntryKind::HardLink => match self.places.get(&naru_tar::components(&entry.link)?.join(&b'/')) {
                Some(Place::Node(node)) => Rc::clone(node),
                _ => return Err(ImageError::tar("a hard link to nothing", Some(&entry.path))),
            },
            EntryKind::File if reader.is_sparse() => {
                let mut hashing = HashingReader::new(reader);
                io::copy(&mut hashing, &mut io::sink()).map_err(ImageError::tar_read)?;
                Rc::new(Node { entry, content: Some(hashing.digest()) })
            }
            _ => Rc::new(Node { entry, content: None }),
        };
        self.put(path, node);
        Ok(())
    }

    fn imply(&mut self, parents: &[&[u8]]) {
        for depth in 1..=parents.len() {
            let path = parents[..depth].join(&b'/');
            match self.places.get(&path) {
                Some(Place::Whiteout) => {
                    self.opaque.insert(path.clone());
                }
                Some(_) => continue,
                None => {}
            }
            self.places.insert(path, Place::Implied);
        }
    }

    fn whiteout(&mut self, parent: &[u8], name: &[u8]) {
        if name == WHITEOUT_OPAQUE {
            self.opaque.insert(parent.to_vec());
        } else if !name.starts_with(WHITEOUT_META_PREFIX) {
            let target = child(parent, &name[WHITEOUT_PREFIX.len()..]);
            match self.places.get(&target) {
                None => drop(self.places.insert(target, Place::Whiteout)),
                Some(place) if is_directory(place) => drop(self.opaque.insert(target)),
                Some(_) => {}
            }
        }
    }

    fn put(&mut self, path: Vec<u8>, node: Rc<Node>) {
        let becomes_directory = node.entry.kind == EntryKind::Directory;
        match self.places.get(&path) {
            Some(Place::Whiteout) if becomes_directory => drop(self.opaque.insert(path.clone())),
            Some(place) if is_directory(place) && !becomes_directory => self.forget_below(&path),
            _ => {}
        }
        self.places.insert(path, Place::Node(node));
    }

    fn forget_below(&mut self, path: &[u8]) {
        let below = [path, b"/"].concat();
        self.places.retain(|key, _| !key.starts_with(&below));
        self.opaque.retain(|key| key != path && !key.starts_with(&below));
    }
}

pub(super) fn is_directory(place: &Place) -> bool {
    match place {
        Place::Node(node) => node.entry.kind == EntryKind::Directory,
        Place::Implied => true,
        Place::Whiteout => false,
    }
}

pub(super) fn child(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() }
}
