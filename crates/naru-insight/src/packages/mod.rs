//! The packages of an image, of every ecosystem whose traces are known here.

mod apk;
mod cargo;
mod dpkg;
mod elf;
mod go;
mod jar;
mod npm;
mod purl;
mod python;
mod rpm;
mod unread;
mod zip;

use crate::tree::{Node, Tree, shown};
use crate::{InsightError, Result};
use naru_wire::analysis::Package;
use purl::purl;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// Largest package database or lock file that is read.
const DATABASE_BYTES_MAX: u64 = 32 << 20;
/// Longest name or version that is taken for one, in bytes.
const WORD_BYTES_MAX: usize = 512;
/// Longest license that is kept, in bytes: some packages write the whole text.
const LICENSE_BYTES_MAX: usize = 256;
/// Most files that are named for one package.
const LOCATIONS_MAX: usize = 20;
/// Most bytes that all packages together may take; the images with most packages need a tenth.
const PACKAGES_BYTES_MAX: usize = 32 << 20;
/// What a package takes beside its words, in bytes.
const PACKAGE_OVERHEAD_BYTES: usize = 256;
/// Most notes about what could not be read.
const NOTES_MAX: usize = 50;

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
    /// How many bytes of archives may still be unpacked.
    pub unpack_bytes_left: u64,
    packages: BTreeMap<String, Package>,
    packages_bytes: usize,
    notes: Vec<String>,
    notes_dropped: usize,
}

/// What /etc/os-release says (os-release(5)).
#[derive(Clone, Debug, Default)]
pub(crate) struct Os {
    pub id: String,
    pub version: String,
}

/// A file: how it is opened, and how it is shown.
pub(crate) struct Place<'a> {
    pub raw: &'a [u8],
    pub shown: &'a str,
}

/// Reads every database and every file that is a package's own word.
pub fn find(tree: &Tree) -> Found {
    let mut finder = Finder::new(tree);
    dpkg::find(&mut finder);
    apk::find(&mut finder);
    rpm::find(&mut finder);
    unread::find(&mut finder);
    for (raw, node) in tree.files() {
        let shown = shown(raw);
        if let Err(error) = file(&mut finder, &Place { raw, shown: &shown }, node) {
            finder.note(format!("not read: {}", error.sentence()));
        }
    }
    finder.finish()
}

fn file(finder: &mut Finder<'_>, place: &Place<'_>, node: &Node) -> Result<()> {
    let name = place.shown.rsplit('/').next().unwrap_or(place.shown);
    match name {
        "package.json" => npm::find(finder, place),
        "METADATA" | "PKG-INFO" => python::find(finder, place),
        "Cargo.lock" => cargo::lock(finder, place),
        _ if name.ends_with(".egg-info") => python::find(finder, place),
        _ if [".jar", ".war", ".ear"].iter().any(|end| name.ends_with(end)) => jar::find(finder, place),
        _ if node.mode & 0o111 != 0 => elf::find(finder, place),
        _ => Ok(()),
    }
}

impl<'a> Finder<'a> {
    fn new(tree: &'a Tree) -> Self {
        Self {
            tree,
            os: Os::read(tree),
            unpack_bytes_left: jar::UNPACK_BYTES_MAX,
            packages: BTreeMap::new(),
            packages_bytes: 0,
            notes: Vec::new(),
            notes_dropped: 0,
        }
    }

    pub fn add(&mut self, mut package: Package) {
        if [&package.name, &package.version].iter().any(|word| word.len() > WORD_BYTES_MAX) {
            let place = package.locations.first().cloned().unwrap_or_default();
            return self.note(format!(
                "not listed: a package of /{place} with a name or version too long to be one"
            ));
        }
        if package.license.len() > LICENSE_BYTES_MAX {
            package.license.clear();
        }
        let locations: usize = package.locations.iter().map(String::len).sum();
        if self.packages_bytes > PACKAGES_BYTES_MAX {
            let text =
                format!("not listed: packages beyond the first {PACKAGES_BYTES_MAX} bytes of their names");
            if self.notes.first() != Some(&text) {
                self.notes.insert(0, text);
            }
            return;
        }
        match self.packages.entry(package.purl.clone()) {
            Entry::Vacant(entry) => {
                let words = package.name.len() + package.version.len() + 2 * package.purl.len();
                self.packages_bytes += PACKAGE_OVERHEAD_BYTES + words + package.license.len() + locations;
                entry.insert(package);
            }
            Entry::Occupied(mut entry) => {
                let known = &mut entry.get_mut().locations;
                for location in package.locations {
                    if known.len() < LOCATIONS_MAX && !known.contains(&location) {
                        self.packages_bytes += location.len();
                        known.push(location);
                    }
                }
            }
        }
    }

    pub fn note(&mut self, text: String) {
        if self.notes.len() < NOTES_MAX {
            self.notes.push(text);
        } else {
            self.notes_dropped += 1;
        }
    }

