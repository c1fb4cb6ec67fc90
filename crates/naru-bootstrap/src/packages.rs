//! The index of a suite's packages.

use crate::control::{Paragraph, paragraphs};
use crate::error::{BootstrapError, Result};
use crate::version::compare;
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// One package of the index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Package {
    pub name: String,
    pub version: String,
    pub is_essential: bool,
    pub priority: String,
    pub pre_depends: Vec<Alternatives>,
    pub depends: Vec<Alternatives>,
    pub conflicts: Vec<Relation>,
    provides: Vec<Relation>,
    /// Beneath the mirror's address.
    pub path: String,
    pub size: u64,
    /// In hex.
    pub sha256: String,
}

/// `a | b`: one of them is enough.
pub type Alternatives = Vec<Relation>;

/// A package by name, perhaps of certain versions only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    pub name: String,
    /// Operator and version.
    pub version: Option<(String, String)>,
}

/// Packages by name, and who provides which name.
#[derive(Debug, Default)]
pub struct Index {
    pub packages: BTreeMap<String, Package>,
    providers: BTreeMap<String, Vec<String>>,
}

impl Index {
    pub fn parse(text: &str, url: &str) -> Result<Self> {
        let mut index = Self::default();
        for paragraph in paragraphs(text) {
            let package = package(&paragraph, url)?;
            match index.packages.get(&package.name) {
                // The newest of several versions is the one that apt would take.
                Some(known) if compare(&known.version, &package.version) != Ordering::Less => {}
                _ => drop(index.packages.insert(package.name.clone(), package)),
            }
        }
        for package in index.packages.values() {
            for provided in &package.provides {
                index.providers.entry(provided.name.clone()).or_default().push(package.name.clone());
            }
        }
        Ok(index)
    }

    /// The packages that satisfy a relation: the one of that name first, then who provides it, by name.
    pub fn candidates(&self, wanted: &Relation) -> Vec<&Package> {
        let named = self.packages.get(&wanted.name).filter(|package| wanted.accepts(&package.version));
        let provides = |package: &&Package| package.provides_for(wanted);
        let providers = self.providers.get(&wanted.name).into_iter().flatten();
        named
            .into_iter()
            .chain(providers.filter_map(|name| self.packages.get(name)).filter(provides))
            .collect()
    }
}

impl Package {
    /// Whether this package is what a relation means.
    pub fn satisfies(&self, wanted: &Relation) -> bool {
        (self.name == wanted.name && wanted.accepts(&self.version)) || self.provides_for(wanted)
    }

    /// A provided name without a version satisfies no relation to a version (Debian Policy, section 7.5).
    fn provides_for(&self, wanted: &Relation) -> bool {
        let given = |provided: &Relation| match (&wanted.version, &provided.version) {
            (None, _) => true,
            (Some(_), Some((_, version))) => wanted.accepts(version),
            (Some(_), None) => false,
        };
        self.provides.iter().any(|provided| provided.name == wanted.name && given(provided))
    }
}

impl Relation {
    pub fn accepts(&self, version: &str) -> bool {
        let Some((operator, bound)) = &self.version else { return true };
        let order = compare(version, bound);
        match operator.as_str() {
            "<<" => order == Ordering::Less,
            "<=" => order != Ordering::Greater,
            "=" => order == Ordering::Equal,
            ">=" => order != Ordering::Less,
            ">>" => order == Ordering::Greater,
            _ => false,
        }
    }
}

impl std::fmt::Display for Relation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.version {
            Some((operator, version)) => write!(f, "{} ({operator} {version})", self.name),
            None => f.write_str(&self.name),
        }
    }
}

fn package(fields: &Paragraph<'_>, url: &str) -> Result<Package> {
    let name = fields.text("Package").unwrap_or_default();
    let malformed = |what: &str| BootstrapError::Malformed {
        url: url.to_owned(),
        what: format!("package {name:?}: {what}"),
    };
    // Debian Policy, section 5.6.1: from here on the name is safe in a path.
    let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte);
    if name.len() < 2 || name.starts_with(['.', '-', '+']) || !name.bytes().all(is_name) {
        return Err(malformed("no valid name"));
    }
    let text =
        |field: &str| fields.text(field).map(str::to_owned).ok_or_else(|| malformed(&format!("no {field}")));
    let path = text("Filename")?;
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(malformed("its Filename leaves the mirror"));
    }
    let relations = |field: &str| -> Vec<Alternatives> {
        let whole = fields.lines(field).join(" ");
        whole.split(',').map(alternatives).filter(|found| !found.is_empty()).collect()
    };
    Ok(Package {
        name: name.to_owned(),
        version: text("Version")?,
        is_essential: fields.text("Essential") == Some("yes"),
        priority: fields.text("Priority").unwrap_or_default().to_owned(),
        pre_depends: relations("Pre-Depends"),
        depends: relations("Depends"),
        conflicts: [relations("Conflicts"), relations("Breaks")].concat().concat(),
        provides: relations("Provides").concat(),
        path,
        size: text("Size")?.parse().map_err(|_| malformed("its Size is not a number"))?,
        sha256: text("SHA256")?.to_ascii_lowercase(),
    })
}

/// `libc6 (>= 2.36) | libc6.1`. Qualifiers such as `:any` say nothing within one architecture.
fn alternatives(text: &str) -> Alternatives {
    text.split('|').filter_map(relation).collect()
}

fn relation(text: &str) -> Option<Relation> {
    let (name, rest) = text.trim().split_once([' ', '(']).unwrap_or((text.trim(), ""));
    let name = name.split(':').next().filter(|name| !name.is_empty())?;
    let inner = rest.trim().trim_start_matches('(').split(')').next().unwrap_or_default().trim();
    let at = inner.find(|c: char| !"<>=".contains(c)).unwrap_or(inner.len());
    let version = (at > 0).then(|| (inner[..at].to_owned(), inner[at..].trim().to_owned()));
    Some(Relation { name: name.to_owned(), version })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Package: mawk\nVersion: 1.3\nPriority: required\nProvides: awk\nDepends: libc6 (>= 2.36), dpkg:any | x(<<2)\nFilename: pool/m.deb\nSize: 5\nSHA256: AB\n\nPackage: libc6\nVersion: 2.36-9\nFilename: pool/l.deb\nSize: 5\nSHA256: cd\nProvides: libc6-abi (= 3)\n";

    #[test]
    fn packages_and_who_provides_them() {
        let index = Index::parse(TEXT, "u").unwrap();
        let mawk = &index.packages["mawk"];
        assert_eq!(mawk.depends[0][0].to_string(), "libc6 (>= 2.36)");
        assert_eq!(mawk.depends[1].len(), 2);
        assert_eq!(mawk.depends[1][0].name, "dpkg");
        assert_eq!(mawk.depends[1][1].to_string(), "x (<< 2)");
        let names = |text: &str| -> Vec<&str> {
            index.candidates(&relation(text).unwrap()).iter().map(|package| package.name.as_str()).collect()
        };
        assert_eq!(names("awk"), ["mawk"]);
        assert_eq!(names("awk (>= 1)"), [""; 0]);
        assert_eq!(names("libc6 (>= 2.37)"), [""; 0]);
        assert_eq!(names("libc6-abi (>= 2)"), ["libc6"]);
    }

    #[test]
    fn names_and_paths_are_safe() {
        for (from, to) in
            [("Package: mawk", "Package: ../x"), ("pool/m.deb", "../m.deb"), ("pool/m.deb", "/m.deb")]
        {
            assert!(Index::parse(&TEXT.replace(from, to), "u").is_err(), "{to}");
        }
    }
}
