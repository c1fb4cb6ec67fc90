//! What is in an image: where its bytes are, which of them nobody sees, which packages it holds.
//!
//! # What it is
//! [`analyze`] reads the unpacked layers of an image and says the size of each, the largest files, what later layers overwrite or
//! remove, the packages of each ecosystem with their versions, and what would make the image smaller. [`sbom`] writes the
//! packages as SPDX or CycloneDX.
//!
//! # What it must not do
//! Run anything of the image, or follow a symbolic link in it: names and contents come from strangers. No network: versions are
//! reported, vulnerabilities are other tools' work.
//!
//! # Start reading at
//! [`Analysis`], then [`tree`], then [`packages`].
//!
//! # Invariants
//! - The same image gives the same analysis, in the same order.
//! - A file that cannot be understood is named among the notes; it never ends the analysis.
//! - Nothing is read that a container of the image would not see, and nothing outside of its layers.
//! - Memory and work are bounded by constants with names, whatever the image holds.
//!
//! # How it is tested
//! Unit tests beside the code, with the files that real tools write and with damaged ones; an end-to-end test of `naru` builds
//! an image and reads its bill of materials.

mod advice;
mod merge;
pub mod packages;
pub mod sbom;
pub mod tree;

use naru_wire::analysis::{Analysis, SizedDirectory, SizedFile};
use std::path::PathBuf;

/// Most entries of each list of files.
pub const LISTED_MAX: usize = 20;

#[derive(Debug, thiserror::Error)]
pub enum InsightError {
    #[error("cannot {step} {}", path.display())]
    Io { step: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{} is larger than the {limit} bytes that are read of such a file", path.display())]
    TooLarge { path: PathBuf, limit: u64 },
    #[error("the image has more than {limit} files")]
    TooManyFiles { limit: usize },
    #[error("the paths of the image's files take more than {limit} bytes")]
    PathsTooLong { limit: usize },
}

pub type Result<T, E = InsightError> = std::result::Result<T, E>;

impl InsightError {
    /// With its cause, in one line.
    pub(crate) fn sentence(&self) -> String {
        match std::error::Error::source(self) {
            Some(source) => format!("{self}: {source}"),
            None => self.to_string(),
        }
    }
}

impl From<InsightError> for naru_types::Error {
    fn from(error: InsightError) -> Self {
        match error {
            InsightError::Io { .. } => naru_types::Error::internal(error.sentence()),
            _ => naru_types::Error::invalid(error.sentence()),
        }
    }
}

/// One layer of the image.
pub struct LayerInput {
    pub dir: PathBuf,
    pub digest: String,
    pub created_by: String,
}

/// Reads all layers, lowest first.
pub fn analyze(layers: &[LayerInput]) -> Result<Analysis> {
    let tree = tree::Tree::read(layers)?;
    let found = packages::find(&tree);
    let sizes = tree.directory_sizes();
    let mut notes = tree.notes.clone();
    notes.extend(found.notes);
    let mut analysis = Analysis {
        layers: tree.layers.clone(),
        total_bytes: tree.layers.iter().fold(0, |sum, layer| sum.saturating_add(layer.bytes)),
        visible_bytes: tree.distinct_files().fold(0, |sum, (_, node)| sum.saturating_add(node.size)),
        visible_files: tree.files().count() as u64,
        largest_files: largest_files(&tree),
        largest_directories: largest_directories(&sizes),
        waste: tree.waste(),
        packages: found.packages,
        advice: Vec::new(),
        notes,
        distribution: found.distribution,
    };
    analysis.advice = advice::advise(&tree, &sizes, &analysis);
    Ok(analysis)
}

fn largest_files(tree: &tree::Tree) -> Vec<SizedFile> {
    let mut all: Vec<(&[u8], &tree::Node)> = tree.distinct_files().collect();
    all.sort_by(|a, b| b.1.size.cmp(&a.1.size).then_with(|| a.0.cmp(b.0)));
    let sized = |(path, node): (&[u8], &tree::Node)| SizedFile {
        path: tree::shown(path),
        bytes: node.size,
        layer: node.layer + 1,
    };
    all.into_iter().take(LISTED_MAX).map(sized).collect()
}

fn largest_directories(sizes: &tree::DirectorySizes<'_>) -> Vec<SizedDirectory> {
    let mut all: Vec<(&[u8], u64)> = sizes.iter().map(|(path, bytes)| (*path, *bytes)).collect();
    all.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
    let sized = |(path, bytes)| SizedDirectory { path: tree::shown(path), bytes };
    all.into_iter().take(LISTED_MAX).map(sized).collect()
}
