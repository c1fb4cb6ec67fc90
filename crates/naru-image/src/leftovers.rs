//! What should be deleted and could not be: for want of descriptors, mostly, which deleting a tree takes as well.
//!
//! It is tried again after the next change of the index; what is left when the process ends is swept by the next start.

use crate::store::{locked, remove_tree};
use std::path::PathBuf;
use std::sync::Mutex;

#[derive(Default)]
pub(crate) struct Leftovers(Mutex<Vec<PathBuf>>);

impl Leftovers {
    /// Deletes a file or a tree, now or later. Whoever calls has an error of its own to tell, or none.
    pub fn remove(&self, path: PathBuf) {
        if remove_tree(&path).is_err() {
            locked(&self.0).push(path);
        }
    }

    pub fn retry(&self) {
        let paths = std::mem::take(&mut *locked(&self.0));
        paths.into_iter().for_each(|path| self.remove(path));
    }
}
