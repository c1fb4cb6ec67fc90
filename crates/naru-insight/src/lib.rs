//! What is in an image: where its bytes are, which of them nobody sees, which packages it holds.
//!
//! # What it is
//! [`analyze`] reads the unpacked layers of an image and says the size of each, the largest files, what later layers overwrite or
//! remove, the packages of each ecosystem with their versions, and what would make the image smaller. [`sbom`] writes the
//! packages as SPDX or CycloneDX.
//!
//! # What it must not do
//! Run anything of the image, or follow a symbolic link in it: names come from hostile archives. No network: versions are
//! reported, vulnerabilities are other tools' work.
//!
//! # Start reading at
//! [`Analysis`], then [`tree`], then [`packages`].
//!
//! # Invariants
//! - The same image gives the same analysis, in the same order.
//! - A file that cannot be understood is named among the notes; it never ends the analysis.
//!
//! # How it is tested
//! Unit tests beside the code with the files that real tools write; the end-to-end tests of `naru` compare with what `npm ls` and
//! `pip list` say within an image.

mod advice;
pub mod packages;
pub mod sbom;
pub mod tree;

use packages::Package;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Most entries of each list of files.
const LISTED_MAX: usize = 20;

#[derive(Debug, thiserror::Error)]
pub enum InsightError {
    #[error("cannot {step} {path}")]
    Io { step: &'static str, path: PathBuf, source: std::io::Error },
    #[error("the image has more than {limit} files")]
    TooManyFiles { limit: usize },
}

pub type Result<T, E = InsightError> = std::result::Result<T, E>;

impl From<InsightError> for naru_types::Error {
    fn from(error: InsightError) -> Self {
        let message = match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        naru_types::Error::internal(message)
    }
}

/// One layer of the image, lowest first.
pub struct LayerInput {
    pub dir: PathBuf,
    pub digest: String,
    pub created_by: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Analysis {
    pub layers: Vec<Layer>,
    /// Bytes of all layers.
    pub total_bytes: u64,
    /// Bytes of files that a container sees.
    pub visible_bytes: u64,
    pub largest_files: Vec<Sized>,
    pub largest_directories: Vec<Sized>,
    pub waste: Waste,
    pub packages: Vec<Package>,
    pub advice: Vec<Advice>,
    /// What could not be read, one sentence each.
    pub notes: Vec<String>,
    /// `debian 12`; empty when the image doesn't say.
    pub distribution: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    pub digest: String,
    pub created_by: String,
    pub bytes: u64,
    pub files: u64,
    /// Bytes of this layer that later layers overwrite or remove.
    pub wasted_bytes: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sized {
    pub path: String,
    pub bytes: u64,
}

/// Bytes that are carried and never seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waste {
    pub overwritten_bytes: u64,
    pub removed_bytes: u64,
    /// The largest ones.
    pub files: Vec<WastedFile>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WastedFile {
    pub path: String,
    pub bytes: u64,
    /// Number of the layer that holds it, and of the one that hides it, from 1.
    pub layer: usize,
    pub hidden_by: usize,
    pub is_removed: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advice {
    pub text: String,
    /// What it would save.
    pub bytes: u64,
}

/// Reads all layers, lowest first.
pub fn analyze(layers: &[LayerInput]) -> Result<Analysis> {
    let tree = tree::Tree::read(layers)?;
    let found = packages::find(&tree);
    let mut analysis = Analysis {
        layers: tree.layers.clone(),
        total_bytes: tree.layers.iter().map(|layer| layer.bytes).sum(),
        visible_bytes: tree.files().map(|(_, node)| node.size).sum(),
        largest_files: largest(tree.files().map(|(path, node)| (path.to_owned(), node.size))),
        largest_directories: largest(tree.directory_sizes().into_iter()),
        waste: tree.waste(LISTED_MAX),
        packages: found.packages,
        advice: Vec::new(),
        notes: found.notes,
        distribution: found.distribution,
    };
    analysis.advice = advice::advise(&tree, &analysis);
    Ok(analysis)
}

fn largest(sizes: impl Iterator<Item = (String, u64)>) -> Vec<Sized> {
    let mut all: Vec<Sized> = sizes.map(|(path, bytes)| Sized { path, bytes }).collect();
    all.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.path.cmp(&b.path)));
    all.truncate(LISTED_MAX);
    all
}
