//! The packages of an image, of every ecosystem whose traces are known here.

mod apk;
mod cargo;
mod dpkg;
mod elf;
mod go;
mod jar;
mod npm;
mod python;
mod rpm;

use crate::tree::{Node, Tree};
use crate::{InsightError, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// Largest text file that is read: package databases and lock files.
pub(crate) const TEXT_BYTES_MAX: u64 = 64 << 20;
/// Largest program or archive that is looked into.
pub(crate) const BINARY_BYTES_MAX: u64 = 512 << 20;
/// Largest file in which one package describes itself.
pub(crate) const MANIFEST_BYTES_MAX: u64 = 4 << 20;
/// Most packages of an image, and the longest name or version of one, in bytes.
const PACKAGES_MAX: usize = 200_000;
const NAME_BYTES_MAX: usize = 1024;
/// Most notes about what could not be read.
const NOTES_MAX: usize = 50;

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
    pub version: String,
    pub purl: String,
    /// As the package says; empty when it doesn't.
    pub license: String,
    /// The files that say so.
    pub locations: Vec<String>,
}

#[derive(Debug, Default)]
pub struct Found {
    pub packages: Vec<Package>,
    pub notes: Vec<String>,
    pub distribution: String,
}

/// What a detector has to work with, and where it puts what it found.
pub(crate) struct Finder<'a> {
    pub tree: &'a Tree,
    pub os: Os,
    packages: BTreeMap<String, Package>,
    notes: Vec<String>,
}

/// What /etc/os-release says (os-release(5)).
#[derive(Clone, Debug, Default)]
pub(crate) struct Os {
    pub id: String,
    pub version: String,
}

/// Reads every database and every file that is a package's own word.
pub fn find(tree: &Tree) -> Found {
    let os = os_release(tree);
    let mut finder = Finder { tree, os, packages: BTreeMap::new(), notes: Vec::new() };
    dpkg::find(&mut finder);
    apk::find(&mut finder);
    rpm::find(&mut finder);
    for (path, node) in tree.files() {
        let done = file(&mut finder, path, node);
        if let Err(error) = done {
            finder.note(&naru_types::Error::from(error).to_string());
        }
    }
    let distribution = format!("{} {}", finder.os.id, finder.os.version).trim().to_owned();
    let mut packages: Vec<Package> = finder.packages.into_values().collect();
    packages.sort_by(|a, b| (a.ecosystem, &a.name, &a.version).cmp(&(b.ecosystem, &b.name, &b.version)));
    Found { packages, notes: finder.notes, distribution }
}

fn file(finder: &mut Finder<'_>, path: &str, node: &Node) -> Result<()> {
    let name = path.rsplit('/').next().unwrap_or(path);
    match name {
        "package.json" => npm::find(finder, path),
        "METADATA" | "PKG-INFO" => python::find(finder, path),
        "Cargo.lock" => cargo::lock(finder, path),
        _ if name.ends_with(".egg-info") => python::find(finder, path),
        _ if [".jar", ".war", ".ear"].iter().any(|end| name.ends_with(end)) => {
            jar::find(finder, path, node.size)
        }
        _ if node.mode & 0o111 != 0 && (64..=BINARY_BYTES_MAX).contains(&node.size) => {
            elf::find(finder, path)
        }
        _ => Ok(()),
    }
}

impl Finder<'_> {
    pub fn add(&mut self, package: Package) {
        if package.name.len().max(package.version.len()) > NAME_BYTES_MAX {
            let path = package.locations.first().map_or("", String::as_str);
            return self.note(&format!(
                "/{path}: a package's name or version is longer than {NAME_BYTES_MAX} bytes"
            ));
        }
        if self.packages.len() == PACKAGES_MAX && !self.packages.contains_key(&package.purl) {
            return self.note(&format!("there are more than {PACKAGES_MAX} packages: the rest is left out"));
        }
        match self.packages.entry(package.purl.clone()) {
            Entry::Vacant(entry) => drop(entry.insert(package)),
            Entry::Occupied(mut entry) => {
                let known = entry.get_mut();
                known.locations.extend(package.locations);
                known.locations.dedup();
            }
        }
    }

    pub fn note(&mut self, text: &str) {
        if self.notes.len() < NOTES_MAX && self.notes.last().is_none_or(|last| last != text) {
            self.notes.push(text.to_owned());
        }
    }

    /// A file that is there: its text.
    pub fn text_of(&mut self, path: &str) -> Option<String> {
        self.tree.node(path)?;
        match self.tree.text(path, TEXT_BYTES_MAX) {
            Ok(text) => Some(text),
            Err(InsightError::Io { .. }) if self.tree.node(path).is_some_and(|node| node.size == 0) => None,
            Err(error) => {
                self.note(&naru_types::Error::from(error).to_string());
                None
            }
        }
    }
}

fn os_release(tree: &Tree) -> Os {
    let text = ["etc/os-release", "usr/lib/os-release"].iter().find_map(|path| tree.text(path, 1 << 16).ok());
    let text = text.unwrap_or_default();
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_default().trim().trim_matches(['"', '\'']).to_owned()
    };
    Os { id: value("ID"), version: value("VERSION_ID") }
}

/// A package URL. `namespace` and `name` are escaped here.
pub(crate) fn purl(
    kind: &str,
    namespace: &str,
    name: &str,
    version: &str,
    qualifiers: &[(&str, &str)],
) -> String {
    let mut text = format!("pkg:{kind}/");
    for part in namespace.split('/').filter(|part| !part.is_empty()) {
        text += &format!("{}/", escape(part));
    }
    text += &escape(name);
    if !version.is_empty() {
        text += &format!("@{}", escape(version));
    }
    let mut sign = '?';
    for (key, value) in qualifiers.iter().filter(|(_, value)| !value.is_empty()) {
        text += &format!("{sign}{key}={}", escape(value));
        sign = '&';
    }
    text
}

fn escape(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte);
    let escape = |byte: u8| if is_plain(byte) { (byte as char).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_urls() {
        assert_eq!(purl("npm", "@types", "node", "1.0", &[]), "pkg:npm/%40types/node@1.0");
        assert_eq!(
            purl("deb", "debian", "libstdc++6", "12.2.0-14", &[("arch", "amd64"), ("distro", "debian-12")]),
            "pkg:deb/debian/libstdc%2B%2B6@12.2.0-14?arch=amd64&distro=debian-12"
        );
        assert_eq!(purl("golang", "github.com/a", "b", "v1", &[("x", "")]), "pkg:golang/github.com/a/b@v1");
    }
}
