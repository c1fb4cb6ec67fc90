//! The answer of `GET /naru/v1/images/{name}/analysis`: what is in an image.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Analysis {
    /// Lowest first.
    pub layers: Vec<Layer>,
    /// Bytes of all layers.
    pub total_bytes: u64,
    /// Bytes of files that a container sees.
    pub visible_bytes: u64,
    pub visible_files: u64,
    pub largest_files: Vec<SizedFile>,
    pub largest_directories: Vec<SizedDirectory>,
    pub waste: Waste,
    pub packages: Vec<Package>,
    pub advice: Vec<Advice>,
    /// What could not be read, one sentence each.
    pub notes: Vec<String>,
    /// `debian 12`; empty when the image doesn't say.
    pub distribution: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Layer {
    pub digest: String,
    pub created_by: String,
    pub bytes: u64,
    pub files: u64,
    /// Bytes of this layer that later layers overwrite or remove.
    pub wasted_bytes: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SizedFile {
    pub path: String,
    pub bytes: u64,
    /// Number of the layer that holds it, from 1.
    pub layer: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SizedDirectory {
    pub path: String,
    /// Of all files beneath it.
    pub bytes: u64,
}

/// Bytes that are carried and never seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Waste {
    pub overwritten_bytes: u64,
    pub removed_bytes: u64,
    /// The largest ones.
    pub files: Vec<WastedFile>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WastedFile {
    pub path: String,
    pub bytes: u64,
    /// Number of the layer that holds it, and of the one that hides it, from 1.
    pub layer: usize,
    pub hidden_by: usize,
    pub is_removed: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Advice {
    pub text: String,
    /// What it would save; 0 when that can't be said.
    pub bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ecosystem {
    Apk,
    Cargo,
    Deb,
    Golang,
    Maven,
    Npm,
    Pypi,
    Rpm,
}

impl Ecosystem {
    /// The type in a package URL (package-url/purl-spec), which is also what people call it.
    pub fn name(self) -> &'static str {
        match self {
            Ecosystem::Apk => "apk",
            Ecosystem::Cargo => "cargo",
            Ecosystem::Deb => "deb",
            Ecosystem::Golang => "golang",
            Ecosystem::Maven => "maven",
            Ecosystem::Npm => "npm",
            Ecosystem::Pypi => "pypi",
            Ecosystem::Rpm => "rpm",
        }
    }
}

/// One version of one package, wherever in the image it lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    pub ecosystem: Ecosystem,
    /// As its ecosystem writes it: `@scope/name`, `group:artifact`.
    pub name: String,
    /// Empty when the package doesn't say.
    pub version: String,
    pub purl: String,
    /// As the package says; empty when it doesn't.
    pub license: String,
    /// The first of the files that say so.
    pub locations: Vec<String>,
}