    /// A database that is there: its text.
    pub fn database(&mut self, path: &[u8]) -> Option<String> {
        self.tree.node(path)?;
        let text = self.tree.text(path, DATABASE_BYTES_MAX);
        text.map_err(|error: InsightError| self.note(format!("not read: {}", error.sentence()))).ok()
    }

    fn finish(mut self) -> Found {
        if self.notes_dropped > 0 {
            self.notes.push(format!("not read: {} more files", self.notes_dropped));
        }
        let distribution = format!("{} {}", self.os.id, self.os.version).trim().to_owned();
        let mut packages: Vec<Package> = self.packages.into_values().collect();
        packages.sort_by(|a, b| {
            (a.ecosystem, &a.name, &a.version, &a.purl).cmp(&(b.ecosystem, &b.name, &b.version, &b.purl))
        });
        Found { packages, notes: self.notes, distribution }
    }
}

impl Os {
    const BYTES_MAX: u64 = 64 << 10;

    fn read(tree: &Tree) -> Self {
        let text = ["etc/os-release", "usr/lib/os-release"]
            .iter()
            .find_map(|path| tree.text(path, Self::BYTES_MAX).ok())
            .unwrap_or_default();
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            let value = line.unwrap_or_default().trim().trim_matches(['"', '\'']);
            if value.len() > WORD_BYTES_MAX { String::new() } else { value.to_owned() }
        };
        Self { id: value("ID"), version: value("VERSION_ID") }
    }

    /// The vendor of a package URL.
    pub fn vendor_or<'a>(&'a self, default: &'a str) -> &'a str {
        if self.id.is_empty() { default } else { &self.id }
    }

    /// `debian-12`, as vulnerability databases name distributions.
    pub fn distro(&self) -> String {
        format!("{}-{}", self.id, self.version).trim_matches('-').to_owned()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::tree::tests::layers;
    use naru_wire::analysis::Ecosystem;

    /// What is found in an image of one layer.
    pub fn found(files: &[(&str, &[u8])]) -> Found {
        let dir = tempfile::tempdir().unwrap();
        let inputs = layers(dir.path(), &[files]);
        find(&Tree::read(&inputs).unwrap())
    }

    pub fn purls(found: &Found) -> Vec<&str> {
        found.packages.iter().map(|package| package.purl.as_str()).collect()
    }

    #[test]
    fn a_package_that_a_later_layer_removed_is_not_listed() {
        if !rustix::process::geteuid().is_root() {
            println!("SKIP: needs root");
            return;
        }
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        let dir = tempfile::tempdir().unwrap();
        let json = |name: &str| format!(r#"{{"name":"{name}","version":"1.0.0"}}"#).into_bytes();
        let inputs = layers(
            dir.path(),
            &[
                &[
                    ("app/node_modules/kept/package.json", &json("kept")),
                    ("app/node_modules/gone/package.json", &json("gone")),
                    ("app/node_modules/new/package.json", &json("old")),
                ],
                &[("app/node_modules/new/package.json", &json("new"))],
            ],
        );
        let gone = dir.path().join("1/app/node_modules/gone");
        mknodat(CWD, &gone, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
        let found = find(&Tree::read(&inputs).unwrap());
        assert_eq!(purls(&found), ["pkg:npm/kept@1.0.0", "pkg:npm/new@1.0.0"]);
    }

    #[test]
    fn a_database_that_is_a_link_out_of_the_image_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("status"), "Package: a\nStatus: install ok installed\nVersion: 1\n")
            .unwrap();
        let inputs = layers(dir.path(), &[&[("var/lib/dpkg/x", b"")]]);
        std::os::unix::fs::symlink(dir.path().join("status"), dir.path().join("0/var/lib/dpkg/status"))
            .unwrap();
        let found = find(&Tree::read(&inputs).unwrap());
        assert!(found.packages.is_empty());
        assert_eq!(
            found.notes,
            [
                "not read: cannot open /var/lib/dpkg/status: it is not a regular file, and links are not followed"
            ]
        );
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let tree = Tree::default();
        let mut finder = Finder::new(&tree);
        let package = |number: usize, word: usize| Package {
            ecosystem: Ecosystem::Npm,
            name: "n".repeat(word),
            version: String::new(),
            purl: number.to_string(),
            license: "l".repeat(LICENSE_BYTES_MAX + 1),
            locations: vec!["p".repeat(200_000)],
        };
        finder.add(package(0, WORD_BYTES_MAX + 1));
        assert_eq!((finder.packages.len(), finder.notes.len()), (0, 1));
        for number in 0..1000 {
            finder.add(package(number, 1));
        }
        assert!(finder.packages.len() < 200, "{}", finder.packages.len());
        assert_eq!(finder.packages["0"].license, "");
        for number in 0..100 {
            finder.note(number.to_string());
        }
        let found = finder.finish();
        assert!(found.notes[0].starts_with("not listed: packages beyond the first"));
        assert_eq!(found.notes.last().unwrap(), "not read: 52 more files");
    }
}
